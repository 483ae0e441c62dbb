"""The volume that silhouettes (and depth, where there is some) leave for an object.

It does not know splats or colours.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull, QhullError

from pipeline.control import Control
from pipeline.geometry.projection import find_pixels
from pipeline.types import DepthMaps, FloatArray, ViewSet

#: Alpha below this is background.
FOREGROUND = 128

#: Half side of the carved cube in world units; objects are in [-0.5, 0.5]^3.
_EXTENT = 0.55

#: Voxels per axis: fine where the hull is all there is, coarse where it only closes holes.
_FINE, _COARSE = 96, 64

#: Space this far in front of a known depth is free; depth maps are not exact.
_FREE_VOXELS = 2.0

#: A convex hull is made from the points that reach furthest in this many directions, looked for
#: among this many points. Every plane of it costs a pass over the voxels: 1,200 planes take 0.1 s
#: and judge 1 % of the voxels otherwise than the hull of 30,000 points; that of 5,000 points picked
#: blindly has up to 8,000 planes and judges up to 2 % otherwise.
_DIRECTIONS, _SEEN_POINTS = 600, 20_000


def hull_of(
    views: ViewSet,
    control: Control,
    depths: DepthMaps | None = None,
    seen_points: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray, float]:
    """Boundary of what is foreground in every view.

    Args:
        control: checked between the views; nothing is reported.
        depths: space in front of these is empty, too.
        seen_points: float32 [n, 3], world frame; nothing reaches beyond their convex hull. The
            rig looks down at 30 degrees, so silhouettes leave a cone below the object; most
            things end flat there.

    Returns:
        points: float32 [n, 3], voxel centres, world frame.
        normals: float32 [n, 3], unit, outwards.
        voxel: side of a voxel in world units.
    """
    side = np.linspace(-_EXTENT, _EXTENT, _FINE if depths is None else _COARSE, dtype=np.float32)
    voxel = float(side[1] - side[0])
    grid = np.stack(np.meshgrid(side, side, side, indexing="ij"), -1)
    flat = grid.reshape(-1, 3)
    left = np.arange(len(flat))  # voxels not carved yet
    for view in range(len(views)):
        control.check()
        inside, pixel, z = find_pixels(views.cameras, view, flat[left])
        free = views.alphas[view].reshape(-1)[pixel] < FOREGROUND
        if depths is not None:
            known = depths.confidence[view].reshape(-1)[pixel] > 0
            free |= known & (z < depths.depth[view].reshape(-1)[pixel] - _FREE_VOXELS * voxel)
        left = left[~(free & inside)]
    if seen_points is not None:
        # Not half a voxel beyond it: splats at their middles would show below an object.
        left = left[_within_convex_hull(flat[left], seen_points, -0.5 * voxel)]
    carved = np.zeros(len(flat), bool)
    carved[left] = True
    inside = carved.reshape(grid.shape[:3])
    # What reaches the border of the cube was not carved: no view looked there.
    inside[[0, -1]] = inside[:, [0, -1]] = inside[:, :, [0, -1]] = False
    core = inside.copy()
    for axis in range(3):
        core &= np.roll(inside, 1, axis) & np.roll(inside, -1, axis)
    shell = inside & ~core
    return grid[shell], _outwards(inside, shell), voxel


def _within_convex_hull(
    points: FloatArray, seen_points: FloatArray, margin: float
) -> npt.NDArray[np.bool_]:
    """Which points [n, 3] lie in the convex hull of others, or `margin` around it; below 0 as
    deep inside."""
    sample = _extremes(seen_points[:: max(1, len(seen_points) // _SEEN_POINTS)])
    try:
        planes = ConvexHull(sample).equations.astype(np.float32)
    except QhullError:  # flat or a line: no volume to stay in
        return np.ones(len(points), bool)
    inside = np.ones(len(points), bool)
    for plane in planes:
        inside &= points @ plane[:3] + plane[3] <= margin
    return inside


def _extremes(points: FloatArray) -> FloatArray:
    """The points [m, 3] of [n, 3] that reach furthest in directions spread over the sphere."""
    step = np.arange(_DIRECTIONS) + 0.5
    # A Fibonacci lattice: even in z, turned by the golden angle from each direction to the next.
    z, azimuth = 1 - 2 * step / _DIRECTIONS, np.pi * (1 + 5**0.5) * step
    r = np.sqrt(1 - z * z)
    directions = np.stack([r * np.cos(azimuth), r * np.sin(azimuth), z]).astype(np.float32)
    extremes: FloatArray = points[np.unique((points @ directions).argmax(0))]
    return extremes


def _outwards(inside: npt.NDArray[np.bool_], at: npt.NDArray[np.bool_]) -> FloatArray:
    """Unit normals [n, 3] at the voxels `at`: where a blurred copy of the volume thins out."""
    soft: FloatArray = inside.astype(np.float32)
    for _ in range(3):
        for axis in range(3):
            beside = np.roll(soft, 1, axis) + np.roll(soft, -1, axis)
            soft = ((beside + 2 * soft) / 4).astype(np.float32)
    normals = -np.stack([np.gradient(soft, axis=axis)[at] for axis in range(3)], -1)
    length = np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    unit: FloatArray = (normals / length).astype(np.float32)
    return unit
