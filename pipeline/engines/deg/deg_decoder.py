"""A latent made into splats in our frame, with the photos' cameras where they are found.

It does not know how the latent was made, what was asked for besides, or where a model goes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.control import UNATTENDED, Control
from pipeline.engines.deg.camera_token import (
    ObjectCamera,
    believed_camera,
    has_direction,
    in_trained_range,
    scale_into_box,
    turn_model,
)
from pipeline.engines.deg.gaussian_fields import gaussian_fields, to_model
from pipeline.engines.deg.gaussian_network import GaussianNetwork
from pipeline.engines.deg.octree_network import OctreeNetwork
from pipeline.engines.deg.octree_sampling import OctreeDraws, SeededDraws, sample_octree
from pipeline.engines.deg.photo_crop import FoundCamera, find_crop
from pipeline.types import Cameras, FloatArray, SplatModel, UInt8Array


@dataclass(frozen=True)
class DecoderNetworks:
    """Both decoders, on one device, ready for inference."""

    octree: OctreeNetwork
    gaussians: GaussianNetwork


@dataclass(frozen=True)
class PhotoOutlines:
    """What the photos' cameras are found with.

    Attributes:
        alphas: of the prepared photos, uint8 [S, S] each, in the order of their tokens.
        draw: a model's opacity as a camera sees it, float32 [1, H, W], 0..1.
    """

    alphas: tuple[UInt8Array, ...]
    draw: Callable[[SplatModel, Cameras], FloatArray]


@dataclass(frozen=True)
class GeneratedModel:
    """What was decoded.

    Attributes:
        model: in the world frame: the first photo's camera is at azimuth 0, and what can be seen
            lies in [-0.5, 0.5]^3.
        believed: where the network says the photos were taken from, in that world, one for each
            token; without the photos' own intrinsics.
        cameras: the same with intrinsics, one for each photo; empty where nobody asked for them.
        notes: sentences a user should read.
    """

    model: SplatModel
    believed: tuple[ObjectCamera, ...]
    cameras: tuple[FoundCamera, ...] = ()
    notes: tuple[str, ...] = ()


def rounded_gaussians(wanted: int, per_point: int, *, down: bool) -> int:
    """How many Gaussians are made where `wanted` are asked for: a multiple of what a point has.

    Args:
        down: Idol rounds down; TripoSplat takes the nearest, and the larger of two.
    """
    points = wanted // per_point if down else (2 * wanted + per_point) // (2 * per_point)
    return max(1, points) * per_point


def decode(
    networks: DecoderNetworks,
    latent: Tensor,
    camera_tokens: Tensor,
    *,
    num_gaussians: int,
    decode_seed: int,
    photos: PhotoOutlines | None = None,
    draws: OctreeDraws | None = None,
    control: Control = UNATTENDED,
) -> GeneratedModel:
    """The model of a latent.

    Args:
        latent: [1, q, c], on any device.
        camera_tokens: [P, 5] or [P, 1, 5], one for each photo; the first one says how the model
            is turned.
        num_gaussians: rounded down to a multiple of what a point has, but at least that.
        decode_seed: of the points; the same one gives the same model.
        photos: given, the photos' cameras get their own intrinsics.
        draws: in place of those of `decode_seed`.
        control: asked for a stop before every level of the octree, every block of the Gaussian
            network and every photo.

    Raises:
        Cancelled: a stop was asked for.
        ModelFailed: a network gave numbers that are not finite.
        Unavailable: the GPU has no fused attention for it.
    """
    tokens = camera_tokens.detach().reshape(-1, camera_tokens.shape[-1]).cpu().double().numpy()
    if photos is not None and len(photos.alphas) != len(tokens):
        raise ValueError(f"{len(photos.alphas)} photos have {len(tokens)} camera tokens")
    cameras = [believed_camera(token) for token in tokens]
    model = decode_splats(
        networks,
        latent,
        num_gaussians=num_gaussians,
        draws=draws or SeededDraws(decode_seed),
        control=control,
    )
    # Where the network said nothing, the model stays as it is, roughly right.
    turn = -cameras[0].azimuth_rad if has_direction(tokens[0]) else 0.0
    model, scale = scale_into_box(turn_model(model, turn))
    placed = tuple(camera.turned(turn).scaled(scale) for camera in cameras)
    found: list[FoundCamera] = []
    if photos is not None:
        for token, camera, alpha in zip(tokens, placed, photos.alphas, strict=True):
            control.check()
            found.append(_found(model, token, camera, alpha, photos))
    return GeneratedModel(model, placed, tuple(found), _notes(tokens, found))


def decode_splats(
    networks: DecoderNetworks,
    latent: Tensor,
    *,
    num_gaussians: int,
    draws: OctreeDraws,
    control: Control = UNATTENDED,
) -> SplatModel:
    """As `decode`, in the object's own frame, where the photo's side is +x only roughly."""
    octree, gaussians = networks.octree, networks.gaussians
    points = max(1, num_gaussians // gaussians.config.gaussians_per_point)
    with torch.inference_mode():
        memory = octree.read_latent(latent.to(octree.device))
        drawn = sample_octree(
            lambda centres, level: octree(centres, level, memory),
            points,
            draws,
            octree.device,
            control=control,
        )
        at = drawn.points.to(gaussians.device)
        its_memory = gaussians.read_latent(latent.to(gaussians.device))
        features = gaussians(at, its_memory, control=control)
        fields = gaussian_fields(
            at, features, gaussians.points_offset_perturbation, gaussians.base_offset_scale
        )
        return to_model(fields)


def _found(
    model: SplatModel,
    token: npt.NDArray[np.float64],
    camera: ObjectCamera,
    alpha: UInt8Array,
    photos: PhotoOutlines,
) -> FoundCamera:
    if not has_direction(token):
        return FoundCamera(None, reason="The network did not say where the photo was taken from.")
    return find_crop(camera, alpha, lambda cameras: photos.draw(model, cameras))


def _notes(tokens: npt.NDArray[np.float64], found: list[FoundCamera]) -> tuple[str, ...]:
    """What a user should know of the cameras, photo by photo."""
    several = len(found) > 1
    notes = []
    for number, (token, camera) in enumerate(zip(tokens, found, strict=False)):
        which = f"Photo {number}: " if several else ""
        if camera.reason:
            notes.append(which + camera.reason)
        elif not in_trained_range(token):
            notes.append(
                f"{which}The network is unsure how far away the photo was taken: only the side "
                "is its own, the distance is that of the views."
            )
    return tuple(notes)
