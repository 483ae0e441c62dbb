"""From a silhouette to how far a body bulges behind every pixel of it.

It works in the picture plane, in pixels, and does not know cameras, colours or meshes.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage, sparse
from scipy.sparse import linalg

from pipeline.engines.views.outline import Mask, Plane
from pipeline.imaging.nearest import nearest_known

#: Local width is measured on a mask of at most this size; it varies slowly.
WIDTH_SIZE = 128
#: A direct Poisson solution up to this many unknowns (30 ms), conjugate gradients above.
DIRECT_UNKNOWNS = 6_000
GRADIENT_STEPS = 60


def inflate(inside: Mask) -> Plane:
    """Half thickness of the body behind each pixel, float64 [S, S] in pixels, 0 outside.

    Solves laplace(u) = -4 with u = 0 outside; sqrt(u) is the half thickness. A disc becomes a
    ball exactly, every rim is round. A long strip would become sqrt(2) thicker than wide and
    junctions thicker still, so the result is scaled down where it exceeds the local half width.
    """
    raw = np.sqrt(np.maximum(_poisson(inside), 0.0))
    bounded: Plane = raw * _width_factor(inside, raw)
    # 0.3 px: the two sides of a hair's breadth must not coincide.
    return np.where(inside, np.maximum(bounded, 0.3), 0.0)


def _poisson(inside: Mask) -> Plane:
    """u with -laplace(u) = 4 inside and 0 outside, from coarse to fine."""
    if int(inside.sum()) <= DIRECT_UNKNOWNS or min(inside.shape) < 32:
        return _poisson_direct(inside)
    height, width = inside.shape
    half = (width // 2, height // 2)
    share = cv2.resize(inside.astype(np.float32), half, interpolation=cv2.INTER_AREA)
    coarse = _poisson(share >= 0.5)
    ratio = (width / half[0]) * (height / half[1])  # u is an area: it grows with the pixel count
    guess = cv2.resize(coarse * ratio, (width, height), interpolation=cv2.INTER_LINEAR)
    return _poisson_descend(inside, np.where(inside, guess, 0.0))


def _poisson_direct(inside: Mask) -> Plane:
    """The sparse linear system, solved by factorisation."""
    number = np.full(inside.shape, -1)
    count = int(inside.sum())
    solution = np.zeros(inside.shape)
    if count == 0:
        return solution
    number[inside] = np.arange(count)
    pairs = []
    for here, there in (
        (number[:, :-1], number[:, 1:]),
        (number[:-1], number[1:]),
    ):
        both = (here >= 0) & (there >= 0)
        pairs.append(np.stack([here[both], there[both]]))
    i, j = np.concatenate(pairs, axis=1)
    links = sparse.coo_array((np.ones(len(i)), (i, j)), shape=(count, count))
    matrix = sparse.csc_array(4.0 * sparse.eye_array(count) - links - links.T)
    solution[inside] = linalg.spsolve(matrix, np.full(count, 4.0))
    return solution


def _poisson_descend(inside: Mask, start: Plane) -> Plane:
    """Conjugate gradients on the same system from a good guess, without building a matrix."""

    def apply(u: Plane) -> Plane:
        result = 4.0 * u
        result[1:] -= u[:-1]
        result[:-1] -= u[1:]
        result[:, 1:] -= u[:, :-1]
        result[:, :-1] -= u[:, 1:]
        return np.where(inside, result, 0.0)

    u = start
    residual: Plane = np.where(inside, 4.0, 0.0) - apply(u)
    direction = residual
    power = float((residual * residual).sum())
    for _ in range(GRADIENT_STEPS):
        if power < 1e-12:
            break
        image = apply(direction)
        step = power / float((direction * image).sum())
        u = u + step * direction
        residual = residual - step * image
        new_power = float((residual * residual).sum())
        direction = residual + (new_power / power) * direction
        power = new_power
    return u


def local_half_width(inside: Mask) -> Plane:
    """Radius of the largest inscribed disc that covers each pixel, float64 [S, S], 0 outside.

    Measured on a reduced mask; parts too thin for it have their own distance to the outline.
    """
    small, scale = _reduced(inside)
    width = _covering_radius(small) / scale
    large = cv2.resize(width, inside.shape[::-1], interpolation=cv2.INTER_LINEAR)
    depth = ndimage.distance_transform_edt(inside)
    half_width: Plane = np.where(inside, np.maximum(large, depth), 0.0)
    return half_width


def _reduced(inside: Mask) -> tuple[Mask, float]:
    """The mask at `WIDTH_SIZE` or less, and the factor it was reduced by."""
    scale = min(1.0, WIDTH_SIZE / max(inside.shape))
    size = (max(1, round(inside.shape[1] * scale)), max(1, round(inside.shape[0] * scale)))
    share = cv2.resize(inside.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return share >= 0.5, scale


def _covering_radius(inside: Mask) -> Plane:
    """`local_half_width` at full resolution, in 32 steps of radius."""
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    width: Plane = np.where(inside, depth, 0.0)
    for radius in np.linspace(0.0, float(depth.max()), 33)[1:]:
        reached = ndimage.distance_transform_edt(depth < radius) < radius
        width[reached & inside] = np.maximum(width[reached & inside], radius)
    return width


def _width_factor(inside: Mask, thickness: Plane) -> Plane:
    """Smooth factor 0..1 [S, S] that brings `thickness` down to the local half width."""
    small, scale = _reduced(inside)
    if not small.any():
        return np.ones(inside.shape)
    ridge_height = cv2.resize(thickness, small.shape[::-1], interpolation=cv2.INTER_AREA) * scale
    width = _covering_radius(small)
    depth = ndimage.distance_transform_edt(np.pad(small, 1))[1:-1, 1:-1]
    # Only near the middle line do thickness and half width mean the same thing.
    ridge = small & (depth >= 0.85 * width)
    at_ridge = np.minimum(1.0, width / np.maximum(ridge_height, 1e-6))
    factor = nearest_known(at_ridge, ridge)
    sigma = 0.03 * max(small.shape)
    factor = ndimage.gaussian_filter(factor * small, sigma) / np.maximum(
        ndimage.gaussian_filter(small.astype(np.float64), sigma), 1e-9
    )
    factor = nearest_known(factor, small)
    large: Plane = cv2.resize(factor, inside.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return large
