"""Families of things shaped like people: standing and sitting figures, busts, dolls, snowmen.

It does not know how skin, hair or cloth are painted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.prior.families.builder import Builder, triple
from training.prior.families.family import Family
from training.prior.solids import Shape


@dataclass(frozen=True)
class _Paint:
    """The slots of a figure; a statue has the same one for all."""

    skin: int
    hair: int
    top: int
    bottom: int
    shoes: int
    eyes: int
    mouth: int


@dataclass(frozen=True)
class _Frame:
    """Proportions in units of the figure's height: heights above the feet and half widths."""

    head: float
    shoulder: float
    hip: float
    wide: float
    deep: float
    thick: float


def _paint(b: Builder) -> _Paint:
    if b.chance(0.2):  # carved, cast, moulded
        one = b.slot("plain", "wood", "metal", "glaze")
        return _Paint(one, one, one, one, one, one, one)
    skin = b.slot("skin", "skin", "skin", "plain", "cloth")
    hair = b.slot("fur", "plain", "cloth")
    top, bottom = b.slot("cloth", "cloth", "plain", "pattern"), b.slot("cloth", "plain", "leather")
    shoes = b.slot("leather", "plain")
    return _Paint(skin, hair, top, bottom, shoes, b.slot("plain"), b.slot("plain"))


def _frame(b: Builder) -> _Frame:
    """From grown-ups (head an eighth) to toys (head two fifths)."""
    head = b.u(0.062, 0.075) if b.chance(0.4) else b.u(0.08, 0.2)
    below = 1.0 - 2 * head
    leg = (0.56 - 0.9 * (head - 0.065)) * below
    shoulder = below * b.u(0.93, 0.98)
    wide = max(0.105, 0.85 * head) * b.u(0.9, 1.25)
    return _Frame(head, shoulder, leg, wide, wide * b.u(0.5, 0.75), wide * b.u(0.27, 0.42))


def _face(b: Builder, at: tuple[float, float, float], r: float, p: _Paint) -> None:
    """Eyes, nose and mouth on the front of a head of radius `r`."""
    x, _, z = at
    size, apart, high = b.u(0.08, 0.17), b.u(0.32, 0.45), b.u(0.0, 0.2)
    front = x + r * (np.sqrt(max(1 - apart**2 - high**2, 0.1)) * 0.93)
    eye = (r * 0.07, r * size, r * size * b.u(0.7, 1.5))
    b.ball(eye, (front, r * apart, z + r * high), p.eyes, pair=True, hard=True)
    if b.chance(0.75):
        nose = (r * b.u(0.1, 0.22), r * b.u(0.08, 0.16), r * b.u(0.1, 0.22))
        b.ball(nose, (x + r * 0.95, 0.0, z - r * b.u(0.05, 0.2)), p.skin, hard=True)
    if b.chance(0.75):
        low = b.u(0.4, 0.55)
        mouth = (r * 0.07, r * b.u(0.15, 0.35), r * b.u(0.03, 0.09))
        at_x = x + r * np.sqrt(1 - low**2) * 0.93
        b.ball(mouth, (at_x, 0.0, z - r * low), p.mouth, pitch=-0.4, hard=True)
    if b.chance(0.4):
        brow = (r * 0.06, r * 0.2, r * 0.04)
        b.ball(brow, (front * 0.98, r * apart, z + r * (high + 0.27)), p.hair, pair=True, hard=True)


def _hair(b: Builder, at: tuple[float, float, float], r: float, p: _Paint) -> None:
    x, _, z = at
    kind = b.pick("short", "short", "long", "bun", "curls", "none")
    if kind == "none":
        return
    cap = r * b.u(1.03, 1.18)
    b.ball((cap, cap, cap * 0.95), (x - r * 0.2, 0.0, z + r * b.u(0.16, 0.25)), p.hair, hard=True)
    if kind == "long":
        length = r * b.u(1.0, 2.4)
        b.ball(
            (r * 0.5, r * b.u(0.85, 1.15), length), (x - r * 0.6, 0.0, z - length * 0.55), p.hair
        )
    elif kind == "bun":
        size = r * b.u(0.3, 0.5)
        if b.chance(0.4):
            b.ball((size,) * 3, (x - r * 0.2, r * 0.9, z + r * 0.85), p.hair, pair=True, hard=True)
        else:
            b.ball((size,) * 3, (x - r * b.u(0.1, 1.0), 0.0, z + r * 1.2), p.hair, hard=True)
    elif kind == "curls":
        for angle in np.linspace(0.5, 2 * np.pi - 0.5, 9):
            spot = (x + r * 0.85 * np.cos(angle) - 0.2 * r, r * 0.95 * np.sin(angle), z + r * 0.35)
            b.ball((r * 0.35,) * 3, spot, p.hair, hard=True, small=True)


def _hat(b: Builder, at: tuple[float, float, float], r: float) -> None:
    slot, top = b.slot("cloth", "leather", "plain"), (at[0] - 0.06 * r, 0.0, at[2] + 0.42 * r)
    kind = b.pick("brim", "cap", "cone", "wool", "crown")
    if kind == "brim":
        brim, high = r * b.u(1.4, 2.1), r * b.u(0.6, 1.4)
        crown = [(0.0, 0.0), (brim, -0.02 * r), (brim, 0.06 * r), (r * 1.02, 0.1 * r)]
        b.turned([*crown, (r * b.u(0.7, 1.05), high), (0.0, high)], slot, top)
    elif kind == "cap":
        b.turned(
            [(r * 1.05, 0.0), (r * 1.02, 0.3 * r), (r * 0.75, 0.62 * r), (0, 0.72 * r)], slot, top
        )
        b.ball(
            (r * 0.75, r * 0.7, r * 0.08), (top[0] + r * 0.9, 0, top[2] + 0.04 * r), slot, hard=True
        )
    elif kind == "cone":
        b.turned([(0.0, 0.0), (r * 1.02, 0.0), (0.02 * r, r * b.u(1.0, 2.2))], slot, top)
    elif kind == "wool":
        b.turned(
            [(r * 1.06, -0.1 * r), (r * 1.1, 0.2 * r), (r * 0.8, 0.65 * r), (0, 0.8 * r)], slot, top
        )
        b.ball((r * 0.25,) * 3, (top[0], 0.0, top[2] + 0.95 * r), b.slot("fur", "cloth"), hard=True)
    else:
        b.turned(
            [(r * 0.85, 0.05 * r), (r * 1.0, 0.7 * r), (r * 0.93, 0.7 * r), (0.0, 0.3 * r)],
            slot,
            top,
        )


def _head(b: Builder, at: tuple[float, float, float], r: float, p: _Paint) -> None:
    wide = r * b.u(0.8, 1.02)
    b.ball((r * b.u(0.9, 1.05), wide, r), at, p.skin)
    if b.chance(0.6):
        b.ball((r * 0.15, r * 0.1, r * 0.22), (at[0], wide, at[2]), p.skin, pair=True, hard=True)
    if b.chance(0.9):
        _face(b, at, r, p)
    _hair(b, at, r, p)
    if b.chance(0.25):
        _hat(b, at, r)


def _torso(b: Builder, f: _Frame, lift: float, p: _Paint) -> None:
    """From the hips (at height `lift` above where they stand) to the neck."""
    long = f.shoulder - f.hip
    waist, hips = b.u(0.65, 1.05), b.u(0.75, 1.05)
    rings = [(0.0, -0.1), (hips * 0.75, -0.08), (hips, 0.08), (waist, 0.4), (0.9, 0.75)]
    rings += [(0.86, 0.9), (0.6, 0.985), (0.3, 1.03), (0.0, 1.04)]
    t = np.linspace(0, 1, 16)
    known = np.linspace(0, 1, len(rings))
    radius = np.interp(t, known, [x for x, _ in rings]) * f.wide
    height = np.interp(t, known, [z for _, z in rings]) * long + f.hip + lift
    b.turned(list(zip(radius, height, strict=True)), p.top, flat=f.deep / f.wide, columns=24)
    neck = f.head * b.u(0.35, 0.5)
    top = 1.0 - 1.7 * f.head + lift
    b.limb([(0, 0, f.shoulder + lift - 0.02), (0, 0, top)], neck, p.skin, hard=True)


def _arms(b: Builder, f: _Frame, lift: float, p: _Paint) -> None:
    long = min(0.42 * b.u(0.85, 1.05), 0.85 * (f.shoulder + f.hip * 0.4))
    sleeve = p.top if b.chance(0.7) else p.skin
    kind = b.pick("down", "down", "akimbo", "raised", "out", "forward")
    for side in (1.0, -1.0):
        here = kind if b.chance(0.85) else b.pick("down", "raised", "forward")
        out, ahead, bend = {
            "down": (b.u(0.08, 0.45), b.u(-0.1, 0.25), b.u(0.0, 0.4)),
            "akimbo": (b.u(0.6, 0.9), b.u(-0.2, 0.1), -1.6),
            "raised": (b.u(2.0, 2.9), b.u(0.0, 0.3), b.u(-0.3, 0.4)),
            "out": (b.u(1.2, 1.7), b.u(-0.2, 0.3), b.u(-0.2, 0.3)),
            "forward": (b.u(0.1, 0.4), b.u(0.5, 1.5), b.u(0.0, 0.8)),
        }[here]
        a = np.array([0.0, side * f.wide * 0.86, f.shoulder + lift - f.thick * 0.55])
        down = np.array([np.sin(ahead), side * np.sin(out), -np.cos(out) * np.cos(ahead)])
        elbow = a + down / np.linalg.norm(down) * long * 0.48
        lower = np.array([np.sin(ahead + max(bend, 0.0)), side * np.sin(out + min(bend, 0.0)), 0.0])
        lower[2] = -np.cos(out + min(bend, 0.0)) * np.cos(ahead + max(bend, 0.0))
        wrist = elbow + lower / (np.linalg.norm(lower) + 1e-9) * long * 0.42
        r = f.thick * 0.72
        points = [triple(q) for q in (a, elbow, wrist)]
        b.limb(points[:2], [r, r * 0.85], p.top, columns=10)
        b.limb(points[1:], [r * 0.82, r * 0.65], sleeve, columns=10)
        b.ball((r * 0.85,) * 3, points[2], p.skin)


def _legs(b: Builder, f: _Frame, p: _Paint) -> None:
    y, r = f.wide * 0.47, f.thick
    step, spread = b.u(-0.06, 0.06), b.u(0.9, 1.5)
    for side, ahead in ((1.0, step), (-1.0, -step)):
        knee = (ahead * 0.6 + 0.01, side * y * (1 + spread) / 2, f.hip * 0.5)
        ankle = (ahead, side * y * spread, r * 0.5)
        b.limb([(0, side * y, f.hip), knee, ankle], [r, r * 0.85, r * 0.65], p.bottom, columns=10)
        foot = (ahead + r * 0.55, ankle[1], r * 0.42)
        b.ball((r * 1.5, r * 0.72, r * 0.5), foot, p.shoes)


def _skirt(b: Builder, f: _Frame, lift: float, p: _Paint) -> None:
    low = b.u(0.02, 0.75) * f.hip
    hem, waist = f.wide * b.u(1.2, 2.2), f.hip + (f.shoulder - f.hip) * 0.4
    wide = f.wide * 0.9
    rings = [(0.0, low), (hem, low), (hem * 0.75 + wide * 0.25, (low + f.hip) / 2), (wide, waist)]
    b.turned([(r, z + lift) for r, z in rings] + [(0.0, waist + lift)], p.bottom, flat=0.85)


def standing_figure(rng: np.random.Generator) -> Shape:
    """A grown-up, a child or a doll on its feet, some on a round base."""
    b = Builder(rng, soft=rng.random() < 0.12)
    p, f = _paint(b), _frame(b)
    _head(b, (b.u(0.0, 0.02), 0.0, 1.0 - f.head), f.head, p)
    _torso(b, f, 0.0, p)
    _arms(b, f, 0.0, p)
    _legs(b, f, p)
    if b.chance(0.3):
        _skirt(b, f, 0.0, p)
    if b.chance(0.15):
        radius, high = f.wide * b.u(1.5, 2.2), b.u(0.03, 0.12)
        rings = [(0.0, -high), (radius, -high), (radius * b.u(0.85, 1.0), 0.01), (0.0, 0.01)]
        b.turned(rings, b.slot("wood", "plain", "metal"))
    return b.shape()


def sitting_figure(rng: np.random.Generator) -> Shape:
    """Someone sitting on the ground, or on a block with the legs down."""
    b = Builder(rng, soft=rng.random() < 0.12)
    p, f = _paint(b), _frame(b)
    lift, y, r = -f.hip, f.wide * 0.47, f.thick
    _head(b, (b.u(0.0, 0.03), 0.0, 1.0 - f.head + lift), f.head, p)
    _torso(b, f, lift, p)
    _arms(b, f, lift, p)
    thigh, on_block = f.hip * 0.5, b.chance(0.5)
    for side in (1.0, -1.0):
        spread = b.u(1.0, 1.7)
        knee = (thigh, side * y * spread, r * (0.3 if on_block else b.u(0.0, 2.5)))
        if on_block:
            ankle, toe = (thigh + 0.02, knee[1], -thigh), (r * 0.6, 0.0, -0.1 * r)
        else:
            ankle, toe = (thigh * b.u(1.5, 1.95), knee[1], -0.2 * r), (0.2 * r, 0.0, r * 0.5)
        b.limb([(0, side * y, 0.0), knee, ankle], [r, r * 0.9, r * 0.65], p.bottom, columns=10)
        foot = (ankle[0] + toe[0], ankle[1], ankle[2] + toe[2])
        b.ball((r * 1.4, r * 0.7, r * 0.5), foot, p.shoes, pitch=0.0 if on_block else 1.2)
    if on_block:
        deep, wide = thigh * b.u(1.2, 1.5), f.wide * b.u(2.2, 3.2)
        seat = b.slot("wood", "plain", "cloth")
        b.slab((deep, wide, thigh), (thigh * 0.85 - deep / 2 - 0.02, 0, -thigh / 2 - r * 0.6), seat)
    return b.shape()


def bust(rng: np.random.Generator) -> Shape:
    """A head on a neck, with shoulders or on a plinth alone."""
    b = Builder(rng, soft=rng.random() < 0.3)
    p = _paint(b)
    r = 1.0
    _head(b, (0.0, 0.0, 0.0), r, p)
    neck, low = b.u(0.42, 0.6), -b.u(1.3, 1.7)
    b.limb([(-0.05, 0, -0.6), (-0.12, 0, low)], [neck, neck * 1.1], p.skin)
    if b.chance(0.8):
        wide = b.u(1.3, 2.1)
        b.ball((b.u(0.6, 0.85), wide, b.u(0.55, 0.8)), (-0.15, 0.0, low - 0.35), p.top)
        b.turned(
            [(0, low - 1.5), (wide * 0.6, low - 1.5), (wide * 0.75, low - 0.4), (0, low - 0.3)],
            p.top,
            (-0.15, 0.0, 0.0),
            flat=0.65,
        )
        low -= 1.45
    if b.chance(0.5):
        foot = b.slot("wood", "metal", "plain")
        size, top = b.u(0.55, 0.9), low
        rings = [(0, top - 0.7), (size, top - 0.7), (size, top - 0.55), (size * 0.5, top - 0.4)]
        b.turned([*rings, (size * 0.6, top + 0.3), (0, top + 0.3)], foot, (-0.15, 0, 0))
    return b.shape()


def snowman(rng: np.random.Generator) -> Shape:
    """Two or three balls on each other, with a carrot, buttons, arms of twigs and a hat."""
    b = Builder(rng)
    snow, coal = b.slot("plain", "plain", "glaze", "cloth"), b.slot("plain")
    r, z, radii = b.u(0.9, 1.1), 0.0, []
    for _ in range(b.count(2, 3)):
        z += r * 0.85
        flat = b.u(0.85, 1.0)
        b.ball((r, r, r * flat), (0, 0, z), snow)
        radii.append((r, z))
        z += r * flat * 0.72
        r *= b.u(0.62, 0.8)
    (r, z), body = radii[-1], radii[-2]
    carrot = b.slot("plain", "food")
    b.limb([(r * 0.8, 0, z), (r * b.u(1.3, 2.0), 0, z)], [r * 0.17, 0.02], carrot)
    b.ball((r * 0.1,) * 3, (r * 0.86, r * 0.35, z + r * 0.35), coal, pair=True)
    for k in range(b.count(0, 3)):
        tilt = 0.55 - 0.4 * k
        spot = (body[0] * np.cos(tilt), 0.0, body[1] + body[0] * np.sin(tilt) * 0.9)
        b.ball((body[0] * 0.09,) * 3, spot, coal)
    if b.chance(0.6):
        twig, reach, up = b.slot("wood"), body[0] * b.u(1.5, 2.0), b.u(-0.1, 0.8)
        b.limb(
            [(0, body[0] * 0.8, body[1] + 0.2), (0.1, reach, body[1] + 0.2 + up)],
            0.05,
            twig,
            pair=True,
        )
    if b.chance(0.5):
        scarf = b.slot("cloth")
        ring = [(r * 0.8, -0.15 * r), (r * 1.0, -0.1 * r), (r * 1.0, 0.15 * r), (r * 0.8, 0.2 * r)]
        b.turned(ring, scarf, (0, 0, z - r * 0.72))
    if b.chance(0.75):
        _hat(b, (0.0, 0.0, z), r)
    return b.shape()


PEOPLE: dict[str, Family] = {
    "standing figure": Family(standing_figure, 3.0),
    "sitting figure": Family(sitting_figure, 1.2),
    "bust": Family(bust, 1.2),
    "snowman": Family(snowman, 0.6),
}
