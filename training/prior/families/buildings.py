"""Families of model houses, castles, shoes in pairs and balls on boxes.

It does not know how bricks, leather or tiles are painted.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.builder import Builder
from training.prior.families.family import Family
from training.prior.primitives import extrude, loft, rounded_box, smooth_path, tube
from training.prior.solids import Shape


def house(rng: np.random.Generator) -> Shape:
    """A house: walls, a pitched or hipped roof, chimney, door and windows."""
    b = Builder(rng)
    wall, roof = b.slot("plain", "pattern", "wood"), b.slot("pattern", "plain", "wood")
    door, pane = b.slot("wood", "plain"), b.slot("screen", "plain", "glaze")
    deep, wide, high = b.u(0.6, 1.0), b.u(0.6, 1.2), b.u(0.45, 1.0)
    rise, over = b.u(0.25, 0.6), b.u(0.03, 0.1)
    b.slab((deep, wide, high), (0, 0, high / 2), wall)
    gable = b.chance(0.5)  # the gable looks to the front, else the eaves do
    half, long = (wide / 2, deep) if gable else (deep / 2, wide)
    t = b.u(0.03, 0.07)
    slope = rise / half
    outer = [(-half - over, -over * slope + t), (0.0, rise + t), (half + over, -over * slope + t)]
    inner = [(half + over, -over * slope), (0.0, rise), (-half - over, -over * slope)]
    tiles = extrude(np.array([*outer, *inner]), long + 2 * over)
    fill = extrude(np.array([(-half, -0.001), (0.0, rise), (half, -0.001)]), long)
    for solid, slot in ((tiles, roof), (fill, wall)):
        b.add((solid if gable else solid.turned(2, np.pi / 2)).shifted(0, 0, high), slot)
    if b.chance(0.75):
        at = half * b.u(0.3, 0.6) * (1 if b.chance(0.5) else -1)
        place = (b.u(-0.3, 0.3) * long, at) if gable else (at, b.u(-0.3, 0.3) * long)
        size = b.u(0.08, 0.14)
        top = high + rise + b.u(0.02, 0.2)
        b.slab((size, size, top - high), (*place, (top + high) / 2), b.slot("pattern", "plain"))
    tall, floors = min(0.42, high * 0.7), 2 if high > 0.75 else 1
    y = b.u(-0.25, 0.25) * wide
    b.slab((0.03, wide * 0.2, tall), (deep / 2, y, tall / 2), door)
    frame, size = b.slot("plain", "wood"), b.u(0.13, 0.2)
    for k in range(floors):
        z = high * (k + 0.55) / floors
        for side in (-0.33, 0.0, 0.33):
            if k == 0 and abs(side * wide - y) < wide * 0.1 + size * 0.6:
                continue
            b.slab((0.025, size, size * 1.2), (deep / 2, side * wide, z), frame)
            b.slab((0.035, size * 0.8, size), (deep / 2, side * wide, z), pane)
        for side in (-0.25, 0.25):
            b.slab((size, 0.03, size * 1.2), (side * deep, wide / 2, z), pane, pair=True)
    if b.chance(0.3):
        b.slab((deep * 1.4, wide * 1.3, 0.04), (0.05, 0, -0.015), b.slot("leaf", "soil", "wood"))
    return b.shape()


def _tower(
    b: Builder, x: float, y: float, r: float, high: float, slots: tuple[int, int, int]
) -> None:
    stone, roof, dark = slots
    b.turned(
        [
            (0, 0),
            (r * 1.05, 0),
            (r, high),
            (r * 1.2, high),
            (r * 1.2, high * 1.06),
            (0, high * 1.06),
        ],
        stone,
        (x, y, 0),
        columns=20,
    )
    if roof >= 0:
        tall = r * b.u(1.5, 3.0)
        b.turned([(0, 0), (r * 1.35, 0), (0.0, tall)], roof, (x, y, high * 1.05), columns=20)
        if b.chance(0.4):
            top = high * 1.05 + tall
            b.limb([(x, y, top - 0.03), (x, y, top + 0.15)], 0.008, dark, columns=6)
            b.slab((0.008, 0.12, 0.07), (x, y + 0.06, top + 0.11), roof)
    else:
        for k in range(8):
            a = np.pi / 4 * k
            spot = (x + r * 1.08 * np.cos(a), y + r * 1.08 * np.sin(a), high * 1.06 + 0.03)
            b.slab((r * 0.35, r * 0.35, 0.09), spot, stone)
    b.slab((0.05, r * 0.25, r * 0.6), (x + r, y, high * 0.7), dark)


def castle(rng: np.random.Generator) -> Shape:
    """A castle with walls, a gate and towers, or a single tower or lighthouse."""
    b = Builder(rng)
    stone, dark = b.slot("pattern", "plain", "plain"), b.slot("wood", "plain")
    roof = b.slot("plain", "pattern") if b.chance(0.65) else -1
    slots = (stone, roof, dark)
    if b.chance(0.25):
        _tower(b, 0, 0, b.u(0.15, 0.3), b.u(0.7, 1.3), slots)
        b.slab((0.08, 0.12, 0.2), (float(b.reach) - 0.06, 0, 0.1), dark)
        return b.shape()
    deep, wide, high = b.u(0.6, 1.0), b.u(0.8, 1.2), b.u(0.3, 0.5)
    t = 0.08
    for x in (deep / 2, -deep / 2):
        b.slab((t, wide, high), (x, 0, high / 2), stone)
        for y in np.linspace(-0.4, 0.4, 7):
            b.slab((t, wide * 0.07, 0.08), (x, float(y) * wide, high + 0.035), stone)
    b.slab((deep, t, high), (0, wide / 2, high / 2), stone, pair=True)
    for x in np.linspace(-0.35, 0.35, 5):
        b.slab((deep * 0.08, t, 0.08), (float(x) * deep, wide / 2, high + 0.035), stone, pair=True)
    b.slab((deep, wide, 0.03), (0, 0, 0.01), b.slot("soil", "leaf", "plain"))
    r = b.u(0.1, 0.17)
    tall = high * b.u(1.1, 1.7)
    for x in (deep / 2, -deep / 2):
        for y in (wide / 2, -wide / 2):
            _tower(b, x, y, r, tall, slots)
    if b.chance(0.6):
        _tower(b, -deep * 0.1, 0.0, r * 1.4, high * b.u(1.7, 2.5), slots)
    gate = b.u(0.18, 0.28)
    b.slab((t * 1.3, gate, high * 0.65), (deep / 2, 0, high * 0.325), dark)
    return b.shape()


def shoes(rng: np.random.Generator) -> Shape:
    """A pair of shoes, boots or slippers beside each other, sometimes one alone."""
    b = Builder(rng)
    upper, sole = b.slot("leather", "leather", "cloth", "plain"), b.slot("plain", "leather")
    lining, lace = b.slot("cloth", "plain"), b.slot("plain", "cloth")
    wide, high = b.u(0.16, 0.2), b.u(0.16, 0.24)
    boot = b.u(0.25, 0.7) if b.chance(0.3) else b.u(0.03, 0.1)
    heel = b.u(0.08, 0.25) if b.chance(0.2) else 0.0
    x = np.array([-0.5, -0.48, -0.4, -0.2, 0.0, 0.2, 0.38, 0.47, 0.5])
    half = wide * np.array([0.3, 0.62, 0.78, 0.72, 0.8, 1.0, 0.85, 0.5, 0.2])
    top = high * np.array([0.6, 0.98, 1.0, 1.0, 0.95, 0.65, 0.5, 0.38, 0.2])
    lift = heel * np.interp(x, [-0.5, -0.25, 0.15, 0.5], [1.0, 0.9, 0.0, 0.05])
    a = np.linspace(0, np.pi, 13)
    arch = np.sin(a)[None] ** 0.7
    skew = b.u(0.0, 0.06) * np.clip(x, 0, 1)
    y = np.cos(a)[None] * half[:, None] * (1 - 0.25 * arch) - skew[:, None]
    z = lift[:, None] + 0.03 + top[:, None] * arch
    body = loft(np.stack([np.broadcast_to(x[:, None], y.shape), y, z], -1))
    outline = np.concatenate(
        [np.stack([x, half * 1.06 - skew], -1), np.stack([x, -half * 1.06 - skew], -1)[::-1]]
    )
    plate = extrude(outline, 1.0).deformed(lambda v: v[:, [1, 2, 0]])
    thick = b.u(0.03, 0.08)

    def bent(v: np.ndarray) -> np.ndarray:
        low = np.interp(v[:, 0], x, lift)
        return np.stack([v[:, 0], v[:, 1], low + 0.04 + (v[:, 2] - 0.5) * thick], -1)

    one = Builder(rng)
    for _ in range(4):
        one.slot("plain")
    one.add(body, 0)
    one.add(plate.deformed(bent), 1)
    if heel:
        one.slab((0.12, wide * 1.1, heel + thick), (-0.4, 0, (heel - thick) / 2 + 0.02), 1)
    r, at = wide * 0.72, heel * 0.95 + high * 0.8
    rings = [
        (r, 0.0),
        (r * 0.95, boot + high * 0.2),
        (r * 0.85, boot + high * 0.22),
        (r * 0.8, 0.0),
        (0, 0.0),
    ]
    one.turned(rings, 0, (-0.29, 0, at), flat=1.4, columns=24)
    one.turned(
        [(r * 0.84, 0.0), (r * 0.84, boot + high * 0.16), (0, boot + high * 0.1)],
        2,
        (-0.29, 0, at),
        flat=1.4,
        columns=24,
    )
    if b.chance(0.6):
        for s in np.linspace(0.0, 0.22, 4):
            up = float(np.interp(s, x, top + lift)) + 0.035
            one.limb(
                [
                    (s, -wide * 0.3, up - 0.015),
                    (s + 0.02, 0, up + 0.01),
                    (s, wide * 0.3, up - 0.015),
                ],
                0.014,
                3,
                columns=6,
            )
    shoe = one.shape().solid.shifted(0, wide * b.u(1.05, 1.4), 0)
    slots = (upper, sole, lining, lace)
    b.add(shoe.turned(2, b.u(-0.1, 0.15)), slots)
    if b.chance(0.85):
        b.add(shoe.mirrored().turned(2, b.u(-0.15, 0.1)).shifted(b.u(-0.1, 0.1), 0, 0), slots)
    shape = b.shape()
    turn = 0.0 if b.chance(0.5) else np.pi / 2 * (1 if b.chance(0.5) else -1)
    return Shape(shape.solid.turned(2, turn), shape.finishes)


def ball_on_box(rng: np.random.Generator) -> Shape:
    """Toy blocks: balls, rings and cones on boxes."""
    b = Builder(rng)
    deep, wide, high = b.u(0.5, 1.0), b.u(0.5, 1.0), b.u(0.3, 1.0)
    b.add(
        rounded_box((deep, wide, high), b.u(0.01, 0.08)).shifted(0, 0, high / 2),
        b.slot("label", "wood", "plain", "pattern"),
    )
    z, r = high, min(deep, wide) * b.u(0.25, 0.5)
    kind = b.pick("ball", "ball", "cone", "ring", "tin", "box")
    slot = b.slot("plain", "wood", "pattern", "glaze", "food")
    if kind == "ball":
        b.ball((r,) * 3, (0, 0, z + r * 0.98), slot)
    elif kind == "cone":
        b.turned([(0, z), (r, z), (0, z + r * b.u(1.2, 2.5))], slot)
    elif kind == "ring":
        a = np.linspace(0, 2 * np.pi, 28)
        t = r * b.u(0.2, 0.35)
        ring = np.stack([0 * a, (r - t) * np.cos(a), (r - t) * np.sin(a)], -1)
        b.add(tube(ring, t, columns=14).shifted(0, 0, z + r * 0.98), slot)
    elif kind == "tin":
        b.turned([(0, z), (r, z), (r, z + r * 1.5), (0, z + r * 1.5)], slot)
    else:
        b.add(
            rounded_box((r * 1.4,) * 3, 0.03).turned(2, b.u(0, 1.5)).shifted(0, 0, z + r * 0.7),
            slot,
        )
    if b.chance(0.3):
        path = [
            (0, -wide * 0.5, high * 0.1),
            (0.02, -wide * 0.5 - r, r * 0.6),
            (0.1, -wide * 0.5 - 2 * r, r * 0.5),
        ]
        b.add(tube(smooth_path(np.array(path), 8), r * 0.2, columns=10, round_ends=True), slot)
    return b.shape()


BUILDINGS: dict[str, Family] = {
    "house": Family(house, 1.4),
    "castle": Family(castle, 0.9),
    "shoes": Family(shoes, 2.0),
    "ball on box": Family(ball_on_box, 0.8),
}
