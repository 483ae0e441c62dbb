"""Photos with an alpha channel as nobody means them: noise, hair, wire, text, dots, holes, nothing.

They are drawn from a seed, so that a failure can be seen again. What an engine makes of them is
its own affair, as long as it is a surface or a sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.types import UInt8Array

Draw = Callable[[np.random.Generator, int, int], npt.NDArray[np.generic]]

SIDES = (8, 31, 32, 33, 64, 100, 128, 200, 256)


@dataclass(frozen=True)
class OddPhoto:
    """rgb uint8 [H, W, 3], alpha uint8 [H, W], and what was drawn."""

    name: str
    rgb: UInt8Array
    alpha: UInt8Array


def odd_photo(seed: int) -> OddPhoto:
    """The photo of a seed; seeds that follow each other go through all kinds."""
    rng = np.random.default_rng(seed)
    name = list(KINDS)[seed % len(KINDS)]
    height = int(rng.choice(SIDES))
    width = height if rng.random() < 0.6 else int(rng.choice(SIDES))
    alpha = np.clip(KINDS[name](rng, height, width), 0, 255).astype(np.uint8)
    fate = rng.random()
    if fate < 0.15:  # soft, as mattes are
        alpha = cv2.GaussianBlur(alpha, (0, 0), rng.uniform(0.5, 4))
    elif fate < 0.25:  # faint, as mattes of glass are
        alpha = (alpha * rng.uniform(0.3, 0.9)).astype(np.uint8)
    elif fate < 0.35:  # with haze all over
        alpha = np.maximum(alpha, rng.integers(0, 140, dtype=np.uint8))
    rgb = COLOURS[int(rng.integers(len(COLOURS)))](rng, height, width)
    return OddPhoto(f"{name} {width} x {height}, seed {seed}", rgb.astype(np.uint8), alpha)


# ------------------------------------------------------------------ outlines
def _blank(height: int, width: int) -> UInt8Array:
    return np.zeros((height, width), np.uint8)


def _nothing(_rng: np.random.Generator, height: int, width: int) -> UInt8Array:
    return _blank(height, width)


def _full(_rng: np.random.Generator, height: int, width: int) -> UInt8Array:
    return np.full((height, width), 255, np.uint8)


def _half(rng: np.random.Generator, height: int, width: int) -> UInt8Array:
    """One alpha everywhere, near the one half that decides."""
    return np.full((height, width), rng.choice([1, 8, 9, 126, 127, 128, 129, 254]), np.uint8)


def _noise(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.generic]:
    return rng.integers(0, 256, (height, width))


def _specks(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.generic]:
    return 255 * (rng.random((height, width)) < rng.choice([0.001, 0.02, 0.2, 0.5]))


def _clouds(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.generic]:
    cells = int(rng.integers(2, 12))
    coarse = rng.standard_normal((cells, cells))
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(127 + 255 * fine, 0, 255)


def _hair(rng: np.random.Generator, height: int, width: int) -> UInt8Array:
    alpha = _blank(height, width)
    for _ in range(int(rng.integers(1, 60))):
        points = rng.uniform(0, 1, (5, 2)).cumsum(0) * rng.uniform(0.1, 0.5)
        line = np.round(points * [width, height]).astype(np.int32)
        cv2.polylines(alpha, [line], False, 255, 1, cv2.LINE_AA)
    return alpha


def _wire(rng: np.random.Generator, height: int, width: int) -> UInt8Array:
    """A bent wire, closed or open, one to three pixels thick."""
    alpha = _blank(height, width)
    angles = np.linspace(0, 2 * np.pi, 40)
    radii = 0.4 + 0.08 * np.sin(rng.integers(2, 9) * angles)
    points = 0.5 + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], -1)
    line = np.round(points * [width, height]).astype(np.int32)
    cv2.polylines(alpha, [line], bool(rng.random() < 0.5), 255, int(rng.integers(1, 4)))
    return alpha


def _text(rng: np.random.Generator, height: int, width: int) -> UInt8Array:
    alpha = _blank(height, width)
    for row in range(int(rng.integers(1, 6))):
        words = "".join(rng.choice(list("Glimpse 3D;%&#"), 12))
        place = (2, 12 + row * max(10, height // 6))
        cv2.putText(alpha, words, place, cv2.FONT_HERSHEY_SIMPLEX, rng.uniform(0.3, 2), 255)
    return alpha


def _dots(rng: np.random.Generator, height: int, width: int) -> UInt8Array:
    alpha = _blank(height, width)
    for _ in range(int(rng.integers(1, 40))):
        place = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.circle(alpha, place, int(rng.integers(0, 6)), 255, -1)
    return alpha


def _one_pixel(rng: np.random.Generator, height: int, width: int) -> UInt8Array:
    alpha = _blank(height, width)
    alpha[rng.integers(height), rng.integers(width)] = 255
    return alpha


def _checks(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.generic]:
    size = int(rng.integers(1, 9))
    rows, columns = np.arange(height) // size, np.arange(width) // size
    return 255 * ((rows[:, None] + columns) % 2)


def _comb(rng: np.random.Generator, height: int, width: int) -> UInt8Array:
    alpha = _blank(height, width)
    alpha[: max(1, height // 6)] = 255
    alpha[:, :: int(rng.integers(2, 9))] = 255
    return alpha


def _cheese(rng: np.random.Generator, height: int, width: int) -> UInt8Array:
    """A slab full of holes, some of one pixel."""
    alpha = _blank(height, width)
    alpha[height // 8 : height - height // 8, width // 8 : width - width // 8] = 255
    for _ in range(int(rng.integers(1, 80))):
        place = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.circle(alpha, place, int(rng.integers(0, 8)), 0, -1)
    return alpha


def _frame(rng: np.random.Generator, height: int, width: int) -> UInt8Array:
    """Only the border of the photo, or all but it."""
    alpha = _full(rng, height, width)
    border = int(rng.integers(1, 5))
    alpha[border : height - border, border : width - border] = 0
    return alpha if rng.random() < 0.5 else 255 - alpha


def _strip(rng: np.random.Generator, height: int, width: int) -> UInt8Array:
    """A bar a few pixels wide from edge to edge."""
    alpha = _blank(height, width)
    thick = int(rng.integers(1, 6))
    if rng.random() < 0.5:
        alpha[height // 2 : height // 2 + thick] = 255
    else:
        alpha[:, width // 2 : width // 2 + thick] = 255
    return alpha


def _ramp(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.generic]:
    """Alpha that rises slowly: no edge anywhere."""
    along = np.linspace(0, 255, width)[None] if rng.random() < 0.5 else np.linspace(0, 255, height)
    return np.broadcast_to(along if along.ndim == 2 else along[:, None], (height, width))


def _halves(rng: np.random.Generator, height: int, width: int) -> UInt8Array:
    """Two bodies that touch in one corner, or in one row of pixels."""
    alpha = _blank(height, width)
    alpha[: height // 2, : width // 2] = 255
    alpha[height // 2 :, width // 2 :] = 255
    if rng.random() < 0.5:
        alpha[height // 2] = 255
    return alpha


def _body(rng: np.random.Generator, height: int, width: int) -> UInt8Array:
    """An ordinary blob, so that not everything is refused."""
    alpha = _blank(height, width)
    axes = (
        max(1, int(width * rng.uniform(0.1, 0.45))),
        max(1, int(height * rng.uniform(0.1, 0.45))),
    )
    cv2.ellipse(alpha, (width // 2, height // 2), axes, rng.uniform(0, 180), 0, 360, 255, -1)
    return alpha


KINDS: dict[str, Draw] = {
    "nothing": _nothing,
    "full": _full,
    "one alpha": _half,
    "noise": _noise,
    "specks": _specks,
    "clouds": _clouds,
    "hair": _hair,
    "wire": _wire,
    "text": _text,
    "dots": _dots,
    "one pixel": _one_pixel,
    "checks": _checks,
    "comb": _comb,
    "cheese": _cheese,
    "frame": _frame,
    "strip": _strip,
    "ramp": _ramp,
    "halves": _halves,
    "body": _body,
}


# ------------------------------------------------------------------ colours
def _random_colours(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.generic]:
    return rng.integers(0, 256, (height, width, 3))


def _one_colour(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.generic]:
    return np.broadcast_to(rng.choice([0, 128, 255], 3), (height, width, 3))


def _smooth_colours(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.generic]:
    coarse = rng.uniform(0, 255, (2, 2, 3)).astype(np.float32)
    return np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), 0, 255)


COLOURS: tuple[Draw, ...] = (_random_colours, _one_colour, _smooth_colours)
