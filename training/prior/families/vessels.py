"""Cups, bowls, plates, jugs, pots: open vessels and what they are held by.

It does not know what is drunk or cooked.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.family import Family
from training.prior.families.parts import ball, disc, hollow, pick, rod, squared
from training.prior.primitives import lathe, smooth_path, tube
from training.prior.solids import Points, Shape, Solid, join

#: What a vessel is made of: outside, inside.
WARES = (
    ("glaze", "glaze"),
    ("label", "glaze"),
    ("pattern", "plain"),
    ("plain", "plain"),
    ("metal", "metal"),
    ("any", "glaze"),
    ("plain", "plain"),
)


def handle(rng: np.random.Generator, start: Points, end: Points, reach: float) -> Solid:
    """A handle in the x-z plane from one point of a wall to a lower one, the hole between.

    Args:
        start, end: (radius, z) on the wall.
        reach: how far it stands out.
    """
    (r0, z0), (r1, z1) = start, end
    height = z0 - z1
    kind = pick(rng, ("ear", "round", "square", "sweep"), (3, 3, 2, 1))
    if kind == "round":
        turn = np.linspace(np.pi / 2, -np.pi / 2, 16)
        base = np.interp(np.sin(turn), [-1, 1], [r1, r0])
        line = np.stack(
            [base + reach * np.cos(turn), (z0 + z1) / 2 + height / 2 * np.sin(turn)], -1
        )
    else:
        points = {
            "ear": [
                (r0, z0),
                (r0 + 0.75 * reach, z0 + 0.02 * height),
                (max(r0, r1) + reach, z0 - 0.3 * height),
                (r1 + 0.7 * reach, z1 + 0.25 * height),
                (r1, z1),
            ],
            "square": [
                (r0, z0),
                (r0 + 0.85 * reach, z0),
                (max(r0, r1) + reach, z0 - 0.15 * height),
                (max(r0, r1) + reach, z1 + 0.15 * height),
                (r1 + 0.85 * reach, z1),
                (r1, z1),
            ],
            "sweep": [
                (r0, z0),
                (r0 + 0.6 * reach, z0 + 0.15 * height),
                (r0 + reach, z0),
                (r1 + 0.5 * reach, z1 + 0.2 * height),
                (r1, z1),
            ],
        }[kind]
        line = smooth_path(points, 18)
    path = np.stack([line[:, 0], np.zeros(len(line)), line[:, 1]], -1)
    thick = rng.uniform(0.14, 0.26) * min(reach, height)
    return tube(path, thick, 10).scaled(1, rng.uniform(1, 1.9), 1)


def _side(rng: np.random.Generator) -> float:
    """Where a handle is: mostly left or right of the front, else anywhere."""
    if rng.random() < 0.6:
        return float(pick(rng, (-1, 1)) * np.pi / 2 + rng.normal(0, 0.3))
    return float(rng.uniform(-np.pi, np.pi))


def mug(rng: np.random.Generator) -> Shape:
    """A cup or mug with a handle, or a tumbler without."""
    r, foot = rng.uniform(0.32, 0.55), rng.uniform(0.6, 1.05)
    wall = rng.uniform(0.025, 0.06)
    t = np.linspace(0, 1, 10)
    bulge = rng.uniform(-0.05, 0.22)
    radius = r * (foot + (1 - foot) * t ** rng.uniform(0.4, 1.2) + bulge * np.sin(np.pi * t))
    z = 0.03 + 0.97 * t
    outer = np.stack([np.r_[radius[0] * 0.9, radius], np.r_[0, z]], -1)
    level = rng.uniform(0.55, 0.92) if rng.random() < 0.5 else None
    body = hollow(outer, wall, rng.uniform(0.05, 0.12), level, repeat=pick(rng, (1, 1, 2)))
    ware = pick(rng, WARES)
    parts = [body]
    if rng.random() < 0.8:
        z0, z1 = rng.uniform(0.72, 0.88), rng.uniform(0.18, 0.4)
        at = np.interp([z0, z1], z, radius) - 0.5 * wall
        grip = handle(rng, np.array([at[0], z0]), np.array([at[1], z1]), rng.uniform(0.2, 0.4))
        parts.append(grip.turned(2, _side(rng)).painted(int(rng.random() < 0.3)))
    finishes = (*ware, pick(rng, ("food", "plain")))
    if rng.random() < 0.15:  # on a saucer
        line = [
            (0, -0.04),
            (0.5 * r, -0.04),
            (1.5 * r, 0.05),
            (1.5 * r, 0.07),
            (0.5 * r, 0),
            (0, 0),
        ]
        parts.append(lathe(line, 40).painted(0))
    return Shape(join(parts), finishes)


def beaker(rng: np.random.Generator) -> Shape:
    """A paper cup with a lid, perhaps a sleeve and a straw."""
    r, foot = rng.uniform(0.28, 0.42), rng.uniform(0.65, 0.85)
    body = lathe([(0, 0), (r * foot, 0), (r, 1)], 40, pick(rng, (1, 2))).painted([0, 1])
    rim = lathe([(r, 0.97), (r + 0.03, 0.98), (r + 0.03, 1.02), (r, 1.03)], 40).painted(1)
    parts = [body, rim]
    if rng.random() < 0.7:
        h = rng.uniform(0.04, 0.2)
        line = [(r + 0.02, 1.0), (r + 0.03, 1.04), (0.9 * r, 1.05), (0.85 * r, 1 + h)]
        parts.append(
            lathe([*line, (0.75 * r, 1 + h), (0.72 * r, 1 + 0.6 * h), (0, 1 + 0.6 * h)], 40)
        )
        parts[-1] = parts[-1].painted(2)
        if rng.random() < 0.5:
            parts.append(rod((0, 0, 0.9), (0.05, rng.uniform(-0.1, 0.1), 1.5), 0.025, 3))
    else:
        parts.append(lathe([(r - 0.01, 0.9), (0, 0.9)], 40).painted(2))
    if rng.random() < 0.4:
        low, high = rng.uniform(0.2, 0.35), rng.uniform(0.55, 0.75)
        at = [r * foot + r * (1 - foot) * z + 0.012 for z in (low, high)]
        parts.append(lathe([(at[0], low), (at[1], high)], 40).painted(3))
    return Shape(join(parts), (pick(rng, ("label", "pattern", "plain")), "plain", "plain", "any"))


def bowl(rng: np.random.Generator) -> Shape:
    """A bowl or a dish, empty or filled."""
    h, wall = rng.uniform(0.2, 0.65), rng.uniform(0.02, 0.05)
    t = np.linspace(0, 1, 12)
    foot = rng.uniform(0.3, 0.6)
    r = 0.5 * (foot + (1 - foot) * np.sin(np.pi / 2 * t) ** rng.uniform(0.6, 1.6))
    z = 0.05 + h * t ** rng.uniform(1, 1.8)
    outer = np.stack([np.r_[0.5 * foot, r], np.r_[0, z]], -1)
    filled = rng.random() < 0.5
    level = 0.05 + h * rng.uniform(0.5, 0.9) if filled else None
    parts = [hollow(outer, wall, 0.07, level)]
    if filled and rng.random() < 0.6 and level is not None:
        inside = float(np.interp(level, z, r)) - wall
        for _ in range(int(rng.integers(4, 14))):
            a, s = rng.uniform(0, 2 * np.pi), inside * np.sqrt(rng.uniform(0, 0.6))
            size = rng.uniform(0.06, 0.15)
            parts.append(ball(size, (s * np.cos(a), s * np.sin(a), level + 0.3 * size), 3, 7))
    solid = join(parts)
    if rng.random() < 0.15:
        solid = squared(solid, rng.uniform(3, 6))
    return Shape(solid, (*pick(rng, WARES), "food", "food"))


def plate(rng: np.random.Generator) -> Shape:
    """A plate, lying or stood up, perhaps with a meal."""
    h, flat = rng.uniform(0.04, 0.14), rng.uniform(0.5, 0.75)
    line = [(0.0, 0.0), (0.5 * flat, 0.0), (0.42, 0.6 * h), (0.5, h), (0.5, h + 0.015)]
    line += [(0.42, 0.6 * h + 0.02), (0.48 * flat, 0.02), (0.0, 0.02)]
    parts = [lathe(line, 48).painted(0)]
    for _ in range(int(rng.integers(0, 6)) if rng.random() < 0.5 else 0):
        a, s, size = rng.uniform(0, 6.3), rng.uniform(0, 0.22), rng.uniform(0.05, 0.13)
        thing = ball(size, (0, 0, 0), int(rng.integers(1, 3)))
        squash = rng.uniform(0.4, 1)
        parts.append(
            thing.scaled(1, rng.uniform(0.7, 1.5), squash)
            .turned(2, a)
            .shifted(s * np.cos(a), s * np.sin(a), 0.02 + 0.8 * squash * size)
        )
    solid = join(parts)
    if len(parts) == 1 and rng.random() < 0.5:  # shown from its front
        solid = solid.turned(1, np.pi / 2 - rng.uniform(0, 0.3))
    return Shape(solid, (pick(rng, ("glaze", "pattern", "plain", "photo")), "food", "food"))


def jug(rng: np.random.Generator) -> Shape:
    """A jug or can with a lip and a handle."""
    r, neck = rng.uniform(0.3, 0.45), rng.uniform(0.55, 1.0)
    belly = rng.uniform(0.25, 0.45)
    points = [(0.7 * r, 0), (0.85 * r, 0.03), (r, belly), (r * neck, 0.8), (r * (neck + 0.08), 1.0)]
    outer = smooth_path(points, 16)
    wall = rng.uniform(0.025, 0.045)
    body = hollow(outer, wall, 0.06)
    pull, width = rng.uniform(0.12, 0.28), rng.uniform(0.25, 0.45)

    def lip(v: Points) -> Points:
        angle = np.arctan2(v[:, 0], v[:, 1])
        rise = np.clip((v[:, 2] - 0.72) / 0.28, 0, 1) ** 2
        amount = pull * rise * np.exp(-((angle / width) ** 2)) * (np.hypot(v[:, 0], v[:, 1]) > 0.1)
        return v + np.stack([0 * amount, amount, 0.3 * amount], -1)

    at = np.interp([0.9, 0.35], outer[:, 1], outer[:, 0]) - 0.5 * wall
    grip = handle(rng, np.array([at[0], 0.9]), np.array([at[1], 0.35]), rng.uniform(0.2, 0.38))
    solid = join([body.deformed(lip), grip.turned(2, -np.pi / 2).painted(int(rng.random() < 0.2))])
    if rng.random() < 0.4:
        solid = solid.turned(2, rng.uniform(0, 2 * np.pi))
    return Shape(solid.scaled(1, 1, rng.uniform(0.8, 1.25)), (*pick(rng, WARES), "plain"))


def teapot(rng: np.random.Generator) -> Shape:
    """A teapot, kettle or watering can: body, lid with knob, spout and handle."""
    r, h = 0.5, rng.uniform(0.6, 0.95)
    top = rng.uniform(0.45, 0.75) * r
    outer = smooth_path([(0.6 * r, 0), (r * 0.95, 0.25 * h), (r * 0.95, 0.6 * h), (top, h)], 16)
    parts = [lathe([(0, 0), *outer, (0, h)], 40).painted(0)]
    rise = rng.uniform(0.05, 0.18)
    dome = [(top * np.cos(a), h + rise * np.sin(a)) for a in np.linspace(0, np.pi / 2, 8)]
    parts.append(lathe([(top * 1.03, h - 0.02), *dome], 36).painted(1))
    parts.append(ball(rng.uniform(0.05, 0.09), (0, 0, h + rise + 0.04), 1))
    low = rng.uniform(0.25, 0.5) * h
    reach = rng.uniform(0.3, 0.5)
    bend = smooth_path(
        [
            (0, 0.85 * r, low),
            (0, r + 0.4 * reach, low + 0.15 * h),
            (0, r + 0.7 * reach, 0.75 * h),
            (0, r + reach, h * rng.uniform(0.9, 1.1)),
        ],
        14,
    )
    parts.append(tube(bend, np.linspace(0.14, 0.05, 14), 14).painted(0))
    if rng.random() < 0.65:
        at = np.interp([0.8 * h, 0.3 * h], outer[:, 1], outer[:, 0]) - 0.03
        grip = handle(
            rng, np.array([at[0], 0.8 * h]), np.array([at[1], 0.3 * h]), rng.uniform(0.25, 0.4)
        ).turned(2, -np.pi / 2)
    else:  # over the top
        turn = np.linspace(0, np.pi, 20)
        arc = np.stack([0 * turn, 0.8 * r * np.cos(turn), 0.8 * h + 0.7 * np.sin(turn)], -1)
        grip = tube(arc, rng.uniform(0.025, 0.045))
    parts.append(grip.painted(2))
    ware = pick(rng, ("glaze", "pattern", "metal", "plain", "any"))
    second = pick(rng, (ware, ware, "plain"))
    solid = join(parts)
    if rng.random() < 0.5:
        solid = solid.mirrored()
    return Shape(solid, (ware, second, pick(rng, (ware, ware, "wood", "plain"))))


def pot(rng: np.random.Generator) -> Shape:
    """A cooking pot with two handles, a pan with one, a bucket with a bail, with or without lid."""
    kind = pick(rng, ("pot", "pan", "bucket"))
    h = {
        "pot": rng.uniform(0.4, 0.8),
        "pan": rng.uniform(0.15, 0.3),
        "bucket": rng.uniform(0.8, 1),
    }[kind]
    foot = 0.5 if kind == "pot" else rng.uniform(0.36, 0.45)
    outer = np.array([(foot - 0.03, 0.0), (foot, 0.03), (0.5, h - 0.02), (0.515, h)])
    lidded = kind != "bucket" and rng.random() < 0.5
    parts = [hollow(outer, 0.025, 0.04, rng.uniform(0.4, 0.9) * h if rng.random() < 0.4 else None)]
    if lidded:
        dome = [(0.51 * np.cos(a), h + 0.1 * np.sin(a)) for a in np.linspace(0, np.pi / 2, 8)]
        parts += [lathe([(0.52, h), *dome], 40).painted(0)]
        parts += [
            disc(0.03, 0.06, 3).shifted(z=h + 0.09),
            disc(0.08, 0.04, 3, 0.015).shifted(z=h + 0.14),
        ]
    turn = np.linspace(-np.pi / 2, np.pi / 2, 14)
    if kind == "pot":
        loop = np.stack([0.14 * np.sin(turn), 0.48 + 0.14 * np.cos(turn), 0 * turn + 0.75 * h], -1)
        grip = tube(loop, 0.025).painted(3)
        parts += [grip, grip.mirrored()]
    elif kind == "pan":
        length = rng.uniform(0.6, 1.0)
        bar = rod((0, 0.48, 0.8 * h), (0, 0.5 + length, 0.8 * h + 0.12), 0.04, 3)
        parts.append(bar.turned(2, rng.uniform(-1, 1)))
    else:
        lean = rng.uniform(-1.4, 1.4)
        arc = np.stack([0 * turn, 0.51 * np.sin(turn), 0.55 * np.cos(turn)], -1)
        parts.append(tube(arc, 0.018, 8).painted(3).turned(1, lean).shifted(z=h - 0.06))
    ware = pick(
        rng, (("metal", "metal"), ("glaze", "glaze"), ("plain", "plain"), ("pattern", "plain"))
    )
    return Shape(join(parts), (*ware, "food", pick(rng, ("plain", "metal", "wood"))))


FAMILIES = {
    "mug": Family(mug, 5.0),
    "beaker": Family(beaker, 1.5),
    "bowl": Family(bowl, 2.5),
    "plate": Family(plate, 1.2),
    "jug": Family(jug, 1.5),
    "teapot": Family(teapot, 2.0),
    "pot": Family(pot, 1.5),
}
