"""Depth maps from views whose engine knows its own geometry, and pictures of depth for people.

It estimates nothing: views without a surface of their own are refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.control import Control
from pipeline.errors import ModelFailed
from pipeline.types import Cameras, DepthMaps, FloatArray, UInt8Array, ViewSet

__all__ = ["SurfaceDepth", "facing_ratio", "heat_map"]

#: Neighbours further apart than this (world units) belong to different surfaces. A pixel of the
#: rig covers 0.0054 at the object, so a single surface would have to turn away by 85 degrees.
JUMP = 0.06
#: The colour of a pixel at an edge is a mixture, so a splat should hardly start there.
EDGE_CONFIDENCE = 0.2

#: Ground of a heat map, sRGB.
HEAT_GROUND = (13, 14, 20)


class SurfaceDepth:
    """Depth estimator "surface"."""

    name = "surface"

    def estimate_many(self, sets: Sequence[ViewSet], control: Control) -> list[DepthMaps]:
        """`estimate` of several sets, one after the other: there is no network to share."""
        share = 1 / max(len(sets), 1)
        return [
            self.estimate(views, control.part(i * share, (i + 1) * share))
            for i, views in enumerate(sets)
        ]

    def estimate(self, views: ViewSet, control: Control) -> DepthMaps:
        """The views' own depth; confidence is the facing ratio, lowered along edges.

        Raises:
            ModelFailed: the view engine delivered no usable depth.
        """
        depth = views.surface_depth
        if depth is None:
            raise ModelFailed(
                f"The view engine {views.engine!r} knows no surface; choose another depth engine."
            )
        if depth.shape != views.alphas.shape or not np.isfinite(depth).all():
            raise ModelFailed(f"The surface depth of {views.engine!r} is damaged: {depth.shape}.")
        confidence = np.zeros(depth.shape, np.float32)
        for i, plane in enumerate(depth):
            known = plane > 0
            facing = facing_ratio(plane, views.cameras.select([i]))
            inner = ndimage.binary_erosion(known & ~_jumps(plane), np.ones((3, 3), bool))
            weight = np.where(inner, 1.0, EDGE_CONFIDENCE) * known
            confidence[i] = facing * weight
            control.step((i + 1) / len(depth), f"depth of view {i + 1}")
        return DepthMaps(np.where(depth > 0, depth, 0).astype(np.float32), confidence, self.name)


def facing_ratio(depth: FloatArray, camera: Cameras) -> FloatArray:
    """Cosine between the surface normal and the way to the camera, float32 [H, W] in 0..1.

    Args:
        depth: float32 [H, W], z-depth in world units, 0 where unknown.
        camera: the one camera of this map.
    """
    K = camera.intrinsics[0]
    v, u = np.mgrid[: depth.shape[0], : depth.shape[1]] + 0.5
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)], -1)
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


def _jumps(depth: FloatArray) -> npt.NDArray[np.bool_]:
    """Pixels beside a step from one surface to another."""
    farthest = ndimage.maximum_filter(depth, 3)
    nearest = ndimage.minimum_filter(np.where(depth > 0, depth, np.inf), 3)
    jumps: npt.NDArray[np.bool_] = (depth > 0) & (farthest - nearest > JUMP)
    return jumps


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
    index = np.rint((0.1 + 0.8 * nearness) * 255.0).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(index, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    picture: UInt8Array = np.where(known[..., None], colours, ground)
    return picture
