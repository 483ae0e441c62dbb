"""Handbags, backpacks, sacks, suitcases, cushions.

It does not know what is carried in them.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.family import Family
from training.prior.families.parts import (
    both_sides,
    disc,
    knob,
    legs,
    pick,
    plate,
    rod,
    rounded_outline,
    slab,
    tapered,
)
from training.prior.primitives import box, lathe, rounded_box, smooth_path, tube
from training.prior.solids import Points, Shape, Solid, grid_surface, join


def _strap(width: float, height: float, thick: float, z: float, x: float, flat: float) -> Solid:
    """An arch in the y-z plane, its feet at z."""
    turn = np.linspace(0, np.pi, 20)
    shape = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** 0.7
    path = np.stack([0 * turn, width / 2 * shape, height * np.sin(turn)], -1)
    return tube(path, thick, 8).scaled(flat, 1, 1).shifted(x, 0, z)


def _bulged(solid: Solid, amount: float) -> Solid:
    """Soft sides: thicker along x in the middle than at the rims."""
    low, high = solid.box
    middle, half = (low + high) / 2, (high - low) / 2

    def change(v: Points) -> Points:
        share = (v - middle) / half
        puff = 1 + amount * np.clip(1 - share[:, 1] ** 2, 0, 1) * np.clip(
            1 - share[:, 2] ** 2, 0, 1
        )
        return np.column_stack([v[:, 0] * puff, v[:, 1:]])

    return solid.deformed(change)


def handbag(rng: np.random.Generator) -> Shape:
    """A handbag or a purse with one handle or two, a flap and a clasp."""
    w, d, h = 1.0, rng.uniform(0.25, 0.5), rng.uniform(0.55, 0.95)
    body = rounded_box((d, w, h), rng.uniform(0.05, 0.4) * d, 4).painted([0, 0, 0, 0, 0, 0])
    body = _bulged(body, rng.uniform(0, 0.25))
    body = tapered(tapered(body, rng.uniform(0.45, 0.95), 0), rng.uniform(0.7, 1.1), 1)
    parts = [body]
    thick = rng.uniform(0.018, 0.035)
    wide, high = rng.uniform(0.35, 0.65), rng.uniform(0.25, 0.7)
    lean = 0.12 * d
    if rng.random() < 0.5:
        parts.append(_strap(wide, high, thick, h / 2 - 0.06, 0, rng.uniform(1, 2)).painted(1))
    else:
        for x in (-1, 1):
            parts.append(_strap(wide, high, thick, h / 2 - 0.08, x * lean * 1.4, 1.3).painted(1))
    if rng.random() < 0.5:
        depth = rng.uniform(0.4, 0.75)
        flap = plate(rounded_outline(0.92, depth * h, 0.2 * h), 0.03, bevel=0.012, slot=2)
        front = body.box[1][0] * 0.93
        lean = np.arctan2(d * 0.15, h)
        parts.append(flap.turned(1, -lean).shifted(front - 0.02, 0, h / 2 - depth * h / 2))
        parts.append(knob(0.05, 0.05, (front, 0, h / 2 - depth * h + 0.08), 3, 0.01))
    elif rng.random() < 0.6:
        parts.append(rod((0, -0.32 * w, h / 2), (0, 0.32 * w, h / 2), 0.02, 3))
    cover = pick(rng, ("leather", "cloth", "pattern", "plain"), (4, 2, 1, 1))
    return Shape(join(parts), (cover, pick(rng, (cover, "leather", "metal")), cover, "metal"))


def shopping_bag(rng: np.random.Generator) -> Shape:
    """A paper or cloth bag, open above, with two looped handles."""
    w, d, h = rng.uniform(0.6, 0.9), rng.uniform(0.2, 0.45), 1.0
    body = box().scaled(d, w, h).painted([0, 0, 1, 1, 2, 1])
    body = tapered(body, rng.uniform(0.8, 1.1), 0)
    top = d * rng.uniform(0.88, 0.9)
    parts = [body, slab((top * 0.85, 0.97 * w, 0.004), (0, 0, h / 2 + 0.003), 2)]
    high = rng.uniform(0.2, 0.5)
    for x in (-1, 1):
        strap = _strap(0.4 * w, high, 0.015, 0, 0, 1.0).turned(1, x * rng.uniform(0, 0.4))
        parts.append(strap.shifted(x * 0.42 * top, 0, h / 2 - 0.03).painted(3))
    outside = pick(rng, ("label", "photo", "plain", "pattern", "cloth"))
    return Shape(join(parts), (outside, pick(rng, (outside, "plain")), "plain", "any"))


def backpack(rng: np.random.Generator) -> Shape:
    """A backpack: main bag, front pocket, side pockets, straps on its back."""
    w, d, h = rng.uniform(0.6, 0.8), rng.uniform(0.3, 0.45), 1.0
    main = rounded_box((d, w, h), 0.45 * d, 4).painted(0)
    main = _bulged(tapered(tapered(main, rng.uniform(0.6, 0.9), 0), rng.uniform(0.8, 1), 1), 0.1)
    parts = [main]
    ph, pw = rng.uniform(0.3, 0.5), 0.8 * w
    pocket = rounded_box((0.16, pw, ph), 0.07, 3).painted(1)
    parts.append(pocket.shifted(d / 2, 0, -h / 2 + ph / 2 + 0.06))
    if rng.random() < 0.6:
        side = rounded_box((0.6 * d, 0.12, 0.35), 0.05, 2).painted(1).shifted(0, w / 2, -0.28)
        parts.append(both_sides(side))
    turn = np.linspace(0, np.pi, 16)
    arch = np.stack([-0.42 * d - 0.22 * np.sin(turn), 0 * turn, 0.42 * np.cos(turn)], -1)
    strap = tube(arch, 0.03, 8).scaled(1, 1.8, 1).shifted(0, 0.22 * w, 0.02).painted(2)
    parts.append(both_sides(strap))
    loop = _strap(0.16, 0.12, 0.018, h / 2 - 0.04, -0.25 * d, 1.3)
    parts.append(loop.painted(2))
    if rng.random() < 0.5:
        zip_turn = np.linspace(0, np.pi, 20)
        path = np.stack(
            [np.full(20, 0.32 * d), 0.4 * w * np.cos(zip_turn), 0.1 + 0.33 * np.sin(zip_turn)], -1
        )
        parts.append(tube(path, 0.012, 6).painted(3))
    cover = pick(rng, ("cloth", "pattern", "plain", "leather"), (4, 2, 1, 1))
    return Shape(join(parts), (cover, pick(rng, (cover, "plain", "cloth")), "cloth", "plain"))


def sack(rng: np.random.Generator) -> Shape:
    """A tied sack or a pouch, with folds towards its neck."""
    neck = rng.uniform(0.08, 0.16)
    h = rng.uniform(0.65, 0.8)
    line = [(0, 0), (0.36, 0), (0.44, 0.06), (0.47, 0.25), (0.42, 0.45), (0.25, h - 0.08)]
    line += [(neck, h), (neck * 1.4, h + 0.08), (neck * 2, 1)]

    outer = smooth_path(line, 36)
    outer[:, 0] = np.maximum(outer[:, 0], 0)
    body = lathe([*outer, (0, 0.96)], 60).painted([0, 0])
    folds, phase = int(rng.integers(7, 13)), rng.uniform(0, 6)
    depth = rng.uniform(0.05, 0.16)

    def fold(v: Points) -> Points:
        angle = np.arctan2(v[:, 1], v[:, 0])
        near = np.exp(-(((v[:, 2] - h) / 0.22) ** 2))
        wave = 1 + depth * np.sin(folds * angle + phase) * near
        soft = 1 + 0.05 * np.sin(2 * angle + phase) + 0.03 * np.sin(3 * angle + 6 * v[:, 2])
        return np.column_stack([v[:, :2] * (wave * soft)[:, None], v[:, 2]])

    cord = lathe([(neck, h - 0.03), (neck + 0.04, h), (neck, h + 0.03)], 24).painted(1)
    solid = join([body.deformed(fold), cord]).scaled(rng.uniform(0.6, 1), 1, rng.uniform(0.9, 1.3))
    return Shape(solid, (pick(rng, ("cloth", "plain", "leather", "label", "pattern")), "any"))


def suitcase(rng: np.random.Generator) -> Shape:
    """A trolley case, standing, or a case with a handle on its long side."""
    trolley = rng.random() < 0.65
    w, d = rng.uniform(0.6, 0.75), rng.uniform(0.22, 0.35)
    size = (d, w, 1.0) if trolley else (d, 1.0, w)
    slots = [0, 0, 0, 0, 0, 0]
    parts = [rounded_box(size, rng.uniform(0.1, 0.4) * d, 4).painted(slots)]
    if rng.random() < 0.6:
        for y in np.linspace(-0.36, 0.36, int(rng.integers(3, 7))) * size[1]:
            parts.append(both_faces(d, float(y), 0.8 * size[2]))
    parts.append(slab((0.015, size[1] * 1.004, size[2] * 1.004), slot=1, radius=0.005))
    grip = _strap(0.22, 0.06, 0.018, size[2] / 2, 0, 1.3)
    parts.append(grip.painted(1))
    if trolley:
        parts += legs(
            0.3 * d,
            0.38 * w,
            lambda x, y: knob(0.045, 0.04, (x - 0.02, y, -0.53), 1).scaled(1, 1, 1),
        )
        if rng.random() < 0.5:
            high = rng.uniform(0.2, 0.5)
            pole = rod((-0.35 * d, 0.16, 0.45), (-0.35 * d, 0.16, 0.5 + high), 0.014, 2)
            parts += [both_sides(pole)]
            parts.append(
                rod((-0.35 * d, -0.18, 0.5 + high), (-0.35 * d, 0.18, 0.5 + high), 0.024, 1)
            )
    else:
        for y in (-0.3, 0.3):
            parts.append(slab((0.03, 0.06, 0.1), (d / 2, y, 0.35 * w), 2, 0.01))
    cover = pick(rng, ("plain", "leather", "pattern", "cloth", "metal"))
    return Shape(join(parts), (cover, "plain", "metal"))


def both_faces(depth: float, y: float, length: float) -> Solid:
    """A rib on the front and on the back."""
    rib = rod((depth / 2, y, -length / 2), (depth / 2, y, length / 2), 0.018, 0, 8)
    return join([rib, rib.scaled(-1, 1, 1)])


def cushion(rng: np.random.Generator) -> Shape:
    """A cushion or a pillow, a bean bag's shape, standing or lying."""
    t = np.linspace(-1, 1, 25)
    a, b = np.meshgrid(t, t)
    fat = rng.uniform(0.15, 0.4)
    thick = fat * ((1 - a**2) * (1 - b**2)) ** rng.uniform(0.35, 0.6)
    pinch = rng.uniform(0, 0.12)
    y, z = a * (1 - pinch * (1 - b**2)), b * (1 - pinch * (1 - a**2))

    uv = np.stack([a, -b], -1) / 2 + 0.5
    front = grid_surface(np.stack([thick, y, z], -1), uv)
    back = grid_surface(np.stack([-thick, y, z], -1), uv, slot=1)
    solid = join([front, back]).scaled(0.5, 0.5, 0.5 * rng.uniform(0.5, 1))
    if rng.random() < 0.4:
        edge = np.concatenate([np.stack([0 * t, y[k], z[k]], -1) for k in (0, -1)])
        rim = np.concatenate(
            [
                edge[:25],
                np.stack([0 * t, y[:, -1], z[:, -1]], -1),
                edge[:24:-1],
                np.stack([0 * t, y[::-1, 0], z[::-1, 0]], -1),
            ]
        )
        cord = tube(rim * [0.5, 0.5, 0.5 * solid.box[1][2] / 0.5], 0.012, 6).painted(2)
        solid = join([solid, cord])
    cover = pick(rng, ("cloth", "pattern", "photo", "fur"), (3, 3, 1, 1))
    return Shape(solid, (cover, pick(rng, (cover, "cloth")), "any"))


def barrel(rng: np.random.Generator) -> Shape:
    """A barrel or a drum with hoops."""
    belly = rng.uniform(1.0, 1.3)
    z = np.linspace(0, 1, 14)
    r = 0.34 * (1 + (belly - 1) * np.sin(np.pi * z))
    parts = [
        lathe(
            [
                (0, 0.03),
                (r[0] - 0.02, 0.03),
                (r[0] - 0.02, 0),
                *np.stack([r, z], -1),
                (r[-1] - 0.02, 1),
                (r[-1] - 0.02, 0.97),
                (0, 0.97),
            ],
            40,
            3,
        ).painted([0, 1])
    ]
    for at in pick(rng, ((0.04, 0.3, 0.7, 0.96), (0.02, 0.98), (0.15, 0.5, 0.85))):
        radius = float(np.interp(at, z, r)) + 0.012
        parts.append(disc(radius, 0.04, 2).shifted(z=at - 0.02))
    return Shape(join(parts), (pick(rng, ("wood", "metal", "plain", "pattern")), "wood", "metal"))


FAMILIES = {
    "handbag": Family(handbag, 2.5),
    "shopping bag": Family(shopping_bag, 1.5),
    "backpack": Family(backpack, 2.5),
    "sack": Family(sack, 1.0, "any"),
    "suitcase": Family(suitcase, 1.5),
    "cushion": Family(cushion, 1.2, "any"),
    "barrel": Family(barrel, 0.6),
}
