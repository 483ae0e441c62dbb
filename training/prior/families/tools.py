"""Hammers, screwdrivers, brooms, scissors, umbrellas.

It does not know what is made with them.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.family import Family
from training.prior.families.parts import (
    ball,
    bars,
    disc,
    limb,
    pick,
    plate,
    polar_outline,
    rod,
    rounded_outline,
    slab,
    with_hole,
)
from training.prior.primitives import extrude, lathe, smooth_path, tube
from training.prior.solids import Points, Shape, Solid, join


def scissors(rng: np.random.Generator) -> Shape:
    """Scissors or pliers, open or closed."""
    spread = rng.uniform(0.02, 0.35)
    blade = np.array(
        [(-0.035, 0.0), (0.045, 0.0), (0.05, 0.1), (0.012, 0.56), (0.0, 0.56), (-0.035, 0.1)]
    )
    half: list[Solid] = [extrude(blade, 0.018).painted(0)]
    half.append(
        tube(
            smooth_path([(0, 0, 0.05), (0, -0.03, -0.06), (0, -0.07, -0.16)], 8), 0.028, 8
        ).painted(1)
    )
    turn = np.linspace(0, 2 * np.pi, 24)
    wide, long = rng.uniform(0.07, 0.1), rng.uniform(0.09, 0.15)
    loop = np.stack([0 * turn, -0.1 + wide * np.cos(turn), -0.26 + long * np.sin(turn)], -1)
    half.append(tube(loop, rng.uniform(0.022, 0.032), 8).painted(1))
    one = join(half).turned(0, spread / 2 - 0.12).shifted(0.01)
    other = join(half).mirrored().turned(0, 0.12 - spread / 2).shifted(-0.01)
    pin = disc(0.025, 0.05, 0).turned(1, np.pi / 2).shifted(-0.02)
    return Shape(join([one, other, pin]), ("metal", pick(rng, ("plain", "plain", "metal"))))


def umbrella(rng: np.random.Generator) -> Shape:
    """An umbrella, open or rolled up, or a parasol on a pole."""
    hook = np.linspace(0, np.pi, 10)
    stick = [rod((0, 0, 0), (0, 0, 1.0), 0.015, 1)]
    stick.append(
        tube(
            np.stack([0 * hook, 0.06 - 0.06 * np.cos(hook), -0.06 * np.sin(hook)], -1), 0.022
        ).painted(2)
    )
    if rng.random() < 0.35:
        roll = lathe([(0.02, 0.1), (0.05, 0.2), (0.06, 0.75), (0.02, 0.95), (0, 1)], 20).painted(
            [0, 0]
        )
        return Shape(
            join([*stick, roll]),
            (pick(rng, ("cloth", "pattern")), "metal", pick(rng, ("wood", "plain"))),
        )
    ribs = int(rng.integers(6, 10))
    r, rise = rng.uniform(0.45, 0.65), rng.uniform(0.2, 0.35)
    line = [
        (r * np.sin(a), 1 - rise * (1 - np.cos(a)) / (1 - np.cos(1.3)))
        for a in np.linspace(1.3, 0, 12)
    ]
    dome = lathe(np.array(line) * [1 / np.sin(1.3), 1], 72).painted([0, 0])

    def scalloped(v: Points) -> Points:
        angle = np.arctan2(v[:, 1], v[:, 0])
        out = np.hypot(v[:, 0], v[:, 1]) / r
        wave = np.abs(np.sin(ribs / 2 * angle))
        return v * np.stack(
            [1 - 0.06 * out * wave, 1 - 0.06 * out * wave, 1 + 0.05 * out**2 * wave], -1
        )

    return Shape(
        join([*stick, dome.deformed(scalloped)]),
        (pick(rng, ("cloth", "pattern", "plain")), "metal", pick(rng, ("wood", "plain"))),
    )


def tool(rng: np.random.Generator) -> Shape:
    """A hammer, a screwdriver, a spanner, a broom, a ladle."""
    kind = pick(rng, ("hammer", "screwdriver", "spanner", "broom", "paddle"))
    wood = pick(rng, ("wood", "plain"))
    if kind == "hammer":
        size = rng.uniform(0.07, 0.14)
        grip = limb(
            [
                (0, 0.04, 0.03, 0),
                (0.2, 0.045, 0.032, 0),
                (0.6, 0.028, 0.024, 0),
                (1, 0.03, 0.026, 0),
            ]
        )
        head = slab((0.9 * size, 1.6 * size, size), (0, 0, 0.95), 1, 0.01)
        face = (
            disc(0.5 * size, 1.2 * size, 1, 0.01).turned(0, -np.pi / 2).shifted(0, 0.6 * size, 0.95)
        )
        nose = extrude(
            [(-0.5 * size, 0), (0.5 * size, 0), (0.05, 2 * size), (-0.05, 2 * size)], 0.8 * size
        )
        nose = nose.turned(0, np.pi / 2).shifted(0, -0.7 * size, 0.95).painted(1)
        return Shape(join([grip, head, face, nose]), (wood, "metal"))
    if kind == "screwdriver":
        r = rng.uniform(0.05, 0.09)
        grip = lathe(
            [
                (0, 0),
                (0.7 * r, 0),
                (r, 0.06),
                (0.85 * r, 0.2),
                (r, 0.33),
                (0.5 * r, 0.42),
                (0, 0.42),
            ],
            24,
        )
        tip = slab((0.012, 0.06, 0.06), (0, 0, 0.97), 1)
        return Shape(
            join([grip.painted(0), rod((0, 0, 0.4), (0, 0, 0.97), 0.2 * r + 0.008, 1), tip]),
            ("plain", "metal"),
        )
    if kind == "spanner":
        outline = [
            (0.04, 0.15),
            (0.035, 0.75),
            (0.11, 0.82),
            (0.11, 0.95),
            (0.05, 1.0),
            (0.05, 0.88),
            (-0.05, 0.88),
            (-0.05, 1.0),
            (-0.11, 0.95),
            (-0.11, 0.82),
            (-0.035, 0.75),
            (-0.04, 0.15),
        ]
        bar = extrude(outline, 0.04, 0.008).painted(0)
        eye = with_hole(
            polar_outline(lambda a: 0 * a + 0.09, 24), polar_outline(lambda a: 0 * a + 0.05, 6)
        )
        return Shape(
            join([bar, plate(eye, 0.05, x=-0.025, slot=0).shifted(0, 0, 0.09)]), ("metal",)
        )
    if kind == "broom":
        pole = rod((0, 0, 0.25), (0, 0, 1.4), 0.025, 0)
        head = slab((0.12, 0.5, 0.07), (0, 0, 0.26), 0, 0.01)
        hair = extrude([(-0.3, 0), (0.3, 0), (0.23, 0.24), (-0.23, 0.24)], 0.1).painted(1)
        return Shape(join([pole, head, hair]), (wood, "fur"))
    grip = limb([(0, 0.03, 0.02, 0), (0.3, 0.035, 0.02, 0), (0.6, 0.02, 0.015, 0)])
    blade = extrude(rounded_outline(rng.uniform(0.16, 0.3), 0.42, 0.06), 0.03, 0.008)
    parts = [grip, blade.shifted(0, 0, 0.79).painted(1)]
    if rng.random() < 0.4:  # a hair brush
        y, z = np.meshgrid(np.linspace(-0.06, 0.06, 4), np.linspace(0.63, 0.95, 8))
        roots = np.stack([0 * y.ravel(), y.ravel(), z.ravel()], -1)
        parts.append(bars(roots, roots + np.array([0.1, 0, 0]), 0.008, 2, 4))
    if rng.random() < 0.3:
        parts.append(ball(0.03, (0, 0, -0.01), 0))
    return Shape(join(parts), (wood, pick(rng, (wood, "plain", "metal")), "plain"))


FAMILIES = {
    "scissors": Family(scissors, 1.0, "flat"),
    "umbrella": Family(umbrella, 0.7),
    "tool": Family(tool, 1.5, "flat"),
}
