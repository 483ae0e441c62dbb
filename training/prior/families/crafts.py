"""Families of what runs on rails, floats, flies or has two wheels.

It does not know how paint, glass or sails are painted.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.builder import Builder, Triple
from training.prior.families.family import Family
from training.prior.primitives import box, extrude, lathe, loft, tube
from training.prior.solids import Points, Shape, Solid, grid_surface

SPOKE = box(segments=1)


def _standing_disc(r: float, half: float, columns: int = 22) -> Solid:
    rings = [(0, -half), (r, -half), (r, half), (0, half)]
    return lathe(np.array(rings), columns=columns).turned(0, np.pi / 2)


def train(rng: np.random.Generator) -> Shape:
    """A steam engine with boiler, chimney and cab, some with a wagon behind."""
    b = Builder(rng)
    paint, trim = b.slot("plain", "wood", "metal"), b.slot("plain", "metal", "wood")
    dark = b.slot("metal", "plain")
    r, wide, wheel = b.u(0.2, 0.28), b.u(0.44, 0.56), b.u(0.11, 0.18)
    bed = wheel * 1.5
    z = bed + r
    b.slab((1.35, wide * 0.9, 0.08), (0, 0, bed), dark)
    b.add(tube(np.array([(-0.35, 0, z), (0.6, 0, z)]), r, columns=24), paint)
    b.add(tube(np.array([(0.58, 0, z), (0.66, 0, z)]), r * 0.9, columns=24), dark)
    high = b.u(0.55, 0.75)
    b.slab((0.42, wide, high), (-0.45, 0, bed + high / 2), paint)
    b.cushion((0.52, wide * 1.15, 0.08), (-0.45, 0, bed + high + 0.02), trim)
    b.slab((0.24, 0.02, high * 0.33), (-0.45, wide / 2, bed + high * 0.7), dark, pair=True)
    b.slab((0.02, wide * 0.7, high * 0.2), (-0.24, 0, bed + high * 0.85), dark)
    chimney = b.u(0.16, 0.32)
    rings = [(0.06, 0), (0.06, chimney), (b.u(0.06, 0.12), chimney + 0.06), (0, chimney + 0.05)]
    b.turned(rings, trim, (0.42, 0, z + r * 0.9), columns=18)
    b.ball((0.08, 0.08, 0.1), (0.1, 0, z + r), trim)
    for x in (-0.5, -0.12, 0.26) if b.chance(0.5) else (-0.45, 0.3):
        b.both(_standing_disc(wheel, 0.04).shifted(x, wide * 0.47, wheel), trim)
    b.slab((0.8, 0.03, 0.04), (-0.1, wide * 0.53, wheel), dark, pair=True)
    b.add(
        extrude(np.array([(-0.2, 0.0), (0.2, 0.0), (0.12, bed), (-0.12, bed)]), 0.12).shifted(
            0.7, 0, 0.02
        ),
        dark,
    )
    b.ball((0.04, 0.06, 0.06), (0.68, 0, z + r * 0.5), b.slot("glaze", "plain"))
    if b.chance(0.4):
        x, load = -1.35, b.slot("plain", "wood")
        tall = b.u(0.2, 0.5)
        b.slab((0.9, wide, tall), (x, 0, bed + tall / 2 - 0.03), load)
        b.slab((0.4, 0.05, 0.05), (-0.8, 0, bed), dark)
        for dx in (-0.3, 0.3):
            b.both(
                _standing_disc(wheel * 0.8, 0.04).shifted(x + dx, wide * 0.47, wheel * 0.8), trim
            )
    return b.shape()


def _ring(r: float, thick: float, at: Triple) -> Solid:
    """A hoop in the x-z plane."""
    a = np.linspace(0, 2 * np.pi, 9)
    hoop = lathe(np.stack([r + thick * np.cos(a), thick * np.sin(a)], -1), columns=32)
    return hoop.turned(0, np.pi / 2).shifted(*at)


def bicycle(rng: np.random.Generator) -> Shape:
    """A bicycle: two thin wheels, a frame of tubes, saddle and handlebars."""
    b = Builder(rng)
    paint, tyre, steel = b.slot("plain", "metal"), b.slot("leather", "plain"), b.slot("metal")
    r, base, t = b.u(0.3, 0.36), b.u(0.48, 0.56), b.u(0.014, 0.028)
    for x in (base, -base):
        b.add(_ring(r, b.u(0.015, 0.035), (x, 0, r)), tyre)
        b.limb([(x, -0.04, r), (x, 0.04, r)], 0.025, steel, columns=8)
        spokes = b.count(4, 7)
        for k in range(spokes):
            bar = SPOKE.scaled(0.008, 0.008, 2 * r).turned(1, np.pi * k / spokes)
            b.add(bar.shifted(x, 0.0, r), steel)
    crank, seat = (-0.04, 0.0, r * 0.9), (-0.22, 0.0, r + 0.45)
    head, hub = (base - 0.2, 0.0, r + 0.42), (-base, 0.0, r)
    for a, c in ((crank, seat), (crank, head), (seat, head), (crank, hub), (seat, hub)):
        b.limb([a, c], t, paint, columns=8)
    fork = (head[0] - 0.03, 0.0, head[2] + 0.12)
    b.limb([(base, 0.03, r), (head[0], 0.02, head[2])], t * 0.8, paint, pair=True, columns=8)
    b.limb([head, fork], t, paint, columns=8)
    reach = b.u(-0.12, 0.12)
    b.limb(
        [fork, (fork[0], 0.16, fork[2] + 0.03), (fork[0] + reach, 0.24, fork[2] + 0.02)],
        t * 0.8,
        steel,
        pair=True,
        columns=8,
    )
    top = (seat[0] - 0.03, 0.0, seat[2] + b.u(0.06, 0.16))
    b.limb([seat, top], t * 0.9, steel, columns=8)
    b.ball((0.13, 0.06, 0.03), (top[0], 0, top[2] + 0.02), tyre)
    b.add(_standing_disc(0.09, 0.006).shifted(crank[0], 0.03, crank[2]), steel)
    turn = b.u(0, np.pi)
    dx, dz = 0.15 * float(np.cos(turn)), 0.15 * float(np.sin(turn))
    for side in (1.0, -1.0):
        end = (crank[0] + side * dx, side * 0.07, crank[2] + side * dz)
        b.limb([(crank[0], side * 0.03, crank[2]), end], 0.012, steel, columns=6)
        b.slab((0.08, 0.07, 0.02), (end[0], end[1] + side * 0.04, end[2]), tyre)
    return b.shape()


def motorbike(rng: np.random.Generator) -> Shape:
    """A motorbike or a scooter: fat wheels, tank, engine, saddle, lamp, handlebars."""
    b = Builder(rng)
    paint, tyre, steel = b.slot("plain", "metal"), b.slot("leather", "plain"), b.slot("metal")
    r, base, fat = b.u(0.2, 0.3), b.u(0.5, 0.62), b.u(0.06, 0.09)
    for x in (base, -base):
        b.add(_ring(r - fat * 0.8, fat, (x, 0, r)), tyre)
        b.add(_standing_disc(r * 0.5, 0.025).shifted(x, 0, r), steel)
        b.ball((r * 0.85, fat * 1.3, r * 0.3), (x, 0, r * 2.0), paint, pitch=-0.2 if x > 0 else 0.3)
    z = r + 0.42
    b.ball((0.26, 0.13, 0.14), (0.12, 0, z), paint)
    b.ball((0.32, 0.12, 0.07), (-0.3, 0, z - 0.02), tyre)
    b.cushion((0.36, 0.2, 0.42), (0.02, 0, r + 0.14), steel)
    b.limb([(-base, 0.06, r), (0, 0.06, r + 0.02)], 0.03, steel, pair=True)
    b.limb(
        [(0.1, 0.12, r), (-0.2, 0.13, r - 0.05), (-base - 0.15, 0.14, r + 0.05)],
        0.035,
        steel,
        pair=True,
    )
    top = (base - 0.22, 0.0, z + 0.2)
    b.limb([(base, 0.08, r), (top[0], 0.03, top[2])], 0.025, steel, pair=True, columns=8)
    b.limb(
        [top, (top[0] - 0.02, 0.22, top[2] + 0.05), (top[0] - 0.12, 0.33, top[2] + 0.03)],
        0.022,
        steel,
        pair=True,
    )
    b.ball((0.08, 0.09, 0.09), (top[0] + 0.07, 0, top[2] - 0.06), b.slot("metal", "glaze"))
    if b.chance(0.4):
        b.slab((0.04, 0.28, 0.4), (base - 0.25, 0, r + 0.3), paint)
        b.slab((0.6, 0.26, 0.05), (0.0, 0, r * 0.8), paint)
    return b.shape()


def _hull(long: float, wide: float, deep: float, transom: float) -> Points:
    """Cross sections of a boat from the stern to the bow, float64 [n, m, 3], deck at z = 0."""
    t = np.linspace(0, 1, 12)
    half = wide / 2 * np.clip(np.where(t < 0.5, transom + (1 - transom) * np.sin(np.pi * t),
                                       np.cos(np.pi * (t - 0.5)) ** 0.8), 0.01, 1)  # fmt: skip
    sheer = deep * 0.35 * (2 * t - 0.9) ** 2
    keel = -deep * np.clip(1 - np.maximum(t - 0.75, 0) * 2.5, 0.15, 1)
    a = np.linspace(0, np.pi, 13)
    y = np.cos(a) * half[:, None]
    z = np.sin(a)[None] ** 0.7 * keel[:, None] + sheer[:, None] * (1 - np.sin(a))[None]
    x = np.broadcast_to(((t - 0.5) * long)[:, None], y.shape)
    return np.stack([x, y, z], -1)


def boat(rng: np.random.Generator) -> Shape:
    """A sailing boat, a fishing boat, a steamer or a rowing boat."""
    b = Builder(rng)
    hull, deck = b.slot("plain", "wood", "metal"), b.slot("wood", "plain")
    long, wide, deep = b.u(1.3, 1.9), b.u(0.4, 0.65), b.u(0.22, 0.4)
    b.add(loft(_hull(long, wide, deep, b.u(0.5, 0.9))), [hull, hull])
    kind = b.pick("sail", "sail", "cabin", "steamer", "rows")
    if kind == "rows":
        rim = _hull(long, wide, deep, 0.7)[:, (0, -1)]
        for side in (0, 1):
            b.add(tube(rim[:, side] + np.array([0, 0, 0.02]), 0.03, columns=8), deck)
        for x in (-0.25, 0.1, 0.35):
            b.slab((0.1, wide * 0.85, 0.04), (x * long, 0, 0.03), deck)
        b.limb(
            [(0.1, wide * 0.3, 0.08), (-0.3, wide * b.u(0.9, 1.3), -0.1)],
            0.025,
            b.slot("wood"),
            pair=True,
        )
    elif kind == "sail":
        mast, foot = b.u(1.1, 1.7), b.u(0.4, 0.6)
        b.limb([(0.1, 0, -0.05), (0.1, 0, mast)], 0.022, deck, columns=8)
        cloth, belly = b.slot("cloth", "pattern", "plain"), b.u(-0.2, 0.2)
        u, v = np.meshgrid(np.linspace(0, 1, 7), np.linspace(0, 1, 9))
        for sign, reach, top in ((-1, foot, 0.95), (1, foot * 0.75, 0.85)):
            out = 0.1 + sign * (0.01 + reach * u * (1 - v))
            bulge = belly * np.sin(np.pi * u) * (1 - v)
            points = np.stack([out, bulge, 0.15 + v * (mast * top - 0.15)], -1)
            for shift in (0.0, 0.012):
                b.add(
                    grid_surface(points + np.array([0, shift, 0]), np.stack([u, 1 - v], -1)), cloth
                )
        b.limb([(0.1, 0, 0.14), (0.1 - foot, belly * 0.2, 0.14)], 0.018, deck, columns=8)
    else:
        house, glass = b.slot("plain", "wood"), b.slot("screen", "plain")
        high, x = b.u(0.2, 0.4), b.u(-0.2, 0.15)
        b.cushion((long * 0.35, wide * 0.6, high), (x, 0, high / 2 - 0.02), house)
        for k in (-0.1, 0.0, 0.1):
            b.slab(
                (0.07 * long, 0.02, high * 0.35),
                (x + k * long, wide * 0.3, high * 0.6),
                glass,
                pair=True,
            )
        b.slab((0.02, wide * 0.45, high * 0.35), (x + long * 0.172, 0, high * 0.6), glass)
        if kind == "steamer":
            b.cushion((long * 0.2, wide * 0.45, 0.2), (x, 0, high + 0.06), house)
            for dx in (-0.08, 0.08)[: b.count(1, 2)]:
                b.turned(
                    [(0, 0), (0.07, 0), (0.06, 0.35), (0, 0.35)],
                    b.slot("plain", "metal"),
                    (x + dx, 0, high),
                )
        else:
            b.limb([(x - 0.1, 0, high), (x - 0.1, 0, high + b.u(0.3, 0.7))], 0.02, deck)
    return b.shape()


def _flat(outline: Points, thick: float) -> Solid:
    """`extrude` with (x, y) outlines and its thickness along z."""
    solid = extrude(outline, thick, thick * 0.3)
    return solid.deformed(lambda v: v[:, [1, 2, 0]])


def aeroplane(rng: np.random.Generator) -> Shape:
    """An airliner, a propeller plane or a double-decker."""
    b = Builder(rng)
    paint, wing = b.slot("plain", "metal", "glaze"), b.slot("plain", "metal")
    wing = paint if b.chance(0.5) else wing
    glass, dark = b.slot("screen", "plain"), b.slot("metal", "plain")
    jet = b.chance(0.5)
    r = b.u(0.09, 0.13) if jet else b.u(0.13, 0.19)
    t = np.linspace(0, 1, 18)
    radius = r * np.clip(
        np.minimum(
            (t / 0.45) ** 0.7, np.sqrt(np.clip(1 - ((t - 0.6) / 0.4) ** 2, 0, 1)) + (t < 0.6)
        ),
        0.12,
        1,
    )
    rings = [(0.0, -1.0), *zip(radius.tolist(), (2 * t - 1).tolist(), strict=True), (0.0, 1.0)]
    b.add(lathe(np.array(rings), columns=24).turned(1, np.pi / 2), paint)
    span, chord, sweep = b.u(0.75, 1.15), b.u(0.28, 0.42), b.u(0.35, 0.6) if jet else b.u(0.0, 0.1)
    x = 0.15
    low = -r * 0.4 if jet or b.chance(0.5) else r * 0.8
    main = [
        (x + chord / 2, 0.0),
        (x + chord / 2 - sweep, span),
        (x + chord * 0.05 - sweep, span),
        (x - chord / 2, 0.0),
    ]
    rise = b.u(0.0, 0.1)
    slab = _flat(np.array(main), b.u(0.025, 0.05)).turned(0, rise).shifted(0, 0, low)
    b.both(slab, wing)
    if not jet and b.chance(0.4):
        b.both(slab.shifted(0.05, 0, 0.42), wing)
        b.limb(
            [(x, span * 0.6, low), (x, span * 0.6, low + 0.46)], 0.015, dark, pair=True, columns=6
        )
        b.limb([(x, 0.08, low), (x, 0.1, low + 0.42)], 0.015, dark, pair=True, columns=6)
    tail = [(-0.72, 0.0), (-0.72 - sweep * 0.3, 0.36), (-0.88 - sweep * 0.3, 0.36), (-0.96, 0.0)]
    b.both(_flat(np.array(tail), 0.025), wing)
    fin = extrude(
        np.array([(-0.65, 0.02), (-0.85, b.u(0.32, 0.45)), (-1.0, 0.35), (-0.97, 0.0)]), 0.025
    )
    b.add(fin.turned(2, -np.pi / 2), wing)
    if jet:
        for k in range(1 + (span > 1)):
            y = span * (0.35 + 0.27 * k)
            at = x + chord * 0.35 - sweep * y / span
            place = low - 0.065 + np.sin(rise) * y
            b.both(
                tube(np.array([(at - 0.14, y, place), (at + 0.14, y, place)]), 0.065, columns=16),
                dark,
            )
        b.ball((0.08, r * 0.7, r * 0.3), (0.9, 0, r * 0.38), glass)
        for px in np.linspace(-0.5, 0.7, 9):
            b.slab((0.05, 0.012, 0.05), (float(px), r * 0.985, r * 0.2), glass, pair=True)
    else:
        b.ball((0.2, r * 0.7, r * 0.75), (0.15, 0, r * 0.85), glass)
        b.ball((0.09, 0.06, 0.06), (1.02, 0, 0), dark)
        a = b.u(0, np.pi)
        c, s = float(np.cos(a)), float(np.sin(a))
        for side in (1, -1):
            b.ball(
                (0.012, 0.04 + 0.12 * abs(c), 0.04 + 0.12 * abs(s)),
                (1.03, side * c * 0.16, side * s * 0.16),
                dark,
            )
        b.limb([(0.4, 0.05, -r * 0.6), (0.45, 0.2, -r - 0.12)], 0.018, dark, pair=True)
        b.both(_standing_disc(0.08, 0.03).shifted(0.45, 0.22, -r - 0.12), dark)
    return b.shape()


def rocket(rng: np.random.Generator) -> Shape:
    """A rocket standing on its fins."""
    b = Builder(rng)
    hull, trim = b.slot("plain", "metal", "pattern"), b.slot("plain", "metal")
    r, cone, fins = b.u(0.1, 0.22), b.u(0.2, 0.45), b.count(3, 4)
    t = np.linspace(0, 1, 16)
    belly = b.u(0.0, 0.5)
    shape = r * (1 - belly * (2 * t - 0.9) ** 2)
    upper = [
        (r * (1 - belly) * float(q), 1 + cone * float(1 - q**1.8)) for q in np.linspace(1, 0, 7)
    ]
    b.turned([(0, 0), *zip(shape.tolist(), t.tolist(), strict=True), (0, 1.0)], hull)
    b.turned([(0, 0.99), *upper], trim)
    b.turned([(0, 0.02), (r * 0.6, 0.02), (r * 0.8, -0.1), (0, -0.1)], b.slot("metal"))
    reach, drop = b.u(0.15, 0.3), b.u(0.1, 0.25)
    fin = extrude(
        np.array([(r * 0.6, 0.35), (r + reach, 0.0), (r + reach, -drop), (r * 0.6, 0.02)]), 0.03
    )
    for k in range(fins):
        b.add(fin.turned(2, 2 * np.pi * k / fins + np.pi / 2), trim)
    for z in (0.7, 0.45)[: b.count(0, 2)]:
        at = float(np.interp(z, t, shape))
        b.ball((0.02, at * 0.45, at * 0.45), (at * 0.98, 0, z), trim)
        b.ball((0.025, at * 0.32, at * 0.32), (at * 0.99, 0, z), b.slot("screen", "plain"))
    return b.shape()


CRAFTS: dict[str, Family] = {
    "train": Family(train, 0.8),
    "bicycle": Family(bicycle, 0.8),
    "motorbike": Family(motorbike, 0.8),
    "boat": Family(boat, 1.0),
    "aeroplane": Family(aeroplane, 0.9),
    "rocket": Family(rocket, 0.4),
}
