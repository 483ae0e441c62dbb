"""Families of birds, fish, turtles, snails and dinosaurs.

It does not know how feathers or scales are painted.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.builder import Builder
from training.prior.families.family import Family
from training.prior.primitives import extrude, lathe
from training.prior.solids import Shape


def bird(rng: np.random.Generator) -> Shape:
    """A duck, hen, owl, penguin or songbird at rest, wings at its sides."""
    b = Builder(rng, soft=rng.random() < 0.3)
    coat = b.slot("fur", "plain", "glaze", "pattern", "wood")
    wing = b.slot("fur", "plain", "pattern") if b.chance(0.5) else coat
    beak, dark = b.slot("plain"), b.slot("plain")
    upright = b.chance(0.35)  # owls and penguins
    pitch = b.u(1.1, 1.45) if upright else b.u(-0.05, 0.6)
    long, round_ = b.u(0.45, 0.55), b.u(0.24, 0.36)
    b.ball((long, round_, round_ * b.u(0.9, 1.05)), (0, 0, 0), coat, pitch=pitch)
    c, s = np.cos(pitch), np.sin(pitch)
    r = b.u(0.17, 0.24) if not upright else round_ * b.u(0.75, 0.95)
    neck = 0.0 if upright else b.u(0.0, 0.35) * (b.chance(0.5))
    base = (long * 0.62 * c + 0.02, 0.0, long * 0.62 * s + round_ * 0.3 * c)
    head = (base[0] + 0.12 * (not upright), 0.0, base[2] + r * 0.75 + neck)
    b.limb([base, head], [round_ * 0.6, r * 0.75], coat)
    b.ball((r, r * 0.92, r * 0.95), head, coat)
    flat = b.chance(0.4)
    tip = (head[0] + r * b.u(1.35, 2.0), 0.0, head[2] - r * b.u(0.05, 0.3))
    start = (head[0] + r * 0.75, 0.0, head[2] - r * 0.05)
    if flat:
        middle = ((tip[0] + start[0]) / 2, 0.0, (tip[2] + start[2]) / 2)
        b.ball(((tip[0] - start[0]) * 0.7, r * 0.35, r * 0.13), middle, beak, hard=True)
    else:
        b.limb([start, tip], [r * 0.3, r * 0.04], beak, hard=True)
    eye = r * (b.u(0.13, 0.2) if not upright else b.u(0.2, 0.35))
    b.ball(
        (eye * 0.6, eye, eye),
        (head[0] + r * 0.75, r * 0.5, head[2] + r * 0.25),
        dark,
        pair=True,
        hard=True,
    )
    flap = (long * b.u(0.55, 0.75), round_ * 0.16, round_ * b.u(0.5, 0.75))
    b.ball(flap, (-0.08 * c, round_ * 0.92, 0.03), wing, pitch=pitch + b.u(-0.1, 0.15), pair=True)
    rear = (-long * 0.75 * c, 0.0, -long * 0.75 * s + 0.05)
    tail = b.u(0.15, 0.4)
    end = (rear[0] - tail, 0.0, rear[2] + tail * b.u(-0.2, 0.7))
    if not upright:
        b.ball(
            (tail, round_ * 0.5, 0.05),
            ((rear[0] + end[0]) / 2, 0, (rear[2] + end[2]) / 2),
            wing,
            pitch=-0.4,
        )
    low = -(long * s + round_ * c) * 0.85
    if b.chance(0.75):
        leg, y = b.u(0.03, 0.3) * (0.4 if upright else 1.0), round_ * 0.4
        b.limb(
            [(0, y, low * 0.8), (0.0, y, low - leg)], 0.025, beak, pair=True, columns=8, hard=True
        )
        b.ball((0.12, 0.08, 0.025), (0.06, y, low - leg), beak, pair=True, hard=True)
    if b.chance(0.2):
        b.ball((r * 0.5, r * 0.1, r * 0.35), (head[0], 0, head[2] + r), b.slot("plain"), hard=True)
    return b.shape()


def fish(rng: np.random.Generator) -> Shape:
    """A fish that shows its side, with fins."""
    b = Builder(rng)
    coat = b.slot("pattern", "plain", "glaze", "skin", "metal")
    fin = b.slot("plain", "pattern") if b.chance(0.6) else coat
    deep, thick = b.u(0.16, 0.36), b.u(0.07, 0.2)
    t = np.linspace(0, 1, 18)
    swell = np.sin(np.pi * t ** b.u(0.55, 0.8)) ** b.u(0.6, 0.95)
    radius = np.maximum(swell, 0.16 * t)
    rings = list(zip(radius, t - 0.5, strict=True))
    body = lathe(np.array([(0.0, -0.5), *rings[1:], (0.0, 0.5)]), columns=24)
    b.add(body.scaled(deep, thick, 1.0).turned(1, np.pi / 2), coat)

    def plate(outline: list[tuple[float, float]], at_y: float = 0.0, flare: float = 0.0) -> None:
        solid = extrude(np.array(outline, float), b.u(0.012, 0.03))
        solid = solid.turned(2, -np.pi / 2).turned(0, flare).shifted(0.0, at_y, 0.0)
        (b.both if at_y else b.add)(solid, fin)

    fork, span = b.u(0.05, 0.25), deep * b.u(0.7, 1.2)
    tail = [(0.42, 0.03), (0.72, span), (0.72 - fork, 0.0), (0.72, -span), (0.42, -0.03)]
    plate(tail)
    high = deep + b.u(0.06, 0.22)
    plate([(-0.2, deep * 0.7), (0.0, high), (0.22, high * 0.85), (0.32, deep * 0.3)])
    plate([(-0.02, -deep * 0.75), (0.12, -high * 0.95), (0.26, -deep * 0.4)])
    plate([(-0.15, -0.02), (0.08, -deep * 0.55), (0.1, 0.02)], thick * 0.85, 0.3)
    eye = deep * b.u(0.1, 0.2)
    x = -0.36
    at = thick * float(np.interp(0.14, t, radius)) * 0.9
    b.ball((eye, eye * 0.5, eye), (x, at, deep * 0.2), b.slot("plain"), pair=True)
    b.ball(
        (eye * 0.5, eye * 0.5, eye * 0.5),
        (x, at + 0.3 * eye, deep * 0.2),
        b.slot("plain"),
        pair=True,
    )
    shape = b.shape()  # its side is what it shows
    return Shape(shape.solid.turned(2, np.pi / 2 * (1 if b.chance(0.5) else -1)), shape.finishes)


def turtle(rng: np.random.Generator) -> Shape:
    """A turtle: domed shell, four flippers or feet, head and tail."""
    b = Builder(rng)
    skin, shell = b.slot("skin", "plain", "cloth"), b.slot("pattern", "plain", "glaze", "leather")
    wide, high, rim = b.u(0.36, 0.48), b.u(0.1, 0.28), b.u(0.5, 0.55)
    dome = [(0.5 * float(np.cos(a)), high * float(np.sin(a))) for a in np.linspace(0, np.pi / 2, 9)]
    rings = [(0, -0.06), (0.43, -0.06), (rim, -0.02), (rim, 0.01), *dome[1:-1], (0, high)]
    b.add(lathe(np.array(rings), columns=32).scaled(1.0, wide * 2, 1.0), shell)
    r = b.u(0.11, 0.17)
    head = (0.5 + r * b.u(0.6, 1.2), 0.0, b.u(0.0, 0.12))
    b.limb([(0.35, 0, -0.02), head], [r * 0.75, r * 0.7], skin)
    b.ball((r * 1.1, r * 0.9, r * 0.85), head, skin)
    dark = b.slot("plain")
    b.ball((r * 0.17,) * 3, (head[0] + r * 0.6, r * 0.6, head[2] + r * 0.35), dark, pair=True)
    for x, flip in ((0.32, 1.0), (-0.32, 0.7)):
        reach = b.u(0.12, 0.3) * flip
        for side in (1.0, -1.0):
            foot = (x + b.u(-0.05, 0.1), side * (wide + reach * 0.6), -0.13)
            b.limb([(x * 0.9, side * wide * 0.75, -0.04), foot], [0.09, 0.07], skin)
            b.ball((0.1, 0.07, 0.04), (foot[0] + 0.03, foot[1], foot[2] - 0.02), skin)
    b.limb([(-0.45, 0, -0.04), (-0.62, 0, -0.07)], [0.05, 0.015], skin)
    return b.shape()


def dinosaur(rng: np.random.Generator) -> Shape:
    """A long-necked one on four legs or a hunter on two, as toys are."""
    b = Builder(rng, soft=rng.random() < 0.35)
    hide = b.slot("plain", "skin", "pattern", "leather")
    dark = b.slot("plain")
    fat = b.u(0.19, 0.28)
    two = b.chance(0.5)
    leg, thick = b.u(0.3, 0.45), b.u(0.07, 0.1)
    z = leg + fat * 0.6
    b.ball((0.42, fat * 0.9, fat), (0, 0, z), hide, pitch=b.u(0.2, 0.6) if two else 0.0)
    tail = b.u(0.6, 0.95)
    ends = [(-0.3, 0, z - 0.02), (-0.3 - tail * 0.5, b.u(-0.1, 0.1), z - 0.12)]
    b.limb(
        [*ends, (-0.3 - tail, b.u(-0.2, 0.2), z - b.u(0.0, 0.3))],
        [fat * 0.75, fat * 0.4, 0.02],
        hide,
    )
    if two:
        head = (b.u(0.4, 0.55), 0.0, z + b.u(0.4, 0.6))
        b.limb([(0.2, 0, z + 0.1), head], [fat * 0.75, fat * 0.5], hide)
        b.ball((0.16, 0.12, 0.13), head, hide)
        b.ball((0.2, 0.1, 0.06), (head[0] + 0.17, 0, head[2] + 0.01), hide)
        b.ball((0.17, 0.09, 0.035), (head[0] + 0.14, 0, head[2] - 0.1), hide, pitch=-0.25)
        b.limb(
            [(0.3, fat * 0.7, z + 0.08), (0.45, fat * 0.8, z - 0.03), (0.5, fat * 0.7, z + 0.05)],
            0.04,
            hide,
            pair=True,
        )
    else:
        far, high = b.u(0.5, 0.8), b.u(0.3, 0.8)
        head = (0.25 + far, 0.0, z + high)
        bend = (0.3 + far * 0.6, 0.0, z + high * 0.45)
        b.limb([(0.25, 0, z + 0.03), bend, head], [fat * 0.7, fat * 0.4, fat * 0.3], hide)
        b.ball((0.15, 0.09, 0.09), (head[0] + 0.06, 0, head[2]), hide, pitch=-0.2)
    up = 0.04
    b.ball((0.025,) * 3, (head[0] + 0.08, 0.09, head[2] + up), dark, pair=True, hard=True)
    for x in (0.0,) if two else (0.26, -0.22):
        for side in (1.0, -1.0):
            y, step = side * fat * 0.65, b.u(-0.06, 0.06)
            knee = (x + 0.05 + step, y * 1.1, leg * 0.5)
            ankle = (x + step - 0.02 * two, y * 1.1, thick * 0.6)
            b.limb([(x, y, z - 0.02), knee, ankle], [thick * 1.5, thick, thick * 0.8], hide)
            b.ball(
                (thick * 1.7, thick, thick * 0.6),
                (ankle[0] + thick * 0.6, y * 1.1, thick * 0.55),
                hide,
            )
    if b.chance(0.4):
        spine = b.slot("plain")
        for x in np.linspace(-0.6, 0.15, 6):
            top = z + fat * float(np.interp(x, [-0.6, -0.2, 0.15], [0.05, 0.85, 0.95]))
            b.ball((0.07, 0.02, 0.1), (float(x), 0.0, top), spine, hard=True)
    return b.shape()


def snail(rng: np.random.Generator) -> Shape:
    """A snail: a foot, feelers and a coiled shell on top."""
    b = Builder(rng)
    skin, shell = b.slot("skin", "plain"), b.slot("pattern", "plain", "glaze")
    r = b.u(0.2, 0.3)
    b.limb([(-0.5, 0, 0.04), (-0.1, 0, 0.1), (0.35, 0, 0.1)], [0.03, 0.12, 0.11], skin)
    b.limb([(0.3, 0, 0.1), (0.5, 0, b.u(0.25, 0.4))], [0.11, 0.1], skin)
    b.limb([(0.52, 0.05, 0.35), (0.6, 0.1, b.u(0.5, 0.65))], [0.025, 0.03], skin, pair=True)
    turns = np.linspace(0, 2 * np.pi * b.u(1.4, 2.0), 26)
    grow = np.linspace(0.1, 1.0, 26)
    radius = r * grow
    x = -0.1 - radius * 0.9 * np.cos(turns - turns[-1] - 0.8)
    z = 0.15 + r * 1.1 + radius * 0.9 * np.sin(turns - turns[-1] - 0.8)
    path = [(float(a), float(0.16 * (1 - g)), float(c)) for a, c, g in zip(x, z, grow, strict=True)]
    b.limb(path, list(r * 0.55 * grow), shell, columns=14)
    return b.shape()


CRITTERS: dict[str, Family] = {
    "bird": Family(bird, 1.6),
    "fish": Family(fish, 0.8),
    "turtle": Family(turtle, 0.6),
    "dinosaur": Family(dinosaur, 0.9),
    "snail": Family(snail, 0.3),
}
