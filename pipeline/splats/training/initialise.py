"""First splats of an object: from the depth of its views, or from their silhouettes.

It does not know how views or depths were estimated, nor how splats are optimised afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from pipeline.control import Control
from pipeline.errors import InvalidInput, ModelFailed
from pipeline.geometry.hull import FOREGROUND, hull_of
from pipeline.geometry.projection import find_pixels, pixel_rays, to_world
from pipeline.types import SH_C0, DepthMaps, FloatArray, SplatModel, UInt8Array, ViewSet

#: A neighbour whose depth differs by more than this many pixel widths lies on another surface.
_JUMP_PIXELS = 6.0

#: Fewer points than this are noise, not a surface.
_FEWEST_POINTS = 64

_OPACITY = 0.8

#: Standard deviations against the distance to the neighbours: along the surface, and across it.
_ALONG, _ACROSS = 0.6, 0.2

#: Hull further than this from all seen surface is taken as the unseen part of the object.
_UNSEEN_VOXELS = 2.5


@dataclass(frozen=True)
class _Surface:
    """n oriented points: points (world), normals (unit), colors (0..1) [n, 3] and weights [n]."""

    points: FloatArray
    normals: FloatArray
    colors: FloatArray
    weights: FloatArray


def splats_from_views(
    views: ViewSet,
    depths: DepthMaps,
    *,
    count: int,
    seed: int,
    control: Control | None = None,
) -> SplatModel:
    """Flat splats spread evenly over the visible surface.

    Pixels with confidence and inside of the silhouette are taken into the world. What no view
    shows is closed with the visual hull; where no depth is usable at all, all points are its.
    The same input and seed give the same splats. For a fit, ask for the `start_count` of its
    strategy.

    Args:
        depths: of the same views; depth and confidence [V, H, W].
        count: splats wanted; fewer come back when the views show less surface than that.
        control: reports between the steps and stops there; None = nobody watches.

    Raises:
        Cancelled: `control` asked for it.
        InvalidInput: `count` is not positive or the depth has another shape than the views.
        ModelFailed: neither depth nor silhouettes show an object.
    """
    if count < 1:
        raise InvalidInput(f"count must be at least 1, got {count}")
    if depths.depth.shape != views.alphas.shape or depths.confidence.shape != views.alphas.shape:
        raise InvalidInput(
            f"depth must have the shape of the views {views.alphas.shape}, got {depths.depth.shape}"
        )
    control = control or Control()
    control.step(0.0, "Placing splats")
    surface = _surface_of_depth(views, depths)
    control.step(0.2, "Placing splats")
    if len(surface.points) < _FEWEST_POINTS:
        surface = _surface_of_hull(views, control)
    else:
        surface = _joined(surface, _unseen(views, depths, surface, control))
    control.step(0.6, "Placing splats")
    if len(surface.points) < _FEWEST_POINTS:
        raise ModelFailed.openly(
            "No object could be placed: the depth maps hold no confident pixel on the object and "
            "the silhouettes of the views have no common volume."
        )
    rng = np.random.default_rng(seed)
    model = _splats_on(_spread(surface, count, rng))
    control.step(1.0, "Placing splats")
    return model


def _surface_of_depth(views: ViewSet, depths: DepthMaps) -> _Surface:
    """All confident foreground pixels of all views, in the world."""
    parts: list[_Surface] = []
    for view in range(len(views)):
        z = depths.depth[view]
        good = (depths.confidence[view] > 0) & (z > 0) & np.isfinite(z)
        good &= views.alphas[view] >= FOREGROUND
        rays = pixel_rays(views.cameras, view, np.float32)
        points = to_world(views.cameras, view, rays * z[..., None])
        normals, whole = _normals_of_grid(points, z, good, views.cameras.intrinsics[view])
        good &= whole
        p, n = points[good], normals[good]
        to_camera = views.cameras.centres[view] - p
        to_camera /= np.linalg.norm(to_camera, axis=1, keepdims=True)
        facing = np.einsum("ij,ij->i", n, to_camera)
        n *= np.sign(facing)[:, None]
        # Oblique pixels are large on the surface and blurred in the view.
        weights = depths.confidence[view][good] * np.abs(facing) ** 2
        colors = _straight(views.images[view][good], views.alphas[view][good])
        parts.append(_Surface(p, n, colors, weights.astype(np.float32)))
    return _joined(*parts)


def _straight(colors: UInt8Array, alphas: UInt8Array) -> FloatArray:
    """Colours 0..1 [n, 3] of the object itself from pixels on white: without that, the rim of
    everything and all of a thin handle would begin pale."""
    alpha = alphas[:, None] / np.float32(255)
    straight = (colors / np.float32(255) - (1 - alpha)) / alpha
    return straight.clip(0, 1).astype(np.float32)


def _joined(*parts: _Surface) -> _Surface:
    return _Surface(
        np.concatenate([part.points for part in parts]),
        np.concatenate([part.normals for part in parts]),
        np.concatenate([part.colors for part in parts]),
        np.concatenate([part.weights for part in parts]),
    )


def _normals_of_grid(
    points: FloatArray, depth: FloatArray, good: npt.NDArray[np.bool_], K: FloatArray
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Unit normals [H, W, 3] from central differences, and where all four neighbours belong."""
    whole = np.zeros_like(good)
    inner = (slice(1, -1), slice(1, -1))
    jump = _JUMP_PIXELS * depth[inner] / K[0, 0]
    fits = good[inner].copy()
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        H, W = depth.shape
        beside = (slice(dy, H - 2 + dy), slice(dx, W - 2 + dx))
        fits &= good[beside] & (np.abs(depth[beside] - depth[inner]) < jump)
    whole[inner] = fits
    normals = np.zeros_like(points)
    across = points[1:-1, 2:] - points[1:-1, :-2]
    down = points[2:, 1:-1] - points[:-2, 1:-1]
    normals[inner] = np.cross(across, down)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    return normals / np.maximum(length, 1e-20), whole & (length[..., 0] > 1e-20)


def _surface_of_hull(views: ViewSet, control: Control) -> _Surface:
    """The visual hull, coloured by the views that face it."""
    points, normals, _ = hull_of(views, control)
    colors = _colors_of(views, points, normals)
    return _Surface(points, normals, colors, np.ones(len(points), np.float32))


def _unseen(views: ViewSet, depths: DepthMaps, seen: _Surface, control: Control) -> _Surface:
    """Hull where no depth says what is there (the rig never looks from below), coloured like
    the nearest seen surface. Without it, objects are open shells."""
    points, normals, voxel = hull_of(views, control, depths, seen.points)
    control.check()
    if len(points) == 0:
        return _Surface(points, normals, points, points[:, 0])
    # The tree needs no more than a few points per voxel.
    sample = slice(None, None, max(1, len(seen.points) // 50_000))
    found = cKDTree(seen.points[sample]).query(points, k=8)
    distance, nearest = np.asarray(found[0]), np.asarray(found[1])
    far = distance[:, 0] > _UNSEEN_VOXELS * voxel
    colors = seen.colors[sample][nearest[far]].mean(1)
    # Full weight: cells of the unseen part hold nothing else.
    return _Surface(points[far], normals[far], colors, np.ones(int(far.sum()), np.float32))


def _colors_of(views: ViewSet, points: FloatArray, normals: FloatArray) -> FloatArray:
    """Mean colour 0..1 of the views that look at the points; nothing is occluded."""
    total = np.full((len(points), 3), 0.5e-6, np.float32)
    weight = np.full((len(points), 1), 1e-6, np.float32)
    for view in range(len(views)):
        seen, pixel, _ = find_pixels(views.cameras, view, points)
        to_camera = views.cameras.centres[view] - points
        to_camera /= np.linalg.norm(to_camera, axis=1, keepdims=True)
        w = np.maximum(np.einsum("ij,ij->i", normals, to_camera), 0) ** 4 * seen
        total += w[:, None] * views.images[view].reshape(-1, 3)[pixel] / np.float32(255)
        weight += w[:, None]
    colors: FloatArray = total / weight
    return colors


def _spread(surface: _Surface, count: int, rng: np.random.Generator) -> _Surface:
    """At most `count` points of even density: weighted means over the cells of a cubic grid."""
    low, high = surface.points.min(0), surface.points.max(0)

    def cells(size: float) -> npt.NDArray[np.int64]:
        index = np.floor((surface.points - low) / size).astype(np.int64)
        shape = np.floor((high - low) / size).astype(np.int64) + 1
        flat: npt.NDArray[np.int64] = (index[:, 0] * shape[1] + index[:, 1]) * shape[2] + index[
            :, 2
        ]
        return flat

    # The largest cell that still gives `count` occupied ones; a surface of area A has about
    # 2 A / size^2 of them, a start for the bisection.
    small, large = 1e-4, float((high - low).max()) + 1e-6
    for _ in range(12):
        middle = (small * large) ** 0.5
        if len(np.unique(cells(middle))) >= count:
            small = middle
        else:
            large = middle
    _, cell = np.unique(cells(small), return_inverse=True)
    weight = np.bincount(cell, surface.weights + 1e-6)

    def mean(values: FloatArray) -> FloatArray:
        w = surface.weights + 1e-6
        sums = [np.bincount(cell, w * values[:, axis]) for axis in range(3)]
        means: FloatArray = (np.stack(sums, -1) / weight[:, None]).astype(np.float32)
        return means

    normals = mean(surface.normals)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(length > 1e-6, normals / np.maximum(length, 1e-6), [[0.0, 0.0, 1.0]])
    points, colors = mean(surface.points), mean(surface.colors)
    chosen = np.sort(rng.permutation(len(points))[:count])
    return _Surface(
        points[chosen],
        normals[chosen].astype(np.float32),
        colors[chosen],
        weight[chosen].astype(np.float32),
    )


def _splats_on(surface: _Surface) -> SplatModel:
    """One disc per point, as large as the distance to its neighbours."""
    n = len(surface.points)
    neighbours = min(4, n)
    distance, _ = cKDTree(surface.points).query(surface.points, k=neighbours)
    spacing = (
        np.asarray(distance).reshape(n, neighbours)[:, 1:].mean(1) if n > 1 else np.full(n, 0.01)
    )
    # One lonely point must not become a blob, nor two equal ones a division by zero.
    spacing = np.clip(spacing, 1e-4, 3 * np.median(spacing) + 1e-4)
    scales = np.stack([_ALONG * spacing, _ALONG * spacing, _ACROSS * spacing], -1)

    # Shortest rotation of the z axis onto the normal: q = (1 + z.n, z x n), up to its length.
    nx, ny, nz = surface.normals.T
    quats = np.stack([1 + nz, -ny, nx, np.zeros_like(nx)], -1)
    quats[nz < -0.999] = [0.0, 1.0, 0.0, 0.0]
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    return SplatModel(
        means=surface.points.astype(np.float32),
        quats=quats.astype(np.float32),
        log_scales=np.log(scales).astype(np.float32),
        logit_opacities=np.full(n, np.log(_OPACITY / (1 - _OPACITY)), np.float32),
        sh=((surface.colors - 0.5) / SH_C0).astype(np.float32)[:, None, :],
    )
