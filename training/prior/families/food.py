"""Fruit, vegetables, bread, cakes, and other things to eat.

It does not know how they taste or what they are served on.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.family import Family
from training.prior.families.parts import ball, disc, pick, rod, slab
from training.prior.primitives import extrude, lathe, rounded_box, smooth_path, superquadric, tube
from training.prior.solids import Points, Shape, Solid, join


def _uneven(solid: Solid, rng: np.random.Generator, amount: float) -> Solid:
    """With a few soft waves of its surface, as grown things have."""
    waves = rng.normal(0, 2.5, (3, 3))
    phase = rng.uniform(0, 6, 3)
    ways = rng.normal(0, amount, (3, 3))
    return solid.deformed(lambda v: v + np.sin(v @ waves.T + phase) @ ways)


def fruit(rng: np.random.Generator) -> Shape:
    """An apple, a pear, an orange, a lemon, a tomato, a pumpkin, an egg, a plum."""
    kind = pick(
        rng, ("apple", "pear", "orange", "lemon", "tomato", "pumpkin", "egg"), (3, 2, 2, 1, 1, 1, 1)
    )
    t = np.linspace(0, np.pi, 28)
    radius, z = np.sin(t), -np.cos(t)
    stalk = rng.uniform(0.1, 0.4)
    dent = rng.uniform(0.15, 0.4)
    top = 1.0
    if kind in {"apple", "tomato", "pumpkin"}:
        radius = radius * (1 + rng.uniform(0, 0.12) * z)
        z = z * rng.uniform(0.65, 0.95) * (1 - dent * np.exp(-((radius / 0.3) ** 2)))
        top = float(z[-1])
    elif kind == "pear":
        z = 1.25 * z
        radius = radius * (0.78 - rng.uniform(0.2, 0.3) * np.tanh(1.6 * z - 0.4))
        top = 1.22
    elif kind == "lemon":
        radius, z = radius**1.25 * 0.75, z + 0.08 * np.sign(z) * np.abs(z) ** 9
    elif kind == "egg":
        radius = 0.76 * radius * (1 - 0.16 * z)
    radius = np.maximum(radius, 0)
    radius[[0, -1]] = 0
    body = lathe(np.stack([radius, z], -1), 44 if kind != "pumpkin" else 72).painted([0, 0])
    if kind == "pumpkin":
        ribs, deep = int(rng.integers(7, 13)), rng.uniform(0.05, 0.12)

        def ribbed(v: Points) -> Points:
            wave = 1 + deep * np.abs(np.cos(ribs / 2 * np.arctan2(v[:, 1], v[:, 0]))) - deep
            return v * np.column_stack([wave, wave, np.ones_like(wave)])

        body = body.deformed(ribbed)
    if kind != "egg":
        body = _uneven(body, rng, 0.012)
    parts = [body]
    if kind in {"apple", "pear", "pumpkin"}:
        thick = 0.12 if kind == "pumpkin" else 0.035
        path = [(0, 0, top - 0.08), (0.02, 0.03, top + 0.6 * stalk), (0.1, 0.12, top + stalk + 0.1)]
        parts.append(tube(smooth_path(path, 7), thick * np.linspace(1, 1.2, 7), 8).painted(1))
        if rng.random() < 0.3 and kind != "pumpkin":
            leaf = superquadric(1, 1, 10, 16).scaled(0.5, 0.24, 0.03).shifted(0.25)
            leaf = (
                leaf.turned(1, -0.4).turned(2, rng.uniform(0, 6.3)).shifted(0, 0, top + 0.5 * stalk)
            )
            parts.append(leaf.painted(2))
    elif kind == "tomato":
        for k in range(5):
            leaf = superquadric(1, 1, 6, 8).scaled(0.35, 0.1, 0.03).shifted(0.17)
            parts.append(
                leaf.turned(1, 0.1).turned(2, 1.257 * k).shifted(0, 0, top + 0.06).painted(2)
            )
    solid = join(parts)
    if kind == "lemon" or rng.random() < 0.2:
        solid = solid.turned(1, rng.uniform(0.8, 1.8)).turned(2, rng.uniform(0, 6.3))
    return Shape(
        solid, ("plain" if kind == "egg" and rng.random() < 0.6 else "food", "wood", "leaf")
    )


def banana(rng: np.random.Generator) -> Shape:
    """A banana or a bunch, a cucumber, a carrot, a sausage, a croissant: long and bent."""
    kind = pick(rng, ("banana", "carrot", "sausage", "croissant", "pepper"))
    bend = {"banana": rng.uniform(0.8, 1.5), "croissant": rng.uniform(1.5, 2.6)}.get(
        kind, rng.uniform(0, 0.6)
    )
    n = 26
    s = np.linspace(-1, 1, n)
    a = s * bend / 2
    path = np.stack([0 * s, *_arc(a, bend)], -1)
    fat = rng.uniform(0.09, 0.14)
    if kind == "banana":
        radius = fat * np.interp(
            s, [-1, -0.92, -0.7, 0, 0.6, 0.8, 0.9, 1], [0.3, 0.5, 0.85, 1, 0.85, 0.45, 0.28, 0.26]
        )
        columns = 6
    elif kind == "carrot":
        radius = 1.3 * fat * np.interp(s, [-1, -0.95, 0.8, 0.95, 1], [0.08, 0.2, 1, 0.9, 0.5])
        columns = 14
    elif kind == "croissant":
        radius = 2.2 * fat * (1 - s * s) ** 0.7 * (0.88 + 0.12 * np.abs(np.cos(4.5 * np.pi * s)))
        columns = 16
    else:
        radius = fat * np.clip(1 - np.abs(s) ** 10, 0.05, 1) ** 0.5 * rng.uniform(0.8, 1.6)
        columns = 14
    one = tube(path, np.maximum(radius, 0.005), columns).painted(0)
    parts = [one]
    if kind == "banana" and rng.random() < 0.4:
        parts += [one.turned(2, 0.35).shifted(0.12), one.turned(2, -0.3).shifted(-0.12)]
    if kind == "carrot":
        end = path[-1]
        for _ in range(int(rng.integers(3, 8))):
            tip = end + rng.normal(0, 0.12, 3) + np.array([0, 0.4, 0])
            parts.append(tube([end, tip], [0.02, 0.035], 6).painted(1))
    solid = join(parts)
    if rng.random() < 0.5:
        solid = solid.turned(1, np.pi / 2)
    return Shape(solid, ("food", "leaf"))


def _arc(angle: Points, bend: float) -> tuple[Points, Points]:
    """A circular arc of length 1 in the y-z plane; straight when it does not bend."""
    if abs(bend) < 1e-3:
        return angle * 0 + np.linspace(-0.5, 0.5, len(angle)), 0 * angle
    return np.sin(angle) / bend, (1 - np.cos(angle)) / bend


def bread(rng: np.random.Generator) -> Shape:
    """A loaf, a toast, a baguette, a roll."""
    kind = pick(rng, ("loaf", "slice", "long", "roll"))
    if kind in {"loaf", "slice"}:
        w, h = rng.uniform(0.7, 1), rng.uniform(0.6, 1)
        line = smooth_path(
            [
                (-0.44 * w, 0),
                (0.44 * w, 0),
                (0.45 * w, 0.5 * h),
                (0.52 * w, 0.75 * h),
                (0.3 * w, h),
                (0, h * 1.03),
                (-0.3 * w, h),
                (-0.52 * w, 0.75 * h),
                (-0.45 * w, 0.5 * h),
            ],
            40,
        )
        depth = rng.uniform(0.08, 0.18) if kind == "slice" else rng.uniform(0.8, 1.8)
        solid = extrude(line, depth, 0.03).painted([0, 0, 1])
        if kind == "loaf":
            solid = _uneven(solid.turned(2, pick(rng, (0, np.pi / 2))), rng, 0.015)
        return Shape(solid, ("food", "food"))
    long = rng.uniform(0.18, 0.3) if kind == "long" else rng.uniform(0.7, 1)
    body = superquadric(rng.uniform(0.7, 1), 1, 24, 36).scaled(
        long, 1, long * rng.uniform(0.6, 0.9)
    )
    floor = -0.25 * long
    body = body.deformed(lambda v: np.column_stack([v[:, :2], np.maximum(v[:, 2], floor)]))
    parts = [_uneven(body, rng, 0.008)]
    if kind == "long":
        for y in np.linspace(-0.32, 0.32, int(rng.integers(3, 6))):
            cut = superquadric(1, 1, 8, 12).scaled(0.5 * long, 0.14, 0.08).turned(2, 0.7)
            parts.append(cut.shifted(0, float(y), 0.31 * long).painted(1))
    return Shape(join(parts), ("food", "food"))


def cake(rng: np.random.Generator) -> Shape:
    """A cake, a slice of it, a cupcake, a pile of pancakes."""
    kind = pick(rng, ("whole", "slice", "cupcake", "pile"))
    parts: list[Solid] = []
    if kind == "slice":
        angle, h = rng.uniform(0.35, 0.9), rng.uniform(0.3, 0.6)
        turn = np.linspace(-angle / 2, angle / 2, 9)
        wedge = np.concatenate([np.stack([np.sin(turn), np.cos(turn)], -1), [[0.0, 0.0]]])
        layers = int(rng.integers(1, 5))
        for k in range(layers * 2):
            thick = h / (layers * 2) * (1.5 if k % 2 == 0 else 0.5)
            part = extrude(wedge, thick).turned(1, -np.pi / 2).turned(2, np.pi)
            parts.append(
                part.shifted(
                    0, 0, sum([1.5, 0.5][j % 2] for j in range(k)) * h / (layers * 2) + thick / 2
                ).painted(k % 2)
            )
        parts.append(ball(0.1, (0.75, 0, h + 0.08), 2))
        return Shape(join(parts).turned(2, rng.uniform(0, 6.3)), ("food", "plain", "food"))
    if kind == "cupcake":
        low = lathe([(0, 0), (0.3, 0), (0.42, 0.4), (0, 0.4)], 64).painted([0, 0])

        def pleated(v: Points) -> Points:
            wave = 1 + 0.04 * np.cos(16 * np.arctan2(v[:, 1], v[:, 0]))
            pleats: Points = v * np.column_stack([wave, wave, np.ones_like(wave)])
            return pleats

        parts.append(low.deformed(pleated))
        t = np.linspace(0, 1, 40)
        swirl = (0.45 * (1 - t) ** 0.7) * (1 + 0.12 * np.cos(2 * np.pi * 4 * t))
        parts.append(lathe([(0, 0.38), *np.stack([swirl, 0.4 + 0.45 * t], -1)], 36).painted(1))
        if rng.random() < 0.5:
            parts.append(ball(0.08, (0, 0, 0.88), 2))
        return Shape(join(parts), (pick(rng, ("pattern", "plain")), "plain", "food"))
    z = 0.0
    tiers = int(rng.integers(1, 4)) if kind == "whole" else int(rng.integers(3, 9))
    r = 0.5
    for k in range(tiers):
        h = rng.uniform(0.2, 0.35) if kind == "whole" else rng.uniform(0.05, 0.09)
        shift = rng.normal(0, 0.02, 2) if kind == "pile" else (0.0, 0.0)
        parts.append(disc(r, h, k % 2, 0.03, columns=36).shifted(shift[0], shift[1], z))
        z += h
        r *= rng.uniform(0.6, 0.8) if kind == "whole" else rng.uniform(0.95, 1.03)
    if kind == "whole":
        count = int(rng.integers(0, 9))
        for k in range(count):
            a = 2 * np.pi * k / count
            spot = 0.75 * parts[-1].box[1][0] if tiers == 1 else 0.4 * r
            at = (spot * np.cos(a), spot * np.sin(a))
            parts.append(
                rod((*at, z), (*at, z + 0.16), 0.018, 2)
                if rng.random() < 0.5
                else ball(0.05, (*at, z), 2)
            )
    return Shape(join(parts), (pick(rng, ("plain", "food")), pick(rng, ("plain", "food")), "any"))


def cheese(rng: np.random.Generator) -> Shape:
    """A wedge of cheese or melon, a block, a wheel."""
    h = rng.uniform(0.25, 0.6)
    angle = pick(rng, (rng.uniform(0.5, 1.1), rng.uniform(1.5, 3.1), 5.2))
    turn = np.linspace(-angle / 2, angle / 2, 24)
    wedge = np.concatenate([np.stack([np.sin(turn), np.cos(turn)], -1), [[0.0, 0.0]]])
    solid = extrude(wedge, h, 0.015).turned(1, -np.pi / 2).turned(2, rng.uniform(0, 6.3))
    return Shape(solid, ("food", "food", pick(rng, ("food", "plain"))))


def burger(rng: np.random.Generator) -> Shape:
    """A burger or a sandwich: bread, leaves, slices, bread."""
    parts = []
    r = 0.5
    z = rng.uniform(0.12, 0.2)
    parts.append(disc(r, z, 0, 0.05, columns=36))
    for _ in range(int(rng.integers(2, 6))):
        kind = pick(rng, ("patty", "leaf", "slice", "square"))
        if kind == "patty":
            h = rng.uniform(0.08, 0.16)
            parts.append(_uneven(disc(r * 1.03, h, 1, 0.04, columns=36), rng, 0.01).shifted(z=z))
        elif kind == "leaf":
            h, waves = 0.03, int(rng.integers(8, 14))
            turn = np.linspace(0, 2 * np.pi, 61)[:-1]
            wide = r * (1.08 + 0.06 * np.sin(waves * turn))
            leaf = extrude(np.stack([wide * np.cos(turn), wide * np.sin(turn)], -1), h)
            leaf = leaf.turned(1, -np.pi / 2).painted(2)
            wavy = leaf.deformed(
                lambda v: (
                    v + [0, 0, 1] * (0.02 * np.sin(12 * np.arctan2(v[:, 1], v[:, 0])))[:, None]
                )
            )
            parts.append(wavy.shifted(z=z + h / 2))
        elif kind == "slice":
            h = 0.05
            parts.append(disc(0.93 * r, h, 3, 0.01).shifted(z=z))
        else:
            h = 0.025
            parts.append(
                slab((1.5 * r, 1.5 * r, h), (0, 0, z + h / 2), 4).turned(2, rng.uniform(0, 1.5))
            )
        z += 0.9 * h
    rise = rng.uniform(0.25, 0.4)
    dome = [(r * np.cos(a), z + rise * np.sin(a)) for a in np.linspace(0, np.pi / 2, 12)]
    parts.append(lathe([(0, z), (0.97 * r, z), *dome], 40).painted([0, 0]))
    solid = join(parts)
    if rng.random() < 0.15:
        solid = solid.scaled(0.6, 1.2, 1)
    return Shape(solid, ("food", "food", "leaf", "food", "plain"))


def doughnut(rng: np.random.Generator) -> Shape:
    """A doughnut with icing, a bagel, a tyre."""
    fat = rng.uniform(0.13, 0.24)
    turn = np.linspace(0, 2 * np.pi, 25)
    squash = rng.uniform(0.7, 1.1)
    line = np.stack([0.34 + fat * np.cos(turn), squash * fat * np.sin(turn)], -1)
    dough = lathe(line, 40).painted([0, 0])
    half = (turn > 0.15) & (turn < np.pi - 0.15)
    top = np.stack(
        [0.34 + 1.05 * fat * np.cos(turn[half]), 0.01 + squash * 1.06 * fat * np.sin(turn[half])],
        -1,
    )
    solid = join([dough, lathe(top, 40).painted([1, 1])]) if rng.random() < 0.6 else dough
    return Shape(solid, (pick(rng, ("food", "plain")), pick(rng, ("plain", "pattern", "food"))))


def ice_cream(rng: np.random.Generator) -> Shape:
    """A cone with scoops, a lolly on a stick."""
    parts: list[Solid] = []
    if rng.random() < 0.6:
        parts.append(
            lathe([(0, 0), (0.03, 0), (0.24, 0.7), (0.22, 0.71), (0, 0.7)], 32).painted([0, 0])
        )
        z = 0.75
        for k in range(int(rng.integers(1, 4))):
            scoop = _uneven(ball(rng.uniform(0.22, 0.27), (0, 0, 0), 1 + k % 2, 14), rng, 0.012)
            dx, dy = rng.normal(0, 0.02, 2)
            parts.append(scoop.shifted(dx, dy, z))
            z += 0.27
    else:
        body = rounded_box((rng.uniform(0.14, 0.25), 0.45, 0.8), 0.12, 4).painted([1] * 6)
        body = body.deformed(
            lambda v: (
                v
                * np.column_stack(
                    [np.ones(len(v)), 1 - 0.2 * np.clip(v[:, 2], 0, 1), np.ones(len(v))]
                )
            )
        )
        parts += [body.shifted(z=0.6), slab((0.05, 0.12, 0.4), (0, 0, 0.1), 0, 0.02)]
    return Shape(join(parts), (pick(rng, ("food", "wood")), "plain", "food"))


FAMILIES = {
    "fruit": Family(fruit, 4.0, "any"),
    "banana": Family(banana, 1.5, "any"),
    "bread": Family(bread, 1.5),
    "cake": Family(cake, 2.0),
    "cheese": Family(cheese, 0.8),
    "burger": Family(burger, 1.2),
    "doughnut": Family(doughnut, 0.8, "any"),
    "ice cream": Family(ice_cream, 0.8),
}
