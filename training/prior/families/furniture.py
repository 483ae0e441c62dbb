"""Families of furniture and household things: seats, tables, cupboards, lamps, beds, clocks.

It does not know how wood, cloth or screens are painted.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.builder import Builder
from training.prior.families.family import Family
from training.prior.families.storage import STORAGE
from training.prior.primitives import lathe, rounded_box, tube
from training.prior.solids import Shape


def _legs(
    b: Builder, deep: float, wide: float, high: float, thick: float, slot: int, *, splay: float
) -> None:
    """Four legs below a plate `deep` x `wide` at height `high`."""
    round_ = b.chance(0.5)
    for x in (deep / 2 - thick, -deep / 2 + thick):
        y = wide / 2 - thick
        if round_ or splay > 0:
            foot = (x * (1 + splay), y * (1 + splay), thick * 0.3)
            radii = [thick * 0.55, thick * b.u(0.3, 0.5)]
            solid = tube(np.array([(x, y, high), foot]), np.array(radii), columns=10)
            b.both(solid, slot)
        else:
            b.slab((thick, thick, high), (x, y, high / 2), slot, pair=True)


def _back(b: Builder, deep: float, wide: float, seat: float, slot: int, soft: int) -> None:
    """The back of a chair: a plate, slats, bars or a cushion."""
    high, thick, lean = b.u(0.35, 0.65), b.u(0.02, 0.05), b.u(0.0, 0.25)
    part = Builder(b.rng)
    frame, pad = part.slot("wood"), part.slot("cloth")
    kind = b.pick("plate", "slats", "bars", "cushion")
    if kind == "plate":
        part.cushion((thick * 1.6, wide, high), (0, 0, high / 2), pad)
    elif kind == "cushion":
        part.cushion((0.1, wide, high), (0, 0, high / 2), pad)
    else:
        part.slab(
            (thick, thick * 1.5, high), (0, wide / 2 - thick * 0.75, high / 2), frame, pair=True
        )
        part.slab((thick * 1.2, wide, high * 0.2), (0, 0, high * 0.9), frame)
        if kind == "slats":
            for z in np.linspace(0.25, 0.65, b.count(1, 3)):
                part.slab((thick, wide, high * 0.1), (0, 0, high * float(z)), frame)
        else:
            for y in np.linspace(-0.35, 0.35, b.count(3, 6)):
                part.slab(
                    (thick * 0.6, thick, high * 0.9), (0, wide * float(y), high * 0.45), frame
                )
    solid = part.shape().solid.turned(1, -lean).shifted(-deep / 2 + thick, 0.0, seat - 0.01)
    b.add(solid, [slot, soft])


def chair(rng: np.random.Generator) -> Shape:
    """A chair with four legs or a swivelling foot, some with arms."""
    b = Builder(rng)
    frame, pad = b.slot("wood", "metal", "plain"), b.slot("cloth", "leather", "wood", "plain")
    deep, wide, seat = b.u(0.38, 0.52), b.u(0.38, 0.55), b.u(0.38, 0.5)
    thick = b.u(0.03, 0.055)
    plate = thick * b.u(0.8, 2.2)
    b.cushion((deep, wide, plate), (0, 0, seat), pad)
    if b.chance(0.15):
        b.turned([(0, 0.02), (0.03, 0.02), (0.03, seat), (0, seat)], frame)
        for angle in np.arange(5) * 2 * np.pi / 5 + b.u(0, 1):
            toe = (0.28 * float(np.cos(angle)), 0.28 * float(np.sin(angle)), 0.04)
            b.limb([(0, 0, 0.1), toe], [0.03, 0.02], frame, columns=8)
            b.ball((0.035,) * 3, toe, frame)
    else:
        _legs(b, deep, wide, seat, thick, frame, splay=b.u(0.0, 0.2) if b.chance(0.4) else 0.0)
    _back(b, deep, wide * b.u(0.9, 1.0), seat, frame if b.chance(0.6) else pad, pad)
    if b.chance(0.25):
        y, z = wide / 2, seat + b.u(0.17, 0.25)
        b.slab((deep * 0.95, thick, thick * 0.8), (0, y, z), frame, pair=True)
        b.slab((thick, thick, z - seat), (deep * 0.4, y, (z + seat) / 2), frame, pair=True)
    return b.shape()


def stool(rng: np.random.Generator) -> Shape:
    """A round or square seat on three or four legs, or a pouffe."""
    b = Builder(rng)
    frame, pad = b.slot("wood", "metal", "plain"), b.slot("wood", "cloth", "leather", "plain")
    r, high, thick = b.u(0.15, 0.24), b.u(0.22, 0.75), b.u(0.03, 0.09)
    if b.chance(0.15):
        bulge = b.u(1.0, 1.2)
        rings = [(0, 0), (r * 1.3, 0), (r * 1.3 * bulge, 0.15), (r * 1.3, 0.3), (0, 0.33)]
        b.turned(rings, pad)
        return b.shape()
    b.turned(
        [(0, high - thick), (r, high - thick), (r, high), (0, high + thick * b.u(0, 0.5))], pad
    )
    legs, splay, leg = b.count(3, 4), b.u(1.0, 1.5), b.u(0.012, 0.025)
    turn = b.u(0, 2)
    for k in range(legs):
        c, s = np.cos(turn + 2 * np.pi * k / legs) * r, np.sin(turn + 2 * np.pi * k / legs) * r
        top, foot = (c * 0.75, s * 0.75, high - thick / 2), (c * splay, s * splay, leg)
        b.limb([top, foot], [leg * 1.2, leg], frame, columns=10)
    if b.chance(0.5):
        ring = np.linspace(0, 2 * np.pi, 25)
        at = high * b.u(0.25, 0.4)
        reach = r * (0.75 + (splay - 0.75) * (1 - at / high))
        path = np.stack([np.cos(ring) * reach, np.sin(ring) * reach, 0 * ring + at], -1)
        b.add(tube(path, leg * 0.7, columns=8), frame)
    return b.shape()


def sofa(rng: np.random.Generator) -> Shape:
    """An armchair or a sofa of one to three seats, with cushions."""
    b = Builder(rng)
    cover = b.slot("cloth", "cloth", "leather", "pattern")
    pillow = b.slot("cloth", "pattern") if b.chance(0.4) else cover
    seats = b.count(1, 3)
    one, deep = b.u(0.55, 0.75), b.u(0.75, 0.95)
    wide, low, seat = one * seats, b.u(0.04, 0.16), b.u(0.38, 0.46)
    back, arm, high = b.u(0.14, 0.25), b.u(0.1, 0.24), b.u(0.75, 0.98)
    b.cushion((deep, wide + arm, seat - low - 0.08), (0, 0, (seat + low) / 2 - 0.04), cover)
    b.cushion(
        (back, wide + 2 * arm, high - low), (-deep / 2 + back / 2, 0, (high + low) / 2), cover
    )
    top = seat + b.u(0.08, 0.26)
    place = (0.0, wide / 2 + arm / 2, (top + low) / 2)
    b.cushion((deep, arm * 1.05, top - low), place, cover, pair=True)
    if b.chance(0.35):
        y = wide / 2 + arm / 2
        b.limb(
            [(-deep / 2 + arm, y, top), (deep / 2 - arm * 0.3, y, top)],
            arm * 0.65,
            cover,
            pair=True,
        )
    for k in range(seats):
        y = (k - (seats - 1) / 2) * one
        thick = b.u(0.1, 0.18)
        room = deep - back
        b.cushion(
            (room, one * 0.98, thick),
            (deep / 2 - room / 2 + 0.02, y, seat - 0.05 + thick / 2),
            pillow,
        )
        tall = high - seat - b.u(0.0, 0.1)
        b.cushion(
            (0.2, one * 0.96, tall), (-deep / 2 + back + 0.05, y, seat + tall / 2 + 0.05), pillow
        )
    if b.chance(0.3):
        loose = rounded_box((0.14, 0.38, 0.38), 0.07).turned(1, -0.4).turned(0, b.u(-0.4, 0.4))
        b.add(loose.shifted(0.0, b.u(-0.3, 0.3) * wide, seat + 0.25), b.slot("pattern", "cloth"))
    foot, y = b.slot("wood", "metal"), wide / 2
    for x in (deep * 0.42, -deep * 0.42):
        b.slab((0.05, 0.05, low + 0.02), (x, y, low / 2), foot, pair=True)
    return b.shape()


def table(rng: np.random.Generator) -> Shape:
    """A dining, coffee or round table, a desk with drawers."""
    b = Builder(rng)
    top, leg = b.slot("wood", "wood", "plain", "metal"), b.slot("wood", "metal", "plain")
    leg = top if b.chance(0.5) else leg
    high, thick = b.u(0.3, 0.8), b.u(0.02, 0.06)
    if b.chance(0.35):
        r, post = b.u(0.25, 0.6), b.u(0.02, 0.06)
        b.turned([(0, high - thick), (r, high - thick), (r, high), (0, high)], top, columns=40)
        if b.chance(0.6):
            foot = r * b.u(0.4, 0.75)
            rings = [(0, 0), (foot, 0), (foot * 0.95, 0.03), (post, b.u(0.05, 0.15))]
            b.turned([*rings, (post, high - thick * 0.5), (0, high - thick * 0.5)], leg)
        else:
            _legs(b, r * 1.4, r * 1.4, high - thick / 2, b.u(0.04, 0.07), leg, splay=b.u(0.0, 0.3))
        return b.shape()
    deep, wide = b.u(0.4, 0.8), b.u(0.5, 1.5)
    b.slab((deep, wide, thick), (0, 0, high - thick / 2), top)
    post = b.u(0.03, 0.09)
    _legs(b, deep, wide, high - thick / 2, post, leg, splay=0.1 if b.chance(0.2) else 0.0)
    if b.chance(0.5):
        rim = b.u(0.05, 0.12)
        b.slab((deep - post, wide - post, rim), (0, 0, high - thick - rim / 2), leg)
    if b.chance(0.25):
        b.slab((deep * 0.9, wide * 0.9, thick * 0.7), (0, 0, high * b.u(0.2, 0.4)), top)
    if b.chance(0.25):
        y, case, tall = wide * 0.32, wide * 0.32, high * b.u(0.3, 0.9)
        b.slab((deep * 0.9, case, tall), (0, y, high - thick - tall / 2), top)
        for k in range(3):
            z = high - thick - tall * (k + 0.5) / 3
            b.slab((0.02, case * 0.92, tall * 0.29), (deep * 0.45, y, z), leg)
            b.slab((0.03, case * 0.3, 0.015), (deep * 0.46 + 0.01, y, z), b.slot("metal"))
    return b.shape()


def bench(rng: np.random.Generator) -> Shape:
    """A garden bench of planks, with or without a back."""
    b = Builder(rng)
    wood, iron = b.slot("wood", "plain"), b.slot("metal", "wood", "plain")
    wide, deep, seat = b.u(0.9, 1.7), b.u(0.32, 0.5), b.u(0.38, 0.48)
    planks = b.count(2, 5)
    each = deep / planks
    for k in range(planks):
        b.slab((each * 0.85, wide, 0.035), (deep / 2 - each * (k + 0.5), 0, seat), wood)
    y = wide / 2 - b.u(0.05, 0.2)
    for x in (deep * 0.42, -deep * 0.42):
        b.slab((0.06, 0.06, seat), (x, y, seat / 2), iron, pair=True)
    b.slab((deep * 0.95, 0.05, 0.05), (0, y, seat - 0.04), iron, pair=True)
    if b.chance(0.7):
        for k in range(b.count(1, 3)):
            z = seat + 0.16 + 0.15 * k
            b.slab((0.03, wide, 0.09), (-deep / 2 - 0.06 * (z - seat), 0, z), wood)
            b.slab(
                (0.05, 0.05, z - seat + 0.1),
                (-deep / 2 + 0.01, y, (z + seat) / 2 - 0.03),
                iron,
                pair=True,
            )
    if b.chance(0.35):
        b.slab((deep, 0.06, 0.04), (0, y, seat + 0.2), iron, pair=True)
        b.slab((0.05, 0.05, 0.22), (deep * 0.42, y, seat + 0.1), iron, pair=True)
    return b.shape()


def bed(rng: np.random.Generator) -> Shape:
    """A bed with mattress, blanket, pillows and ends; its foot faces the front."""
    b = Builder(rng)
    frame, sheet = b.slot("wood", "metal", "cloth"), b.slot("cloth", "plain")
    blanket = b.slot("cloth", "pattern")
    wide, long, low = b.u(0.8, 1.8), b.u(1.85, 2.1), b.u(0.2, 0.35)
    head, foot, thick = b.u(0.55, 1.1), b.u(0.3, 0.65), b.u(0.15, 0.28)
    b.slab((long, wide, 0.14), (0, 0, low), frame)
    b.cushion((long * 0.97, wide * 0.97, thick), (0, 0, low + thick / 2 + 0.03), sheet)
    cover = long * b.u(0.5, 0.75)
    size = (cover, wide * 1.03, thick * 1.05)
    b.cushion(size, (long / 2 - cover / 2, 0, low + thick / 2 + 0.07), blanket)
    b.slab((0.07, wide * 1.02, head), (-long / 2 - 0.03, 0, head / 2), frame)
    if b.chance(0.5):
        b.slab((0.06, wide * 1.02, foot), (long / 2 + 0.03, 0, foot / 2), frame)
    else:
        b.slab((0.07, 0.07, low), (long / 2 - 0.05, wide / 2 - 0.06, low / 2), frame, pair=True)
    spots = (0.0,) if wide < 1.2 else (-0.24, 0.24)
    for y in spots:
        size = (0.42, wide * (0.7 if len(spots) == 1 else 0.42), 0.15)
        b.cushion(size, (-long / 2 + 0.3, y * wide, low + thick + 0.07), sheet)
    return b.shape()


def clock(rng: np.random.Generator) -> Shape:
    """A round clock, an alarm clock on feet with bells, or one in a box."""
    b = Builder(rng)
    case, dial, hand = b.slot("metal", "plain", "wood"), b.slot("label", "plain"), b.slot("plain")
    thick = b.u(0.12, 0.4)
    rim = b.u(0.03, 0.1)
    if b.chance(0.7):
        rings = [(0, -thick), (0.45, -thick), (0.5, -thick * 0.85), (0.5, 0.02), (0.5 - rim, 0.03)]
        b.add(lathe(np.array([*rings, (0.5 - rim, -0.02)])).turned(1, np.pi / 2), case)
    else:
        b.add(rounded_box((thick, 1.05, 1.05), b.u(0.02, 0.1)).shifted(-thick / 2 + 0.005), case)
    flat = np.array([(0, -0.02), (0.51 - rim, -0.02), (0.51 - rim, 0.012), (0, 0.012)])
    b.add(lathe(flat).turned(1, np.pi / 2), dial)
    for long, wide in ((0.24, 0.03), (0.36, 0.02)):
        arm = Builder(rng)
        arm.slab((0.012, wide, long), (0.02, 0, long / 2 - 0.03), arm.slot("plain"))
        b.add(arm.shape().solid.turned(0, b.u(0, 2 * np.pi)), hand)
    b.ball((0.02, 0.03, 0.03), (0.02, 0, 0), hand)
    if b.chance(0.4):
        b.ball((0.13, 0.16, 0.1), (-thick / 2, 0.27, 0.5), b.slot("metal"), pitch=0.0, pair=True)
        b.limb([(-thick / 2, 0, 0.48), (-thick / 2, 0, 0.66)], 0.025, case)
    b.limb([(-thick / 2, 0.25, -0.35), (-thick / 2, 0.36, -0.57)], [0.05, 0.04], case, pair=True)
    return b.shape()


FAMILIES: dict[str, Family] = {
    **STORAGE,
    "chair": Family(chair, 2.2),
    "stool": Family(stool, 0.9),
    "sofa": Family(sofa, 1.6),
    "table": Family(table, 1.3),
    "bench": Family(bench, 0.6),
    "bed": Family(bed, 0.5),
    "alarm clock": Family(clock, 0.9),
}
