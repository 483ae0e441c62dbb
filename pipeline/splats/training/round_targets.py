"""What a refinement round looks at: its targets in one list, and how far each is believed.

It does not know how a model is pulled towards them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch

from pipeline.requests import RefineRequest
from pipeline.splats.render import Rendering
from pipeline.splats.target_weights import TargetSet, TargetWeights, weigh_targets
from pipeline.splats.training.photo_targets import PhotoTargets, believed_photos
from pipeline.splats.training.targets import Targets
from pipeline.types import Cameras, FloatArray, UInt8Array, ViewSet


@dataclass(frozen=True)
class RoundTargets:
    """All targets in one list: originals (rig views, photos, auxiliary views), then enhanced.

    Attributes:
        tensors: as the loop reads them.
        images, masks: float32 [T, H, W, 3] and [T, H, W], 0..1.
        cameras: T.
        rig_views: how many of them are of the rig.
        originals: how many are no enhanced ones.
        photos: indices of the photos that are believed at all.
        photo_trust: float32, how far each of them is believed, 0..1.
        large: these photos at their own resolution, where that is higher than the views'.
        large_of: of each photo in `large` its index here.
        disparity: float32 [T, H, W], 1 / z where depth is known, else 0.
        original_of: int [T], the original that shows what each target shows.
    """

    tensors: Targets
    images: FloatArray
    masks: FloatArray
    cameras: Cameras
    rig_views: int
    originals: int
    photos: tuple[int, ...]
    photo_trust: FloatArray
    large: PhotoTargets | None
    large_of: tuple[int, ...]
    disparity: FloatArray
    original_of: npt.NDArray[np.intp]

    @classmethod
    def of(cls, request: RefineRequest, device: torch.device) -> RoundTargets:
        views = request.originals
        parts: list[ViewSet] = [replace(views, photos=None, auxiliary=None)]
        large: PhotoTargets | None = None
        size = views.cameras.width, views.cameras.height
        # One that nobody believes is left out here: it would have an exposure, and the mean of all
        # of them is held.
        believed = believed_photos(views.photo_trust)
        if views.photos is not None and believed:
            if views.photos.cameras.width > size[0]:
                large = PhotoTargets.of(views.photos, views.photo_trust, size, device)
            parts.append(reduced(views.photos.select(believed), size))
        photos = tuple(range(len(views), sum(len(part) for part in parts)))
        if views.auxiliary is not None:
            parts.append(views.auxiliary)
        originals = sum(len(part) for part in parts)
        which = list(request.enhanced_views)
        images = np.concatenate([*(part.images for part in parts), request.enhanced])
        alphas = np.concatenate([*(part.alphas for part in parts), views.alphas[which]])
        cameras = Cameras.joined([*(p.cameras for p in parts), views.cameras.select(which)])
        disparity = np.zeros(alphas.shape, np.float32)
        if request.depths is not None:
            depth = request.depths.depth
            known = (request.depths.confidence > 0.2) & (depth > 0)
            disparity[: len(views)] = np.where(known, 1 / np.where(known, depth, 1), 0)
        return cls(
            tensors=Targets.of(images, alphas, cameras, device),
            images=(images / np.float32(255)).astype(np.float32),
            masks=(alphas / np.float32(255)).astype(np.float32),
            cameras=cameras,
            rig_views=len(views),
            originals=originals,
            photos=photos,
            photo_trust=views.photo_trust[believed],
            large=large,
            large_of=() if large is None else photos,
            disparity=disparity,
            original_of=np.concatenate([np.arange(originals), np.array(which, np.intp)]),
        )

    def __len__(self) -> int:
        return len(self.images)


def reduced(photos: ViewSet, size: tuple[int, int]) -> ViewSet:
    """Photos as large as the views, width and height in pixels: area averages."""
    if (photos.cameras.width, photos.cameras.height) == size:
        return photos

    def smaller(pictures: UInt8Array) -> UInt8Array:
        return np.stack([cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in pictures])

    return replace(
        photos,
        images=smaller(photos.images),
        alphas=smaller(photos.alphas),
        cameras=photos.cameras.resized(*size),
    )


def weigh_round(targets: RoundTargets, drawn: Rendering) -> TargetWeights:
    """Rig views among themselves, enhanced targets among themselves; photos as far as
    their registration is sure; auxiliary views are believed.

    Args:
        drawn: the model from the cameras of all targets, with depth.
    """
    assert drawn.median_depth is not None, "asked for"
    pixels = np.zeros(targets.masks.shape, np.float32)
    views = np.zeros(len(targets), np.float32)
    exposures = np.tile(np.eye(3, 4, dtype=np.float32), (len(targets), 1, 1))
    for group in (np.arange(targets.rig_views), np.arange(targets.originals, len(targets))):
        if not len(group):
            continue
        found = weigh_targets(
            TargetSet(
                targets.images[group],
                targets.masks[group] >= 0.5,
                drawn.images[group],
                drawn.median_depth[group],
                targets.cameras.select(list(group)),
            )
        )
        pixels[group], views[group], exposures[group] = found.pixels, found.views, found.exposures
    believed = slice(targets.rig_views, targets.originals)
    pixels[believed] = targets.masks[believed] >= 0.5
    views[believed] = 1.0
    views[list(targets.photos)] = targets.photo_trust
    # The outline that an enhanced target is cut to is its original's: where nobody believes that
    # one, the target is no use either.
    enhanced = slice(targets.originals, None)
    views[enhanced] *= views[targets.original_of[enhanced]]
    # A view of something else has no exposure: what was fitted would shift the gauge of the others.
    kept = (2 * views).clip(0, 1)[:, None, None]
    exposures = (kept * exposures + (1 - kept) * np.eye(3, 4)).astype(np.float32)
    return TargetWeights(pixels, views, exposures)
