"""What the slots of an object look like: a picture each, its colours and how it shines.

It does not know the object's shape, nor the light.
"""

from __future__ import annotations

import numpy as np

from training.prior.drawing import Colour, colour
from training.prior.finishes import ANY, Bank
from training.prior.raster import PAINT_NUMBERS, Paint

#: Of each finish: the highlight's largest strength and exponents, the largest share that mirrors.
_SHINE = {
    "plain": (0.35, (8, 80), 0.6),
    "label": (0.25, (10, 60), 0.4),
    "pattern": (0.25, (8, 60), 0.4),
    "wood": (0.15, (8, 40), 0.2),
    "glaze": (0.6, (20, 150), 1.0),
    "metal": (0.7, (10, 80), 1.0),
    "screen": (0.4, (60, 200), 1.0),
    "leather": (0.25, (6, 30), 0.2),
    "leaf": (0.2, (8, 40), 0.2),
    "skin": (0.12, (6, 20), 0.1),
    "food": (0.3, (8, 50), 0.2),
}

#: Pictures that show something keep their place; the others are scaled, shifted and turned.
_PLACED = {"label", "photo", "screen", "leaf"}

#: Materials that keep their own colours, but for a tint.
_NATURAL = {"wood", "fur", "skin", "metal", "leaf", "soil", "food", "photo", "screen"}

#: How often a slot looks like the object's earlier one of the same finish.
_SHARED = dict.fromkeys(("fur", "skin", "wood", "cloth", "leather", "metal", "leaf"), 0.75)


def _coloured(
    rng: np.random.Generator, finish: str, mean: Colour, palette: list[Colour]
) -> tuple[Colour, Colour]:
    """Gain and offset of the picture's colours."""
    if finish == "plain" or (finish not in _NATURAL and rng.random() < 0.4):
        target = palette[rng.integers(len(palette))] if rng.random() < 0.65 else colour(rng)
        gain = 1.0 if finish == "plain" else rng.uniform(0.5, 1.0)
        return np.full(3, gain), target - gain * mean
    return rng.uniform(0.8, 1.15) * rng.uniform(0.94, 1.06, 3), np.zeros(3)


def _placed(rng: np.random.Generator, finish: str) -> list[float]:
    """The map of texture coordinates, [2 x 3] in one row."""
    if finish in _PLACED:
        return [-1.0, 0, 1, 0, 1, 0] if rng.random() < 0.2 else [1.0, 0, 0, 0, 1, 0]
    if finish == "glaze":  # its bands go round
        return [1.0, 0, float(rng.random()), 0, 1, 0]
    size = float(np.exp(rng.uniform(-0.7, 0.7))) if rng.random() < 0.6 else 1.0
    du, dv = (float(d) for d in rng.random(2))
    if finish == "pattern" and rng.random() < 0.5:  # symmetric ones stay in the middle
        return [1.0, 0, 0, 0, 1, 0]
    if rng.random() < 0.25:
        return [0, size, du, size, 0, dv]
    return [size, 0, du, 0, size, dv]


def _shining(rng: np.random.Generator, finish: str) -> list[float]:
    """Strength and exponent of the highlight, share that mirrors, share that is metal."""
    if finish not in _SHINE or (finish not in {"metal", "screen", "glaze"} and rng.random() < 0.5):
        return [0.0, 1.0, 0.0, 0.0]
    strength, exponents, mirror = _SHINE[finish]
    exponent = np.exp(rng.uniform(*np.log(exponents)))
    metal = rng.uniform(0.5, 1.0) if finish == "metal" else 0.0
    return [strength * rng.random(), float(exponent), mirror * rng.random(), metal]


def draw_paint(rng: np.random.Generator, finishes: tuple[str, ...], bank: Bank) -> Paint:
    """Paint for slots of these finishes; "any" becomes one of `ANY`.

    Raises:
        ValueError: there is no such finish.
    """
    palette = [colour(rng) for _ in range(3)]
    names, odds = list(ANY), np.array(list(ANY.values()))
    mode = rng.random()  # some objects have no pictures on them, some are of one piece
    pictures = np.zeros(len(finishes), np.int32)
    numbers = np.zeros((len(finishes), PAINT_NUMBERS), np.float32)
    earlier: dict[str, int] = {}
    for slot, wanted in enumerate(finishes):
        finish = str(rng.choice(names, p=odds / odds.sum())) if wanted == "any" else wanted
        if finish not in bank.ranges:
            raise ValueError(f"There is no finish {finish!r}; there are {sorted(bank.ranges)}.")
        if mode < 0.12 and finish in {"label", "pattern", "photo"}:
            finish = "plain"
        chance = 1.0 if mode < 0.03 and finish == "plain" else _SHARED.get(finish, 0.25)
        if finish in earlier and rng.random() < chance:
            pictures[slot], numbers[slot] = pictures[earlier[finish]], numbers[earlier[finish]]
            continue
        earlier[finish] = slot
        start, stop = bank.ranges[finish]
        pictures[slot] = rng.integers(start, stop)
        gain, offset = _coloured(rng, finish, bank.means[pictures[slot]], palette)
        numbers[slot, :3], numbers[slot, 3:6] = gain, offset
        numbers[slot, 6:12] = _placed(rng, finish)
        numbers[slot, 12:16] = _shining(rng, finish)
    return Paint(bank.pictures, pictures, numbers)
