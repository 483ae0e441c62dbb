"""Small pictures of materials, drawn by code, with which made objects are painted.

It does not know shapes, lights or cameras.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import skimage
from PIL import Image

from pipeline.types import UInt8Array
from training.prior import drawing
from training.prior.drawing import Picture, colour, noise

#: Side of a picture, in pixels.
SIDE = 96

#: The seed of the bank: the same pictures in every process.
BANK_SEED = 20261130

#: Sample pictures of scikit-image, of which crops are taken. Its coffee and its cat stay out: the
#: finished network is looked at with them.
PHOTOS = (
    "astronaut.png",
    "brick.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
)


@dataclass(frozen=True)
class Bank:
    """All pictures.

    Attributes:
        pictures: uint8 [N, SIDE, SIDE, 3], sRGB.
        means: float32 [N, 3], their mean colours, 0..1.
        ranges: the first picture and the one after the last of every finish.
    """

    pictures: UInt8Array
    means: npt.NDArray[np.float32]
    ranges: Mapping[str, tuple[int, int]]


def _plain(rng: np.random.Generator) -> Picture:
    """One colour, a little uneven."""
    ground = np.full((SIDE, SIDE, 3), 1.0, np.float32) * colour(rng)
    return ground * (1 + rng.uniform(0, 0.12) * (noise(rng, SIDE, 2) - 0.5)[..., None])


def _photo(rng: np.random.Generator) -> Picture:
    """Part of a photograph, some of them recoloured: grey stone becomes cloth."""
    photos = _photos()
    photo = photos[rng.integers(len(photos))]
    side = int(rng.integers(64, min(photo.shape[:2])))
    y = int(rng.integers(0, photo.shape[0] - side + 1))
    x = int(rng.integers(0, photo.shape[1] - side + 1))
    crop = photo[y : y + side, x : x + side].astype(np.float32) / np.float32(255)
    part = drawing.resized(crop, SIDE)
    if rng.random() < 0.5:
        grey = part.mean(-1, keepdims=True)
        part = np.clip(grey / max(float(grey.mean()), 0.12) * colour(rng), 0, 1)
    return drawing.symmetric(part) if rng.random() < 0.2 else part


def _screen(rng: np.random.Generator) -> Picture:
    """A display: off, or with a wallpaper, a bar, icons and windows."""
    if rng.random() < 0.35:
        return np.full((SIDE, SIDE, 3), rng.uniform(0.02, 0.12), np.float32)
    picture = _photo(rng) if rng.random() < 0.5 else drawing.gradient(rng, SIDE)
    return drawing.desktop(rng, picture)


_PAINTERS: dict[str, tuple[int, Callable[[np.random.Generator], Picture]]] = {
    "plain": (24, _plain),
    "label": (230, lambda rng: drawing.label(rng, SIDE)),
    "pattern": (230, lambda rng: drawing.pattern(rng, SIDE)),
    "wood": (80, lambda rng: drawing.wood(rng, SIDE)),
    "cloth": (110, lambda rng: drawing.cloth(rng, SIDE)),
    "glaze": (80, lambda rng: drawing.glaze(rng, SIDE)),
    "fur": (70, lambda rng: drawing.fur(rng, SIDE)),
    "skin": (30, lambda rng: drawing.skin(rng, SIDE)),
    "metal": (50, lambda rng: drawing.metal(rng, SIDE)),
    "leaf": (40, lambda rng: drawing.leaf(rng, SIDE)),
    "soil": (24, lambda rng: drawing.soil(rng, SIDE)),
    "food": (70, lambda rng: drawing.food(rng, SIDE)),
    "leather": (40, lambda rng: drawing.leather(rng, SIDE)),
    "photo": (110, _photo),
    "screen": (40, _screen),
}

#: What a slot of a shape can be made of; "any" lets the painter choose.
FINISHES = (*_PAINTERS, "any")

#: What "any" becomes, and how often.
ANY = {
    "plain": 0.34,
    "label": 0.12,
    "pattern": 0.13,
    "wood": 0.06,
    "cloth": 0.07,
    "glaze": 0.1,
    "metal": 0.06,
    "leather": 0.04,
    "food": 0.02,
    "photo": 0.06,
}


@functools.cache
def _photos() -> tuple[UInt8Array, ...]:
    folder = Path(skimage.__file__).parent / "data"
    return tuple(np.asarray(Image.open(folder / name).convert("RGB")) for name in PHOTOS)


def draw_bank(seed: int = BANK_SEED) -> UInt8Array:
    """All pictures, uint8 [N, SIDE, SIDE, 3], finish after finish, a pure function of `seed`."""
    rng = np.random.default_rng(seed)
    pictures = [
        np.round(255 * np.clip(paint(rng), 0, 1)).astype(np.uint8)
        for count, paint in _PAINTERS.values()
        for _ in range(count)
    ]
    return np.stack(pictures)


@functools.cache
def load_bank(folder: Path | None = None) -> Bank:
    """The bank, drawn once per process (seconds), or once per machine where a folder is named.

    Args:
        folder: where the drawn pictures are kept for other processes; None keeps no file.
    """
    file = folder / f"finishes-{BANK_SEED}.npy" if folder is not None else None
    if file is not None and file.exists():
        pictures = np.load(file, mmap_mode="r")
    else:
        pictures = draw_bank()
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            # Written beside its place and renamed: another process sees all of it or nothing.
            beside = file.with_suffix(f".{id(pictures):x}.part.npy")
            np.save(beside, pictures)
            beside.replace(file)
    ends = np.cumsum([count for count, _ in _PAINTERS.values()])
    ranges = {
        name: (int(end - count), int(end))
        for (name, (count, _)), end in zip(_PAINTERS.items(), ends, strict=True)
    }
    means = (pictures.mean((1, 2)) / 255).astype(np.float32)
    return Bank(pictures, means, ranges)
