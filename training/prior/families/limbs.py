"""Round rods with round ends along short paths: arms, legs, bars, stems.

It does not know what they belong to. `primitives.tube` does the same for any path and takes
many times as long; objects with dozens of limbs are made by the million.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from training.prior.solids import Points, Solid, grid_surface

#: Rings of an end: (radius, distance beyond the path's end), both in radii, from the path outwards.
_END = ((0.89, 0.45), (0.55, 0.83), (0.0, 1.0))


@lru_cache
def _pattern(rings: int, columns: int) -> Solid:
    """The faces and texture coordinates of a sweep; its vertices say nothing."""
    u, v = np.meshgrid(np.linspace(0, 1, columns + 1), np.linspace(0, 1, rings))
    return grid_surface(np.zeros((rings, columns + 1, 3)), np.stack([u, v], -1))


def _unit(vectors: Points) -> Points:
    unit: Points = vectors / (np.sqrt((vectors * vectors).sum(1, keepdims=True)) + 1e-12)
    return unit


def limb_solid(path: Points, radii: Points, columns: int) -> Solid:
    """A rod in slot 0, its faces outwards.

    Args:
        path: float64 [n, 3], n at least 2, without turns back.
        radii: float64 [n].
        columns: faces around.
    """
    step = path[1:] - path[:-1]
    along = _unit(step)
    if len(path) > 2:
        along = _unit(np.concatenate([along[:1], along[1:] + along[:-1], along[-1:]]))
    else:
        along = np.concatenate([along, along])
    # The axis the path runs along least keeps the rings untwisted.
    side = np.zeros_like(along)
    k = int(np.abs(along).max(0).argmin())
    i, j = (k + 1) % 3, (k + 2) % 3
    side[:, i], side[:, j] = -along[:, j], along[:, i]
    side = _unit(side)
    other = np.empty_like(side)
    for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        other[:, a] = along[:, b] * side[:, c] - along[:, c] * side[:, b]
    n, m = len(path), len(_END)
    owner = np.concatenate([np.zeros(m, np.int64), np.arange(n), np.full(m, n - 1)])
    narrow, beyond = np.array(_END).T
    width = np.concatenate([narrow[::-1], np.ones(n), narrow]) * radii[owner]
    reach = np.concatenate([-beyond[::-1], np.zeros(n), beyond]) * radii[owner]
    middle = path[owner] + along[owner] * reach[:, None]
    angle = np.linspace(0, 2 * np.pi, columns + 1)
    spokes = (
        np.cos(angle)[:, None] * side[owner][:, None]
        + np.sin(angle)[:, None] * (other[owner][:, None])
    )
    points = middle[:, None] + width[:, None, None] * spokes
    return _pattern(len(owner), columns).deformed(lambda _: points.reshape(-1, 3))
