"""Families of vehicles: cars, vans, trucks, buses, trains, bicycles, boats, aeroplanes, rockets.

It does not know how paint, glass or tyres are painted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.prior.families.builder import Builder
from training.prior.families.crafts import CRAFTS
from training.prior.families.family import Family
from training.prior.primitives import extrude, lathe, tube
from training.prior.solids import Shape, Solid


def _side(outline: Sequence[tuple[float, float]], wide: float, bevel: float = 0.0) -> Solid:
    """A body cut out along its side view, points of (x, z), `wide` along y."""
    plate = extrude(np.array(outline, float), wide, bevel)
    return plate.turned(2, -np.pi / 2)


def _wheels(b: Builder, places: Sequence[float], track: float, r: float, w: float) -> None:
    """A pair of wheels at every x of `places`, outer faces `track` apart, on the ground."""
    tyre, hub = b.slot("leather", "plain"), b.slot("metal", "plain")
    rings = [
        (0, -w / 2),
        (r * 0.85, -w / 2),
        (r, -w * 0.3),
        (r, w * 0.3),
        (r * 0.85, w / 2),
        (0, w / 2),
    ]
    axle = r * 0.2
    wheel = lathe(np.array(rings), columns=22).turned(0, np.pi / 2)
    cap = lathe(np.array([(0, -0.01), (r * 0.55, -0.01), (r * 0.5, 0.012), (0, 0.02)]), columns=16)
    cap = cap.turned(0, -np.pi / 2)
    for x in places:
        b.slab((axle, track - w, axle), (x, 0.0, r), hub)
        b.both(wheel.shifted(x, track / 2 - w / 2, r), tyre)
        b.both(cap.shifted(x, track / 2, r), hub)


def _lights(b: Builder, x: float, y: float, z: float, r: float) -> None:
    front, rear = b.slot("glaze", "plain"), b.slot("plain")
    b.ball((r * 0.5, r, r), (x, y, z), front, pair=True)
    b.ball((r * 0.4, r, r * 0.8), (-x, y, z), rear, pair=True)


def car(rng: np.random.Generator) -> Shape:
    """A saloon, hatchback, estate, sports car or jeep; a toy's proportions or a real one's."""
    b = Builder(rng)
    paint, glass = b.slot("plain", "plain", "metal", "glaze"), b.slot("screen", "plain", "glaze")
    long, wide, r = b.u(1.5, 2.2), b.u(0.75, 1.0), b.u(0.15, 0.24)
    low, belt = r * b.u(0.6, 1.0), r * b.u(2.0, 2.6)
    roof = belt + b.u(0.2, 0.42)
    bonnet, boot = b.u(0.22, 0.36), b.u(-0.5, -0.28)
    h, nose = long / 2, belt - b.u(0.04, 0.14)
    rake, back = b.u(0.05, 0.2) * long, b.u(0.02, 0.2) * long
    body = [(-h, low), (h * 0.97, low), (h, (low + nose) / 2), (h * 0.95, nose)]
    body += [
        (bonnet * long, belt),
        (boot * long, belt),
        (-h * 0.97, belt - 0.04),
        (-h, (low + belt) / 2),
    ]
    cabin = [(bonnet * long + 0.02, belt - 0.02), (bonnet * long - rake, roof)]
    cabin += [(boot * long + back, roof), (boot * long - 0.02, belt - 0.02)]
    soft = b.chance(0.5)
    b.add(_side(body, wide, b.u(0.04, 0.09) if soft else 0.015), paint)
    b.add(_side(cabin, wide * b.u(0.8, 0.92), 0.06 if soft else 0.02), glass)
    thick = 0.035
    top = [(cabin[1][0] + 0.03, roof - thick), (cabin[1][0], roof + 0.012)]
    top += [(cabin[2][0], roof + 0.012), (cabin[2][0] - 0.03, roof - thick)]
    b.add(_side(top, wide * 0.88, 0.01), paint)
    for at in ((cabin[0], cabin[1]), (cabin[3], cabin[2])):  # pillars
        path = [(at[0][0], wide * 0.42, at[0][1]), (at[1][0], wide * 0.41, roof - 0.01)]
        b.limb(path, 0.025, paint, pair=True, columns=8)
    middle = (cabin[1][0] + cabin[2][0]) / 2
    b.slab((0.05, wide * 0.89, roof - belt), (middle, 0, (roof + belt) / 2), paint)
    _wheels(
        b,
        (long * b.u(0.28, 0.33), -long * b.u(0.27, 0.33)),
        wide * b.u(1.0, 1.06),
        r,
        b.u(0.1, 0.16),
    )
    _lights(b, h * 0.985, wide * 0.34, (low + nose) / 2 + 0.04, b.u(0.04, 0.07))
    if b.chance(0.6):
        bumper = b.slot("metal", "plain")
        b.slab((0.05, wide * 0.96, 0.06), (h, 0, low + 0.04), bumper)
        b.slab((0.05, wide * 0.96, 0.06), (-h, 0, low + 0.04), bumper)
    b.slab(
        (0.015, wide * 0.3, 0.07), (h * 1.0, 0, (low + nose) / 2), b.slot("label", "plain", "metal")
    )
    return b.shape()


def beetle(rng: np.random.Generator) -> Shape:
    """A round little car: a hull, a dome with windows, mudguards."""
    b = Builder(rng)
    paint, glass = b.slot("plain", "glaze", "metal"), b.slot("screen", "plain")
    long, wide, r = b.u(0.75, 0.95), b.u(0.4, 0.5), b.u(0.17, 0.23)
    hull, dome = b.u(0.22, 0.3), b.u(0.3, 0.45)
    b.ball((long, wide, hull), (0, 0, r + hull * 0.6), paint)
    b.ball((long * 0.55, wide * 0.82, dome), (-0.06, 0, r + hull), glass)
    b.ball((long * 0.5, wide * 0.76, dome * 0.55), (-0.06, 0, r + hull + dome * 0.5), paint)
    b.ball((0.04, wide * 0.8, dome * 0.96), (-0.05, 0, r + hull), paint)
    places = (long * 0.55, -long * 0.55)
    for x in places:
        b.ball((r * 1.25, 0.1, r * 1.1), (x, wide * 0.85, r * 1.12), paint, pair=True)
    _wheels(b, places, wide * 2.1, r, 0.14)
    b.ball(
        (0.05, 0.08, 0.08),
        (long * 0.86, wide * 0.55, r + hull * 0.75),
        b.slot("glaze", "plain"),
        pair=True,
    )
    b.slab((0.04, wide * 1.5, 0.06), (long * 0.9, 0, r * 1.15), b.slot("metal"))
    return b.shape()


def _windows(b: Builder, span: tuple[float, float], z: float, size: tuple[float, float, float],
             slot: int) -> None:  # fmt: skip
    """A row of windows on both sides: x from `span`, (pitch, height, half width of the body)."""
    pitch, high, half = size
    count = max(1, int((span[1] - span[0]) / pitch))
    for k in range(count):
        x = span[0] + (k + 0.5) * (span[1] - span[0]) / count
        b.slab((pitch * 0.8, 0.02, high), (x, half, z), slot, pair=True)


def bus(rng: np.random.Generator) -> Shape:
    """A bus, van or caravan: one long box with rows of windows, one floor or two."""
    b = Builder(rng)
    paint, glass = b.slot("plain", "metal", "glaze"), b.slot("screen", "plain")
    van = b.chance(0.5)
    long, wide = (b.u(1.3, 1.8), b.u(0.6, 0.75)) if van else (b.u(1.8, 3.0), b.u(0.55, 0.75))
    high, r = b.u(0.55, 0.75) if van or b.chance(0.7) else b.u(0.95, 1.2), b.u(0.11, 0.16)
    low, h = r * 0.8, long / 2
    slant = b.u(0.15, 0.35) if van and b.chance(0.5) else 0.03
    body = [(-h, low), (h, low), (h, low + high * 0.45), (h - slant, low + high), (-h, low + high)]
    b.add(_side(body, wide, b.u(0.02, 0.08)), paint)
    if b.chance(0.5):
        b.slab(
            (long * 1.003, wide * 1.003, high * 0.22),
            (0, 0, low + high * 0.25),
            b.slot("plain", "label"),
        )
    floors = (0.68,) if high < 0.9 else (0.4, 0.8)
    tall = high * 0.3 / len(floors) ** 0.6
    for f in floors:
        rear = -h + 0.1 if not van or b.chance(0.5) else h * 0.2
        _windows(
            b,
            (rear, h - slant * 0.9 - 0.05),
            low + high * f,
            (b.u(0.2, 0.34), tall, wide / 2),
            glass,
        )
        b.slab((0.02, wide * 0.8, tall), (-h, 0, low + high * f), glass)
    tilt = np.arctan2(slant, high * 0.55)
    pane = Builder(rng)
    pane.slab((0.03, wide * 0.88, high * 0.32), (0, 0, 0), pane.slot("plain"))
    solid = pane.shape().solid.turned(1, -float(tilt))
    b.add(solid.shifted(h - slant * 0.45, 0, low + high * 0.7), glass)
    _wheels(b, (h * 0.62, -h * 0.6), wide * 1.02, r, 0.1)
    _lights(b, h, wide * 0.36, low + high * 0.2, 0.05)
    return b.shape()


def truck(rng: np.random.Generator) -> Shape:
    """A lorry with a box, a tipper or a tank behind its cab, a pick-up or a fire engine."""
    b = Builder(rng)
    paint, load = b.slot("plain", "metal"), b.slot("plain", "label", "metal", "wood")
    glass, frame = b.slot("screen", "plain"), b.slot("metal", "plain")
    long, wide, r = b.u(1.5, 2.4), b.u(0.55, 0.75), b.u(0.13, 0.2)
    h, bed, cab, tall = long / 2, r * 1.6, b.u(0.35, 0.55), b.u(0.5, 0.7)
    b.slab((long * 0.97, wide * 0.7, 0.09), (0, 0, bed - 0.02), frame)
    nose = b.u(0.25, 0.4) if b.chance(0.4) else 0.0
    rear = h - nose - cab
    body = [(rear, bed - 0.1), (h, bed - 0.1), (h, bed + tall * (0.45 if nose else 0.5))]
    body += [(h - nose, bed + tall * 0.52), (h - nose - 0.08, bed + tall), (rear, bed + tall)]
    b.add(_side(body, wide, b.u(0.02, 0.06)), paint)
    pane = (0.025, wide * 0.82, tall * 0.32)
    b.slab(pane, (h - nose - 0.045, 0, bed + tall * 0.74), glass)
    b.slab(
        (cab * 0.5, 0.02, tall * 0.3),
        (h - nose - cab * 0.48, wide / 2, bed + tall * 0.74),
        glass,
        pair=True,
    )
    room, kind = rear + h - 0.04, b.pick("box", "box", "tipper", "tank", "logs")
    x = -h + room / 2
    if kind == "box":
        high = b.u(0.55, 0.95)
        b.slab((room, wide * 1.02, high), (x, 0, bed + high / 2), load)
    elif kind == "tipper":
        high, t = b.u(0.25, 0.45), 0.04
        b.slab((room, wide, t), (x, 0, bed + t), load)
        b.slab((room, t, high), (x, wide / 2, bed + high / 2), load, pair=True)
        for end in (x - room / 2 + t / 2, x + room / 2 - t / 2):
            b.slab((t, wide, high), (end, 0, bed + high / 2), load)
        if b.chance(0.5):
            b.ball(
                (room * 0.42, wide * 0.42, high), (x, 0, bed + high * 0.4), b.slot("soil", "wood")
            )
    elif kind == "tank":
        tank = b.u(0.24, 0.32)
        b.limb(
            [(x - room / 2 + tank, 0, bed + tank), (x + room / 2 - tank, 0, bed + tank)],
            tank,
            load,
            columns=24,
        )
    else:
        trunk = b.u(0.08, 0.12)
        for k, row in ((-1, 0), (0, 0), (1, 0), (-0.5, 1), (0.5, 1)):
            place = (k * trunk * 2.05, bed + trunk + row * trunk * 1.75)
            ends = [(x - room / 2, place[0], place[1]), (x + room / 2, place[0], place[1])]
            b.add(tube(np.array(ends), trunk, columns=14), load)
    places = [h * 0.72, -h * 0.6] + ([-h * 0.6 + r * 2.1] if b.chance(0.4) else [])
    _wheels(b, places, wide * 1.05, r, b.u(0.1, 0.15))
    _lights(b, h, wide * 0.36, bed, 0.045)
    return b.shape()


def tractor(rng: np.random.Generator) -> Shape:
    """A tractor: two large wheels behind, two small ones in front, bonnet, cab, exhaust."""
    b = Builder(rng)
    paint, dark = b.slot("plain", "metal"), b.slot("metal", "plain")
    big, small, wide = b.u(0.36, 0.48), b.u(0.18, 0.26), b.u(0.3, 0.4)
    z = big * 0.95
    b.cushion((0.75, wide, 0.36), (0.32, 0, z + 0.12), paint)
    b.slab((1.1, wide * 0.6, 0.18), (0.05, 0, z - 0.1), dark)
    if b.chance(0.65):
        high = b.u(0.5, 0.65)
        b.cushion((0.45, wide * 1.25, high), (-0.28, 0, z + high / 2), b.slot("screen", "plain"))
        b.cushion((0.55, wide * 1.5, 0.07), (-0.28, 0, z + high), paint)
        for x in (-0.07, -0.49):
            b.slab((0.05, 0.05, high), (x, wide * 0.6, z + high / 2), paint, pair=True)
    else:
        b.cushion((0.25, 0.3, 0.08), (-0.32, 0, z + 0.2), dark)
        b.slab((0.15, 0.2, 0.24), (-0.34, 0, z + 0.08), paint)
        b.cushion((0.07, 0.3, 0.25), (-0.44, 0, z + 0.32), dark)
        b.limb([(-0.05, 0, z + 0.25), (-0.12, 0, z + 0.45)], 0.025, dark)
        b.add(
            lathe(np.array([(0, 0), (0.1, -0.015), (0.13, 0.0), (0.1, 0.015), (0, 0.01)]))
            .turned(1, -0.4)
            .shifted(-0.12, 0, z + 0.45),
            dark,
        )
    b.ball((big * 1.1, 0.13, big * 0.4), (-0.3, wide * 0.8, big * 1.9), paint, pair=True)
    b.limb([(0.45, wide * 0.2, z + 0.25), (0.45, wide * 0.2, z + 0.65)], 0.03, dark)
    _wheels(b, (-0.3,), wide * 2.4, big, b.u(0.18, 0.28))
    _wheels(b, (0.5,), wide * 1.9, small, 0.13)
    lamp = (0.025, 0.05, 0.05)
    b.ball(lamp, (0.69, wide * 0.3, z + 0.15), b.slot("glaze", "plain"), pair=True)
    b.slab((0.12, wide * 0.3, z), (0.5, 0, small * 0.8 + (z - small * 0.8) / 2), dark)
    return b.shape()


FAMILIES: dict[str, Family] = {
    **CRAFTS,
    "car": Family(car, 2.6),
    "beetle": Family(beetle, 0.7),
    "bus": Family(bus, 1.1),
    "truck": Family(truck, 1.2),
    "tractor": Family(tractor, 0.6),
}
