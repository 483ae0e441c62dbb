"""How squarely a surface, known by its depth map, faces the camera.

It does not know what the answer is for: confidence of depth maps, and trust in views.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.geometry.projection import pixel_rays
from pipeline.types import Cameras, FloatArray


def facing_ratio(depth: FloatArray, camera: Cameras) -> FloatArray:
    """Cosine between the surface normal and the way to the camera, float32 [H, W] in 0..1.

    Args:
        depth: float32 [H, W], z-depth in world units, 0 where unknown.
        camera: the one camera of this map.
    """
    rays = pixel_rays(camera, 0, np.float64)
    points = rays * depth[..., None]
    normals = np.cross(_slope(points, depth, axis=1), _slope(points, depth, axis=0))
    lengths = np.linalg.norm(normals, axis=-1) * np.linalg.norm(rays, axis=-1)
    cosine = np.abs((normals * rays).sum(-1)) / np.maximum(lengths, 1e-12)
    ratio: FloatArray = np.where(depth > 0, np.clip(cosine, 0.0, 1.0), 0.0).astype(np.float32)
    return ratio


def _slope(
    points: npt.NDArray[np.floating], depth: FloatArray, *, axis: int
) -> npt.NDArray[np.floating]:
    """Step [H, W, 3] to the neighbour along `axis`: the one of the two that is nearer in depth."""
    known = depth > 0
    steps, gaps = [], []
    for shift in (-1, 1):
        neighbour, there = np.roll(points, shift, axis), np.roll(known, shift, axis)
        edge = [slice(None), slice(None)]
        edge[axis] = slice(-1, None) if shift == -1 else slice(0, 1)
        there[tuple(edge)] = False
        gap = np.abs(np.roll(depth, shift, axis) - depth)
        gaps.append(np.where(there, gap, np.inf))
        steps.append((neighbour - points) * -shift)
    nearer: npt.NDArray[np.floating] = np.where((gaps[0] <= gaps[1])[..., None], steps[0], steps[1])
    return nearer
