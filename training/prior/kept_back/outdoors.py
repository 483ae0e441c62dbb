"""Recipes of kept-back objects: beings, vehicles, furniture, clothes. They know no light."""

from __future__ import annotations

import numpy as np

from training.prior.kept_back import paints
from training.prior.kept_back.assembly import Assembly, Builder, arc, block, laid, pillow, rod
from training.prior.kept_back.paints import Rng, any_tone, tone
from training.prior.primitives import (
    Blob,
    ellipsoid,
    extrude,
    lathe,
    melt,
    pitched,
    smooth_path,
    superquadric,
    tube,
)
from training.prior.solids import Points, Solid, axis_rotation

WHITE = (0.92, 0.91, 0.88)
BLACK = (0.08, 0.08, 0.09)


def dog(rng: Rng) -> Assembly:
    """Standing."""
    made = Builder()
    color = tone(rng.uniform(0.05, 0.1), rng.uniform(0.15, 0.6), rng.uniform(0.25, 0.85))
    coat = paints.fur(rng, color, WHITE if rng.random() < 0.5 else None)
    ears = paints.fur(rng, tone(0.06, 0.4, rng.uniform(0.15, 0.5)))
    nose, eye = paints.glazed(rng, BLACK), paints.glazed(rng, (0.12, 0.07, 0.04))
    leg, length = rng.uniform(0.26, 0.42), rng.uniform(0.36, 0.46)
    z = leg + 0.14
    blobs = [
        Blob((0, 0, z), (length, 0.15, 0.16)),
        Blob((0.6 * length, 0, z + 0.01), (0.2, 0.16, 0.2)),
        Blob((length + 0.05, 0, z + 0.17), (0.1, 0.09, 0.22), pitched(-0.6)),
        Blob((length + 0.14, 0, z + 0.33), (0.15, 0.12, 0.13)),
        Blob((length + 0.3, 0, z + 0.28), (0.13, 0.065, 0.065)),
        Blob((-length - 0.12, 0, z + 0.17), (0.2, 0.032, 0.035), pitched(-rng.uniform(0.4, 1.1))),
    ]
    for side in (-0.1, 0.1):
        for x in (-0.72 * length, 0.68 * length):
            sway = rng.normal(0, 0.03)
            blobs += [
                Blob((x + sway / 2, side, z - 0.14), (0.085, 0.065, 0.16)),
                Blob((x + sway, side, leg / 2), (0.048, 0.045, 0.55 * leg)),
                Blob((x + sway + 0.03, side, 0.035), (0.075, 0.05, 0.035)),
            ]
    made.add(melt(blobs, 0.06, cells=64), coat)
    flop = rng.uniform(0.0, 0.2)
    ear = ellipsoid((0.05, 0.025, 0.12), (length + 0.1, 0.11 + 0.1 * flop, z + 0.36 - flop), 0.3)
    made.pair(ear, ears)
    made.add(ellipsoid((0.03, 0.035, 0.028), (length + 0.43, 0, z + 0.3)), nose)
    made.pair(ellipsoid((0.018, 0.02, 0.022), (length + 0.26, 0.06, z + 0.36)), eye)
    return made.done(axis_rotation(2, rng.uniform(0.3, 1.4) * rng.choice([-1, 1])))


def person(rng: Rng) -> Assembly:
    """Standing, arms down or one raised."""
    made = Builder()
    skin = paints.plain(rng, tone(rng.uniform(0.05, 0.08), 0.45, rng.uniform(0.4, 0.9)), 0.05)
    hair = paints.fur(rng, tone(rng.uniform(0.03, 0.12), 0.5, rng.uniform(0.08, 0.6)))
    color = any_tone(rng, (0.3, 0.95))
    top = (
        paints.stripes(rng, color, WHITE, 7)
        if rng.random() < 0.35
        else paints.cloth(rng, color, 50)
    )
    trousers = paints.cloth(rng, any_tone(rng, (0.15, 0.6)), 50)
    shoes = paints.leather(rng, tone(0.05, 0.4, rng.uniform(0.1, 0.4)))
    w = rng.uniform(0.85, 1.2)
    torso = [
        Blob((0, 0, 0.98), (0.09 * w, 0.13 * w, 0.13)),
        Blob((0, 0, 1.2), (0.095 * w, 0.155 * w, 0.2)),
        Blob((0, 0, 1.36), (0.075, 0.19 * w, 0.075)),
    ]
    for side in (-1, 1):
        raised = side > 0 and rng.random() < 0.4
        shoulder = np.array([0, side * 0.19 * w, 1.37])
        out = rng.uniform(0.06, 0.2)
        elbow = shoulder + ([0.05, side * 0.22, 0.08] if raised else [0, side * out, -0.26])
        hand = elbow + ([0.05, side * 0.05, 0.26] if raised else [0.08, side * 0.03, -0.25])
        torso += _limb(shoulder, elbow, 0.05) + _limb(elbow, elbow + 0.6 * (hand - elbow), 0.042)
        made.add(rod(np.stack([elbow, hand]), 0.03), skin)
        made.add(ellipsoid((0.035, 0.03, 0.055), hand), skin)
    made.add(melt(torso, 0.05, cells=56), top)
    legs = [Blob((0, 0, 0.9), (0.1 * w, 0.145 * w, 0.1))]
    for side in (-1, 1):
        stride = rng.normal(0, 0.07)
        knee = np.array([0.02 + 0.5 * stride, side * 0.09 * w, 0.48])
        foot = np.array([stride, side * rng.uniform(0.09, 0.13) * w, 0.07])
        legs += _limb(np.array([0, side * 0.075 * w, 0.86]), knee, 0.077) + _limb(knee, foot, 0.056)
        made.add(ellipsoid((0.13, 0.05, 0.05), foot + np.array([0.05, 0, -0.025])), shoes)
    made.add(melt(legs, 0.04, cells=64), trousers)
    made.add(rod([(0, 0, 1.38), (0, 0, 1.52)], 0.05), skin)
    made.add(ellipsoid((0.1, 0.08, 0.125), (0.01, 0, 1.62)), skin)
    made.add(ellipsoid((0.02, 0.014, 0.02), (0.115, 0, 1.615)), skin)
    long = rng.uniform(0.0, 0.1)
    made.add(ellipsoid((0.1, 0.09, 0.1), (-0.02, 0, 1.685), -0.3), hair)
    made.add(ellipsoid((0.075, 0.088, 0.1 + long), (-0.045, 0, 1.64 - long)), hair)
    made.pair(ellipsoid((0.012, 0.014, 0.012), (0.098, 0.034, 1.65)), shoes)
    return made.done(axis_rotation(2, rng.uniform(-0.8, 0.8)))


def cactus(rng: Rng) -> Assembly:
    """In a pot."""
    made = Builder()
    clay = paints.plain(rng, tone(rng.uniform(0.02, 0.08), 0.6, rng.uniform(0.5, 0.8)), 0.03, 0.06)
    pot = clay if rng.random() < 0.6 else paints.glazed(rng, any_tone(rng))
    green = tone(rng.uniform(0.25, 0.42), rng.uniform(0.4, 0.7), rng.uniform(0.3, 0.6))
    pale = tone(0.3, 0.3, 0.8)
    skin = paints.stripes(rng, green, pale, 1, axis=1)
    r = rng.uniform(0.24, 0.3)
    wall = [(0, 0), (0.7 * r, 0), (0.95 * r, 0.3), (1.1 * r, 0.3), (1.1 * r, 0.4)]
    made.add(lathe([*wall, (0.98 * r, 0.4), (0.95 * r, 0.35)], 44), pot)
    made.add(lathe([(0.96 * r, 0.35), (0, 0.37)], 32), paints.soil(rng))
    ribs, height, thick = int(rng.integers(8, 13)), rng.uniform(0.35, 0.7), rng.uniform(0.13, 0.19)
    made.add(_ribbed(ribs, thick, height).shifted(0, 0, 0.33), skin)
    for side in (-1, 1):
        if rng.random() < 0.25:
            continue
        low, reach = rng.uniform(0.45, 0.6) * height + 0.33, thick + rng.uniform(0.12, 0.2)
        top = low + rng.uniform(0.2, 0.35)
        bend = [(0, 0, low), (0, 0.8 * side * reach, low), (0, side * reach, low + 0.1)]
        path = smooth_path([*bend, (0, side * reach, top)], 16)
        made.add(rod(path, 0.45 * thick, 20), skin)
    flower = paints.plain(rng, tone(rng.uniform(0.85, 1.1), 0.7, 0.95), 0.0)
    if rng.random() < 0.6:
        made.add(ellipsoid((0.06, 0.06, 0.045), (0, 0, 0.34 + height)), flower)
    return made.done(axis_rotation(2, rng.uniform(-0.7, 0.7)))


def boot(rng: Rng) -> Assembly:
    made = Builder()
    color = tone(rng.uniform(0.0, 0.12), rng.uniform(0.2, 0.7), rng.uniform(0.2, 0.7))
    hide, sole = paints.leather(rng, color), paints.plain(rng, BLACK, 0.1)
    rubber = paints.plain(rng, tone(0.1, 0.3, rng.uniform(0.1, 0.7)), 0.05)
    lace = paints.plain(rng, WHITE if rng.random() < 0.5 else (0.6, 0.45, 0.2), 0.0)
    high = rng.uniform(0.5, 0.85)
    blobs = [
        Blob((0.34, 0, 0.15), (0.22, 0.155, 0.12)),
        Blob((0.1, 0, 0.19), (0.28, 0.14, 0.15)),
        Blob((-0.12, 0, 0.18), (0.16, 0.135, 0.18)),
        Blob((0.05, 0, 0.3), (0.2, 0.12, 0.16), pitched(-0.5)),
    ]
    made.add(melt(blobs, 0.08, cells=52), hide)
    top = 0.2 + high
    levels = np.linspace(0.2, top, 8)
    open_ = 1 + 0.25 * np.linspace(0, 1, 8) ** 2
    outer = np.stack([0.155 * open_, levels], -1)
    inner = np.stack([0.125 * open_[::-1], levels[::-1]], -1)[:5]
    shaft = lathe(np.concatenate([outer, inner]), 40).scaled(1.1, 0.9, 1).shifted(-0.08)
    made.add(shaft, hide)
    print_ = smooth_path(
        [(0.57, 0), (0.47, 0.14), (0.2, 0.15), (-0.1, 0.12), (-0.28, 0.09), (-0.31, 0)], 22
    )
    outline = np.concatenate([print_, (print_ * [1, -1])[-2:0:-1]])
    made.add(laid(outline, 0.07).shifted(0, 0, 0.035), rubber)
    made.add(block((0.2, 0.2, 0.05), (-0.19, 0, 0.0)), sole)
    for k in range(int(rng.integers(3, 6))):
        at, up = 0.2 - 0.055 * k, 0.3 + 0.06 * k
        made.add(rod([(at, -0.07, up), (at + 0.03, 0, up + 0.045), (at, 0.07, up)], 0.014, 8), lace)
    return made.done(axis_rotation(2, rng.uniform(0.4, 1.4) * rng.choice([-1, 1])))


def handbag(rng: Rng) -> Assembly:
    made = Builder()
    color = any_tone(rng, (0.25, 0.85))
    hide = paints.leather(rng, color) if rng.random() < 0.6 else paints.cloth(rng, color, 30)
    strap = paints.leather(rng, tone(0.07, 0.5, rng.uniform(0.15, 0.6)))
    gold = paints.metal(rng, (0.8, 0.65, 0.3))
    w, d, h = rng.uniform(0.8, 1.0), rng.uniform(0.28, 0.4), rng.uniform(0.55, 0.7)
    narrow = rng.uniform(0.45, 0.9)

    def tapered(v: Points) -> Points:
        share = (v[:, 2:] / h).clip(0, 1)
        factors = np.concatenate(
            [1 + (narrow - 1) * share, 1 - 0.15 * share, np.ones_like(share)], 1
        )
        tapering: Points = v * factors
        return tapering

    made.add(pillow((d, w, h), (0, 0, h / 2), 0.07).deformed(tapered), hide)
    if rng.random() < 0.6:
        flap = pillow((0.04, 0.84 * w, 0.5 * h), (0.5 * d * narrow + 0.06, 0, 0.74 * h), 0.02)
        made.add(flap, strap)
    made.add(block((0.05, 0.12, 0.07), (0.5 * d * narrow + 0.09, 0, 0.52 * h)), gold)
    reach = rng.uniform(0.25, 0.45)
    for x in (-0.3, 0.3) if rng.random() < 0.5 else (0.0,):
        loop = arc((0, 0, 0.95 * h), (0.3 * w, reach), (0, 180), 22)[:, [1, 0, 2]]
        made.add(rod(loop + np.array([x * d * narrow, 0, 0]), 0.024), strap)
        for side in (-1, 1):
            made.add(
                ellipsoid((0.035, 0.04, 0.05), (x * d * narrow, side * 0.3 * w, 0.97 * h)), gold
            )
    return made.done(axis_rotation(2, rng.uniform(-0.7, 0.7)))


def pickup_truck(rng: Rng) -> Assembly:
    made = Builder()
    lacquer = paints.glazed(rng, any_tone(rng, (0.3, 0.9)))
    glass = paints.glazed(rng, (0.2, 0.26, 0.32))
    tyre, rim = paints.plain(rng, BLACK, 0.05), paints.metal(rng)
    lamp, red = paints.glazed(rng, (0.95, 0.93, 0.8)), paints.glazed(rng, (0.7, 0.08, 0.06))
    length, w = rng.uniform(1.9, 2.15), rng.uniform(0.8, 0.9)
    front, rear, z = 0.5 * length, -0.5 * length, 0.2
    made.add(pillow((length, w, 0.2), (0, 0, z + 0.1), 0.04), lacquer)
    hood = 0.28 * length
    made.add(pillow((hood, 0.96 * w, 0.17), (front - hood / 2, 0, z + 0.24), 0.06), lacquer)
    cab = rng.uniform(0.26, 0.34) * length
    middle = front - hood - 0.5 * cab
    low, high = z + 0.18, z + 0.66

    def sloped(v: Points) -> Points:
        share = ((v[:, 2:] - low) / (high - low)).clip(0, 1)
        squeeze = np.concatenate([1 - 0.28 * share, 1 - 0.14 * share, np.ones_like(share)], 1)
        origin = np.array([middle, 0, 0])
        leaning: Points = (v - origin) * squeeze + origin
        return leaning

    roof = pillow((cab + 0.1, 0.96 * w, high - low), (middle, 0, (low + high) / 2), 0.06)
    made.add(roof.deformed(sloped), lacquer)
    pane = (middle, 0.0, low + 0.3)
    made.add(block((cab - 0.02, 0.965 * w, 0.22), pane).deformed(sloped), glass)
    made.add(block((cab + 0.11, 0.8 * w, 0.21), pane).deformed(sloped), glass)
    bed = middle - 0.5 * cab - rear
    for side in (-1, 1):
        made.add(
            block((bed, 0.05, 0.22), (rear + bed / 2, side * (w / 2 - 0.03), z + 0.29)), lacquer
        )
    made.add(block((0.05, w - 0.02, 0.22), (rear + 0.03, 0, z + 0.29)), lacquer)
    r = rng.uniform(0.17, 0.2)
    for x in (front - 0.36, rear + 0.4):
        wheel = _disc(r, 0.16).shifted(x, w / 2 - 0.06, r)
        made.pair(wheel, tyre, tyre)
        made.pair(_disc(0.55 * r, 0.04).shifted(x, w / 2 + 0.02, r), rim)
    made.pair(block((0.03, 0.16, 0.08), (front, 0.32 * w, z + 0.2)), lamp)
    made.pair(block((0.03, 0.08, 0.1), (rear, 0.44 * w, z + 0.26)), red)
    made.add(block((0.05, 0.98 * w, 0.08), (front + 0.02, 0, z + 0.03)), rim)
    return made.done(axis_rotation(2, rng.uniform(0.4, 1.2) * rng.choice([-1, 1])))


def aeroplane(rng: Rng) -> Assembly:
    """A propeller machine on its wheels."""
    made = Builder()
    color, ink = any_tone(rng, (0.5, 0.95)), any_tone(rng, (0.3, 0.9))
    skin = paints.stripes(rng, color, ink, 1, axis=1)
    wing_paint = paints.plain(rng, color if rng.random() < 0.5 else ink, 0.3)
    glass, dark = paints.glazed(rng, (0.25, 0.33, 0.42)), paints.plain(rng, BLACK, 0.2)
    x = np.array([0.62, 0.55, 0.3, -0.1, -0.6, -0.85])
    radius = np.array([0.05, 0.11, 0.14, 0.14, 0.08, 0.03])
    path = smooth_path(np.stack([x, 0 * x, 0.42 + 0.02 * (x < -0.5)], -1), 20)
    made.add(tube(path, np.interp(path[::-1, 0], x[::-1], radius[::-1])[::-1], columns=24), skin)
    span, chord = rng.uniform(0.75, 0.95), rng.uniform(0.26, 0.34)
    lift = rng.choice([0.36, 0.55])
    sweep = rng.uniform(0.0, 0.15)
    plan = [(0.0, 0.2), (span, 0.2 - sweep), (span, 0.2 - sweep - 0.7 * chord), (0.0, 0.2 - chord)]
    wing = laid(np.array([(b, a) for a, b in plan]), 0.045, 0.015).shifted(0, 0, lift)
    made.pair(wing, wing_paint)
    tail = [(0, -0.62), (0.32, -0.7), (0.32, -0.84), (0, -0.84)]
    made.pair(laid(np.array([(b, a) for a, b in tail]), 0.03).shifted(0, 0, 0.45), wing_paint)
    fin = extrude([(-0.58, 0.45), (-0.76, 0.78), (-0.88, 0.78), (-0.86, 0.45)], 0.03)
    made.add(fin.turned(2, np.pi / 2).scaled(-1, 1, 1), wing_paint)
    made.add(ellipsoid((0.19, 0.1, 0.1), (0.16, 0, 0.53)), glass)
    made.add(ellipsoid((0.07, 0.05, 0.05), (0.66, 0, 0.42)), dark)
    for turn in (0.4, 0.4 + np.pi):
        blade = superquadric(0.8, 0.8).scaled(0.02, 0.07, 0.3).shifted(0, 0, 0.16)
        made.add(blade.turned(0, turn).shifted(0.67, 0, 0.42), dark)
    made.pair(rod([(0.25, 0.1, 0.34), (0.28, 0.24, 0.1)], 0.02, 10), dark)
    made.pair(_disc(0.09, 0.06).shifted(0.28, 0.25, 0.09), dark)
    made.add(rod([(-0.72, 0, 0.4), (-0.76, 0, 0.22)], 0.018, 10), dark)
    return made.done(axis_rotation(2, rng.uniform(0.3, 1.2) * rng.choice([-1, 1])))


def kitchen_chair(rng: Rng) -> Assembly:
    made = Builder()
    timber = paints.wood(rng) if rng.random() < 0.6 else paints.plain(rng, any_tone(rng), 0.15)
    cushion = paints.checks(rng, any_tone(rng), WHITE, 8) if rng.random() < 0.5 else timber
    w, d, h = rng.uniform(0.42, 0.48), rng.uniform(0.4, 0.46), rng.uniform(0.44, 0.5)
    made.add(pillow((d, w, 0.045), (0, 0, h), 0.018), timber)
    if cushion is not timber:
        made.add(pillow((0.85 * d, 0.85 * w, 0.05), (0, 0, h + 0.04), 0.024), cushion)
    t, back, lean = rng.uniform(0.018, 0.026), rng.uniform(0.42, 0.55), rng.uniform(0.03, 0.1)
    y, splay = w / 2 - 0.03, rng.uniform(0.0, 0.05)
    made.pair(
        rod([(d / 2 - 0.03, y, h), (d / 2 - 0.03 + splay, y + splay, 0)], [t, 0.75 * t]), timber
    )
    made.pair(
        rod(
            [(-d / 2 - splay, y + splay, 0), (-d / 2 + 0.03, y, h), (-d / 2 - lean, y, h + back)], t
        ),
        timber,
    )
    top = h + back - 0.05
    made.add(pillow((0.025, 2 * y, 0.1), (-d / 2 - 0.9 * lean, 0, top), 0.01), timber)
    if rng.random() < 0.5:
        for across in np.linspace(-0.7 * y, 0.7 * y, int(rng.integers(3, 6))):
            ends = [(-d / 2 + 0.03, across, h), (-d / 2 - 0.9 * lean, across, top)]
            made.add(rod(ends, 0.5 * t, 8), timber)
    else:
        for share in (0.35, 0.62):
            place = (-d / 2 + 0.03 - lean * share, 0, h + share * back)
            made.add(pillow((0.02, 2 * y, 0.07), place, 0.008), timber)
    made.pair(rod([(-d / 2, y, 0.45 * h), (d / 2, y, 0.45 * h)], 0.6 * t, 8), timber)
    return made.done(axis_rotation(2, rng.uniform(0.3, 0.9) * rng.choice([-1, 1])))


def armchair(rng: Rng) -> Assembly:
    made = Builder()
    color = any_tone(rng, (0.3, 0.8))
    kinds = (
        paints.cloth(rng, color, 60),
        paints.leather(rng, color),
        paints.stripes(rng, color, WHITE, 7, axis=1),
    )
    cover, foot = kinds[int(rng.integers(3))], paints.wood(rng)
    w, d, arm = rng.uniform(0.6, 0.75), rng.uniform(0.6, 0.7), rng.uniform(0.14, 0.2)
    made.add(pillow((d, w, 0.22), (0, 0, 0.26), 0.05), cover)
    made.add(pillow((d, 0.98 * w, 0.15), (0.02, 0, 0.44), 0.065), cover)
    high = rng.uniform(0.5, 0.68)
    rest = pillow((0.2, w + arm, high), (0, 0, high / 2), 0.08).turned(1, -rng.uniform(0.05, 0.2))
    made.add(rest.shifted(-d / 2, 0, 0.35), cover)
    made.pair(pillow((d + 0.04, arm, 0.5), (0, (w + arm) / 2, 0.4), 0.07), cover)
    for x in (-0.4, 0.4):
        leg = tube([(x * d, 0.5 * w, 0.17), (1.08 * x * d, 0.52 * w, 0)], [0.04, 0.025])
        made.pair(leg, foot)
    return made.done(axis_rotation(2, rng.uniform(0.2, 0.8) * rng.choice([-1, 1])))


def guitar(rng: Rng) -> Assembly:
    """Upright."""
    made = Builder()
    top = paints.wood(rng, tone(rng.uniform(0.06, 0.11), 0.6, rng.uniform(0.55, 0.85)))
    side = paints.wood(rng, tone(0.05, 0.7, rng.uniform(0.25, 0.45)))
    dark, steel = paints.plain(rng, BLACK, 0.2), paints.metal(rng)
    wide, waist = rng.uniform(0.32, 0.37), rng.uniform(0.19, 0.23)
    half = smooth_path(
        [(0, 0), (0.8 * wide, 0.06), (wide, 0.3), (waist, 0.58), (0.78 * wide, 0.85), (0, 0.98)], 40
    )
    outline = np.concatenate([half, (half * [-1, 1])[-2:0:-1]])
    made.add(extrude(outline, 0.17, 0.01), top, side, side)
    hole = lathe([(0.11, 0), (0.11, 0.008), (0, 0.008)], 36).turned(1, np.pi / 2)
    made.add(hole.shifted(0.083, 0, 0.66), dark)
    made.add(block((0.05, 0.095, 0.8), (0.085, 0, 1.2), 4), dark)
    made.add(pillow((0.05, 0.15, 0.24), (0.06, 0, 1.68), 0.015), side)
    made.add(block((0.03, 0.2, 0.04), (0.095, 0, 0.3)), dark)
    for y in np.linspace(-0.03, 0.03, 4):
        made.add(rod([(0.105, y, 0.3), (0.118, y, 1.6)], 0.004, 6), steel)
    for z in (1.62, 1.69, 1.76):
        made.pair(ellipsoid((0.018, 0.035, 0.018), (0.06, 0.1, z), rows=8, columns=10), steel)
    return made.done(axis_rotation(2, rng.uniform(-0.8, 0.8)))


def barrel(rng: Rng) -> Assembly:
    made = Builder()
    staves = paints.planks(rng, tone(0.08, 0.55, rng.uniform(0.4, 0.7)), 8)
    hoop, lid = paints.metal(rng, (0.35, 0.35, 0.37)), paints.planks(rng, tone(0.08, 0.5, 0.5), 7)
    r, h, belly = rng.uniform(0.28, 0.36), rng.uniform(0.85, 1.05), rng.uniform(0.05, 0.1)

    def radius(z: Points) -> Points:
        return r + belly * (1 - (2 * z / h - 1) ** 2)

    z = np.linspace(0, h, 16)
    made.add(lathe(np.stack([radius(z), z], -1), 48, repeat=3), staves)
    made.add(lathe([(0, 0.04), (r, 0.04)], 40), lid)
    made.add(lathe([(r, h - 0.04), (0, h - 0.04)], 40), lid, lid)
    for at in (0.06, 0.27, 0.73, 0.94):
        levels = np.linspace(at * h - 0.03, at * h + 0.03, 4)
        made.add(lathe(np.stack([radius(levels) + 0.008, levels], -1), 48), hoop)
    lying = rng.random() < 0.35
    return made.done(axis_rotation(1, np.pi / 2) if lying else axis_rotation(2, rng.random()))


def birdhouse(rng: Rng) -> Assembly:
    made = Builder()
    boards = paints.planks(rng, any_tone(rng, (0.4, 0.85)), int(rng.integers(4, 7)))
    roof = paints.planks(rng, any_tone(rng, (0.25, 0.7)), 6)
    dark, stick = paints.plain(rng, (0.05, 0.04, 0.03), 0.0), paints.wood(rng)
    w, h, gable = rng.uniform(0.5, 0.6), rng.uniform(0.5, 0.7), rng.uniform(0.25, 0.36)
    d = rng.uniform(0.5, 0.6)
    shape = [(-w / 2, 0.0), (w / 2, 0.0), (w / 2, h), (0.0, h + gable), (-w / 2, h)]
    made.add(extrude(shape, d), boards)
    slope = float(np.arctan2(gable, w / 2))
    length = 0.5 * w / np.cos(slope) + 0.14
    slab = block((d + 0.2, length, 0.05), (0, length / 2, 0.025)).turned(0, -slope)
    made.pair(slab.shifted(0, 0, h + gable), roof)
    hole = lathe([(0.1, 0), (0.1, 0.006), (0, 0.006)], 32).turned(1, np.pi / 2)
    made.add(hole.shifted(d / 2, 0, 0.62 * h), dark)
    made.add(rod([(d / 2 - 0.05, 0, 0.36 * h), (d / 2 + 0.16, 0, 0.36 * h)], 0.025, 12), stick)
    made.add(block((d + 0.1, w + 0.1, 0.05), (0, 0, -0.02)), roof)
    return made.done(axis_rotation(2, rng.uniform(0.2, 0.9) * rng.choice([-1, 1])))


def _limb(a: Points, b: Points, radius: float) -> list[Blob]:
    """Balls along a line, near enough to melt into a limb."""
    count = max(2, int(np.ceil(float(np.linalg.norm(b - a)) / (0.8 * radius))) + 1)
    return [Blob(a + share * (b - a), (radius,) * 3) for share in np.linspace(0, 1, count)]


def _ribbed(ribs: int, radius: float, height: float) -> Solid:
    """A column with a round top and ribs."""
    turn = np.linspace(0, np.pi / 2, 7)
    cap = np.stack([radius * np.cos(turn), height - radius + radius * np.sin(turn)], -1)
    body = lathe(np.concatenate([[(0.85 * radius, 0)], cap]), 8 * ribs, repeat=ribs)

    def grooved(v: Points) -> Points:
        depth = 1 - 0.13 * (0.5 + 0.5 * np.cos(ribs * np.arctan2(v[:, 1], v[:, 0])))
        pleated: Points = v * np.stack([depth, depth, np.ones_like(depth)], -1)
        return pleated

    return body.deformed(grooved)


def _disc(radius: float, width: float) -> Solid:
    """A wheel whose axle lies along y."""
    half = width / 2
    soft = 0.12 * radius
    profile = [
        *((0, -half), (radius - soft, -half), (radius, -half + soft)),
        *((radius, half - soft), (radius - soft, half), (0, half)),
    ]
    return lathe(profile, 32).turned(0, np.pi / 2)
