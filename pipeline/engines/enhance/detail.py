"""What of an enhancer's change is kept: detail, well inside the object, and no drift of colour.

It does not know who proposes the change.
"""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.imaging.blur import blur_inside
from pipeline.imaging.rounding import to_bytes
from pipeline.types import FloatArray, UInt8Array


def inner_weight(alpha: UInt8Array, rim: float) -> FloatArray:
    """The opacity of [H, W], 0 where below one half, float32; over `rim` pixels it begins at 0.

    Towards the silhouette a network draws an outline between object and ground, which the splats
    would take for colour: it has its way a few pixels inside only.
    """
    cover = alpha.astype(np.float32) / 255.0
    solid = cover >= 0.5
    # Of a picture without any ground, the distance to the ground is huge, not 0.
    depth = cv2.distanceTransform(solid.astype(np.uint8), cv2.DIST_L2, 5)
    fade = np.clip(depth - 1.0, 0.0, rim) / rim
    weight: FloatArray = (np.where(solid, cover, 0.0) * fade).astype(np.float32)
    return weight


def add_detail(
    picture: FloatArray,
    change: FloatArray,
    weight: FloatArray,
    sigma: float,
    *,
    strength: float = 1.0,
) -> UInt8Array:
    """A picture with part of a change, uint8 [H, W, 3].

    Args:
        picture, change: float32 [H, W, 3] in 0..255, and what would be added to it.
        weight: float32 [H, W], of `inner_weight`.
        sigma: pixels; what this blur sees of the change is left out.
        strength: 0..1, of the change.
    """
    detail = change - blur_inside(change, weight, sigma)
    return to_bytes(picture + strength * detail * weight[..., None])
