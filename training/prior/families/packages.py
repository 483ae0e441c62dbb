"""Cartons, books, tins, and what else is a box with pictures on it.

It does not know what the pictures show.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.family import Family
from training.prior.families.parts import both_sides, pick, rod, slab, squared, tapered
from training.prior.primitives import box, extrude, lathe, pitched, rounded_box
from training.prior.solids import Points, Shape, Solid, grid_surface, join

#: Slots of a box's six sides: (front, back, two flanks, top, bottom) by kind of print.
PRINTS = (
    ([0, 0, 1, 1, 2, 2], ("label", "label", "plain")),
    ([0, 1, 2, 2, 3, 3], ("label", "label", "pattern", "plain")),
    ([0, 0, 0, 0, 1, 1], ("label", "plain")),
    ([0, 1, 1, 1, 1, 1], ("photo", "plain")),
    ([0, 0, 0, 0, 0, 0], ("plain",)),
    ([0, 0, 0, 0, 0, 0], ("pattern",)),
    ([0, 1, 2, 3, 4, 5], ("label", "label", "label", "label", "pattern", "plain")),
    ([0, 1, 2, 2, 2, 2], ("photo", "label", "any")),
    ([0, 0, 1, 1, 1, 1], ("pattern", "plain")),
    ([0, 0, 0, 0, 0, 0], ("wood",)),
)


def carton(rng: np.random.Generator) -> Shape:
    """A cardboard box: cereals, medicine, parcels, toothpaste, pizza."""
    sizes = (
        (rng.uniform(0.12, 0.35), rng.uniform(0.5, 0.8), 1.0),  # cereals
        (rng.uniform(0.3, 1), rng.uniform(0.3, 1), rng.uniform(0.3, 1)),  # parcel
        (rng.uniform(0.15, 0.25), 1.0, rng.uniform(0.15, 0.4)),  # lying long
        (rng.uniform(0.6, 1), rng.uniform(0.6, 1), rng.uniform(0.08, 0.25)),  # flat
        (rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.5), 1.0),  # upright
    )
    size = pick(rng, sizes, (3, 3, 1, 1.5, 2))
    slots, finishes = pick(rng, PRINTS)
    body = box().scaled(*size)
    if rng.random() < 0.3:
        body = rounded_box(size, rng.uniform(0.01, 0.06) * min(size))
    solid = body.painted(slots)
    kind = rng.random()
    if kind < 0.12:  # a lid that stands over
        lid = slab((size[0] + 0.03, size[1] + 0.03, 0.3 * size[2]), (0, 0, 0.37 * size[2]))
        return Shape(join([solid, lid.painted(len(finishes))]), (*finishes, "any"))
    if kind < 0.24 and size[2] > 0.25:  # open, its flaps hanging out
        return Shape(
            join([solid, *_flaps(rng, size, len(finishes))]), (*finishes, "plain", "plain")
        )
    return Shape(solid, finishes)


def _flaps(rng: np.random.Generator, size: tuple[float, float, float], slot: int) -> list[Solid]:
    """The four flaps of an open box and its dark inside."""
    x, y, z = size
    parts = [slab((0.94 * x, 0.94 * y, 0.004), (0, 0, z / 2), slot + 1)]
    for side in range(4):
        far, wide = (x / 2, y) if side % 2 == 0 else (y / 2, x)
        length = rng.uniform(0.3, 0.5) * x
        flap = slab((length, wide, 0.012), (length / 2, 0, 0), slot)
        flap = flap.rotated(pitched(rng.uniform(-1.1, 1.2))).shifted(far, 0, z / 2)
        parts.append(flap.turned(2, side * np.pi / 2))
    return parts


def drink_carton(rng: np.random.Generator) -> Shape:
    """Milk or juice: a box with a gable or a slanted top and often a cap."""
    w, d = rng.uniform(0.3, 0.5), rng.uniform(0.3, 0.45)
    h = rng.uniform(0.7, 0.85)
    body = box().scaled(d, w, h).shifted(0, 0, h / 2)
    slots, finishes = pick(rng, PRINTS[:4])
    parts = [body.painted(slots)]
    plain, cap = len(finishes), len(finishes) + 1
    rise = 1 - h
    if rng.random() < 0.7:
        gable = extrude([(-d / 2, 0), (d / 2, 0), (0.01, rise), (-0.01, rise)], w)
        parts.append(gable.turned(2, np.pi / 2).shifted(0, 0, h).painted(plain))
        parts.append(slab((0.02, w, 0.08), (0, 0, 1.03), plain))
        spot = (d / 4, 0.0, h + rise / 2)
    else:
        spot = (d / 5, 0.0, h)
    if rng.random() < 0.7:
        lid = lathe([(0, 0), (0.07, 0), (0.07, 0.07), (0, 0.07)], 20).painted(cap)
        lean = np.arctan2(rise, d / 2) if spot[2] > h else 0.0
        parts.append(lid.turned(1, lean).shifted(*spot))
    elif rng.random() < 0.5:
        parts.append(rod((d / 6, w / 5, h), (d / 5, w / 4, h + 0.35), 0.015, cap))
    return Shape(join(parts), (*finishes, "plain", "any"))


def book(rng: np.random.Generator) -> Shape:
    """A closed book or a few of them, standing or lying."""
    count = 1 if rng.random() < 0.7 else int(rng.integers(2, 5))
    parts: list[Solid] = []
    finishes: list[str] = []
    level = 0.0
    for _ in range(count):
        w, thick = rng.uniform(0.6, 0.85), rng.uniform(0.03, 0.22)
        scale = 1.0 if count == 1 else rng.uniform(0.75, 1)
        one = _book(rng, w, thick).scaled(1, scale, scale)
        if count > 1:  # a pile
            one = one.rotated(pitched(np.pi / 2)).turned(2, rng.normal(0, 0.25))
            one = one.shifted(0, 0, level + thick / 2)
            level += thick
        parts.append(one.painted([len(finishes) + k for k in range(4)]))
        cover = pick(rng, ("photo", "label", "cloth", "pattern", "leather"), (3, 4, 1, 1, 1))
        finishes += [cover, pick(rng, (cover, "plain", "label")), "plain", "label"]
    solid = join(parts)
    if count == 1 and rng.random() < 0.35:
        solid = solid.rotated(pitched(np.pi / 2))
    return Shape(solid, tuple(finishes))


def _book(rng: np.random.Generator, width: float, thick: float) -> Solid:
    """Slots: front cover, back cover, pages, spine. Its spine is at the left."""
    board = 0.012
    overhang = 0.02 if rng.random() < 0.6 else 0.0
    front = slab((board, width, 1), (thick / 2 - board / 2, 0, 0), 0)
    back = slab((board, width, 1), (board / 2 - thick / 2, 0, 0), 1)
    inner = slab((thick - 2 * board, width - overhang, 1 - 2 * overhang), (0, -overhang / 2, 0), 2)
    if rng.random() < 0.5:
        turn = np.linspace(np.pi / 2, 3 * np.pi / 2, 9)
        bulge = rng.uniform(0.1, 0.5)
        arc = np.stack([thick / 2 * np.sin(turn), bulge * thick / 2 * np.cos(turn)], -1)
        spine = _along_z(arc).shifted(0, -width / 2, 0).painted(3)
    else:
        spine = slab((thick, board, 1), (0, -width / 2, 0), 3)
    return join([front, back, inner, spine])


def _along_z(section: Points) -> Solid:
    """A bar of length 1 along z with a section [m, 2] in x-y."""
    bar = extrude(section, 1.0)
    return bar.deformed(lambda v: np.stack([v[:, 1], v[:, 2], v[:, 0]], -1))


def tin(rng: np.random.Generator) -> Shape:
    """A tin or a plastic box with rounded corners and a lid."""
    w, d, h = rng.uniform(0.5, 1), rng.uniform(0.35, 0.9), rng.uniform(0.15, 0.7)
    lid = rng.uniform(0.12, 0.4) * h
    power = pick(rng, (4.0, 6.0, 10.0))
    edge = 0.02

    def part(radius: float, low: float, high: float) -> Solid:
        line = [(0, low), (radius - edge, low), (radius, low + edge), (radius, high - edge)]
        wall = lathe([*line, (radius - edge, high), (0, high)], 48, 2)
        return squared(wall, power)

    body = part(0.5, 0, h - lid).painted([0, 0])
    top = part(0.5 + rng.uniform(0, 0.02), h - lid, h).painted([1, 2])
    if rng.random() < 0.4:
        body = tapered(body, rng.uniform(1.0, 1.15))
        top = top.scaled(1.1, 1.1, 1)
    solid = join([body, top]).scaled(d, w, 1)
    side = pick(rng, ("label", "pattern", "metal", "plain"))
    return Shape(solid, (side, pick(rng, (side, "plain", "metal")), pick(rng, ("label", side))))


def gift(rng: np.random.Generator) -> Shape:
    """A wrapped present with a ribbon and a bow."""
    x, y, z = rng.uniform(0.5, 1), rng.uniform(0.5, 1), rng.uniform(0.3, 1)
    t = rng.uniform(0.04, 0.12)
    parts = [
        box().scaled(x, y, z).painted(0),
        slab((x + 0.01, t, z + 0.01), slot=1),
        slab((t, y + 0.01, z + 0.01), slot=1),
    ]
    turn = np.linspace(0, 2 * np.pi, 17)
    size = rng.uniform(0.12, 0.2)
    loop = np.stack([0 * turn, size * (1 - np.cos(turn)), 0.7 * size * np.sin(turn)], -1)
    bow = _ribbon(loop, t).shifted(0, 0, z / 2 + 0.3 * size).painted(1)
    parts += [both_sides(bow), both_sides(bow).turned(2, np.pi / 2).scaled(0.8)]
    return Shape(join(parts), (pick(rng, ("pattern", "plain", "any")), "cloth"))


def _ribbon(path: Points, width: float) -> Solid:
    """A band along a path in the y-z plane, `width` along x."""
    rails = np.stack([path + np.array([s * width / 2, 0, 0]) for s in (-1, 1)])
    v, u = np.meshgrid(np.linspace(0, 1, len(path)), np.linspace(0, 1, 2))
    return grid_surface(rails, np.stack([u, v], -1))


FAMILIES = {
    "carton": Family(carton, 8.0, "any"),
    "drink carton": Family(drink_carton, 1.5),
    "book": Family(book, 4.0, "any"),
    "tin": Family(tin, 2.0),
    "gift": Family(gift, 0.8),
}
