"""Which parts of a model's surface were seen by photos, as a share and pixel by pixel.

It does not know how true the rest is, nor how the photos' cameras were found.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch

from pipeline.control import UNATTENDED, Control
from pipeline.geometry.cameras import surround_cameras
from pipeline.geometry.projection import find_pixels, pixel_rays, to_world
from pipeline.splats.render import Rendering, render_model
from pipeline.types import Cameras, FloatArray, SplatModel

Mask = npt.NDArray[np.bool_]

#: Views from all around in which the surface is counted, and their side in pixels.
_AROUND, _AROUND_SIZE = 24, 96

#: Longest side at which a photo's camera draws the model: a pixel is .005 of the world's unit.
_PHOTO_SIZE = 256

#: A point is seen that lies no further than this behind what the photo's camera sees there, and
#: faces it: the back of a sheet lies no further behind than that.
_TOLERANCE = 0.025

#: Blur of the surface, in pixels, before its normals are taken: the depth of splats has steps.
_NORMAL_BLUR = 1.5


@dataclass(frozen=True)
class SeenSurface:
    """A model from all around, and what of it the photos saw.

    Attributes:
        rendering: the 24 views of `surround_cameras`, 96 px, on white, with depth.
        seen: bool [24, 96, 96]; False where there is no surface.
        share: 0..1 of the surface; None for a model without one.
    """

    rendering: Rendering
    seen: Mask
    share: float | None


def find_seen_surface(
    model: SplatModel,
    photos: Cameras,
    *,
    device: torch.device | None = None,
    control: Control = UNATTENDED,
) -> SeenSurface:
    """What photos from these cameras saw of a model.

    Every piece of the surface counts as much as the area it shows to views from all around. Of a
    convex surface that is its area (Cauchy); the bottom of a hollow counts as far as it can be
    looked into.

    Args:
        photos: of the accepted photos, P of one size.
        device: where the model is drawn; None is the CPU.
        control: asked for a stop while views are drawn.

    Raises:
        Cancelled: a stop was asked for.
        InvalidInput: the model or a camera holds NaN or infinity.
    """
    cameras = surround_cameras(_AROUND, size=_AROUND_SIZE)
    around = render_model(model, cameras, with_depth=True, device=device, control=control)
    depth = around.median_depth
    assert depth is not None, "asked for"
    seen = seen_pixels(model, depth, cameras, photos, device=device, control=control)
    # A pixel is as large as its distance squared.
    area = depth.astype(np.float64) ** 2
    whole = float(area.sum())
    return SeenSurface(around, seen, float(area[seen].sum()) / whole if whole > 0 else None)


def seen_pixels(
    model: SplatModel,
    depth: FloatArray,
    cameras: Cameras,
    photos: Cameras,
    *,
    device: torch.device | None = None,
    control: Control = UNATTENDED,
) -> Mask:
    """Which pixels of some views of a model show what a photo saw, bool [V, H, W].

    Args:
        depth: float32 [V, H, W] of the model in these views, 0 where there is no surface.
        cameras: of the views, V.
        photos, device, control: as in `find_seen_surface`.
    """
    small = at_most(photos)
    drawn = render_model(model, small, with_depth=True, device=device, control=control)
    assert drawn.median_depth is not None, "asked for"
    return seen_through(drawn.median_depth, small, depth, cameras)


def seen_through(
    photo_depth: FloatArray, photos: Cameras, depth: FloatArray, cameras: Cameras
) -> Mask:
    """`seen_pixels` from the depth that the photos' cameras have, float32 [P, H', W']."""
    # Where a surface is steep its depth changes within a pixel: the farthest of nine counts.
    reach = [cv2.dilate(plane, np.ones((3, 3), np.uint8)).ravel() for plane in photo_depth]
    seen = np.zeros(depth.shape, bool)
    for view in range(len(depth)):
        at = np.nonzero(depth[view] > 0)
        if not len(at[0]):
            continue
        points, normals = _surface(depth[view], cameras, view)
        points, normals = points[at], normals[at]
        found = np.zeros(len(points), bool)
        for photo, farthest in enumerate(reach):
            inside, pixel, z = find_pixels(photos, photo, points)
            there = farthest[pixel]
            faces = (normals * (photos.centres[photo] - points)).sum(-1) > 0
            found |= inside & faces & (there > 0) & (z < there + _TOLERANCE)
        seen[view][at] = found
    return seen


def _surface(depth: FloatArray, cameras: Cameras, view: int) -> tuple[FloatArray, FloatArray]:
    """World points [H, W, 3] of a depth map, and normals [H, W, 3], of any length, on the side of
    the camera."""
    rays = pixel_rays(cameras, view, np.float32)
    local = rays * depth[..., None]
    weight = cv2.GaussianBlur((depth > 0).astype(np.float32), (0, 0), _NORMAL_BLUR)
    smooth = cv2.GaussianBlur(local, (0, 0), _NORMAL_BLUR) / np.maximum(weight, 1e-6)[..., None]
    normals = np.cross(np.gradient(smooth, axis=1), np.gradient(smooth, axis=0))
    away = (normals * rays).sum(-1, keepdims=True) > 0
    rotation = cameras.viewmats[view, :3, :3]
    points = to_world(cameras, view, local.reshape(-1, 3)).reshape(local.shape)
    return points, np.where(away, -normals, normals) @ rotation


def at_most(cameras: Cameras, side: int = _PHOTO_SIZE) -> Cameras:
    """The same cameras with pictures whose longer side is at most `side`."""
    longest = max(cameras.width, cameras.height)
    if longest <= side:
        return cameras
    width, height = (max(1, round(n * side / longest)) for n in (cameras.width, cameras.height))
    intrinsics = cameras.intrinsics.copy()
    intrinsics[:, 0] *= width / cameras.width
    intrinsics[:, 1] *= height / cameras.height
    return Cameras(cameras.viewmats, intrinsics, width, height)
