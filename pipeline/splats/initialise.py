"""First splats of an object: from the depth of its views, or from their silhouettes.

It does not know how views or depths were estimated, nor how splats are optimised afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from pipeline.errors import InvalidInput, ModelFailed
from pipeline.types import SH_C0, Cameras, DepthMaps, FloatArray, SplatModel, ViewSet

__all__ = ["splats_from_views"]

#: Pixels with less are background.
_FOREGROUND = 128

#: A neighbour whose depth differs by more than this many pixel widths lies on another surface.
_JUMP_PIXELS = 6.0

#: Fewer points than this are noise, not a surface.
_FEWEST_POINTS = 64

_OPACITY = 0.8

#: Standard deviations against the distance to the neighbours: along the surface, and across it.
_ALONG, _ACROSS = 0.6, 0.2

_HULL_SIDE = 96
_HULL_EXTENT = 0.55  # the object is in [-0.5, 0.5]^3


@dataclass(frozen=True)
class _Surface:
    """n oriented points: points (world), normals (unit), colors (0..1) [n, 3] and weights [n]."""

    points: FloatArray
    normals: FloatArray
    colors: FloatArray
    weights: FloatArray


def splats_from_views(views: ViewSet, depths: DepthMaps, *, count: int, seed: int) -> SplatModel:
    """Flat splats spread evenly over the visible surface.

    Pixels with confidence and inside of the silhouette are taken into the world; where no depth
    is usable, the points are the visual hull of the silhouettes. The same input and seed give
    the same splats.

    Args:
        depths: of the same views; depth and confidence [V, H, W].
        count: splats wanted; fewer come back when the views show less surface than that.

    Raises:
        InvalidInput: `count` is not positive or the depth has another shape than the views.
        ModelFailed: neither depth nor silhouettes show an object.
    """
    if count < 1:
        raise InvalidInput(f"count must be at least 1, got {count}")
    if depths.depth.shape != views.alphas.shape or depths.confidence.shape != views.alphas.shape:
        raise InvalidInput(
            f"depth must have the shape of the views {views.alphas.shape}, got {depths.depth.shape}"
        )
    surface = _surface_of_depth(views, depths)
    if len(surface.points) < _FEWEST_POINTS:
        surface = _surface_of_hull(views)
    if len(surface.points) < _FEWEST_POINTS:
        raise ModelFailed(
            "No object could be placed: the depth maps hold no confident pixel on the object and "
            "the silhouettes of the views have no common volume."
        )
    rng = np.random.default_rng(seed)
    return _splats_on(_spread(surface, count, rng))


def _surface_of_depth(views: ViewSet, depths: DepthMaps) -> _Surface:
    """All confident foreground pixels of all views, in the world."""
    parts = []
    for view in range(len(views)):
        z = depths.depth[view]
        good = (depths.confidence[view] > 0) & (z > 0) & np.isfinite(z)
        good &= views.alphas[view] >= _FOREGROUND
        points = _back_project(views.cameras, view, z)
        normals, whole = _normals_of_grid(points, z, good, views.cameras.intrinsics[view])
        good &= whole
        p, n = points[good], normals[good]
        to_camera = views.cameras.centres[view] - p
        to_camera /= np.linalg.norm(to_camera, axis=1, keepdims=True)
        facing = np.einsum("ij,ij->i", n, to_camera)
        n *= np.sign(facing)[:, None]
        # Oblique pixels are large on the surface and blurred in the view.
        weights = depths.confidence[view][good] * np.abs(facing) ** 2
        parts.append((p, n, views.images[view][good] / np.float32(255), weights))
    points, normals, colors, weights = (np.concatenate(part) for part in zip(*parts, strict=True))
    return _Surface(points, normals, colors, weights.astype(np.float32))


def _back_project(cameras: Cameras, view: int, depth: FloatArray) -> FloatArray:
    """World positions [H, W, 3] of the pixel centres of one view at z-depth [H, W]."""
    K, viewmat = cameras.intrinsics[view], cameras.viewmats[view]
    ys, xs = np.mgrid[0 : cameras.height, 0 : cameras.width].astype(np.float32) + np.float32(0.5)
    rays = np.stack([(xs - K[0, 2]) / K[0, 0], (ys - K[1, 2]) / K[1, 1], np.ones_like(xs)], -1)
    # x_world = R^T (x_camera - t), written for row vectors.
    points: FloatArray = ((rays * depth[..., None]) - viewmat[:3, 3]) @ viewmat[:3, :3]
    return points.astype(np.float32)


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


def _surface_of_hull(views: ViewSet) -> _Surface:
    """Boundary of the volume whose projection is foreground in every view that sees it."""
    side = np.linspace(-_HULL_EXTENT, _HULL_EXTENT, _HULL_SIDE, dtype=np.float32)
    grid = np.stack(np.meshgrid(side, side, side, indexing="ij"), -1)
    inside = np.ones(grid.shape[:3], bool)
    for view in range(len(views)):
        seen, pixel = _look_up(views.cameras, view, grid.reshape(-1, 3))
        solid = np.zeros(seen.shape, bool)
        solid[seen] = views.alphas[view].reshape(-1)[pixel[seen]] >= _FOREGROUND
        inside &= (solid | ~seen).reshape(inside.shape)
    # A volume that touches the border of the grid was not carved at all there.
    inside[[0, -1]] = inside[:, [0, -1]] = inside[:, :, [0, -1]] = False
    core = inside.copy()
    for axis in range(3):
        core &= np.roll(inside, 1, axis) & np.roll(inside, -1, axis)
    shell = inside & ~core
    points = grid[shell]
    # Outwards is where the hull thins out: a blurred copy of it, differentiated.
    soft: FloatArray = inside.astype(np.float32)
    for _ in range(3):
        for axis in range(3):
            soft = ((np.roll(soft, 1, axis) + 2 * soft + np.roll(soft, -1, axis)) / 4).astype(
                np.float32
            )
    normals = -np.stack([np.gradient(soft, axis=axis) for axis in range(3)], -1)[shell]
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    return _Surface(
        points, normals, _colors_of(views, points, normals), np.ones(len(points), np.float32)
    )


def _colors_of(views: ViewSet, points: FloatArray, normals: FloatArray) -> FloatArray:
    """Mean colour 0..1 of the views that look at the points; nothing is occluded."""
    total = np.full((len(points), 3), 0.5e-6, np.float32)
    weight = np.full((len(points), 1), 1e-6, np.float32)
    for view in range(len(views)):
        seen, pixel = _look_up(views.cameras, view, points)
        to_camera = views.cameras.centres[view] - points
        to_camera /= np.linalg.norm(to_camera, axis=1, keepdims=True)
        w = np.maximum(np.einsum("ij,ij->i", normals, to_camera), 0) ** 4 * seen
        total += w[:, None] * views.images[view].reshape(-1, 3)[pixel * seen] / np.float32(255)
        weight += w[:, None]
    colors: FloatArray = total / weight
    return colors


def _look_up(
    cameras: Cameras, view: int, points: FloatArray
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Which points [n, 3] fall into the image of a view, and into which pixel (flat index)."""
    viewmat, K = cameras.viewmats[view], cameras.intrinsics[view]
    p = points @ viewmat[:3, :3].T + viewmat[:3, 3]
    front = p[:, 2] > 1e-3
    z = np.where(front, p[:, 2], 1.0)
    x = np.floor(p[:, 0] / z * K[0, 0] + K[0, 2]).astype(np.int64)
    y = np.floor(p[:, 1] / z * K[1, 1] + K[1, 2]).astype(np.int64)
    seen = front & (x >= 0) & (x < cameras.width) & (y >= 0) & (y < cameras.height)
    return seen, y * cameras.width + x


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
