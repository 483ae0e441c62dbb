"""A volume around an object, filled from views of it: signed distance, or the visual hull.

It does not know splats or meshes. The C++ is `pipeline/native/surface.cpp`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.native import FLOAT, FLOATS, INT, native_function
from pipeline.types import Cameras, FloatArray


@dataclass(frozen=True)
class SurfaceViews:
    """What C cameras see of an object.

    Attributes:
        alphas: float32 [C, H, W], 0..1.
        depth: float32 [C, H, W], z-depth in world units, 0 where there is no surface.
    """

    cameras: Cameras
    alphas: FloatArray
    depth: FloatArray


@dataclass(frozen=True)
class VoxelGrid:
    """A cube of voxels around the origin.

    Attributes:
        size: voxels along each axis.
        half: distance from the origin to the outermost voxel centres, world units.
    """

    size: int
    half: float

    @property
    def voxel(self) -> float:
        """Distance of two voxel centres, world units."""
        return 2 * self.half / (self.size - 1)

    @property
    def origin(self) -> FloatArray:
        """Centre of the voxel [0, 0, 0], float32 [3]."""
        return np.full(3, -self.half, np.float32)


def fuse_depth(views: SurfaceViews, grid: VoxelGrid, truncation: float) -> FloatArray:
    """Truncated signed distance [G, G, G] (x, y, z), in units of `truncation`, clipped to -1..1.

    The mean over all views (Curless and Levoy 1996), where a view that sees through a voxel votes
    for empty and a view whose surface lies before the voxel does not vote. What no view sees
    counts as inside (-1), so that the surface is closed.

    Args:
        truncation: world units; thinner walls than this vanish or thicken.
    """
    arguments = (*[INT] * 3, *[FLOATS] * 4, INT, FLOATS, FLOAT, FLOAT, FLOATS)
    depth, alphas, viewmats, Ks = _contiguous(views)
    volume = np.empty((grid.size,) * 3, np.float32)
    native_function("surface_fuse", *arguments)(
        *(*alphas.shape, depth, alphas, viewmats, Ks),
        *(grid.size, grid.origin, grid.voxel, truncation, volume),
    )
    return volume


def carve_hull(views: SurfaceViews, grid: VoxelGrid) -> FloatArray:
    """1 - 2 * (the smallest alpha of all views), [G, G, G]: negative inside the visual hull."""
    arguments = (*[INT] * 3, *[FLOATS] * 3, INT, FLOATS, FLOAT, FLOATS)
    _, alphas, viewmats, Ks = _contiguous(views)
    volume = np.empty((grid.size,) * 3, np.float32)
    native_function("surface_hull", *arguments)(
        *(*alphas.shape, alphas, viewmats, Ks), *(grid.size, grid.origin, grid.voxel, volume)
    )
    return volume


def _contiguous(views: SurfaceViews) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    cameras = views.cameras
    shape = (len(cameras), cameras.height, cameras.width)
    if views.alphas.shape != shape or views.depth.shape != shape:
        raise ValueError(f"alphas and depth must be {shape}")
    depth, alphas, viewmats, Ks = (
        np.ascontiguousarray(array, np.float32)
        for array in (views.depth, views.alphas, cameras.viewmats, cameras.intrinsics)
    )
    return depth, alphas, viewmats, Ks
