"""Families of candles, stacks, statues on their plinths and bottles with glasses.

It does not know how wax, paper or stone are painted.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.animals import lying_beast, quadruped, sitting_beast
from training.prior.families.builder import Builder
from training.prior.families.family import Family
from training.prior.families.people import bust, standing_figure
from training.prior.families.tableware import bottle, glass, plate
from training.prior.primitives import rounded_box, smooth_path, tube
from training.prior.solids import Shape, assemble


def candle(rng: np.random.Generator) -> Shape:
    """One candle in a holder, or three to five on a chandelier for the table."""
    b = Builder(rng)
    stand, wax, flame = (
        b.slot("metal", "glaze", "wood"),
        b.slot("plain", "pattern"),
        b.slot("plain"),
    )
    r, arms = b.u(0.05, 0.09), int(rng.choice([0, 0, 0, 2, 4]))
    foot, tall = b.u(0.16, 0.3), b.u(0.04, 0.7)

    def holder(x: float, y: float, z: float) -> None:
        b.turned(
            [(0, 0), (r * 1.2, 0), (r * 2.0, 0.03), (r * 1.3, 0.035), (r * 1.3, 0.1), (0, 0.1)],
            stand,
            (x, y, z),
        )
        high = b.u(0.15, 0.7)
        b.turned(
            [(0, 0.05), (r, 0.05), (r * 0.97, high), (r * 0.5, high - 0.01), (0, high)],
            wax,
            (x, y, z),
            columns=20,
        )
        b.limb([(x, y, z + high - 0.02), (x, y, z + high + 0.04)], 0.008, flame, columns=6)
        if b.chance(0.6):
            b.ball((0.025, 0.025, 0.06), (x, y, z + high + 0.09), flame)

    if tall > 0.2:
        knob = b.u(0.03, 0.08)
        rings = [
            (0, 0),
            (foot, 0),
            (foot, 0.03),
            (foot * 0.4, 0.07),
            (0.03, 0.12),
            (0.03, tall * 0.45),
        ]
        b.turned([*rings, (knob, tall * 0.5), (0.03, tall * 0.55), (0.03, tall), (0, tall)], stand)
    else:
        tall = 0.03
        b.turned(
            [
                (0, 0),
                (foot * 0.85, 0),
                (foot, 0.05),
                (foot * 0.95, 0.055),
                (foot * 0.8, 0.03),
                (0, 0.03),
            ],
            stand,
        )
        if b.chance(0.4):
            a = np.linspace(0, 2 * np.pi, 16)
            ring = np.stack([0.06 * np.cos(a), 0 * a, 0.06 * np.sin(a)], -1)
            b.add(
                tube(ring, 0.015, columns=8).turned(2, np.pi / 2).shifted(0, foot + 0.04, 0.05),
                stand,
            )
    holder(0, 0, tall - 0.01)
    for k in range(arms if tall > 0.2 else 0):
        way = 2 * np.pi * k / arms + np.pi / 2
        c, s, d = float(np.cos(way)), float(np.sin(way)), 0.32
        path = [
            (0, 0, tall * 0.5),
            (d * 0.6 * c, d * 0.6 * s, tall * 0.42),
            (d * c, d * s, tall * 0.55),
            (d * c, d * s, tall * 0.85),
        ]
        b.add(tube(smooth_path(np.array(path), 12), 0.02, columns=8), stand)
        holder(d * c, d * s, tall * 0.84)
    return b.shape()


def stack(rng: np.random.Generator) -> Shape:
    """Books, plates, boxes or coins on each other, the upper ones a little askew."""
    b = Builder(rng)
    kind, n, z = b.pick("books", "books", "boxes", "plates", "tins"), b.count(2, 6), 0.0
    size = 1.0
    china = b.slot("glaze", "plain", "pattern")
    for _ in range(n):
        turn, dx, dy = b.u(-0.25, 0.25), b.u(-0.05, 0.05), b.u(-0.05, 0.05)
        if kind == "plates":
            plate(b, size * 0.6, (dx * 0.3, dy * 0.3, z), china, rise=0.13)
            z += 0.055
        elif kind == "books":
            t, w, d = b.u(0.06, 0.2), size * b.u(0.8, 1.0), size * b.u(0.62, 0.75)
            part = Builder(rng)
            cover, page = part.slot("label"), part.slot("plain")
            for h in (0.009, t - 0.009):
                part.slab((d, w, 0.018), (0, 0, h), cover)
            part.slab((0.018, w, t), (d / 2, 0, t / 2), cover)
            part.slab((d * 0.97, w * 0.96, t - 0.03), (-0.005, 0, t / 2), page)
            slots = (b.slot("label", "cloth", "leather", "plain"), b.slot("plain"))
            flip = np.pi if b.chance(0.3) else 0.0
            b.add(part.shape().solid.turned(2, turn + flip).shifted(dx, dy, z), slots)
            z += t
        elif kind == "boxes":
            t, w, d = b.u(0.2, 0.5), size * b.u(0.75, 1.0), size * b.u(0.6, 1.0)
            one = rounded_box((d, w, t), 0.015).turned(2, turn).shifted(dx, dy, z + t / 2)
            b.add(one, b.slot("label", "plain", "wood", "pattern"))
            if b.chance(0.3):
                ribbon = b.slot("cloth")
                b.add(
                    rounded_box((d * 1.01, 0.1, t * 1.01), 0.01)
                    .turned(2, turn)
                    .shifted(dx, dy, z + t / 2),
                    ribbon,
                )
                b.add(
                    rounded_box((0.1, w * 1.01, t * 1.01), 0.01)
                    .turned(2, turn)
                    .shifted(dx, dy, z + t / 2),
                    ribbon,
                )
            z += t
            size *= b.u(0.75, 1.0)
        else:
            t, r = b.u(0.15, 0.5), size * b.u(0.35, 0.5)
            b.turned(
                [(0, z), (r, z), (r, z + t), (0, z + t)],
                [b.slot("label"), b.slot("metal")],
                (dx, dy, 0),
            )
            z += t
            size *= b.u(0.8, 1.0)
    if b.chance(0.25):
        r = b.u(0.12, 0.25)
        b.ball((r,) * 3, (0, 0, z + r * 0.98), b.slot("food", "plain", "pattern"))
    return b.shape()


def on_base(rng: np.random.Generator) -> Shape:
    """A figure, bust or animal on a plinth, as a statue, trophy or ornament."""
    makers = (standing_figure, standing_figure, bust, quadruped, sitting_beast, lying_beast)
    figure = makers[int(rng.integers(len(makers)))](rng)
    low, high = figure.solid.box
    b = Builder(rng)
    stone = b.slot("plain", "wood", "metal", "glaze")
    reach = (high - low)[:2] * rng.uniform(1.0, 1.25)
    tall = float((high - low).max()) * b.u(0.08, 0.4)
    middle, top = (low + high) / 2, float(low[2]) + 0.01 * tall
    if b.chance(0.5):
        r = float(np.hypot(*reach)) / 2 * 0.9
        rings = [
            (0, -tall),
            (r * 1.15, -tall),
            (r * 1.15, -tall * 0.8),
            (r, -tall * 0.7),
            (r, 0),
            (0, 0),
        ]
        b.turned(rings, stone, (float(middle[0]), float(middle[1]), top))
    else:
        for grow, z0, z1 in ((1.0, -tall, 0.0), (1.12, -tall, -tall * 0.75)):
            size = (float(reach[0]) * grow, float(reach[1]) * grow, (z1 - z0))
            b.slab(size, (float(middle[0]), float(middle[1]), top + (z0 + z1) / 2), stone)
    plinth = b.shape()
    if b.chance(0.4):  # all of one piece
        one = figure.solid.painted(0)
        return assemble([Shape(one, (b.pick("metal", "plain", "wood", "glaze"),)), plinth])
    return assemble([figure, plinth])


def bottle_and_glass(rng: np.random.Generator) -> Shape:
    """A bottle with a glass or two beside it, on a tray or touching each other."""
    b = Builder(rng)
    r, high = b.u(0.12, 0.19), b.u(0.75, 1.05)
    bottle(b, r, high, (0, b.u(-0.05, 0.05), 0))
    n, size = b.count(1, 2), b.u(0.1, 0.16)
    for k in range(n):
        side = (1.0 if k else -1.0) * (1 if b.chance(0.8) else -1)
        y = side * (r + size) * b.u(1.0, 1.2)
        glass(b, size, high * b.u(0.3, 0.6), (b.u(-0.05, 0.2), y, 0))
    if b.chance(0.7):
        tray = b.slot("wood", "metal", "plain", "glaze")
        wide = 2.4 * (r + 2 * size)
        b.cushion((wide * 0.7, wide, 0.06), (0.05, 0, -0.025), tray)
    return b.shape()


PILES: dict[str, Family] = {
    "candle": Family(candle, 1.0),
    "stack": Family(stack, 1.4),
    "on base": Family(on_base, 1.0),
    "bottle and glass": Family(bottle_and_glass, 1.2),
}
