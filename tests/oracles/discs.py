"""Discs whose every pixel is known: soft rims, hair, shadows and haze over them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.types import UInt8Array

Plane = npt.NDArray[np.float64]


def disc(
    size: int, radius: float, *, middle: tuple[float, float] | None = None, soft_px: float = 1.0
) -> Plane:
    """How far a disc covers each pixel, 0..1, float64 [size, size].

    Args:
        middle: (x, y) in pixels; None is the picture's.
        soft_px: width of the ramp across its rim.
    """
    x0, y0 = middle or (size / 2, size / 2)
    y, x = np.mgrid[:size, :size] + 0.5
    return np.clip((radius - np.hypot(x - x0, y - y0)) / soft_px + 0.5, 0, 1)


def disc_alpha(size: int, radius: float) -> UInt8Array:
    """The same as an alpha, uint8 [size, size]."""
    return as_bytes(disc(size, radius))


def as_bytes(plane: Plane) -> UInt8Array:
    """0..1 to uint8."""
    return np.rint(255 * plane).astype(np.uint8)


def over(front: Plane, behind: Plane | float) -> Plane:
    """The alpha of something over something else (Porter and Duff, 1984)."""
    return front + (1 - front) * behind


def with_hair(alpha: UInt8Array, radius: float, length: float, strands: int = 24) -> UInt8Array:
    """One pixel wide strands around a disc in the middle, from alpha 215 at its rim to 15."""
    hairy, middle = alpha.copy(), len(alpha) / 2
    for angle in 2 * np.pi * np.arange(strands) / strands:
        for along in np.arange(0, length, 0.5):
            x = int(middle + (radius - 3 + along) * np.cos(angle))
            y = int(middle + (radius - 3 + along) * np.sin(angle))
            hairy[y, x] = max(hairy[y, x], round(215 - 200 * along / length))
    return hairy
