"""Building blocks, balls, dice, robots, and other toys.

It does not know games.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training.prior.families.family import Family
from training.prior.families.parts import (
    ball,
    both_sides,
    bricks,
    disc,
    knob,
    pick,
    ring,
    rod,
    slab,
)
from training.prior.primitives import box, extrude, lathe, random_rotation, rounded_box, tube
from training.prior.solids import Points, Shape, Solid, join


def blocks(rng: np.random.Generator) -> Shape:
    """Toy blocks piled up, or a brick with studs."""
    if rng.random() < 0.4:
        nx, ny = int(rng.integers(1, 4)), int(rng.integers(1, 6))
        h = pick(rng, (0.4, 1.2))
        parts = [slab((nx, ny, h), (0, 0, h / 2), 0, 0.02)]
        for i in range(nx):
            for j in range(ny):
                stud = disc(0.3, 0.2, 0, 0.02, columns=16)
                parts.append(stud.shifted(i - (nx - 1) / 2, j - (ny - 1) / 2, h))
        return Shape(join(parts), ("plain",))
    parts = []
    z = 0.0
    for k in range(int(rng.integers(2, 6))):
        kind = pick(rng, ("cube", "bar", "cylinder", "roof", "arch"))
        w = rng.uniform(0.35, 0.9)
        if kind == "cube":
            h, part = 0.5, slab((0.5, 0.5, 0.5), (0, 0, 0.25), 0, 0.02)
        elif kind == "bar":
            h, part = 0.25, slab((0.4, 2 * w, 0.25), (0, 0, 0.125), 0, 0.02)
        elif kind == "cylinder":
            h, part = 0.6, disc(0.25, 0.6, 0, 0.02)
        elif kind == "roof":
            h, part = 0.45, extrude([(-0.4, 0), (0.4, 0), (0, 0.45)], 0.45, 0.02)
        else:
            turn = np.linspace(0, np.pi, 14)
            inner = 0.25 * np.stack([np.cos(turn), np.sin(turn)], -1)
            outline = np.concatenate([inner[::-1], [(0.5, 0), (0.5, 0.5), (-0.5, 0.5), (-0.5, 0)]])
            h, part = 0.5, extrude(outline, 0.4, 0.0)
        dx, dy = rng.normal(0, 0.05, 2)
        parts.append(part.painted(k % 4).turned(2, rng.normal(0, 0.3)).shifted(dx, dy, z))
        z += h
        if kind == "roof":
            break
    finish = pick(rng, ("plain", "wood", "any"))
    return Shape(join(parts), (finish, "plain", finish, "plain"))


def ring_tower(rng: np.random.Generator) -> Shape:
    """Rings on a rod, a spinning top, a bell."""
    if rng.random() < 0.6:
        parts = [disc(0.45, 0.1, 0, 0.03), rod((0, 0, 0), (0, 0, 1.1), 0.06, 0)]
        z, count = 0.1, int(rng.integers(3, 7))
        for k in range(count):
            fat = 0.45 / count
            radius = np.interp(k, [0, count], [0.42, 0.16]) - 0.5 * fat
            parts.append(ring(radius, fat, (0, 0, z + fat), 1 + k % 4, "z"))
            z += 1.9 * fat
        parts.append(ball(0.12, (0, 0, 1.12), 0))
        return Shape(
            join(parts), (pick(rng, ("wood", "plain")), "plain", "plain", "plain", "plain")
        )
    line = [(0, 0), (0.02, 0.01), (0.3, 0.35), (0.5, 0.5), (0.45, 0.6), (0.15, 0.72), (0.05, 0.75)]
    top = lathe([*line, (0.05, 1), (0, 1.01)], 40, 3).painted([0, 0])
    if rng.random() < 0.5:
        top = top.turned(1, rng.uniform(0.4, 0.9))
    return Shape(top, (pick(rng, ("pattern", "wood", "plain")),))


def dice(rng: np.random.Generator) -> Shape:
    """A die with pips, a letter block, a puzzle cube."""
    kind = pick(rng, ("die", "block", "puzzle"))
    if kind == "block":
        body = rounded_box((1, 1, 1), rng.uniform(0.02, 0.1), 2).painted([0, 1, 2, 3, 0, 1])
        return Shape(body, ("label", "photo", "label", "pattern"))
    if kind == "puzzle":
        n = int(rng.integers(2, 4))
        parts = [box(1).scaled(0.96).painted(0)]
        at = (np.arange(n) - (n - 1) / 2) / n
        spots = np.stack(np.meshgrid([-0.49, 0.49], at, at, indexing="ij"), -1).reshape(-1, 3)
        colours = rng.integers(1, 7, (3, len(spots)))
        if rng.random() < 0.3:  # solved: a colour a side
            colours = np.repeat(np.arange(1, 7), len(spots) // 2).reshape(3, -1)
        for axis in range(3):
            tiles = bricks((0.03, 0.86 / n, 0.86 / n), spots)
            tiles = replace(tiles, slots=np.repeat(colours[axis], 12))
            parts.append(tiles if axis == 0 else tiles.turned(3 - axis, np.pi / 2))
        return Shape(join(parts), ("plain",) * 7)
    parts = [rounded_box((1, 1, 1), rng.uniform(0.08, 0.25), 4).painted(0)]
    pips: dict[int, list[tuple[int, int]]]
    pips = {1: [(0, 0)], 2: [(-1, -1), (1, 1)], 4: [(a, b) for a in (-1, 1) for b in (-1, 1)]}
    pips |= {3: pips[1] + pips[2], 5: pips[1] + pips[4], 6: pips[4] + [(-1, 0), (1, 0)]}
    for count, (axis, turn) in zip(
        range(1, 7),
        ((1, 0), (1, np.pi / 2), (2, np.pi / 2), (2, -np.pi / 2), (1, -np.pi / 2), (1, np.pi)),
        strict=True,
    ):
        for a, b in pips[count]:
            parts.append(knob(0.09, 0.006, (0.498, 0.25 * a, 0.25 * b), 1).turned(axis, turn))
    return Shape(
        join(parts).rotated(random_rotation(rng) if rng.random() < 0.3 else np.eye(3)),
        ("plain", "plain"),
    )


def balls(rng: np.random.Generator) -> Shape:
    """A ball, a globe on its stand, a balloon, a bauble."""
    kind = pick(rng, ("ball", "globe", "balloon", "bauble"), (3, 1, 1, 1))
    parts = [ball(0.5, (0, 0, 0), 0, 20)]
    if kind == "globe":
        turn = np.linspace(-2.0, 1.6, 24)
        arm = np.stack([0 * turn, -0.56 * np.cos(turn), 0.56 * np.sin(turn)], -1)
        parts += [tube(arm, 0.025).painted(1).turned(0, -0.3)]
        parts += [
            rod((0, 0, -0.75), (0, 0, -0.5), 0.05, 1),
            disc(0.32, 0.06, 1, 0.02).shifted(z=-0.8),
        ]
    elif kind == "balloon":
        body = parts[0].deformed(
            lambda v: (
                v * np.column_stack([1 + 0.25 * v[:, 2], 1 + 0.25 * v[:, 2], np.full(len(v), 1.2)])
            )
        )
        knot = lathe([(0.02, -0.6), (0.06, -0.67), (0, -0.66)], 16).painted(0)
        string = np.stack(
            [
                0.03 * np.sin(np.linspace(0, 9, 20)),
                0 * np.linspace(0, 1, 20),
                np.linspace(-0.62, -1.3, 20),
            ],
            -1,
        )
        parts = [body, knot, tube(string, 0.008, 6).painted(1)]
    elif kind == "ball" and rng.random() < 0.2:  # for rugby
        parts = [parts[0].scaled(1, 1, rng.uniform(1.2, 1.7))]
    elif kind == "bauble":
        parts += [disc(0.09, 0.1, 1).shifted(z=0.48), ring(0.06, 0.012, (0, 0, 0.63), 1)]
    finish = {"globe": "photo"}.get(
        kind, pick(rng, ("pattern", "plain", "leather", "metal", "fur", "any"))
    )
    return Shape(join(parts), (finish, pick(rng, ("metal", "wood", "plain"))))


def robot(rng: np.random.Generator) -> Shape:
    """A robot or a stiff figure made of boxes and rods."""
    edge = pick(rng, (0.0, 0.02, 0.06))
    w, d, h = rng.uniform(0.35, 0.6), rng.uniform(0.22, 0.4), rng.uniform(0.35, 0.6)
    hw, hd, hh = (rng.uniform(0.24, 0.5), rng.uniform(0.22, 0.4), rng.uniform(0.2, 0.4))
    leg = rng.uniform(0.15, 0.4)
    parts = [slab((d, w, h), (0, 0, leg + h / 2), 0, edge)]
    top = leg + h
    neck = rng.uniform(0, 0.06)
    if rng.random() < 0.75:
        parts.append(slab((hd, hw, hh), (0, 0, top + neck + hh / 2), 1, edge))
    else:
        parts.append(ball(hh * 0.6, (0, 0, top + neck + hh / 2), 1, 14))
        hd = 1.2 * hh
    parts.append(disc(0.07, neck + 0.02, 3).shifted(z=top - 0.01))
    eye = knob(rng.uniform(0.03, 0.06), 0.05, (hd / 2 - 0.03, 0.24 * hw, top + neck + 0.6 * hh), 2)
    parts.append(both_sides(eye))
    if rng.random() < 0.6:
        parts.append(slab((0.03, 0.45 * hw, 0.04), (hd / 2 - 0.005, 0, top + neck + 0.25 * hh), 2))
    if rng.random() < 0.6:
        parts.append(slab((0.03, 0.6 * w, 0.4 * h), (d / 2, 0, leg + 0.55 * h), 2))
        for y in (-0.12, 0, 0.12):
            parts.append(knob(0.025, 0.03, (d / 2 + 0.01, y, leg + 0.62 * h), 3))
    if rng.random() < 0.6:
        spike = top + neck + hh
        parts += [
            rod((0, 0, spike - 0.02), (0, 0, spike + 0.14), 0.015, 3),
            ball(0.04, (0, 0, spike + 0.15), 2),
        ]
    if rng.random() < 0.5:
        parts.append(
            both_sides(
                disc(0.06, 0.05, 3)
                .turned(0, -np.pi / 2)
                .shifted(0, hw / 2 - 0.01, top + neck + hh / 2)
            )
        )
    thick = rng.uniform(0.04, 0.08)
    shoulder, raise_ = (0.0, w / 2 + thick, top - 0.08), rng.uniform(-0.5, 1.2)
    hand = (
        0.25 * np.sin(raise_) + 0.05,
        w / 2 + thick + rng.uniform(0, 0.15),
        top - 0.08 - 0.4 * np.cos(raise_),
    )
    arm = (
        rod((0, w / 2 - 0.02, top - 0.08), shoulder, thick, 3),
        rod(shoulder, hand, thick * 0.9, 0),
    )
    parts += [both_sides(join([*arm, ball(1.4 * thick, hand, 1)]))]
    foot = slab((0.9 * d, 0.36 * w, 0.09), (0.08 * d, 0.26 * w, 0.045), 1, edge / 2)
    bone = slab((0.12, 0.13, leg), (0, 0.26 * w, leg / 2), 0)
    parts.append(both_sides(join([foot, bone])))
    base = pick(rng, ("plain", "metal", "any", "wood"))
    return Shape(join(parts), (base, pick(rng, (base, "plain")), "plain", "metal"))


def dumb_bell(rng: np.random.Generator) -> Shape:
    """A dumb-bell, a spool, a bobbin, a cable drum."""
    r, bar = rng.uniform(0.15, 0.5), rng.uniform(0.04, 0.12)
    half = rng.uniform(0.3, 0.6)
    parts = [disc(bar, 2 * half, 1).shifted(z=-half)]
    for _ in range(int(rng.integers(1, 4))):
        t = rng.uniform(0.06, 0.2)
        weight = disc(r, t, 0, 0.02).shifted(z=half)
        parts += [weight, weight.scaled(1, 1, -1)]
        half += t
        r *= rng.uniform(0.6, 1)
    if rng.random() < 0.3:
        parts.append(disc(bar * rng.uniform(1.5, 3), half, 2).shifted(z=-half / 2))
    solid = join(parts)
    if rng.random() < 0.75:
        solid = solid.turned(0, np.pi / 2)
    return Shape(solid, (pick(rng, ("plain", "metal", "wood")), "metal", "cloth"))


def toy_house(rng: np.random.Generator) -> Shape:
    """A small house: walls, a gable roof, a door, windows, a chimney."""
    w, d, h, rise = 1.0, rng.uniform(0.6, 1.2), rng.uniform(0.45, 0.9), rng.uniform(0.25, 0.6)
    parts = [
        extrude([(-w / 2, 0), (w / 2, 0), (w / 2, h), (0, h + rise), (-w / 2, h)], d).painted(
            [0, 0, 0]
        )
    ]
    slope = float(np.hypot(w / 2, rise)) + 0.12
    angle = np.arctan2(rise, w / 2)
    side = (
        slab((d + 0.14, slope, 0.05), (0, slope / 2, 0), 1)
        .turned(0, -angle)
        .shifted(0, 0, h + rise + 0.01)
    )
    parts.append(both_sides(side))
    parts.append(slab((0.02, 0.2, 0.38), (d / 2, rng.uniform(-0.2, 0.2), 0.19), 2))
    for y in (-0.3, 0.3):
        parts.append(slab((0.02, 0.16, 0.16), (d / 2, y, 0.72 * h), 3))
        parts.append(slab((0.3 * d, 0.02, 0.2), (0, y / 0.6, 0.5 * h), 3))
    if rng.random() < 0.6:
        parts.append(slab((0.14, 0.14, 0.4), (-0.2 * d, 0.25, h + 0.75 * rise), 2))
    solid = join(parts)
    if rng.random() < 0.4:
        solid = solid.turned(2, np.pi / 2)
    return Shape(
        solid,
        (
            pick(rng, ("plain", "wood", "pattern")),
            pick(rng, ("plain", "pattern", "wood")),
            "plain",
            "any",
        ),
    )


def toy_pull(rng: np.random.Generator) -> Shape:
    """A drum, a trophy bell, a lantern: rods between two discs, and what is inside."""
    r, h = rng.uniform(0.3, 0.5), rng.uniform(0.3, 1)
    parts = [disc(r, 0.08, 0, 0.02), disc(r * rng.uniform(0.8, 1), 0.08, 0, 0.02).shifted(z=h)]
    count = int(rng.integers(3, 10))
    for k in range(count):
        a = 2 * np.pi * k / count
        spot = np.array([0.88 * r * np.cos(a), 0.88 * r * np.sin(a)])
        parts.append(rod((*spot, 0), (*(0.85 * spot), h), 0.022, 1))
    if rng.random() < 0.8:
        parts.append(disc(rng.uniform(0.3, 0.75) * r, rng.uniform(0.3, 1) * h, 2, 0.02))
    if rng.random() < 0.5:
        parts.append(ring(0.4 * r, 0.02, (0, 0, h + 0.08 + 0.4 * r), 1))
    return Shape(
        join(parts), (pick(rng, ("wood", "metal", "plain")), pick(rng, ("metal", "wood")), "any")
    )


def wound(points: Points, radius: float, slot: int) -> Solid:
    """A thread along a path."""
    return tube(points, radius, 7).painted(slot)


def spring(rng: np.random.Generator) -> Shape:
    """A coil: a spring, a whisk's head, a cable."""
    turns = rng.uniform(3, 7)
    t = np.linspace(0, 1, int(16 * turns))
    a = 2 * np.pi * turns * t
    r = rng.uniform(0.2, 0.5) * (1 + rng.uniform(-0.5, 0.3) * t)
    path = np.stack([r * np.cos(a), r * np.sin(a), t], -1)
    return Shape(wound(path, rng.uniform(0.02, 0.05), 0), (pick(rng, ("metal", "plain")),))


FAMILIES = {
    "blocks": Family(blocks, 2.0),
    "ring tower": Family(ring_tower, 1.0),
    "dice": Family(dice, 1.5, "any"),
    "balls": Family(balls, 1.5),
    "robot": Family(robot, 2.0),
    "dumb-bell": Family(dumb_bell, 0.7, "any"),
    "toy house": Family(toy_house, 1.5),
    "lantern": Family(toy_pull, 0.7),
    "spring": Family(spring, 0.3, "any"),
}
