"""What the views of one object say about each other's depth: they see one surface.

It knows cameras and inverse depths; not where those came from, nor when a view is not to be used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.control import Control
from pipeline.geometry.projection import NEAREST, pixel_rays, project
from pipeline.types import Cameras, FloatArray

Grid = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: Times the spread of the residuals: 95 % as efficient as least squares where nothing is wrong.
_HUBER = 1.345

#: A view's partners look from directions within this angle, so many of them at most.
_PARTNER_COSINE, _PARTNERS = np.cos(np.deg2rad(75.0)), 6

#: Inverse depth of 20 world units: nothing that is real is behind it.
LEAST_INVERSE = 0.05
#: Step along a ray for derivatives, in inverse depth.
_STEP = 1e-3

#: Rounds in which views are fitted to each other; each takes every third cell of both axes.
_ROUNDS, _EVERY = 6, 3
#: Inverse depths that differ by more than this are not the same surface; it shrinks each round.
_SPREAD, _ANNEAL, _LEAST_SPREAD = 0.03, 0.7, 0.006
#: What the hull weighs against the partners. With .3 the bent box ends .009 from the truth instead
#: of .008, the torus .0036 instead of .0042; without it nothing ties the depth to the world.
_HULL_SHARE = 0.05

#: Rounds of straightening and what part of the way each goes.
_STRAIGHTENINGS, _GAIN = 5, 0.7
#: Corrections are smooth over this part of the view's side, 16 px of 256. With 6 px they also
#: follow what is not bent (error on the clean torus .0009 instead of .0005).
_SMOOTH = 1 / 16
#: What a view's own answer weighs against that of one partner.
_OWN_SHARE = 1.0

#: Two views agree on a point when its depths differ by little against this (world units); a point
#: further behind the other's surface than twice that is hidden there.
_AGREE = 0.03
#: Agreement of a point that no partner sees.
_UNWATCHED = 0.5


@dataclass(frozen=True)
class Cells:
    """Blocks of stride x stride pixels of V views, and what is known of the object there.

    Attributes:
        d: float64 [V, h, w], what the network says; larger is nearer.
        solid: bool [V, h, w], well inside the object.
        bound: float64 [V, h, w], inverse depth of the hull's front, which the object cannot exceed.
        stride: pixels.
        cameras: of the views.
    """

    d: Grid
    solid: Mask
    bound: Grid
    stride: int
    cameras: Cameras


def huber(residual: Grid, spread: float) -> Grid:
    """Weights of residuals [n] that grow no further than linearly (Huber 1964)."""
    weight: Grid = np.minimum(1.0, _HUBER * spread / np.maximum(np.abs(residual), 1e-12))
    return weight


def _geman_mcclure(residual: Grid, spread: float) -> Grid:
    """Weights of residuals [n] that stop mattering when they are large."""
    weight: Grid = 1 / (1 + (residual / spread) ** 2) ** 2
    return weight


def one_sided(residual: Grid, spread: float) -> Grid:
    """Weights of (inverse depth - the hull's) [n]: in front of it is wrong, far behind a hollow."""
    weight: Grid = np.where(residual > 0, huber(residual, spread), _geman_mcclure(residual, spread))
    return weight


def fit_jointly(
    cells: Cells, scale: Grid, shift: Grid, kept: list[int], control: Control
) -> tuple[Grid, Grid]:
    """Better s and b [V], 1/z = s d + b, of all kept views at once: Gauss-Newton from given ones.

    A cell of one view, at the depth that its s and b say, falls into another view: there its
    inverse depth should be what the other's s and b say. Each residual depends on four unknowns;
    what lies behind another surface differs by much and has no weight.
    """
    number = {view: i for i, view in enumerate(kept)}
    scale, shift = scale.copy(), shift.copy()
    rays = _cell_rays(cells, kept)
    reprojections = _reprojections(cells.cameras, kept)
    for step in range(_ROUNDS):
        control.check()
        spread = max(_SPREAD * _ANNEAL**step, _LEAST_SPREAD)
        system = _Normal(2 * len(kept))
        chosen = np.zeros(cells.d.shape[1:], bool)
        chosen[step % _EVERY :: _EVERY, step // _EVERY % _EVERY :: _EVERY] = True
        inverse = scale[:, None, None] * cells.d + shift[:, None, None]
        for view in kept:
            i, mask = number[view], cells.solid[view] & chosen
            d, q = cells.d[view][mask], np.maximum(inverse[view][mask], LEAST_INVERSE)
            residual = q - cells.bound[view][mask]
            weight = _HULL_SHARE * one_sided(residual, spread)
            system.add([2 * i, 2 * i + 1], [d, np.ones_like(d)], weight, residual)
            for other, reproject in reprojections(view):
                j = number[other]
                residual, slope, hit = _compare(
                    cells, inverse[other], other, reproject, rays[view][mask], q
                )
                x, y, _ = reproject(rays[view][mask], q)
                theirs = _bilinear(cells.d[other], x / cells.stride, y / cells.stride)
                system.add(
                    [2 * i, 2 * i + 1, 2 * j, 2 * j + 1],
                    [slope * d, slope, theirs, np.ones_like(d)],
                    hit * _geman_mcclure(residual, spread) / _PARTNERS,
                    residual,
                )
        change = system.solve()
        scale[kept] += change[0::2]
        shift[kept] += change[1::2]
    return scale, shift


def straighten(cells: Cells, inverse: Grid, kept: list[int], control: Control) -> Grid:
    """Smooth corrections [V, h, w] to the inverse depth of the kept views that make them agree.

    Networks bend large shapes: no scale and shift helps against that, but each view bends another
    way. Each round moves every view by the blurred mean of what its partners would have it.
    """
    rays = _cell_rays(cells, kept)
    reprojections = _reprojections(cells.cameras, kept)
    sigma = _SMOOTH * max(inverse.shape[1:])
    correction = np.zeros_like(inverse)
    for _ in range(_STRAIGHTENINGS):
        control.check()
        current = inverse + correction
        for view in kept:
            mask = cells.solid[view]
            q = np.maximum(current[view][mask], LEAST_INVERSE)
            wanted, total = np.zeros_like(q), np.full_like(q, _OWN_SHARE)
            for other, reproject in reprojections(view):
                residual, slope, hit = _compare(
                    cells, current[other], other, reproject, rays[view][mask], q
                )
                weight = hit * _geman_mcclure(residual, _SPREAD)
                wanted -= weight * slope * residual
                total += weight * slope**2
            moved = np.zeros(mask.shape)
            moved[mask] = wanted / total
            cover = ndimage.gaussian_filter(mask.astype(np.float64), sigma)
            correction[view] += (
                _GAIN * ndimage.gaussian_filter(moved, sigma) / np.maximum(cover, 1e-3)
            )
    return correction


def agreement(depth: FloatArray, cameras: Cameras, control: Control) -> FloatArray:
    """How far the partners of each view see the same surface, float32 [V, H, W] in 0..1.

    Per pixel the mean over the partners that can see its point of exp(-e^2 / 2 sigma^2), e the
    difference of depths there. A partner that sees through the point counts as 0, one with another
    surface in front of it not at all.

    Args:
        depth: float32 [V, H, W], z-depth, 0 where unknown; there the agreement is 0.
    """
    known = depth > 0
    views = [view for view in range(len(depth)) if known[view].any()]
    reprojections = _reprojections(cameras, views)
    agreed = np.zeros(depth.shape, np.float32)
    for view in views:
        control.step(view / len(depth), "comparing depth")
        at = known[view]
        rays = pixel_rays(cameras, view, np.float64)[at]
        inverse = 1 / depth[view][at].astype(np.float64)
        total, count = np.zeros(len(rays)), np.zeros(len(rays))
        for other, reproject in reprojections(view):
            x, y, z = reproject(rays, inverse)
            there = _nearest(known[other], x, y)
            behind = z - _bilinear(depth[other], x, y)
            hidden = there & (behind > 2 * _AGREE)
            total += np.where(there & ~hidden, np.exp(-(behind**2) / (2 * _AGREE**2)), 0)
            count += ~hidden
        agreed[view][at] = np.where(count > 0, total / np.maximum(count, 1), _UNWATCHED)
    return agreed


class _Normal:
    """Normal equations A x = -g of a weighted least-squares problem in `size` unknowns."""

    def __init__(self, size: int) -> None:
        self._A, self._g = np.zeros((size, size)), np.zeros(size)

    def add(self, unknowns: list[int], columns: list[Grid], weight: Grid, residual: Grid) -> None:
        """n residuals and their derivatives by these unknowns, everything [n]."""
        jacobian = np.stack(columns, -1)
        self._A[np.ix_(unknowns, unknowns)] += jacobian.T @ (weight[:, None] * jacobian)
        self._g[unknowns] += jacobian.T @ (weight * residual)

    def solve(self) -> Grid:
        # A little damping: a view that nothing speaks about stays where it is.
        damping = 1e-5 * np.trace(self._A) / len(self._A) + 1e-12
        change: Grid = np.linalg.solve(self._A + damping * np.eye(len(self._A)), -self._g)
        return change


@dataclass(frozen=True)
class _Reprojection:
    """From the frame of one camera into the picture of another."""

    cameras: Cameras
    other: int
    rotation: Grid
    translation: Grid

    @classmethod
    def between(cls, cameras: Cameras, view: int, other: int) -> _Reprojection:
        viewmats = cameras.viewmats.astype(np.float64)
        there = viewmats[other] @ np.linalg.inv(viewmats[view])
        return cls(cameras, other, there[:3, :3], there[:3, 3])

    def __call__(self, rays: Grid, inverse: Grid) -> tuple[Grid, Grid, Grid]:
        """Pixel x, y and z-depth [n] in the other view of rays [n, 3] at 1/z [n]."""
        points = rays @ self.rotation.T / inverse[:, None] + self.translation
        z = np.maximum(points[:, 2], NEAREST)
        return *project(self.cameras, self.other, points, z), z


def _reprojections(
    cameras: Cameras, among: list[int]
) -> Callable[[int], Iterator[tuple[int, _Reprojection]]]:
    """Of a view: its partners, which look from the most similar directions, and the way there."""
    centres = cameras.centres.astype(np.float64)
    directions = centres / np.linalg.norm(centres, axis=1, keepdims=True)

    def partners(view: int) -> Iterator[tuple[int, _Reprojection]]:
        cosines = directions @ directions[view]
        near = [other for other in among if other != view and cosines[other] > _PARTNER_COSINE]
        for other in sorted(near, key=lambda other: -cosines[other])[:_PARTNERS]:
            yield other, _Reprojection.between(cameras, view, other)

    return partners


def _cell_rays(cells: Cells, views: list[int]) -> dict[int, Grid]:
    """Rays [h, w, 3] through the middles of the cells of each view, in its camera's frame."""
    return {v: pixel_rays(cells.cameras, v, np.float64, stride=cells.stride) for v in views}


def _compare(
    cells: Cells, theirs: Grid, other: int, reproject: _Reprojection, rays: Grid, q: Grid
) -> tuple[Grid, Grid, Mask]:
    """Points on rays [n, 3] at inverse depth q [n] against another view's inverse depth [h, w].

    Returns:
        residual: [n], theirs minus that of the point, in their view.
        slope: [n], its derivative by q; the slope of their surface is in it.
        hit: bool [n], the point falls onto their object.
    """
    ends = []
    for moved in (q + _STEP, q):
        x, y, z = reproject(rays, moved)
        x, y = x / cells.stride, y / cells.stride
        ends.append(_bilinear(theirs, x, y) - 1 / z)
    return ends[1], (ends[0] - ends[1]) / _STEP, _nearest(cells.solid[other], x, y)


def _nearest(plane: Mask, x: Grid, y: Grid) -> Mask:
    """The nearest value of a mask [H, W] at x, y [n] in its own pixels; False outside."""
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    inside = (column >= 0) & (column < plane.shape[1]) & (row >= 0) & (row < plane.shape[0])
    values = np.zeros(len(x), bool)
    values[inside] = plane[row[inside], column[inside]]
    return values


def _bilinear(plane: npt.NDArray[np.floating], x: Grid, y: Grid) -> Grid:
    """Bilinear value of [H, W] at x, y [n] in its own pixels."""
    values: Grid = ndimage.map_coordinates(
        plane, [y - 0.5, x - 0.5], order=1, mode="nearest", output=np.float64
    )
    return values
