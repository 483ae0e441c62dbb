"""Leaves: many thin bent surfaces at once.

It does not know what plant they grow on.
"""

from __future__ import annotations

import numpy as np

from training.prior.solids import Points, Solid

UP = np.array([0.0, 0.0, 1.0])


def leaves(
    base: Points, azimuth: Points, long: Points, rise: Points, droop: Points, wide: Points,
    *, blunt: float = 0.7, fold: float = 0.3, rows: int = 9,
) -> Solid:  # fmt: skip
    """Many thin bent leaves at once, in slot 0.

    Args:
        base: float64 [N, 3], where each begins.
        azimuth, long, wide: float64 [N], its direction, length and largest half width.
        rise, droop: float64 [N], angle above the horizon at its base, and how much of it is lost
            towards the tip.
        blunt: below 1 the leaf is widest near its base, above 1 near its tip.
        fold: how far its edges stand above the middle, of the width there.
    """
    t = np.linspace(0, 1, rows)
    angle = rise[:, None] - droop[:, None] * t
    step = long[:, None] / (rows - 1)
    out = np.cumsum(np.cos(angle) * step, 1) - np.cos(angle) * step
    up = np.cumsum(np.sin(angle) * step, 1) - np.sin(angle) * step
    ahead = np.stack([np.cos(azimuth), np.sin(azimuth), 0 * azimuth], -1)
    side = np.stack([-ahead[:, 1], ahead[:, 0], 0 * azimuth], -1)
    spine = base[:, None] + out[..., None] * ahead[:, None] + up[..., None] * UP
    half = wide[:, None] * np.maximum(np.sin(np.pi * t**blunt) ** 0.8, 0.04)
    across = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    normal = np.cos(angle)[..., None] * UP - np.sin(angle)[..., None] * ahead[:, None]
    points = (
        spine[:, :, None]
        + (half[..., None] * across)[..., None] * side[:, None, None]
        + (fold * half[..., None] * across**2)[..., None] * normal[:, :, None]
    )
    count, m = len(base), len(across)
    index = np.arange(rows * m).reshape(rows, m)
    a, b = index[:-1, :-1].ravel(), index[:-1, 1:].ravel()
    c, d = index[1:, 1:].ravel(), index[1:, :-1].ravel()
    one = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    faces = (one[None] + np.arange(count)[:, None, None] * rows * m).reshape(-1, 3)
    uv = np.stack(np.broadcast_arrays(across / 2 + 0.5, t[:, None]), -1).reshape(-1, 2)
    slots, smooth = np.zeros(len(faces), np.int64), np.ones(len(faces), np.bool_)
    return Solid(points.reshape(-1, 3), faces, np.tile(uv, (count, 1)), slots, smooth)
