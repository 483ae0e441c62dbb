"""Pictures of depth for people.

It does not know where depth comes from.
"""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.imaging.rounding import to_bytes
from pipeline.types import FloatArray, UInt8Array

#: Ground of a heat map, sRGB.
HEAT_GROUND = (13, 14, 20)


def heat_map(depth: FloatArray, alpha: UInt8Array) -> UInt8Array:
    """A picture of one depth map: near is warm (red), far is cold (blue), the ground dark.

    The colours span the object's own range, without its outermost percent.

    Args:
        depth: float32 [H, W], 0 where unknown.
        alpha: uint8 [H, W].

    Returns:
        uint8 [H, W, 3], sRGB.
    """
    known = (depth > 0) & (alpha >= 128)
    ground = np.empty((*depth.shape, 3), np.uint8)
    ground[:] = HEAT_GROUND
    if not known.any():
        return ground
    near, far = np.percentile(depth[known], [1.0, 99.0])
    nearness = np.clip((far - depth) / max(far - near, 1e-6), 0.0, 1.0)
    # Turbo's first and last tenth are nearly black: they would look like ground.
    index = to_bytes((0.1 + 0.8 * nearness) * 255.0)
    colours = cv2.cvtColor(cv2.applyColorMap(index, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    picture: UInt8Array = np.where(known[..., None], colours, ground)
    return picture
