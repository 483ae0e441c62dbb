"""Depth in world units from the relative inverse depth that a network sees in each view.

It knows the views' silhouettes, cameras and (where the engine has one) own surface, and nothing of
networks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.stats import rankdata

from pipeline.control import Control
from pipeline.engines.depth.agreement import (
    LEAST_INVERSE,
    Cells,
    Grid,
    Mask,
    agreement,
    fit_jointly,
    huber,
    one_sided,
    straighten,
)
from pipeline.engines.depth.surface_depth import SurfaceDepth
from pipeline.geometry.hull import FOREGROUND, hull_of
from pipeline.geometry.projection import pixel_rays, rays_through, to_camera, to_world
from pipeline.types import Cameras, FloatArray, ViewSet

T = TypeVar("T", bound=np.generic)

# What each step gains, on objects of known depth: docs/decisions.md, "Depth in three steps".

#: The fits compare cells: square blocks of pixels, so many along the longer side at least.
_CELLS = 128
#: They use pixels whose alpha is above this, so many pixels away from others.
_SOLID, _RIM = 0.9 * 255, 2
#: Fewer cells than this are no object to fit.
_FEWEST_CELLS = 50
#: A network that answers with one number makes its last digits differ by less than this share.
_CONSTANT = 1e-5

_ROUNDS = 10
#: Inverse depth further behind the hull than the spread of all has no say; it shrinks by `_ANNEAL`
#: a round, down to `_LEAST_ANNEAL`, and the spread never falls below the hull's own error.
_ANNEAL, _LEAST_ANNEAL, _LEAST_SPREAD = 0.75, 0.3, 0.003

#: A view is kept when its ranks agree with those of the hull's front at least so well ...
_LEAST_CORRELATION = 0.8
#: ... where its surface is not further behind the hull than this (world units): the true depth of
#: the mug correlates with its hull by .97 there and by .55 everywhere ...
_BEHIND = 0.06
#: ... and so large a part of the object is that near to the hull. Of the objects above, bent twice
#: as much, it is .53 in the worst view; smooth noise and brightness stay below .43.
_LEAST_AT_HULL = 0.4

#: Pixels below this agreement are unknown: they would carve free space into the object.
_LEAST_AGREEMENT = 0.1
#: Objects lie in [-0.5, 0.5]^3; what lies further out than this is a mistake.
_REACH = 0.55


@dataclass(frozen=True)
class AlignedDepth:
    """Depth of every view, in the world.

    Attributes:
        depth: float32 [V, H, W], z-depth in world units, 0 where unknown.
        confidence: float32 [V, H, W], 0..1, 0 where unknown: facing ratio, lowered along edges,
            times how far the other views agree.
        discarded: view -> why nothing of it is known.
    """

    depth: FloatArray
    confidence: FloatArray
    discarded: dict[int, str]


def align(disparity: FloatArray, views: ViewSet, control: Control) -> AlignedDepth:
    """Find scale and shift of each view's inverse depth, and which pixels can be believed.

    A network's inverse depth d is known up to an affine map: 1/z = s d + b (Ranftl et al. 2020,
    MiDaS, section 5). s and b come from the views' own surface depth where there is one. Else
    they come from the visual hull, which is never behind the object, and from the views' agreement
    with each other, which also straightens what the network bends.

    Args:
        disparity: float32 [V, H, W], larger is nearer. Views of numbers that are all equal or not
            finite are discarded, and so are views whose order of depths is not the hull's.
        control: checked between the views; progress is that of the alignment.

    Raises:
        Cancelled: `control` asked for it.
    """
    control.step(0.0, "aligning depth")
    normal, cells = _normalised(disparity, views, control)
    flaws = {view: _flaw_of_cells(cells, view) for view in range(len(views))}
    hull = views.surface_depth is None
    scale, shift = np.zeros(len(views)), np.zeros(len(views))
    for view in _without_flaw(flaws):
        control.check()
        solid = cells.solid[view]
        scale[view], shift[view] = _fit(cells.d[view][solid], cells.bound[view][solid], hull=hull)
        flaws[view] = _flaw_of_fit(cells, view, scale[view], shift[view], hull=hull)
    control.step(0.2, "aligning depth")

    correction = np.zeros_like(cells.d)
    if hull and _without_flaw(flaws):
        scale, shift = fit_jointly(cells, scale, shift, _without_flaw(flaws), control)
        for view in _without_flaw(flaws):
            flaws[view] = _flaw_of_fit(cells, view, scale[view], shift[view], hull=hull)
        control.step(0.4, "aligning depth")
        fitted = scale[:, None, None] * cells.d + shift[:, None, None]
        correction = straighten(cells, fitted, _without_flaw(flaws), control)
    control.step(0.6, "aligning depth")

    depth = np.zeros(disparity.shape, np.float32)
    for view in _without_flaw(flaws):
        inverse = scale[view] * normal[view] + shift[view]
        inverse += _enlarged(correction[view], cells.stride, inverse.shape)
        z = (1 / np.maximum(inverse, LEAST_INVERSE)).astype(np.float32)
        known = (views.alphas[view] >= FOREGROUND) & _within_reach(z, views.cameras, view)
        depth[view] = np.where(known, z, 0)
    agreed = agreement(depth, views.cameras, control.part(0.6, 0.8))
    depth[agreed < _LEAST_AGREEMENT] = 0
    # What lowers the confidence in a surface that is known lowers it in one that is estimated.
    estimated = replace(views, surface_depth=depth, surface_confidence=None)
    surface = SurfaceDepth().estimate(estimated, control.part(0.8, 1.0))
    discarded = {view: reason for view, reason in flaws.items() if reason is not None}
    return AlignedDepth(depth, (surface.confidence * agreed).astype(np.float32), discarded)


def _without_flaw(flaws: dict[int, str | None]) -> list[int]:
    return [view for view, reason in flaws.items() if reason is None]


def _normalised(disparity: FloatArray, views: ViewSet, control: Control) -> tuple[Grid, Cells]:
    """The network's answer with mean 0 and deviation 1 over each object.

    Returns:
        normal: float64 [V, H, W]; 0 in views that are constant or not finite.
        cells: the same in cells; their `bound` is the front of the hull, or the views' own surface.
    """
    H, W = disparity.shape[1:]
    stride = max(1, max(H, W) // _CELLS)
    if views.surface_depth is None:
        bound = _hull_front(views, stride, control)
    else:
        bound = _pooled_inverse(views.surface_depth, stride)
    normal, solid = np.zeros(disparity.shape), np.zeros(bound.shape, bool)
    for view, plane in enumerate(disparity.astype(np.float64)):
        eroded = ndimage.binary_erosion(
            views.alphas[view] > _SOLID, np.ones((3, 3), bool), iterations=_RIM
        )
        solid[view] = _blocks(eroded, stride).all((1, 3)) & (bound[view] > 0)
        if eroded.any() and np.isfinite(plane).all():
            mean, deviation = plane[eroded].mean(), plane[eroded].std()
            if deviation > _CONSTANT * abs(mean):
                normal[view] = (plane - mean) / deviation
    d = np.stack([_blocks(plane, stride).mean((1, 3)) for plane in normal])
    return normal, Cells(d, solid, bound, stride, views.cameras)


def _flaw_of_cells(cells: Cells, view: int) -> str | None:
    """Why there is nothing to fit."""
    if cells.solid[view].sum() < _FEWEST_CELLS:
        return "too little of the object is opaque and in the common volume of the silhouettes"
    if not cells.d[view].any():
        return "the network's answer is constant or not finite"
    return None


def _blocks(plane: npt.NDArray[T], stride: int) -> npt.NDArray[T]:
    """[H, W] -> [h, stride, w, stride], without what does not fill a block."""
    h, w = plane.shape[0] // stride, plane.shape[1] // stride
    return plane[: h * stride, : w * stride].reshape(h, stride, w, stride)


def _enlarged(cells: Grid, stride: int, shape: tuple[int, ...]) -> Grid:
    """Bilinear values of cells [h, w] at the pixels [H, W]."""
    y, x = ((np.arange(side) + 0.5) / stride - 0.5 for side in shape)
    positions = np.meshgrid(y, x, indexing="ij")
    values: Grid = ndimage.map_coordinates(cells, positions, order=1, mode="nearest")
    return values


def _pooled_inverse(depth: FloatArray, stride: int) -> Grid:
    """Mean inverse depth [V, h, w] of blocks that are known whole, else 0."""
    planes = []
    for plane in depth:
        known = plane > 0
        inverse = np.where(known, 1 / np.where(known, plane, 1.0), 0.0)
        whole = _blocks(known, stride).all((1, 3))
        planes.append(np.where(whole, _blocks(inverse, stride).mean((1, 3)), 0.0))
    return np.stack(planes)


def _hull_front(views: ViewSet, stride: int, control: Control) -> Grid:
    """Inverse depth [V, h, w] of the front of the visual hull, 0 where there is none.

    Its shell is drawn as squares of three cells that lie in its tangent planes. On a sphere the
    median error is .003 world units, a quarter of a voxel.
    """
    points, normals, voxel = hull_of(views, control)
    # Voxel centres lie up to a voxel inside of the boundary; measured, a quarter.
    points = (points + 0.25 * voxel * normals).astype(np.float64)
    h, w = views.cameras.height // stride, views.cameras.width // stride
    front = np.zeros((len(views), h, w))
    for view in range(len(views)):
        control.check()
        R = views.cameras.viewmats[view, :3, :3].astype(np.float64)
        K = views.cameras.intrinsics[view].astype(np.float64)
        p, n = to_camera(views.cameras, view, points), normals @ R.T
        offset = np.einsum("ij,ij->i", n, p)
        towards = (offset < 0) & (p[:, 2] > 1e-3)
        p, n, offset = p[towards], n[towards], offset[towards]
        q = 1 / p[:, 2]
        # Not `project`, which divides by z: the last digits of all depth would be others.
        column = np.floor((p[:, 0] * q * K[0, 0] + K[0, 2]) / stride).astype(np.int64)
        row = np.floor((p[:, 1] * q * K[1, 1] + K[1, 2]) / stride).astype(np.int64)
        for dy, dx in np.ndindex(3, 3):
            y, x = row + dy - 1, column + dx - 1
            ray_x, ray_y, _ = rays_through(
                views.cameras, view, (x + 0.5) * stride, (y + 0.5) * stride
            ).T
            # The plane n.X = offset along X = ray / q; an oblique one stays within a voxel.
            tilted = (n[:, 0] * ray_x + n[:, 1] * ray_y + n[:, 2]) / offset
            tilted = np.clip(tilted, q - voxel * q**2, q + voxel * q**2)
            there = (x >= 0) & (x < w) & (y >= 0) & (y < h)
            np.maximum.at(front[view], (y[there], x[there]), tilted[there])
    return front


def _fit(d: Grid, q: Grid, *, hull: bool) -> tuple[float, float]:
    """(s, b) that minimise sum w (s d + b - q)^2 over cells [n], reweighted each round.

    Where q is a hull's, the weights are one-sided: a surface in front of it is wrong and pays as
    usual, one far behind it lies in a hollow that silhouettes do not show.
    """
    weight = np.ones_like(d)
    scale = shift = 0.0
    for step in range(_ROUNDS):
        total = weight.sum()
        d_mean, q_mean = (weight * d).sum() / total, (weight * q).sum() / total
        variance = (weight * (d - d_mean) ** 2).sum()
        scale = float((weight * (d - d_mean) * (q - q_mean)).sum() / max(variance, 1e-12))
        shift = float(q_mean - scale * d_mean)
        residual = scale * d + shift - q
        spread = 1.4826 * float(np.median(np.abs(residual)))
        if hull:
            anneal = max(_LEAST_ANNEAL, _ANNEAL**step)
            weight = one_sided(residual, max(spread, _LEAST_SPREAD) * anneal)
        else:
            weight = huber(residual, max(spread, 1e-9))
    return scale, shift


def _flaw_of_fit(cells: Cells, view: int, scale: float, shift: float, *, hull: bool) -> str | None:
    """Why a fit is not believed."""
    if scale <= 0:
        return "near and far are exchanged"
    solid = cells.solid[view]
    inverse, q = scale * cells.d[view][solid] + shift, cells.bound[view][solid]
    if hull:
        at_hull = 1 / np.maximum(inverse, LEAST_INVERSE) < 1 / q + _BEHIND
        if at_hull.mean() < _LEAST_AT_HULL:
            return f"only {at_hull.mean():.0%} of it reaches the hull of the silhouettes"
        inverse, q = inverse[at_hull], q[at_hull]
    correlation = _rank_correlation(inverse, q)
    if correlation <= _LEAST_CORRELATION:
        return f"its order of depths is not the object's: rank correlation {correlation:.2f}"
    return None


def _rank_correlation(a: Grid, b: Grid) -> float:
    """Spearman's, -1..1; 0 where one of them is constant."""
    ranks = [rankdata(values) - (len(values) + 1) / 2 for values in (a, b)]
    length = np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1]))
    return float(ranks[0] @ ranks[1] / length) if length > 0 else 0.0


def _within_reach(z: FloatArray, cameras: Cameras, view: int) -> Mask:
    """Which pixels [H, W] of z-depth lie in the cube that holds every object."""
    world = to_world(cameras, view, pixel_rays(cameras, view, np.float64) * z[..., None])
    inside: Mask = np.abs(world).max(axis=-1) <= _REACH
    return inside
