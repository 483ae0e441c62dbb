"""Families of plants: in pots and vases, cacti, small and large trees, mushrooms.

It does not know how leaves, bark or soil are painted.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.blossoms import BLOSSOMS
from training.prior.families.builder import Builder, triple, unit_ball
from training.prior.families.family import Family
from training.prior.families.foliage import leaves
from training.prior.primitives import lathe, smooth_path, tube
from training.prior.solids import Points, Shape, Solid


def pot(b: Builder, r: float, high: float, *, soil: bool = True) -> None:
    """A pot standing at z = 0 with its rim at `high`, filled with soil; some on a saucer."""
    clay = b.slot("plain", "glaze", "pattern", "wood", "label")
    t, kind = np.linspace(0, 1, 9), b.pick("cone", "round", "cube", "bowl")
    low = b.u(0.55, 0.95)
    if kind == "cube":
        b.cushion((2 * r * 0.9, 2 * r * 0.9, high), (0, 0, high / 2), clay)
        b.slab((r * 1.4, r * 1.4, 0.04 * high), (0, 0, high), b.slot("soil"))
        return
    wave = low + (1 - low) * t
    if kind == "round":
        wave = wave + 0.25 * np.sin(np.pi * t)
    elif kind == "bowl":
        wave = 0.4 + 0.6 * np.sin(t * np.pi / 2) ** 0.7
    rings = list(zip((r * wave).tolist(), (high * t).tolist(), strict=True))
    if kind == "cone" and b.chance(0.6):
        lip = high * b.u(0.12, 0.25)
        rings = [(r * low, 0.0), (r * 0.97, high - lip), (r * 1.1, high - lip), (r * 1.1, high)]
    edge = rings[-1][0]
    b.turned([(0, 0), *rings, (edge * 0.88, high), (edge * 0.86, high * 0.85)], clay)
    fill = high * b.u(0.86, 0.95)
    b.turned([(0, fill + 0.02 * high), (edge * 0.89, fill)], b.slot("soil") if soil else clay)
    if b.chance(0.25):
        dish = r * b.u(1.05, 1.3)
        b.turned(
            [
                (0, -0.04 * high),
                (dish * 0.9, -0.04 * high),
                (dish, 0.12 * high),
                (dish * 0.95, 0.12 * high),
                (0, 0.02 * high),
            ],
            clay,
        )


def _many(b: Builder, count: int, low: float, high: float) -> Points:
    return b.rng.uniform(low, high, count)


def pot_plant(rng: np.random.Generator) -> Shape:
    """Leaves in a pot: a tuft of blades, upright swords, a bush, a rubber plant or a palm."""
    b = Builder(rng)
    r, high = b.u(0.16, 0.3), b.u(0.22, 0.5)
    pot(b, r, high)
    green = b.slot("leaf")
    kind = b.pick("tuft", "swords", "bush", "stalks", "palm")
    n = {"tuft": b.count(18, 40), "swords": b.count(7, 16), "bush": b.count(40, 80)}.get(
        kind, b.count(9, 20)
    )
    turn = np.arange(n) * 2.4 + _many(b, n, -0.4, 0.4)
    root = (
        np.stack([np.cos(turn), np.sin(turn), 0 * turn], -1) * _many(b, n, 0.05, 0.55)[:, None] * r
    )
    root[:, 2] = high * 0.92
    size = b.u(0.4, 0.9)
    if kind == "tuft":
        b.add(leaves(root, turn, _many(b, n, 0.7, 1.1) * size, _many(b, n, 0.9, 1.4),
                     _many(b, n, 0.8, 2.6), _many(b, n, 0.02, 0.05), fold=0.5), green)  # fmt: skip
    elif kind == "swords":
        rise, bend = _many(b, n, 1.2, 1.5), _many(b, n, -0.1, 0.25)
        long, wide = _many(b, n, 0.7, 1.3) * size, _many(b, n, 0.04, 0.07)
        b.add(leaves(root, turn, long, rise, bend, wide, blunt=0.5, fold=0.6), green)
    elif kind == "bush":
        ball = rng.normal(size=(n, 3)) * [1, 1, 0.8]
        ball /= np.linalg.norm(ball, axis=1, keepdims=True)
        spread = b.u(0.25, 0.45)
        tip = ball * spread * _many(b, n, 0.5, 1.0)[:, None] + [0, 0, high + spread * b.u(0.6, 1.0)]
        out = np.arctan2(tip[:, 1], tip[:, 0])
        b.add(leaves(tip, out, _many(b, n, 0.15, 0.28), _many(b, n, -0.2, 0.9),
                     _many(b, n, 0.3, 1.5), _many(b, n, 0.04, 0.1), rows=6), green)  # fmt: skip
        way = tip - np.array([0, 0, high * 0.9])
        up = np.arctan2(way[:, 2], np.hypot(way[:, 0], way[:, 1]))
        one, middle = np.ones(n), np.tile([0, 0, high * 0.9], (n, 1))
        twigs = leaves(middle, out, np.linalg.norm(way, axis=1) * 1.06, up, 0 * one, 0.008 * one)
        b.add(twigs, b.slot("wood", "leaf"))
    elif kind == "stalks":
        stem, tall = b.slot("wood", "leaf"), _many(b, n, 0.25, 1.0) * size
        reach = _many(b, n, 0.0, 0.3)
        top = np.stack([np.cos(turn) * reach, np.sin(turn) * reach, high + tall], -1)
        for k in range(n):
            b.limb([triple(root[k] * [0.3, 0.3, 1]), triple(top[k])], 0.01, stem, columns=6)
        b.add(leaves(top, turn, _many(b, n, 0.22, 0.42), _many(b, n, 0.0, 0.7),
                     _many(b, n, 0.6, 1.6), _many(b, n, 0.07, 0.15), fold=0.2), green)  # fmt: skip
    else:
        trunk, lean = size * b.u(0.5, 1.2), b.u(-0.15, 0.15)
        path = [(0, 0, high * 0.9), (lean * 0.3, 0, high + trunk * 0.5), (lean, 0, high + trunk)]
        b.limb(path, [0.04, 0.03, 0.025], b.slot("wood"))
        top = np.repeat([[lean, 0, high + trunk]], n, 0)
        b.add(leaves(top, turn, _many(b, n, 0.4, 0.6), _many(b, n, 0.3, 1.2),
                     _many(b, n, 1.2, 2.2), _many(b, n, 0.04, 0.07)), green)  # fmt: skip
    return b.shape()


def _ribbed(r: float, high: float, ribs: int, depth: float) -> Solid:
    """A cactus' column with ribs and a round top, standing at z = 0."""
    t = np.linspace(0, 1, 12)
    ring = np.minimum(
        np.minimum(0.75 + t, np.sqrt(np.clip(1 - ((t - 0.75) / 0.25) ** 2, 0, 1)) + (t < 0.75)), 1.0
    )
    solid = lathe(np.stack([r * ring, high * t], -1), columns=4 * ribs)

    def ribbed(v: Points) -> Points:
        angle = np.arctan2(v[:, 1], v[:, 0])
        factor = 1 + depth * (np.abs(np.cos(angle * ribs / 2)) - 0.6)
        return v * np.stack([factor, factor, np.ones(len(v))], -1)

    return solid.deformed(ribbed)


def cactus(rng: np.random.Generator) -> Shape:
    """A cactus in its pot: a ribbed column with arms, balls, or flat ears on each other."""
    b = Builder(rng)
    r, high = b.u(0.18, 0.28), b.u(0.2, 0.4)
    pot(b, r, high)
    green, z = b.slot("leaf", "leaf", "plain"), high * 0.9
    kind = b.pick("column", "column", "balls", "ears")
    if kind == "column":
        thick, tall, ribs = b.u(0.08, 0.15), b.u(0.45, 1.1), b.count(6, 12)
        b.add(_ribbed(thick, tall, ribs, b.u(0.1, 0.3)).shifted(0, 0, z), green)
        for side in (1.0, -1.0):
            if b.chance(0.6):
                at, out, up = (
                    z + tall * b.u(0.3, 0.55),
                    thick + b.u(0.1, 0.2),
                    tall * b.u(0.15, 0.4),
                )
                path = [
                    (0, 0, at),
                    (0, side * out * 0.75, at + 0.01),
                    (0, side * out, at + 0.07),
                    (0, side * out, at + up),
                ]
                b.limb(path, thick * b.u(0.5, 0.7), green)
    elif kind == "balls":
        for k in range(b.count(1, 3)):
            size = b.u(0.45, 0.75) * r
            a = k * 2.2
            x, y = (0.0, 0.0) if k == 0 else (0.5 * r * np.cos(a), 0.5 * r * np.sin(a))
            b.add(
                _ribbed(size, size * b.u(1.3, 2.0), b.count(8, 14), 0.25).shifted(x, y, z - 0.02),
                green,
            )
    else:
        size, spots = b.u(0.13, 0.2), [(0.0, 0.0, 0.0)]
        for k in range(b.count(2, 5)):
            x, y, up = spots[b.count(0, len(spots) - 1)] if k else (0.0, 0.0, -0.6 * size)
            spot = (
                x + b.u(-0.03, 0.03),
                y + size * (b.u(-0.9, 0.9) if k else 0.0),
                up + size * 1.5,
            )
            b.ball((size * 0.3, size * 0.72, size), (spot[0], spot[1], spot[2] + z), green)
            spots = [*spots, spot] if k else [spot]
            size *= 0.93
    if b.chance(0.4):
        flower = b.slot("plain")
        b.ball((0.05, 0.05, 0.04), b.top, flower)
    return b.shape()


def succulent(rng: np.random.Generator) -> Shape:
    """A rosette of thick leaves in a bowl."""
    b = Builder(rng)
    r, high = b.u(0.25, 0.36), b.u(0.14, 0.32)
    pot(b, r, high)
    green, rings = b.slot("leaf", "plain"), b.count(3, 4)
    size, fat = r * b.u(0.6, 0.9), b.u(0.14, 0.3)
    for k in range(rings):
        n, up = 8 - k, 0.12 + 1.2 * k / rings
        long = size * (1 - 0.2 * k)
        for j in range(n):
            a = 2 * np.pi * (j + 0.5 * k) / n
            solid = unit_ball(8, 12).scaled(long / 2, long * 0.3, long * fat / 2)
            solid = solid.shifted(long * 0.5).turned(1, -up).turned(2, a)
            b.add(solid.shifted(0, 0, high * 0.95), green)
    return b.shape()


def bonsai(rng: np.random.Generator) -> Shape:
    """A little tree with a winding trunk and cushions of foliage in a flat tray."""
    b = Builder(rng)
    deep, wide, high = b.u(0.3, 0.4), b.u(0.45, 0.7), b.u(0.1, 0.2)
    tray = b.slot("glaze", "plain", "wood")
    b.cushion((deep, wide, high), (0, 0, high / 2), tray)
    b.slab((deep * 0.86, wide * 0.9, 0.02), (0, 0, high), b.slot("soil", "leaf"))
    bark, green = b.slot("wood"), b.slot("leaf")
    tall, sway = b.u(0.5, 0.9), b.u(0.06, 0.2)
    knots = [
        (0, 0, high),
        (0.02, sway, high + tall * 0.3),
        (0, -sway * 0.6, high + tall * 0.65),
        (0.0, 0.05, high + tall),
    ]
    trunk = smooth_path(np.array(knots), 12)
    b.add(tube(trunk, np.linspace(0.08, 0.025, 12), columns=12), bark)
    for k in (5, 7, 9, 11):
        start = trunk[k]
        side = 1.0 if k % 4 == 1 else -1.0
        reach = 0.0 if k == 11 else b.u(0.15, 0.32)
        end = (
            float(start[0]) + b.u(-0.1, 0.15),
            float(start[1]) + side * reach,
            float(start[2]) + b.u(0, 0.08),
        )
        b.limb([triple(start), end], [0.03, 0.018], bark, columns=8)
        for _ in range(2):
            pad = (b.u(0.12, 0.2), b.u(0.14, 0.24), b.u(0.05, 0.1))
            b.ball(
                pad, (end[0] + b.u(-0.05, 0.05), end[1] + b.u(-0.07, 0.07), end[2] + 0.04), green
            )
    return b.shape()


def tree(rng: np.random.Generator) -> Shape:
    """A round-headed tree, a fir, a palm or a bare trunk with a bushy crown, as in models."""
    b = Builder(rng)
    bark, green = b.slot("wood"), b.slot("leaf", "leaf", "plain")
    kind = b.pick("round", "round", "fir", "palm")
    r, trunk = b.u(0.04, 0.09), b.u(0.15, 0.6)
    if kind == "fir":
        layers, wide, high = b.count(2, 5), b.u(0.25, 0.45), b.u(0.8, 1.3)
        b.turned([(0, 0), (r, 0), (r * 0.8, trunk * 0.6), (0, trunk * 0.6)], bark)
        for k in range(layers):
            q = wide * (1 - 0.75 * k / layers)
            z = trunk * 0.5 + high * k / layers * 0.8
            b.turned(
                [(0, z), (q, z), (q * 0.25, z + high / layers * 1.1), (0, z + high / layers * 1.3)],
                green,
            )
        if b.chance(0.3):
            b.ball((0.05,) * 3, b.top, b.slot("metal", "plain"))
    elif kind == "palm":
        lean, tall, n = b.u(-0.25, 0.25), b.u(0.7, 1.2), b.count(8, 14)
        b.add(
            tube(
                smooth_path(
                    np.array([(0, 0, 0), (lean * 0.2, 0, tall * 0.5), (lean, 0, tall)]), 10
                ),
                np.linspace(r, r * 0.6, 10),
            ),
            bark,
        )
        turn = np.arange(n) * 2 * np.pi / n + _many(b, n, -0.2, 0.2)
        top = np.repeat([[lean, 0, tall - 0.02]], n, 0)
        b.add(leaves(top, turn, _many(b, n, 0.45, 0.65), _many(b, n, 0.2, 0.8),
                     _many(b, n, 1.2, 2.0), _many(b, n, 0.06, 0.1), fold=-0.3), green)  # fmt: skip
        for a in (0.3, 2.4, 4.5):
            b.ball(
                (0.06,) * 3,
                (lean + 0.07 * np.cos(a), 0.07 * np.sin(a), tall - 0.06),
                b.slot("wood"),
            )
    else:
        crown, trunk = b.u(0.3, 0.5), trunk + 0.12
        b.limb([(0, 0, 0.03), (b.u(-0.04, 0.04), 0, trunk + crown * 0.4)], [r * 1.3, r * 0.8], bark)
        z, tall = trunk + crown * 0.7, b.u(0.75, 1.3)
        b.ball((crown, crown, crown * tall), (0, 0, z), green)
        for _ in range(b.count(0, 9)):
            way = rng.normal(size=3)
            way *= np.array([0.7, 0.7, 0.6 * tall]) * crown / np.linalg.norm(way)
            size = crown * b.u(0.35, 0.6)
            b.ball((size, size, size * 0.9), (way[0], way[1], z + way[2]), green)
    return b.shape()


FAMILIES: dict[str, Family] = {
    **BLOSSOMS,
    "pot plant": Family(pot_plant, 2.6),
    "cactus": Family(cactus, 1.2),
    "succulent": Family(succulent, 0.8),
    "bonsai": Family(bonsai, 0.6),
    "tree": Family(tree, 0.9),
}
