"""What the kept-back objects are covered with: pictures made of noise, shapes and writing.

It does not know which object wears them, or how it is lit.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

SIDE = 160

Picture = npt.NDArray[np.float32]
Color = tuple[float, float, float]
Rng = np.random.Generator


@dataclass(frozen=True)
class Paint:
    """One finish.

    Attributes:
        picture: float32 [SIDE, SIDE, 3], sRGB 0..1, repeating.
        gloss: strength of the highlight, 0..1.
        sharpness: its exponent.
    """

    picture: Picture
    gloss: float = 0.05
    sharpness: float = 12.0


def tone(hue: float, saturation: float, value: float) -> Color:
    """A colour by its hue, saturation and value, 0..1 each; hues go around."""
    return colorsys.hsv_to_rgb(hue % 1.0, min(1.0, max(0.0, saturation)), min(1.0, max(0.0, value)))


def any_tone(rng: Rng, value: tuple[float, float] = (0.35, 0.9)) -> Color:
    """A colour people buy things in."""
    return tone(rng.random(), rng.beta(2, 2), rng.uniform(*value))


def clouds(rng: Rng, finest: int = 32, roughness: float = 0.6) -> Picture:
    """Repeating noise [SIDE, SIDE] of mean 0 and deviation 1."""
    total = np.zeros((SIDE, SIDE), np.float32)
    cells, weight = 3, 1.0
    while cells <= finest:
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        grid = np.pad(grid, 2, mode="wrap")
        step = SIDE / cells
        large = cv2.resize(grid, (round(step * (cells + 4)),) * 2, interpolation=cv2.INTER_CUBIC)
        start = round(2 * step)
        total += weight * large[start : start + SIDE, start : start + SIDE]
        cells, weight = cells * 2, weight * roughness
    return np.asarray((total - total.mean()) / (total.std() + 1e-6), np.float32)


def _painted(color: Color, change: npt.NDArray[np.floating]) -> Picture:
    """One colour, lighter and darker by a factor 1 + change."""
    factors = 1 + np.asarray(change, np.float32)[..., None]
    shaded: Picture = np.clip(np.asarray(color, np.float32) * factors, 0, 1)
    return shaded


def _mixed(a: Color, b: Color, share: npt.NDArray[np.floating]) -> Picture:
    first, second = np.asarray(a, np.float32), np.asarray(b, np.float32)
    share = np.asarray(np.clip(share, 0, 1), np.float32)[..., None]
    return np.asarray(first + share * (second - first), np.float32)


def plain(rng: Rng, color: Color, gloss: float = 0.1, uneven: float = 0.025) -> Paint:
    return Paint(_painted(color, uneven * clouds(rng, 24)), gloss, 20.0)


def glazed(rng: Rng, color: Color) -> Paint:
    """Porcelain and lacquer."""
    return Paint(_painted(color, 0.02 * clouds(rng, 6)), 0.45, 45.0)


def metal(rng: Rng, color: Color = (0.66, 0.67, 0.69)) -> Paint:
    """Brushed: streaks along the second axis, and a wide highlight."""
    streaks = np.repeat(clouds(rng, 64).mean(0, keepdims=True), SIDE, 0)
    return Paint(_painted(color, 0.12 * streaks + 0.04 * clouds(rng, 6)), 0.5, 14.0)


def wood(rng: Rng, color: Color | None = None) -> Paint:
    color = color or tone(rng.uniform(0.05, 0.09), rng.uniform(0.45, 0.7), rng.uniform(0.35, 0.75))
    across = np.linspace(0, 2 * np.pi, SIDE, endpoint=False, dtype=np.float32)[None, :]
    rings = np.sin(int(rng.integers(5, 10)) * across + 1.2 * clouds(rng, 6))
    return Paint(_painted(color, 0.14 * rings + 0.05 * clouds(rng, 64)), 0.08, 10.0)


def cloth(rng: Rng, color: Color, threads: int = 40) -> Paint:
    along = np.sin(np.linspace(0, 2 * np.pi * threads, SIDE, endpoint=False, dtype=np.float32))
    weave = along[:, None] * along[None, :]
    return Paint(_painted(color, 0.08 * weave + 0.07 * clouds(rng, 12)), 0.0)


def leather(rng: Rng, color: Color) -> Paint:
    grain = np.abs(clouds(rng, 48, 0.9))
    return Paint(_painted(color, 0.13 - 0.16 * grain), 0.2, 14.0)


def fur(rng: Rng, color: Color, patch: Color | None = None) -> Paint:
    """Short hair, with patches of another colour."""
    hair = cv2.blur(clouds(rng, 64, 1.0), (1, 7))
    picture = _painted(color, 0.16 * hair)
    if patch is not None:
        share = np.clip(4 * (clouds(rng, 4) - 0.5), 0, 1)[..., None]
        picture = picture + share * (_painted(patch, 0.16 * hair) - picture)
    return Paint(picture, 0.0)


def checks(rng: Rng, a: Color, b: Color, count: int) -> Paint:
    at = np.arange(SIDE) * count // SIDE
    odd = (np.add.outer(at, at) % 2).astype(np.float32)
    return Paint(np.clip(_mixed(a, b, odd) + 0.015 * clouds(rng)[..., None], 0, 1), 0.05)


def stripes(rng: Rng, a: Color, b: Color, count: int, axis: int = 0) -> Paint:
    """Soft-edged; axis 0 lays them across (rings on a turned thing), 1 upright."""
    wave = np.sin(np.linspace(0, 2 * np.pi * count, SIDE, endpoint=False, dtype=np.float32))
    share = np.clip(0.5 + 3 * (wave - rng.uniform(-0.3, 0.5)), 0, 1)
    field = np.repeat(share[:, None], SIDE, 1)
    return Paint(_mixed(a, b, field if axis == 0 else field.T), 0.15, 25.0)


def dots(rng: Rng, ground: Color, ink: Color, count: int) -> Paint:
    """Dots in staggered rows; `count` is even."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) * count / SIDE
    x = x + 0.5 * (np.floor(y) % 2)
    away = np.hypot(x % 1 - 0.5, y % 1 - 0.5)
    share = np.clip(0.5 + 8 * (rng.uniform(0.2, 0.32) - away), 0, 1)
    return Paint(_mixed(ground, ink, share), 0.2, 30.0)


def band(rng: Rng, ground: Color, ink: Color, low: float, high: float, gloss: float) -> Paint:
    """A coloured band between two heights, 0 at the bottom, with a thin line beside it."""
    height = 1 - (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE
    share = ((height > low) & (height < high)).astype(np.float32)
    share = np.maximum(share, (np.abs(height - high - 0.05) < 0.012).astype(np.float32))
    field = np.repeat(share[:, None], SIDE, 1)
    return Paint(np.clip(_mixed(ground, ink, field) * (1 + 0.0 * rng.random()), 0, 1), gloss, 40.0)


def printed(rng: Rng, ground: Color, ink: Color, words: str, gloss: float = 0.15) -> Paint:
    """A title, a line below it, and an emblem."""
    image = Image.new("RGB", (SIDE, SIDE), _bytes(ground))
    draw = ImageDraw.Draw(image)
    size = max(14, min(44, int(1.5 * SIDE / max(4, len(words)))))
    draw.text((12, 14), words, fill=_bytes(ink), font=ImageFont.load_default(size=size))
    draw.rectangle([12, 22 + size, SIDE - 14, 26 + size], fill=_bytes(ink))
    x, y, r = rng.uniform(50, 110), rng.uniform(90, 115), rng.uniform(16, 34)
    other = tuple(0.5 * (g + i) for g, i in zip(ground, ink, strict=True))
    shape = draw.ellipse if rng.random() < 0.6 else draw.rectangle
    shape([x - r, y - r, x + r, y + r], fill=_bytes((other[0], other[1], other[2])))
    draw.ellipse([x - r / 2, y - r / 2, x + r / 2, y + r / 2], fill=_bytes(ink))
    return Paint(_picture(image), gloss, 20.0)


def pips(color: Color, ink: Color, count: int) -> Paint:
    """A face of dice."""
    image = Image.new("RGB", (SIDE, SIDE), _bytes(color))
    draw = ImageDraw.Draw(image)
    corners = [(-1, -1), (1, 1), (-1, 1), (1, -1), (-1, 0), (1, 0)]
    places = corners[: count - count % 2] + [(0, 0)] * (count % 2)
    for x, y in places:
        u, v, r = SIDE * (0.5 + 0.26 * x), SIDE * (0.5 + 0.26 * y), SIDE * 0.085
        draw.ellipse([u - r, v - r, u + r, v + r], fill=_bytes(ink))
    return Paint(_picture(image), 0.3, 30.0)


def pages(rng: Rng) -> Paint:
    """The cut edges of paper, lying."""
    lines = np.repeat(rng.standard_normal((SIDE, 1)).astype(np.float32), SIDE, 1)
    return Paint(_painted((0.93, 0.9, 0.82), 0.05 * cv2.blur(lines, (1, 3))), 0.0)


def soil(rng: Rng) -> Paint:
    return Paint(_painted((0.26, 0.18, 0.12), 0.3 * clouds(rng, 64, 1.0)), 0.0)


def planks(rng: Rng, color: Color, count: int) -> Paint:
    """Upright boards, each of its own shade, with dark gaps."""
    at = np.arange(SIDE) * count
    shade = rng.normal(0, 0.1, count).astype(np.float32)[at // SIDE]
    gap = (at % SIDE < 0.06 * SIDE).astype(np.float32)
    change = np.repeat((shade - 0.6 * gap)[None, :], SIDE, 0)
    grain = cv2.blur(clouds(rng, 64, 1.0), (1, 15))
    return Paint(_painted(color, change + 0.08 * grain), 0.05)


def _picture(image: Image.Image) -> Picture:
    return np.asarray(np.asarray(image) / 255, np.float32)


def _bytes(color: Color) -> tuple[int, int, int]:
    r, g, b = (round(255 * c) for c in color)
    return r, g, b
