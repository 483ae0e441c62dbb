"""Outlines made thick: biscuits, stars, hearts, letters, tags, signs, wedges.

It does not know what is printed on them.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.family import Family
from training.prior.families.parts import (
    circle,
    disc,
    pick,
    polar_outline,
    resampled,
    ring,
    rod,
    rounded_outline,
    slab,
    star_outline,
    with_hole,
)
from training.prior.primitives import extrude
from training.prior.solids import Points, Shape, Solid, join

#: Strokes of block letters in a box 1 wide and 1 high: (y, z) from, to.
LETTERS: dict[str, tuple[tuple[float, float, float, float], ...]] = {
    "A": ((-0.5, 0, 0, 1), (0.5, 0, 0, 1), (-0.3, 0.4, 0.3, 0.4)),
    "E": ((-0.4, 0, -0.4, 1), (-0.4, 0, 0.4, 0), (-0.4, 0.5, 0.3, 0.5), (-0.4, 1, 0.4, 1)),
    "F": ((-0.4, 0, -0.4, 1), (-0.4, 0.5, 0.3, 0.5), (-0.4, 1, 0.4, 1)),
    "H": ((-0.4, 0, -0.4, 1), (0.4, 0, 0.4, 1), (-0.4, 0.5, 0.4, 0.5)),
    "K": ((-0.4, 0, -0.4, 1), (-0.4, 0.45, 0.4, 1), (-0.2, 0.55, 0.4, 0)),
    "L": ((-0.4, 0, -0.4, 1), (-0.4, 0, 0.4, 0)),
    "M": ((-0.5, 0, -0.5, 1), (-0.5, 1, 0, 0.3), (0, 0.3, 0.5, 1), (0.5, 1, 0.5, 0)),
    "N": ((-0.4, 0, -0.4, 1), (-0.4, 1, 0.4, 0), (0.4, 0, 0.4, 1)),
    "T": ((0, 0, 0, 1), (-0.45, 1, 0.45, 1)),
    "V": ((-0.45, 1, 0, 0), (0.45, 1, 0, 0)),
    "X": ((-0.4, 0, 0.4, 1), (0.4, 0, -0.4, 1)),
    "Y": ((0, 0, 0, 0.5), (0, 0.5, -0.4, 1), (0, 0.5, 0.4, 1)),
    "Z": ((-0.4, 1, 0.4, 1), (0.4, 1, -0.4, 0), (-0.4, 0, 0.4, 0)),
    "4": ((0.2, 0, 0.2, 1), (0.2, 1, -0.4, 0.35), (-0.4, 0.35, 0.45, 0.35)),
    "7": ((-0.4, 1, 0.4, 1), (0.4, 1, -0.1, 0)),
}


def heart_outline(count: int = 48) -> Points:
    t = np.linspace(0, 2 * np.pi, 4 * count, endpoint=False)
    y = 16 * np.sin(t) ** 3
    z = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return resampled(np.stack([y, z], -1) / 34, count)


def _outline(rng: np.random.Generator) -> Points:  # noqa: PLR0911  one per kind
    """A convex or star-shaped outline about 1 wide."""
    kind = pick(rng, ("blob", "polygon", "star", "rounded", "scallop", "heart", "bone", "moon"))
    if kind == "blob":
        waves = [(rng.normal(0, 0.2) / j, rng.uniform(0, 6)) for j in range(2, 6)]
        return polar_outline(
            lambda a: (
                0.4
                * np.clip(
                    1 + sum(s * np.cos((j + 2) * a + p) for j, (s, p) in enumerate(waves)), 0.4, 2
                )
            )
        )
    if kind == "polygon":
        n = int(rng.integers(3, 9))
        return star_outline(n, float(np.cos(np.pi / n)))
    if kind == "star":
        return star_outline(int(rng.integers(4, 9)), rng.uniform(0.4, 0.75))
    if kind == "rounded":
        return rounded_outline(1, rng.uniform(0.4, 1.4), rng.uniform(0.03, 0.5))
    if kind == "scallop":
        n, deep = int(rng.integers(6, 16)), rng.uniform(0.05, 0.12)
        return polar_outline(lambda a: 0.45 * (1 + deep * np.abs(np.sin(n / 2 * a))), 96)
    if kind == "heart":
        return heart_outline()
    if kind == "bone":
        waist = rng.uniform(0.35, 0.7)
        return polar_outline(
            lambda a: (
                0.5
                * np.clip(
                    np.abs(np.cos(a)) ** 0.6
                    * (1 - waist * np.exp(-(((np.abs(np.cos(a)) - 1) / 0.03) ** 2)) * 0.4),
                    0.22,
                    1,
                )
            )
        )
    turn = np.linspace(-2.2, 2.2, 28)
    outer = 0.5 * np.stack([np.cos(turn), np.sin(turn)], -1)
    inner = np.stack([0.22 + 0.36 * np.cos(turn), 0.42 * np.sin(turn)], -1)[::-1]
    return np.concatenate([outer, inner[1:-1]])[:, ::-1]


def cutout(rng: np.random.Generator) -> Shape:
    """A biscuit, a tag, a soap, a sign: any outline, thin or thick."""
    outline = _outline(rng)
    depth = pick(
        rng, (rng.uniform(0.04, 0.15), rng.uniform(0.1, 0.4), rng.uniform(0.3, 1)), (3, 2, 1)
    )
    solid = extrude(outline, depth, pick(rng, (0.0, 0.02, 0.06))).scaled(
        1, 1, rng.uniform(0.7, 1.3)
    )
    face = pick(rng, ("label", "plain", "pattern", "food", "wood", "photo", "metal", "any"))
    slots = pick(rng, ([0, 0, 1], [0, 0, 0], [0, 1, 1], [0, 1, 2]))
    finishes = (face, pick(rng, (face, "plain")), "plain")
    if rng.random() < 0.15:  # on a foot or a stick
        low = float(solid.box[0][2])
        stick = rod((0, 0, low - 0.5), (0, 0, low + 0.05), 0.03, 3)
        return Shape(join([solid.painted(slots), stick]), (*finishes, "wood"))
    return Shape(solid.painted(slots), finishes)


def letter(rng: np.random.Generator) -> Shape:
    """One to four block letters side by side, or a sign of plus and minus."""
    count = int(pick(rng, (1, 1, 2, 3, 4)))
    thick, depth = rng.uniform(0.14, 0.3), rng.uniform(0.12, 0.6)
    parts: list[Solid] = []
    for k in range(count):
        name = pick(rng, tuple(LETTERS))
        square = name in "EFHLT" and rng.random() < 0.7
        for y0, z0, y1, z1 in LETTERS[name]:
            length = float(np.hypot(y1 - y0, z1 - z0))
            angle = np.arctan2(z1 - z0, y1 - y0)
            # Slanting strokes meet in round joints, upright ones in square corners.
            corner = 0.012 if abs(np.sin(2 * angle)) < 0.01 and square else thick / 2
            bar = extrude(rounded_outline(length + thick, thick, corner), depth)
            bar = bar.turned(0, angle).shifted(0, (y0 + y1) / 2 + 1.35 * k, (z0 + z1) / 2)
            parts.append(bar.painted([0, 0, 1]))
    finish = pick(rng, ("plain", "wood", "metal", "pattern", "food", "any"))
    return Shape(join(parts), (finish, pick(rng, (finish, "plain"))))


def holed(rng: np.random.Generator) -> Shape:
    """A plate with a hole: a tag, a frame, a nut, a gear, a washer."""
    kind = pick(rng, ("tag", "frame", "nut", "gear"))
    if kind == "tag":
        outer = rounded_outline(rng.uniform(0.4, 0.7), 1, rng.uniform(0.02, 0.2))
        inner = circle(rng.uniform(0.05, 0.08), 14) + np.array([0, 0.38])
    elif kind == "frame":
        w, h = rng.uniform(0.6, 1), rng.uniform(0.6, 1)
        edge = rng.uniform(0.1, 0.2)
        outer = rounded_outline(w, h, 0.02)
        inner = rounded_outline(w - 2 * edge, h - 2 * edge, pick(rng, (0.01, 0.3)))
    elif kind == "nut":
        outer = star_outline(6, float(np.cos(np.pi / 6)))
        inner = circle(rng.uniform(0.15, 0.3))
    else:
        n, deep = int(rng.integers(7, 16)), rng.uniform(0.1, 0.2)
        outer = polar_outline(lambda a: np.where(np.sin(n * a) > 0, 0.5 * (1 - deep), 0.5), 8 * n)
        inner = circle(rng.uniform(0.08, 0.22), 20)
    solid = extrude(with_hole(outer, inner), rng.uniform(0.04, 0.35))
    parts = [solid]
    if kind == "tag" and rng.random() < 0.5:
        parts.append(ring(0.1, 0.012, (0, 0, 0.47), 2, "y"))
    face = pick(rng, ("label", "plain", "wood", "metal", "pattern"))
    return Shape(join(parts).painted([0, 0, 1]), (face, pick(rng, (face, "plain"))))


def sign(rng: np.random.Generator) -> Shape:
    """A road sign, a flag, a lamp post's board: a plate on a pole."""
    outline = pick(
        rng,
        (
            star_outline(3, 0.5),
            rounded_outline(0.9, 0.6, 0.06),
            star_outline(8, 0.924),
            rounded_outline(0.8, 0.8, 0.4),
        ),
    )
    board = extrude(outline, 0.03).painted([0, 1, 1])
    z = rng.uniform(0.5, 1.2)
    pole = rod((-0.04, 0, -z), (-0.04, 0, 0.3), 0.03, 2)
    base = (
        disc(0.2, 0.05, 2).shifted(-0.04, 0, -z)
        if rng.random() < 0.5
        else slab((0.3, 0.3, 0.06), (0, 0, -z), 2)
    )
    return Shape(
        join([board, pole, base]), (pick(rng, ("label", "pattern", "plain")), "plain", "metal")
    )


FAMILIES = {
    "cutout": Family(cutout, 2.5, "flat"),
    "letters": Family(letter, 1.2),
    "holed plate": Family(holed, 0.8, "flat"),
    "sign": Family(sign, 0.6),
}
