"""Families of things on things: a cup on its saucer, fruit in a bowl, a cake with candles.

It does not know how china, food or wax are painted.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.builder import Builder, unit_ball
from training.prior.families.buildings import BUILDINGS
from training.prior.families.family import Family
from training.prior.families.piles import PILES
from training.prior.families.tableware import bowl, cup, egg_profile, plate, spoon
from training.prior.primitives import extrude, rounded_box, tube
from training.prior.solids import Shape, assemble


def cup_on_saucer(rng: np.random.Generator) -> Shape:
    """A cup of coffee or tea on a wide saucer, often with a spoon, sometimes with a biscuit."""
    b = Builder(rng)
    r, high = b.u(0.32, 0.5), b.u(0.4, 0.75)
    wide = r * b.u(1.5, 2.3)
    saucer = b.slot("glaze", "glaze", "plain", "pattern", "wood")
    well = plate(b, wide, (0, 0, 0), saucer, rise=wide * b.u(0.06, 0.22))
    turn = float(rng.choice([0.5, -0.5, 0.25, -0.25])) * np.pi + b.u(-0.6, 0.6)
    same = saucer if b.chance(0.55) else None
    cup(b, r, high, (0, 0, well - 0.005), turn if b.chance(0.93) else None, same)
    if b.chance(0.45):
        metal, around = b.slot("metal", "metal", "plain"), b.u(0, 2 * np.pi)
        long = wide * b.u(1.0, 1.5)
        lying = spoon(b, long, metal).shifted(long * 0.35).turned(0, b.u(-0.2, 0.2))
        lying = lying.shifted(0, r * 0.75 + wide * 0.18, 0).turned(2, around)
        b.add(lying.shifted(0, 0, well + wide * 0.045), metal)
    if b.chance(0.2):
        a, size = b.u(0, 2 * np.pi), wide * 0.16
        d = (r * 0.8 + wide) / 2
        biscuit = rounded_box((size * 1.6, size, size * 0.45), size * 0.15).turned(2, b.u(0, 3))
        b.add(biscuit.shifted(d * np.cos(a), d * np.sin(a), well + size * 0.42), b.slot("food"))
    return b.shape()


def _fruit(b: Builder, r: float) -> Shape:
    """An apple, orange, pear, lemon, banana or egg that lies on z = 0, about `r` in radius."""
    part = Builder(b.rng)
    skin = part.slot("food")
    kind = b.pick("apple", "apple", "orange", "pear", "lemon", "banana")
    if kind == "apple":
        t = np.linspace(0, np.pi, 14)
        ring = r * np.sin(t) * (1 - 0.1 * np.cos(t))
        z = r * (0.95 - 0.85 * np.cos(t) - 0.22 * np.abs(np.cos(t)) ** 9 * np.sign(np.cos(t)) * -1)
        part.turned(list(zip(ring.tolist(), z.tolist(), strict=True)), skin, columns=20)
        part.limb([(0, 0, r * 1.45), (0.1 * r, 0, r * 2.0)], 0.06 * r, part.slot("wood"), columns=6)
    elif kind == "pear":
        t = np.linspace(0, np.pi, 14)
        ring = r * np.sin(t) * (0.85 + 0.3 * np.cos(t)) * (1 - 0.25 * (1 - np.cos(t)) / 2)
        part.turned(
            list(zip(ring.tolist(), (r * 1.25 * (1 - np.cos(t))).tolist(), strict=True)),
            skin,
            columns=20,
        )
        part.limb([(0, 0, r * 2.4), (0.1 * r, 0, r * 2.8)], 0.06 * r, part.slot("wood"), columns=6)
    elif kind == "banana":
        a = np.linspace(-0.9, 0.9, 12)
        path = np.stack([2.0 * r * np.sin(a), 0 * a, r * (0.45 + 1.6 * (1 - np.cos(a)))], -1)
        thick = r * np.clip(0.42 * np.cos(a * 1.05) ** 0.5, 0.1, 1)
        part.add(tube(path, thick, columns=10, round_ends=True), skin)
    else:
        long = r * (1.35 if kind == "lemon" else 1.0)
        part.ball((long, r * 0.98, r * 0.96), (0, 0, r * 0.95), skin)
    shape = part.shape()
    return Shape(shape.solid.turned(2, b.u(0, 2 * np.pi)), shape.finishes)


def _heap(b: Builder, reach: float, r: float, count: int) -> list[tuple[float, float, float]]:
    """Places for `count` things of radius `r` in a round dish, the later ones on top."""
    n = max(1, int(np.pi / np.arcsin(min(r / max(reach - r, r), 1.0)))) if reach > 2 * r else 1
    out, turn = [], b.u(0, 2 * np.pi)
    for k in range(min(count, n)):
        a = turn + 2 * np.pi * k / n
        d = (reach - r) if n > 1 else 0.0
        out.append((d * float(np.cos(a)), d * float(np.sin(a)), 0.0))
    if n > 4 and count > n:
        out.append((0.0, 0.0, 0.15 * r))
    for k in range(max(0, min(count - len(out), 3)) if n > 3 else 0):
        a = turn + 0.5 + 2 * np.pi * k / 3
        out.append((0.9 * r * float(np.cos(a)), 0.9 * r * float(np.sin(a)), 1.45 * r))
    return out


def fruit_dish(rng: np.random.Generator) -> Shape:
    """Apples, pears, bananas, oranges or eggs in a bowl, on a plate or in a basket."""
    b = Builder(rng)
    china = b.slot("glaze", "plain", "wood", "pattern", "metal", "cloth")
    wide, r = 1.0, b.u(0.2, 0.36)
    if b.chance(0.65):
        high = b.u(0.3, 0.75)
        bowl(b, wide, high, (0, 0, 0), china, china)
        reach, floor = wide * b.u(0.72, 0.8), high * b.u(0.2, 0.45)
    else:
        floor, reach = plate(b, wide, (0, 0, 0), china), wide * 0.68
    shapes, eggs = [], b.chance(0.2)
    for x, y, z in _heap(b, reach, r, b.count(2, 10)):
        if eggs:
            egg = egg_profile(b).scaled(2.2 * r).shifted(0, 0, -1.1 * r).turned(1, b.u(-1.7, 1.7))
            fruit = Shape(egg.turned(2, b.u(0, 6)).shifted(0, 0, 0.8 * r), ("plain",))
        else:
            fruit = _fruit(b, r * b.u(0.9, 1.1))
        shapes.append(Shape(fruit.solid.shifted(x, y, floor + z), fruit.finishes))
    return assemble([b.shape(), *shapes])


def plate_of_food(rng: np.random.Generator) -> Shape:
    """Pancakes, a sandwich, a slice of cake, biscuits, fried eggs or sushi on a plate."""
    b = Builder(rng)
    china = b.slot("glaze", "plain", "pattern", "wood")
    floor = plate(b, 1.0, (0, 0, 0), china, rise=b.u(0.06, 0.2)) - 0.005
    food, other = b.slot("food"), b.slot("food", "leaf", "plain")
    kind = b.pick("pancakes", "sandwich", "slice", "biscuits", "eggs", "roast")
    if kind == "pancakes":
        z = floor
        for _ in range(b.count(2, 7)):
            r, t = b.u(0.45, 0.58), b.u(0.06, 0.1)
            at = (b.u(-0.04, 0.04), b.u(-0.04, 0.04), z)
            b.turned([(0, 0), (r * 0.94, 0), (r, t * 0.5), (r * 0.94, t), (0, t)], food, at)
            z += t * 0.98
        b.cushion((0.18, 0.18, 0.08), (0, 0, z + 0.03), other)
    elif kind == "sandwich":
        z = floor
        for t in (0.14, *(0.06, 0.05, 0.08, 0.05)[: b.count(2, 4)], 0.14):
            s = b.u(0.85, 0.98)
            b.cushion(
                (s, s, t),
                (b.u(-0.02, 0.02), 0, z + t / 2),
                food if t > 0.1 else other,
            )
            z += t * 0.95
    elif kind == "slice":
        a, high = b.u(0.5, 0.9), b.u(0.35, 0.6)
        wedge = [
            (-0.45, 0.0),
            *[(-0.45 + float(np.cos(q)), float(np.sin(q))) for q in np.linspace(-a / 2, a / 2, 7)],
        ]
        turn = b.u(0, 6.3)
        for z, t, slot in ((0.0, high, food), (high * 0.45, 0.06, other), (high, 0.05, other)):
            piece = extrude(np.array(wedge) * (1.0 if t > 0.1 else 1.01), t).deformed(
                lambda v: v[:, [1, 2, 0]]
            )
            b.add(piece.turned(2, turn).shifted(0, 0, floor + z + t / 2), slot)
        b.ball((0.09,) * 3, (0, 0, floor + high + 0.1), other)
    elif kind == "biscuits":
        for x, y, z in _heap(b, 0.75, 0.24, b.count(3, 10)):
            tilt = b.u(-0.15, 0.15)
            disc = unit_ball().scaled(0.26, 0.26, 0.06).turned(0, tilt)
            b.add(disc.shifted(x, y, floor + 0.06 + z * 0.3), food)
    elif kind == "eggs":
        for y in (-0.3, 0.3)[: b.count(1, 2)]:
            b.ball((0.36, 0.33, 0.04), (0.05, y, floor + 0.02), b.slot("plain"))
            b.ball((0.14, 0.14, 0.1), (0.05, y, floor + 0.05), food)
        b.limb(
            [(-0.4, -0.4, floor + 0.07), (-0.45, 0, floor + 0.07), (-0.35, 0.4, floor + 0.07)],
            0.08,
            other,
        )
    else:
        b.ball((0.5, 0.36, 0.26), (0, 0, floor + 0.22), food)
        b.limb([(0.3, 0.25, floor + 0.2), (0.55, 0.3, floor + 0.3)], [0.14, 0.06], food, pair=True)
        for _ in range(b.count(3, 7)):
            a = b.u(0, 2 * np.pi)
            b.ball((0.12, 0.1, 0.1), (0.55 * np.cos(a), 0.55 * np.sin(a), floor + 0.08), other)
    return b.shape()


def cake(rng: np.random.Generator) -> Shape:
    """A cake of one to three tiers on a plate or a stand, with icing, berries, candles."""
    b = Builder(rng)
    china = b.slot("glaze", "plain", "metal", "wood")
    r = b.u(0.5, 0.7)
    z = 0.0
    if b.chance(0.5):
        foot, tall = b.u(0.25, 0.4), b.u(0.15, 0.5)
        b.turned(
            [(0, 0), (foot, 0), (foot * 0.9, 0.04), (0.06, 0.1), (0.06, tall), (0, tall)], china
        )
        z = tall - 0.02
        rim = r * b.u(1.1, 1.3)
        b.turned([(0, z), (rim, z), (rim, z + 0.05), (0, z + 0.05)], china, columns=44)
        z += 0.045
    else:
        z = plate(b, r * b.u(1.3, 1.6), (0, 0, 0), china, rise=0.08) - 0.005
    body, icing = b.slot("food", "plain"), b.slot("food", "plain")
    berries = b.slot("food", "plain")
    for _ in range(b.count(1, 3) if b.chance(0.4) else 1):
        high = b.u(0.22, 0.45)
        b.turned(
            [(0, 0), (r, 0), (r, high - 0.03), (r - 0.03, high), (0, high)],
            body,
            (0, 0, z),
            columns=40,
        )
        if b.chance(0.6):
            drip = high * b.u(0.15, 0.5)
            b.turned(
                [
                    (r * 1.015, high - drip),
                    (r * 1.02, high - 0.02),
                    (r * 0.98, high + 0.02),
                    (0, high + 0.02),
                ],
                icing,
                (0, 0, z),
                columns=40,
            )
        n = b.count(6, 14) if b.chance(0.6) else 0
        size = b.u(0.04, 0.08)
        for k in range(n):
            a = 2 * np.pi * k / n
            b.ball(
                (size,) * 3,
                (r * 0.85 * np.cos(a), r * 0.85 * np.sin(a), z + high + size * 0.7),
                berries,
                small=True,
            )
        z, top = z + high, r
        r *= b.u(0.6, 0.75)
    wax, flame = b.slot("plain", "pattern"), b.slot("plain")
    n, tall = (b.count(1, 9) if b.chance(0.65) else 0), b.u(0.15, 0.32)
    for k in range(n):
        a, d = 2 * np.pi * k / max(n, 1), top * 0.55 * (n > 1)
        x, y = d * float(np.cos(a)), d * float(np.sin(a))
        b.limb([(x, y, z - 0.02), (x, y, z + tall)], 0.022, wax, columns=8)
        b.ball((0.02, 0.02, 0.045), (x, y, z + tall + 0.05), flame, small=True)
    if n == 0:
        b.ball((0.09, 0.09, 0.1), (0, 0, z + 0.07), berries)
    return b.shape()


FAMILIES: dict[str, Family] = {
    **BUILDINGS,
    **PILES,
    "cup on saucer": Family(cup_on_saucer, 7.0),
    "fruit dish": Family(fruit_dish, 1.8),
    "plate of food": Family(plate_of_food, 1.8),
    "cake with candles": Family(cake, 1.6),
}
