"""Draws materials as pictures: labels, patterns, wood, cloth, glaze, fur, leaves, food.

It does not know where on an object they go, or how the light falls.
"""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Picture = npt.NDArray[np.float32]
Colour = npt.NDArray[np.float64]

LETTERS = list("ABCDEFGHIKLMNOPRSTUVWXabcdefghiklmnoprstu 0123456789")


def colour(rng: np.random.Generator) -> Colour:
    """Everyday colours, sRGB 0..1 float64 [3]: whites and greys are a third of them."""
    kind = rng.random()
    if kind < 0.17:
        hue, saturation, value = rng.random(), rng.uniform(0, 0.08), rng.uniform(0.82, 1.0)
    elif kind < 0.36:
        hue, saturation, value = rng.random(), rng.uniform(0, 0.15), rng.uniform(0.07, 0.85)
    elif kind < 0.55:  # browns, creams, ochres
        hue, saturation, value = (
            rng.uniform(0.03, 0.14),
            rng.uniform(0.2, 0.75),
            rng.uniform(0.2, 1),
        )
    else:
        # Shrill ones are rarer than muted ones.
        saturation, value = 0.15 + 0.8 * rng.beta(1.6, 1.8), rng.uniform(0.2, 1.0)
        hue = rng.random()
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value))


def hued(rng: np.random.Generator, hue: tuple[float, float], value: tuple[float, float]) -> Colour:
    """A colour of a hue and brightness in these ranges, neither grey nor shrill."""
    h, s, v = rng.uniform(*hue) % 1.0, rng.uniform(0.3, 0.75), rng.uniform(*value)
    return np.array(colorsys.hsv_to_rgb(h, s, v))


def noise(
    rng: np.random.Generator, side: int, cells: int | tuple[int, int], octaves: int = 4
) -> Picture:
    """Smooth noise 0..1 [side, side] whose coarsest cells number `cells` (down, across)."""
    down, across = (cells, cells) if isinstance(cells, int) else cells
    out = np.zeros((side, side), np.float32)
    for octave in range(octaves):
        size = (min(across << octave, side), min(down << octave, side))
        grid = rng.standard_normal((size[1], size[0])).astype(np.float32)
        out += cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC) * 0.6**octave
    low, high = float(out.min()), float(out.max())
    return (out - low) / (high - low + 1e-6)


def resized(picture: Picture, side: int) -> Picture:
    result: Picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    return result


def blend(low: Colour, high: Colour, share: Picture) -> Picture:
    """`low` where share [S, S] is 0, `high` where it is 1."""
    return (low + share[..., None] * (high - low)).astype(np.float32)


def symmetric(picture: Picture) -> Picture:
    """Its left half and the mirror image of that."""
    half = picture[:, : (picture.shape[1] + 1) // 2]
    return np.concatenate([half, half[:, : picture.shape[1] // 2][:, ::-1]], 1)


def gradient(rng: np.random.Generator, side: int) -> Picture:
    """From one colour to another, in any direction."""
    x, y = _axes(side)
    angle = rng.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    share = (along - along.min()) / (np.ptp(along) + 1e-6)
    return blend(colour(rng), colour(rng), share.astype(np.float32))


def _axes(side: int) -> tuple[Picture, Picture]:
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    return x, y


def _picture(image: Image.Image) -> Picture:
    return np.asarray(image, np.float32) / np.float32(255)


def _ink(rng: np.random.Generator) -> tuple[int, int, int]:
    r, g, b = (int(255 * c) for c in colour(rng))
    return r, g, b


def _text(rng: np.random.Generator, low: int, high: int) -> str:
    return "".join(rng.choice(LETTERS, int(rng.integers(low, high))))


def label(rng: np.random.Generator, side: int) -> Picture:
    """What a package shows: patches, discs, stripes, a frame, large and small writing."""
    image = Image.new("RGB", (side, side), _ink(rng))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(0, 4)):  # stripes over the whole width or height
        at, wide = rng.uniform(0, 1) * side, rng.uniform(0.03, 0.4) * side
        across = rng.random() < 0.7
        box = [-1.0, at, side + 1.0, at + wide] if across else [at, -1.0, at + wide, side + 1.0]
        draw.rectangle(box, fill=_ink(rng))
    for _ in range(rng.integers(0, 5)):
        x, y = rng.uniform(-0.1, 0.8, 2) * side
        w, h = rng.uniform(0.1, 0.7, 2) * side
        if rng.random() < 0.4:  # in the middle
            x = (side - w) / 2
        kind = draw.rectangle if rng.random() < 0.55 else draw.ellipse
        kind([x, y, x + w, y + h], fill=_ink(rng))
    if rng.random() < 0.3:
        gap = rng.uniform(0.02, 0.12) * side
        frame = [gap, gap, side - gap, side - gap]
        draw.rectangle(frame, outline=_ink(rng), width=int(rng.integers(1, 5)))
    for _ in range(rng.integers(0, 4)):  # names
        size = int(rng.integers(10, 36))
        font = ImageFont.load_default(size=size)
        text, fill = _text(rng, 3, 12), _ink(rng)
        x, y = rng.uniform(-0.05, 0.6) * side, rng.uniform(0, 0.85) * side
        if rng.random() < 0.5:
            draw.text((side / 2, y), text, fill=fill, font=font, anchor="mm")
        else:
            draw.text((x, y), text, fill=fill, font=font)
    if rng.random() < 0.5:  # small print
        font, fill = ImageFont.load_default(size=int(rng.integers(5, 9))), _ink(rng)
        x, y = rng.uniform(0, 0.6) * side, rng.uniform(0.1, 0.7) * side
        for line in range(rng.integers(2, 7)):
            draw.text((x, y + 8 * line), _text(rng, 8, 22), fill=fill, font=font)
    if rng.random() < 0.12:  # a bar code
        x, y, h = rng.uniform(0, 0.6) * side, rng.uniform(0.5, 0.8) * side, 0.18 * side
        draw.rectangle([x, y, x + 30, y + h], fill=(250, 250, 250))
        for bar in range(2, 28, 2):
            if rng.random() < 0.65:
                draw.line([x + bar, y + 2, x + bar, y + h - 2], fill=(10, 10, 10))
    return _worn(rng, _picture(image))


def _worn(rng: np.random.Generator, picture: Picture) -> Picture:
    """Sometimes uneven, as print and paint are."""
    if rng.random() < 0.7:
        return picture
    return picture + (noise(rng, len(picture), 4, 5)[..., None] - 0.5) * rng.uniform(0, 0.2)


def pattern(rng: np.random.Generator, side: int) -> Picture:
    """Stripes, checks, dots, zigzags, petals, blots; many of them the same left and right."""
    x, y = _axes(side)
    count = int(rng.integers(2, 13))
    angle = rng.uniform(0, np.pi) if rng.random() < 0.35 else rng.choice([0, np.pi / 2])
    along = x * np.cos(angle) + y * np.sin(angle)
    cell_x, cell_y = (x * count) % 1 - 0.5, (y * count) % 1 - 0.5
    kind = rng.integers(0, 8)
    if kind == 0:
        share = np.sin(2 * np.pi * count * along) > rng.uniform(-0.8, 0.8)
    elif kind == 1:
        share = (np.floor(x * count) + np.floor(y * count)) % 2
    elif kind == 2:
        share = cell_x**2 + cell_y**2 < rng.uniform(0.03, 0.2)
    elif kind == 3:
        share = (y * count + np.abs(cell_x) * rng.uniform(0.4, 1.6)) % 1 < rng.uniform(0.25, 0.7)
    elif kind == 4:
        turn = np.arctan2(cell_y, cell_x)
        petal = 0.3 + 0.14 * np.cos(rng.integers(3, 8) * turn + rng.uniform(0, 6))
        share = np.hypot(cell_x, cell_y) < petal
    elif kind == 5:
        share = noise(rng, side, int(rng.integers(2, 9)), int(rng.integers(1, 4)))
        share = share > rng.uniform(0.35, 0.65) if rng.random() < 0.6 else share
    elif kind == 6:
        grid = rng.random((count, count)) < rng.uniform(0.2, 0.6)
        share = grid[(y * count).astype(int), (x * count).astype(int)]
    else:
        share = along - along.min()
    first, second = colour(rng), colour(rng)
    if rng.random() < 0.35:
        second = np.clip(first * rng.uniform(0.5, 1.5), 0, 1)
    picture = blend(first, second, np.asarray(share, np.float32))
    if rng.random() < 0.35:  # a second pattern over the first
        low = rng.uniform(0, 0.8)
        band = (y > low) & (y < low + rng.uniform(0.05, 0.4))
        picture = np.where(band[..., None], colour(rng).astype(np.float32), picture)
    picture = symmetric(picture) if rng.random() < 0.4 else picture
    return _worn(rng, np.asarray(picture, np.float32))


def wood(rng: np.random.Generator, side: int) -> Picture:
    """Grain along one direction, with rings in some."""
    fine = noise(rng, side, (2, int(rng.integers(12, 40))), 3)
    waves = noise(rng, side, (2, 4), 2)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(2, 9) * waves)
    share = 0.5 * fine + rng.uniform(0, 0.6) * rings
    dark = hued(rng, (0.04, 0.11), (0.2, 0.6))
    light = np.clip(dark * rng.uniform(1.15, 1.8) + 0.05, 0, 1)
    if rng.random() < 0.15:  # painted or grey wood
        dark = colour(rng)
        light = np.clip(dark * 1.2, 0, 1)
    picture = blend(dark, light, np.clip(share, 0, 1).astype(np.float32))
    if rng.random() < 0.3:  # planks
        count = int(rng.integers(2, 7))
        gap = (_axes(side)[0] * count) % 1 < 0.05
        picture = picture * np.where(gap, 0.55, 1.0)[..., None].astype(np.float32)
    return np.ascontiguousarray(picture.transpose(1, 0, 2)) if rng.random() < 0.4 else picture


def cloth(rng: np.random.Generator, side: int) -> Picture:
    """Woven or knitted: plain, striped, checked; soft folds."""
    x, y = _axes(side)
    base = colour(rng)
    picture = np.full((side, side, 3), base, np.float32)
    if rng.random() < 0.5:
        other, count = colour(rng), int(rng.integers(2, 10))
        width = rng.uniform(0.15, 0.6)
        across, down = (x * count) % 1 < width, (y * count) % 1 < width
        share = rng.choice([0, 1, 2])
        cover = (across, down, 0.5 * across + 0.5 * down)[share]
        picture = blend(base, other, np.asarray(cover, np.float32))
    threads = int(rng.integers(16, 40))
    weave = np.sin(2 * np.pi * threads * x) * np.sin(2 * np.pi * threads * y)
    folds = noise(rng, side, int(rng.integers(2, 5)), 3) - 0.5
    shade = 1 + rng.uniform(0, 0.15) * weave + rng.uniform(0, 0.45) * folds
    return np.asarray(picture * shade[..., None], np.float32)


def glaze(rng: np.random.Generator, side: int) -> Picture:
    """Porcelain and pottery: one colour with a slow gradient, a band, speckles or a dip."""
    _, y = _axes(side)
    base = colour(rng) if rng.random() < 0.6 else np.array([0.93, 0.92, 0.9]) * rng.uniform(0.85, 1)
    shift = 1 + rng.uniform(-0.25, 0.25) * (y - 0.5)
    picture = (base * shift[..., None]).astype(np.float32)
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        at = rng.uniform(0, 0.95)
        band = (y > at) & (y < at + rng.uniform(0.02, 0.2))
        picture = np.where(band[..., None], colour(rng).astype(np.float32), picture)
    if rng.random() < 0.25:  # dipped, with an uneven rim
        rim = rng.uniform(0.2, 0.8) + 0.12 * (noise(rng, side, (1, 5), 2) - 0.5)
        picture = np.where((y > rim)[..., None], colour(rng).astype(np.float32), picture)
    if rng.random() < 0.25:
        specks = noise(rng, side, 40, 1) > rng.uniform(0.75, 0.9)
        picture = picture * np.where(specks, 0.6, 1.0)[..., None].astype(np.float32)
    return np.asarray(picture, np.float32)


def fur(rng: np.random.Generator, side: int) -> Picture:
    """Hair: fine strands over patches, stripes or spots of natural colours."""
    ends = (0.03, 0.12) if rng.random() < 0.8 else (0.0, 1.0)
    first = hued(rng, ends, (0.15, 0.85))
    second = np.array([0.9, 0.88, 0.84]) if rng.random() < 0.35 else first * rng.uniform(0.35, 0.9)
    patch = noise(rng, side, int(rng.integers(2, 5)), 3)
    kind = rng.random()
    if kind < 0.3:
        patch = (patch > rng.uniform(0.4, 0.7)).astype(np.float32)
    elif kind < 0.45:
        wave = np.sin(2 * np.pi * (rng.integers(3, 8) * _axes(side)[0] + 1.5 * patch))
        patch = np.clip(0.5 + wave, 0, 1).astype(np.float32)
    strands = noise(rng, side, (8, 48), 2) if rng.random() < 0.5 else noise(rng, side, 30, 2)
    shade = 1 + rng.uniform(0.2, 0.6) * (strands - 0.5)
    return (blend(first, second, patch) * shade[..., None]).astype(np.float32)


def skin(rng: np.random.Generator, side: int) -> Picture:
    """Of people of all tones, or of smooth toys; soft blotches."""
    base = np.array(colorsys.hsv_to_rgb(rng.uniform(0.02, 0.09), rng.uniform(0.25, 0.6), 1.0))
    picture = np.full((side, side, 3), base * rng.uniform(0.25, 1.0), np.float32)
    picture *= 1 + 0.15 * (noise(rng, side, 3, 4) - 0.5)[..., None]
    picture[..., 0] *= 1 + 0.1 * (noise(rng, side, 3, 2) - 0.5)
    return picture


def metal(rng: np.random.Generator, side: int) -> Picture:
    """Brushed steel, brass, copper; some dull or rusty."""
    tint = [(0.0, 0.05), (0.09, 0.14), (0.04, 0.07)][rng.choice(3, p=[0.7, 0.18, 0.12])]
    saturation = rng.uniform(0, 0.08) if tint[0] == 0 else rng.uniform(0.3, 0.6)
    base = np.array(colorsys.hsv_to_rgb(rng.uniform(*tint), saturation, rng.uniform(0.3, 0.9)))
    cells = ((2, 48), (48, 2))[rng.integers(2)]
    shade = 1 + rng.uniform(0, 0.5) * (noise(rng, side, cells, 2) - 0.5)
    picture = (base * shade[..., None]).astype(np.float32)
    if rng.random() < 0.12:
        rust = np.clip(3 * (noise(rng, side, 3, 5) - 0.5), 0, 1)
        picture += rust[..., None] * (np.array([0.45, 0.22, 0.1], np.float32) - picture)
    return np.asarray(picture, np.float32)


def leaf(rng: np.random.Generator, side: int) -> Picture:
    """Green (some yellow or red), with a middle vein and side veins, or speckled."""
    x, y = _axes(side)
    hue = (0.22, 0.4) if rng.random() < 0.8 else (0.0, 0.2)
    base = hued(rng, hue, (0.2, 0.75))
    vein = np.exp(-((np.abs(x - 0.5) / 0.02) ** 2))
    side_vein = np.exp(
        -(((((y + 0.7 * np.abs(x - 0.5)) * rng.integers(4, 9)) % 1 - 0.5) / 0.08) ** 2)
    )
    share = np.clip(vein + rng.uniform(0, 0.6) * side_vein, 0, 1)
    picture = blend(base, np.clip(base * 1.5, 0, 1), share.astype(np.float32))
    shade = 1 + rng.uniform(0.1, 0.6) * (noise(rng, side, int(rng.integers(3, 9)), 4) - 0.5)
    return np.asarray(picture * shade[..., None], np.float32)


def soil(rng: np.random.Generator, side: int) -> Picture:
    """Earth, gravel, sand: grains of browns and greys."""
    dark = hued(rng, (0.03, 0.12), (0.08, 0.4))
    grains = noise(rng, side, int(rng.integers(10, 30)), 3)
    return blend(dark, np.clip(dark * rng.uniform(1.5, 3), 0, 1), grains)


def food(rng: np.random.Generator, side: int) -> Picture:
    """Crusts, fruit, icing with sprinkles."""
    kind = rng.random()
    if kind < 0.45:  # baked
        dark = hued(rng, (0.05, 0.11), (0.25, 0.6))
        picture = blend(
            dark, np.clip(dark * 1.9, 0, 1), noise(rng, side, int(rng.integers(2, 6)), 5)
        )
    elif kind < 0.8:  # fruit and vegetables
        ranges = ((-0.04, 0.04), (0.05, 0.16), (0.2, 0.35), (0.75, 0.95))
        first = hued(rng, ranges[rng.integers(4)], (0.4, 0.95))
        second = hued(rng, ranges[rng.integers(4)], (0.4, 0.95)) if rng.random() < 0.4 else first
        picture = blend(first, second, noise(rng, side, 2, 2))
        picture *= 1 + 0.2 * (noise(rng, side, (2, 24), 2) - 0.5)[..., None]
    else:  # icing, cream, chocolate
        picture = np.full((side, side, 3), colour(rng), np.float32)
        picture *= 1 + 0.2 * (noise(rng, side, 4, 3) - 0.5)[..., None]
    if rng.random() < 0.35:
        seeds = noise(rng, side, int(rng.integers(16, 40)), 1) > rng.uniform(0.7, 0.85)
        picture = np.where(seeds[..., None], colour(rng).astype(np.float32), picture)
    return np.asarray(picture, np.float32)


def leather(rng: np.random.Generator, side: int) -> Picture:
    """Grained, with seams in some."""
    base = hued(rng, (0.02, 0.1), (0.12, 0.7)) if rng.random() < 0.6 else colour(rng)
    grain = np.abs(noise(rng, side, 20, 2) - 0.5)
    shade = 1 + rng.uniform(0.2, 0.8) * (grain - 0.15) + 0.2 * (noise(rng, side, 3, 3) - 0.5)
    picture = (base * shade[..., None]).astype(np.float32)
    if rng.random() < 0.3:
        y = int(rng.integers(8, side - 8))
        picture[y, :: rng.integers(2, 4)] = colour(rng)
        picture[y + 2] *= 0.7
    return np.asarray(picture, np.float32)


def desktop(rng: np.random.Generator, picture: Picture) -> Picture:
    """A picture with a bar, icons and windows over it."""
    side = len(picture)
    image = Image.fromarray(np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(0, 4)):
        x, y = rng.uniform(0, 0.7, 2) * side
        w, h = rng.uniform(0.2, 0.7, 2) * side
        draw.rectangle([x, y, x + w, y + h], fill=_ink(rng))
        draw.rectangle([x, y, x + w, y + 4], fill=_ink(rng))
    if rng.random() < 0.5:
        for k in range(int(rng.integers(3, 20))):
            x, y = 8 + 16 * (k % 5), 10 + 18 * (k // 5)
            draw.rounded_rectangle([x, y, x + 10, y + 10], radius=3, fill=_ink(rng))
    bar = rng.uniform(0, 0.12) * side
    draw.rectangle([0, side - bar, side, side], fill=_ink(rng))
    return _picture(image)
