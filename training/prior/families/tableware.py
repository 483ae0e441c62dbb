"""Cups, saucers, plates, bowls, bottles and glasses as parts of what stands on a table.

It does not know what lies on or in them.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.builder import Builder, Triple
from training.prior.primitives import lathe, smooth_path, tube
from training.prior.solids import Solid


def cup_wall(b: Builder, r: float, high: float) -> tuple[list[float], list[float]]:
    """Outer radii and heights of a cup from its foot to its rim of radius `r`."""
    t, kind = np.linspace(0, 1, 10), b.pick("cone", "round", "round", "tulip", "straight")
    low = b.u(0.5, 0.8)
    if kind == "cone":
        q = low + (1 - low) * t
    elif kind == "round":
        q = low * 0.9 + (1 - low * 0.9) * np.sin(t * np.pi / 2) ** b.u(0.6, 1.1)
    elif kind == "tulip":
        q = low + (1 - low) * t + b.u(0.08, 0.2) * np.sin(np.pi * t) - 0.05 * np.sin(2 * np.pi * t)
    else:
        q = np.minimum(1.0, b.u(0.85, 0.95) + 0.9 * t)
    return (r * q).tolist(), (high * t).tolist()


def handle(
    b: Builder, wall: tuple[list[float], list[float]], turn: float, *, thick: float
) -> Solid:
    """An ear or a ring on the side of a cup, `turn` radians from the front."""
    q, z = wall
    high, r = z[-1], q[-1]
    top, low = b.u(0.78, 0.92), b.u(0.12, 0.35)
    reach = r * b.u(0.4, 0.75)
    upper = float(np.interp(top * high, z, q)) - thick * 0.3
    lower = float(np.interp(low * high, z, q)) - thick * 0.3
    sag = b.u(-0.06, 0.1)
    knots = [
        (upper, top),
        (upper + reach * 0.75, top + 0.03),
        (r + reach, (top * 1.15 + low * 0.85) / 2),
    ]
    knots += [(lower + reach * b.u(0.6, 1.0), low + 0.12 - sag), (lower, low)]
    path = smooth_path(np.array([(x, 0.0, h * high) for x, h in knots]), 15)
    solid = tube(path, thick, columns=12).scaled(1.0, b.u(0.8, 1.6), 1.0)
    return solid.turned(2, turn)


def cup(
    b: Builder, r: float, high: float, at: Triple, turn: float | None, china: int | None = None
) -> None:
    """A cup on its foot at `at`, filled or empty, its handle `turn` radians from the front."""
    if china is None:
        china = b.slot("glaze", "glaze", "plain", "pattern", "label")
    inside = b.slot("glaze", "plain") if b.chance(0.35) else china
    q, z = wall = cup_wall(b, r, high)
    foot, w = b.u(0.02, 0.07) * high, r * b.u(0.03, 0.08)
    z = [foot + h * (high - foot) / high for h in z]
    edge = b.u(0.9, 1.02) * q[0]
    b.turned(
        [(0, 0), (edge, 0), (edge * 0.96, foot), *zip(q, z, strict=True)], china, at, columns=40
    )
    inner = [(max(x - w, 0.01 * r), h) for x, h in zip(q[::-1], z[::-1], strict=True)]
    floor = foot + w
    rim = [(q[-1], z[-1]), (q[-1] - w * 0.5, z[-1] + w * 0.4), *[p for p in inner if p[1] > floor]]
    b.turned([*rim, (0.0, floor)], inside, at, columns=40)
    if b.chance(0.8):  # coffee, tea, milk, perhaps with froth
        fill = high * b.u(0.6, 0.93)
        reach = float(np.interp(fill, z, q)) - w * 0.9
        b.turned([(reach, fill), (0, fill)], b.slot("food", "food", "plain"), at, columns=32)
        if b.chance(0.25):
            froth = reach * b.u(0.4, 0.85)
            b.ball(
                (froth, froth * b.u(0.6, 1.0), 0.03 * high),
                (at[0], at[1], at[2] + fill),
                b.slot("plain", "food"),
            )
    if turn is not None:
        solid = handle(b, wall, turn, thick=r * b.u(0.07, 0.14))
        b.add(solid.shifted(*at), china if b.chance(0.9) else inside)


def plate(b: Builder, r: float, at: Triple, slot: int, *, rise: float | None = None) -> float:
    """A plate or saucer on its foot; returns the height of its well above `at`."""
    rise = r * b.u(0.08, 0.24) if rise is None else rise
    well, t = b.u(0.45, 0.68) * r, max(0.018 * r, 0.1 * rise)
    low = 0.25 * rise
    foot = well * b.u(0.75, 0.95)
    bend = b.u(0.7, 1.5)
    u = np.linspace(0, 1, 6)
    lip = [(well + (r - well) * float(x), low + (rise - low) * float(x**bend)) for x in u]
    upper = [(x - t * 0.4 * (k == 5), z + t) for k, (x, z) in enumerate(lip)]
    rings = [(0, 0.5 * low), (foot * 0.94, 0.5 * low), (foot * 0.95, 0), (foot, 0), *lip]
    b.turned([*rings, *upper[::-1], (0, low + t)], slot, at, columns=48)
    return low + t


def bowl(b: Builder, r: float, high: float, at: Triple, slot: int, inside: int) -> None:
    """A bowl with its rim of radius `r` at `high`."""
    t = np.linspace(0, 1, 10)
    low = b.u(0.25, 0.5)
    q = r * (low + (1 - low) * np.sin(t * np.pi / 2) ** b.u(0.6, 1.3))
    w = 0.04 * r
    wall = list(zip(q.tolist(), (0.05 * high + 0.95 * high * t).tolist(), strict=True))
    b.turned([(0, 0), (r * low * 0.9, 0), *wall], slot, at, columns=44)
    inner = [(x - w, z) for x, z in wall[::-1] if z > 0.12 * high]
    b.turned([wall[-1], *inner, (0.0, 0.12 * high)], inside, at, columns=44)


def spoon(b: Builder, long: float, slot: int) -> Solid:
    """A spoon along x, its bowl at the origin, its handle towards -x, lying at z = 0."""
    part = Builder(b.rng)
    s = part.slot("metal")
    part.ball((long * 0.15, long * 0.1, long * 0.025), (0, 0, long * 0.02), s)
    arch = long * b.u(0.02, 0.06)
    path = [(-long * 0.12, 0, long * 0.02), (-long * 0.4, 0, arch), (-long * 0.8, 0, long * 0.02)]
    stem = tube(smooth_path(np.array(path), 9), np.linspace(0.012, 0.03, 9) * long, columns=10)
    part.add(stem.scaled(1, 1, 0.6), s)
    return part.shape().solid.painted(slot)


def bottle(b: Builder, r: float, high: float, at: Triple) -> None:
    """A bottle with a label and a cap or cork."""
    glass, label, cap = b.slot("glaze", "plain"), b.slot("label"), b.slot("metal", "plain", "wood")
    neck, shoulder = r * b.u(0.28, 0.45), b.u(0.5, 0.68)
    u = np.linspace(0, 1, 7)
    curve = [
        (neck + (r - neck) * float(1 - x * x * (3 - 2 * x)), high * (shoulder + 0.17 * float(x)))
        for x in u
    ]
    b.turned(
        [(0, 0), (r * 0.93, 0), (r, 0.03 * high), *curve, (neck, high * 0.93), (0, high * 0.93)],
        glass,
        at,
    )
    low = b.u(0.12, 0.22)
    b.turned([(r * 1.005, high * low), (r * 1.005, high * (shoulder - b.u(0.04, 0.12)))], label, at)
    b.turned([(0, high * 0.91), (neck * 1.15, high * 0.91), (neck * 1.1, high), (0, high)], cap, at)


def glass(b: Builder, r: float, high: float, at: Triple) -> None:
    """A wine glass or a tumbler, filled or empty."""
    clear, drink = b.slot("glaze", "plain"), b.slot("food", "plain")
    if b.chance(0.5):
        foot, stem = r * b.u(0.75, 1.0), high * b.u(0.35, 0.5)
        u = np.linspace(0, 1, 9)
        cup_ = [
            (r * (0.15 + float(np.sin(x * 2.3)) * 0.85), stem + (high - stem) * float(x)) for x in u
        ]
        inner = [(x * 0.95, z) for x, z in cup_[::-1]]
        b.turned(
            [
                (0, 0),
                (foot, 0),
                (foot, 0.01 * high),
                (0.06 * r, 0.05 * high),
                (0.06 * r, stem),
                *cup_,
                *inner,
            ],
            clear,
            at,
        )
        k = b.count(4, 6)
        b.turned([(cup_[k][0] * 0.96, cup_[k][1]), (0, cup_[k][1])], drink, at)
        return
    low = b.u(0.7, 1.0) * r
    b.turned(
        [
            (0, 0),
            (low, 0),
            (r, high),
            (r * 0.94, high),
            (low * 0.93, 0.08 * high),
            (0, 0.08 * high),
        ],
        clear,
        at,
    )
    at_z = high * b.u(0.4, 0.85)
    reach = (low + (r - low) * at_z / high) * 0.95
    b.turned([(reach, at_z), (0, at_z)], drink, at)


def egg_profile(b: Builder) -> Solid:
    """A hen's egg of height 1 standing on its blunt end at z = 0."""
    t = np.linspace(0, np.pi, 15)
    blunt = b.u(0.08, 0.2)
    ring = 0.37 * np.sin(t) * (1 + blunt * np.cos(t))
    return lathe(np.stack([ring, 0.5 - 0.5 * np.cos(t)], -1), columns=20).painted(0)
