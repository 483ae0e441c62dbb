"""Families of lamps, cupboards, shelves, televisions and what else stands around in a room.

It does not know how wood, cloth or screens are painted.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.builder import Builder
from training.prior.families.family import Family
from training.prior.primitives import lathe, rounded_box
from training.prior.solids import Shape


def cupboard(rng: np.random.Generator) -> Shape:
    """A cupboard, chest of drawers, bedside table or refrigerator: doors, drawers, knobs, feet."""
    b = Builder(rng)
    case, front = b.slot("wood", "wood", "plain", "metal"), b.slot("wood", "plain")
    front = case if b.chance(0.6) else front
    knob = b.slot("metal", "plain", "wood")
    deep, wide, high, low = b.u(0.3, 0.6), b.u(0.4, 1.2), b.u(0.5, 1.9), b.u(0.02, 0.2)
    b.slab((deep, wide, high), (0, 0, low + high / 2), case)
    rows, columns = b.count(1, 4), b.count(1, 2 if wide < 0.8 else 3)
    gap = b.u(0.01, 0.03)
    doors = b.chance(0.5)
    for i in range(rows):
        for j in range(columns):
            h, w = high / rows, wide / columns
            y, z = (j + 0.5) * w - wide / 2, low + (i + 0.5) * h
            b.slab((0.03, w - gap, h - gap), (deep / 2 + 0.01, y, z), front)
            side = w * (0.38 if j < columns / 2 else -0.38) if doors else 0.0
            b.ball((0.03, 0.022, 0.022), (deep / 2 + 0.045, y + side, z), knob)
    if b.chance(0.4):
        b.slab((deep + 0.06, wide + 0.06, 0.035), (0.0, 0, low + high + 0.015), case)
    for x in (deep * 0.42, -deep * 0.42):
        b.slab((0.05, 0.05, low + 0.01), (x, wide * 0.44, low / 2), case, pair=True)
    return b.shape()


def shelf(rng: np.random.Generator) -> Shape:
    """An open shelf with boards, a back, and books and boxes on it."""
    b = Builder(rng)
    wood = b.slot("wood", "wood", "plain", "metal")
    deep, wide, high, t = b.u(0.22, 0.4), b.u(0.4, 1.1), b.u(0.7, 1.9), b.u(0.015, 0.04)
    boards = b.count(3, 6)
    levels = np.linspace(t / 2, high - t / 2, boards)
    b.slab((deep, t, high), (0, wide / 2 - t / 2, high / 2), wood, pair=True)
    for z in levels:
        b.slab((deep, wide, t), (0, 0, float(z)), wood)
    if b.chance(0.6):
        b.slab((0.015, wide, high), (-deep / 2 + 0.01, 0, high / 2), wood)
    paints = [b.slot("plain", "label", "cloth") for _ in range(5)]
    room = float(levels[1] - levels[0]) - t
    for z in levels[:-1]:
        y, kind = -wide / 2 + t, b.pick("books", "books", "boxes", "none")
        while kind != "none" and y < wide / 2 - t - 0.1:
            w = b.u(0.015, 0.05) * 1.3 if kind == "books" else b.u(0.1, 0.3)
            if y + w > wide / 2 - t:
                break
            tall, d = room * b.u(0.5, 0.92), deep * b.u(0.55, 0.85)
            if b.chance(0.85):
                place = (-deep / 2 + d / 2 + 0.02, y + w / 2, float(z) + t / 2 + tall / 2)
                b.slab((d, w * 0.97, tall), place, paints[b.count(0, 4)])
            y += w
    return b.shape()


def _shade(b: Builder, z: float, r: float, slot: int, tilt: float = 0.0, x: float = 0.0) -> None:
    """A lamp shade with its lower rim at `z`, open below."""
    kind = b.pick("cone", "cone", "drum", "dome", "ball")
    high, upper = r * b.u(0.8, 1.5), r * {"cone": b.u(0.35, 0.7), "drum": 0.97}.get(kind, 0.1)
    if kind == "ball":
        b.ball((r * 0.8,) * 3, (x, 0, z + r * 0.75), slot, hard=True)
        return
    if kind == "dome":
        t = np.linspace(0, np.pi / 2, 9)
        rings = [(r * float(np.cos(a)) + 0.002, high * 0.7 * float(np.sin(a))) for a in t]
    else:
        rings = [(r, 0.0), (upper, high)]
    inner = [(q * 0.96, h - 0.02 * high) for q, h in rings[::-1]]
    solid = lathe(np.array([inner[-1], *rings, *inner]), columns=36)
    b.add(solid.turned(1, tilt).shifted(x, 0, z), slot)


def table_lamp(rng: np.random.Generator) -> Shape:
    """A turned foot with a shade on top."""
    b = Builder(rng)
    foot, shade = b.slot("glaze", "metal", "wood", "pattern"), b.slot("cloth", "plain", "pattern")
    r, high = b.u(0.18, 0.34), b.u(0.3, 0.7)
    t = np.linspace(0, 1, 14)
    wave = b.u(0.04, 0.16) + b.u(0, 0.09) * np.cos(t * b.u(2, 9) + b.u(0, 6))
    wave = np.clip(wave * (1 - 0.6 * t), 0.018, r)
    base = b.u(0.09, 0.2)
    rings = [(0, 0), (base, 0), (base, 0.02), (base * 0.9, 0.035)]
    rings += [(float(q), 0.035 + float(h) * (high - 0.035)) for q, h in zip(wave, t, strict=True)]
    b.turned([*rings, (0.012, high), (0.012, high + 0.16), (0, high + 0.16)], foot)
    _shade(b, high - b.u(0.0, 0.06), r, shade)
    return b.shape()


def floor_lamp(rng: np.random.Generator) -> Shape:
    """A tall post with a shade, upright, bent over or on three legs."""
    b = Builder(rng)
    post, shade = b.slot("metal", "wood", "plain"), b.slot("cloth", "plain", "metal")
    high, r, thick = b.u(1.1, 1.6), b.u(0.13, 0.26), b.u(0.012, 0.025)
    kind = b.pick("straight", "straight", "arc", "tripod")
    if kind == "tripod":
        for angle in (0.3, 0.3 + 2 * np.pi / 3, 0.3 + 4 * np.pi / 3):
            c, s = float(np.cos(angle)), float(np.sin(angle))
            b.limb([(0.02 * c, 0.02 * s, high), (0.3 * c, 0.3 * s, 0.02)], thick, post, columns=8)
    else:
        foot = b.u(0.12, 0.2)
        b.turned([(0, 0), (foot, 0), (foot, 0.025), (thick, 0.05), (0, 0.05)], post)
        b.limb([(0, 0, 0.03), (0, 0, high)], thick, post, columns=8)
    x, top = 0.0, high
    if kind == "arc":
        x = b.u(0.25, 0.6)
        a = np.linspace(0, np.pi * 0.75, 9)
        path = [(x * float(1 - np.cos(q)) / 1.7, 0.0, high + 0.2 * float(np.sin(q))) for q in a]
        b.limb(path, thick, post, columns=8)
        top = path[-1][2] - r
    _shade(b, top - r * 0.4, r, shade, x=x)
    return b.shape()


def desk_lamp(rng: np.random.Generator) -> Shape:
    """A jointed arm on a foot with a bowl or cone of metal for a shade."""
    b = Builder(rng)
    metal = b.slot("metal", "plain", "plain")
    shade = metal if b.chance(0.6) else b.slot("plain", "metal")
    foot = b.u(0.09, 0.15)
    b.turned([(0, 0), (foot, 0), (foot, 0.02), (foot * 0.3, 0.045), (0, 0.045)], metal)
    elbow = (-b.u(0.02, 0.2), 0.0, b.u(0.25, 0.42))
    end = (b.u(0.1, 0.35), 0.0, elbow[2] + b.u(-0.05, 0.25))
    thick = b.u(0.008, 0.018)
    b.limb([(0, 0, 0.03), elbow], thick, metal, columns=8)
    b.limb([elbow, end], thick, metal, columns=8)
    b.ball((thick * 2,) * 3, elbow, metal)
    r, tilt = b.u(0.07, 0.13), b.u(-0.9, 0.1)
    t = np.linspace(0, 1, 7)
    bend = b.u(0.4, 1.0)
    rings = [(r * (0.25 + 0.75 * float((1 - q) ** bend)), r * 1.4 * float(q)) for q in t]
    inner = [(q * 0.94, h - 0.01) for q, h in rings[::-1]]
    cone = lathe(np.array([*rings, (0.02, r * 1.45), *inner])).shifted(0, 0, -r * 1.3)
    b.add(cone.turned(1, tilt).shifted(*end), shade)
    b.ball((r * 0.4,) * 3, (end[0], 0, end[2] - r * 0.6), b.slot("plain"))
    return b.shape()


def television(rng: np.random.Generator) -> Shape:
    """A flat screen on a foot, or an old set in a box with knobs and feet."""
    b = Builder(rng)
    case, screen = b.slot("plain", "plain", "metal", "wood"), b.slot("screen", "photo")
    wide = b.u(0.9, 1.2)
    if b.chance(0.65):
        high, t = wide / b.u(1.4, 1.85), b.u(0.02, 0.07)
        b.add(rounded_box((t, wide, high), min(0.02, t / 3)), case)
        b.slab((0.01, wide * 0.96, high * 0.93), (t / 2 + 0.001, 0, high * 0.01), screen)
        low = -high / 2 - b.u(0.05, 0.16)
        if b.chance(0.6):
            b.slab(
                (0.04, wide * 0.1, -low - high / 2 + 0.12),
                (-0.01, 0, (low - high / 2 + 0.1) / 2),
                case,
            )
            b.slab((0.22, wide * b.u(0.25, 0.5), 0.015), (0, 0, low), case)
        else:
            b.limb([(0, wide * 0.3, -high / 2), (0.12, wide * 0.33, low)], 0.012, case, pair=True)
            b.limb([(0, wide * 0.3, -high / 2), (-0.12, wide * 0.33, low)], 0.012, case, pair=True)
        return b.shape()
    high, deep = wide * b.u(0.65, 0.85), wide * b.u(0.5, 0.75)
    b.add(rounded_box((deep, wide, high), b.u(0.01, 0.08)), case)
    b.cushion((0.06, wide * 0.68, high * 0.78), (deep / 2 - 0.01, -wide * 0.1, 0), screen)
    knob = b.slot("metal", "plain")
    for z in (0.28, 0.08):
        b.ball((0.03, 0.045, 0.045), (deep / 2 + 0.01, wide * 0.37, high * z), knob)
    b.slab((0.015, wide * 0.12, high * 0.25), (deep / 2, wide * 0.37, -high * 0.2), knob)
    if b.chance(0.5):
        b.limb(
            [(0, 0.02, high / 2), (-0.05, b.u(0.2, 0.4), high / 2 + b.u(0.25, 0.5))],
            0.008,
            knob,
            pair=True,
        )
    b.limb(
        [(0.1, wide * 0.35, -high / 2), (0.14, wide * 0.42, -high / 2 - 0.12)],
        0.02,
        case,
        pair=True,
    )
    return b.shape()


STORAGE: dict[str, Family] = {
    "cupboard": Family(cupboard, 1.1),
    "shelf": Family(shelf, 0.8),
    "table lamp": Family(table_lamp, 1.4),
    "floor lamp": Family(floor_lamp, 0.6),
    "desk lamp": Family(desk_lamp, 0.7),
    "television": Family(television, 0.8),
}
