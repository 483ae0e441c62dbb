"""Pictures of a model that show what photos saw of it as it is, and the rest tinted.

It asks the splat engine for renders; it does not know how true the rest is.
"""

from __future__ import annotations

import asyncio

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.geometry.line_of_sight import at_most, seen_through
from pipeline.ports import SplatFitter
from pipeline.requests import Renders
from pipeline.types import Cameras, SplatModel, UInt8Array

#: Colour of what no photo saw, and how much of it there is on and between slanting stripes: on an
#: object of that colour a tint alone would not show.
_TINT, _ON, _BETWEEN = np.array([150, 40, 190], np.float32), 0.85, 0.35

#: Pixels from one stripe to the next, of a picture of 256.
_PERIOD = 16

#: What a row of these pictures is called.
SEEN_ROW = "as it is: seen by a photo; striped violet: a guess"


async def seen_pictures(
    model: SplatModel, cameras: Cameras, photos: Cameras, splats: SplatFitter
) -> list[UInt8Array]:
    """One picture per camera, uint8 [H, W, 3] on white.

    Args:
        cameras: of the pictures.
        photos: of the photos, as they were registered.

    Raises:
        InvalidInput: the model holds NaN or infinity.
    """
    small = at_most(photos)
    from_photos = await splats.render(model, small, with_depth=True)
    renders = await splats.render(model, cameras, with_depth=True)
    return await asyncio.to_thread(_drawn, from_photos, small, renders, cameras)


def _drawn(
    from_photos: Renders, photos: Cameras, renders: Renders, cameras: Cameras
) -> list[UInt8Array]:
    assert from_photos.depth is not None and renders.depth is not None, "asked for"
    seen = seen_through(from_photos.depth, photos, renders.depth, cameras)
    # The majority of nine: single pixels between two splats are nobody's side.
    calm = np.stack([cv2.medianBlur(plane.astype(np.uint8), 3) for plane in seen])
    return list(tinted(renders.images, renders.alphas, calm > 0))


def tinted(images: UInt8Array, alphas: UInt8Array, seen: npt.NDArray[np.bool_]) -> UInt8Array:
    """The pictures, uint8 [V, H, W, 3] on white, with a tint wherever `seen` [V, H, W] is False."""
    height, width = seen.shape[1:]
    period = max(2, _PERIOD * width // 256)
    slant = np.add.outer(np.arange(height), np.arange(width)) % period
    strength = np.where(slant < period // 2, _ON, _BETWEEN).astype(np.float32)
    share = (strength * np.where(seen, 0, alphas / np.float32(255)))[..., None]
    mixed: UInt8Array = np.round((1 - share) * images + share * _TINT).astype(np.uint8)
    return mixed
