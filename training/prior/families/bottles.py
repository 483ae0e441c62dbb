"""Bottles, cans, jars, vases, glasses: closed or slender vessels, turned on a lathe.

It does not know what is in them.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.family import Family
from training.prior.families.parts import disc, hollow, pick, rod, slab, squared
from training.prior.families.vessels import WARES, handle
from training.prior.primitives import lathe, smooth_path, tube
from training.prior.solids import Points, Shape, Solid, join


def _shoulder(wide: float, narrow: float, low: float, high: float, shape: float) -> Points:
    """A smooth step of a profile from one radius to another, [8, 2] of (radius, z)."""
    t = np.linspace(0, 1, 8)
    s = (3 * t * t - 2 * t**3) ** shape
    return np.stack([wide + (narrow - wide) * s, low + (high - low) * t], -1)


def bottle(rng: np.random.Generator) -> Shape:
    """Wine, water, shampoo, sauce: a body, a neck, a cap and often a label."""
    r = rng.uniform(0.14, 0.3)
    neck = r * rng.uniform(0.25, 0.6)
    low = rng.uniform(0.45, 0.68)
    high = low + rng.uniform(0.08, 0.25)
    shoulder = _shoulder(r, neck, low, high, rng.uniform(0.5, 1.5))
    top = max(high + 0.02, 1 - rng.uniform(0.03, 0.15))
    waist = rng.uniform(0.8, 1) if rng.random() < 0.2 else 1.0
    line = [(0, 0), (0.93 * r, 0), (r, 0.025), (waist * r, 0.3 * low), *shoulder, (neck, top)]
    parts = [lathe(line, 36).painted(0)]
    cap = neck * rng.uniform(1.0, 1.3)
    end = top + rng.uniform(0.04, 0.15)
    parts.append(
        lathe([(neck, top), (cap, top), (cap, end - 0.01), (cap - 0.01, end), (0, end)], 28)
    )
    parts[-1] = parts[-1].painted(1)
    if rng.random() < 0.7 and waist == 1:
        a, b = rng.uniform(0.06, 0.2), rng.uniform(0.75, 0.98)
        band = [(1.006 * r, a), (1.006 * r, b * low)]
        parts.append(lathe(band, 36, pick(rng, (1, 1, 2))).painted(2))
    solid = join(parts)
    kind = rng.random()
    if kind < 0.25:
        solid = squared(solid, rng.uniform(2.5, 8))
    if kind < 0.4:
        solid = solid.scaled(rng.uniform(0.4, 1), 1, 1)
    elif kind < 0.5:
        at = np.interp([0.85 * high, 0.45 * low], [0, low, high], [r, r, neck])
        grip = handle(rng, np.array([at[0], high]), np.array([at[1], 0.4]), rng.uniform(0.1, 0.2))
        solid = join([solid, grip.turned(2, np.pi / 2).painted(0)])
    elif kind < 0.6:
        solid = join([solid, *_pump(rng, end, neck)])
    body = pick(rng, ("plain", "glaze", "label", "pattern", "any"), (4, 3, 2, 1, 1))
    return Shape(solid, (body, pick(rng, ("plain", "metal")), "label"))


def _pump(rng: np.random.Generator, z: float, radius: float) -> list[Solid]:
    """A pump head or a sprayer on a cap."""
    stem = rod((0, 0, z), (0, 0, z + 0.1), 0.25 * radius, 1)
    head = slab((0.9 * radius, 1.0 * radius, 0.04), (0, 0, z + 0.1), 1, 0.015)
    path = [(0, 0, z + 0.1), (0, 0.12, z + 0.1), (0, 0.15, z + 0.07)]
    nose = tube(path, 0.02).painted(1)
    return [stem, head, nose if rng.random() < 0.5 else nose.mirrored()]


def can(rng: np.random.Generator) -> Shape:
    """A drink can, a food tin, a spray, a battery: a cylinder with worked ends."""
    r = rng.uniform(0.16, 0.6)
    b = rng.uniform(0.005, 0.05)
    g = b * rng.uniform(0.5, 1.6)
    line = [(0, 0.02), (r - b - 0.02, 0.02), (r - b - 0.02, 0), (r - b, 0)]
    end = [(r - b, 1), (r - b - 0.015, 1), (r - b - 0.025, 1 - 0.03), (0, 1 - 0.03)]
    parts = [
        lathe(line, 40).painted(1),
        lathe([(r - b, 0), (r, g), (r, 1 - g), (r - b, 1)], 40, pick(rng, (1, 1, 2))).painted(0),
        lathe(end, 40).painted(1),
    ]
    kind = rng.random()
    if kind < 0.3:  # the ring to pull
        tab = slab((0.35 * r, 0.18 * r, 0.01), (0.15 * r, 0, 0.98), 1, 0.004)
        parts.append(tab.turned(2, rng.uniform(0, 6.3)))
    elif kind < 0.5:  # a spray's head or a battery's pole
        n = rng.uniform(0.3, 0.9) * (r - b)
        parts.append(disc(n, rng.uniform(0.05, 0.3), 2, 0.02).shifted(z=0.97))
    elif kind < 0.6:
        for z in np.linspace(0.25, 0.75, int(rng.integers(2, 7))):
            parts.append(lathe([(r, z - 0.02), (1.02 * r, z), (r, z + 0.02)], 32).painted(0))
    solid = join(parts).scaled(1, 1, rng.uniform(0.5, 1.2))
    return Shape(
        solid, (pick(rng, ("label", "pattern", "metal", "plain"), (6, 1, 1, 1)), "metal", "any")
    )


def jar(rng: np.random.Generator) -> Shape:
    """A jar with a lid: jam, cream, spices, a biscuit jar with a knob."""
    r, low, high = rng.uniform(0.3, 0.55), rng.uniform(0.55, 0.8), rng.uniform(0.8, 0.88)
    neck = r * rng.uniform(0.7, 0.98)
    line = [(0, 0), (0.9 * r, 0), (r, 0.05), *_shoulder(r, neck, low, high, 1.0)]
    cap = neck * rng.uniform(1.0, 1.12)
    parts = [
        lathe(line, 40).painted(0),
        lathe([(neck, high), (cap, high), (cap, 0.98), (cap - 0.02, 1), (0, 1)], 40).painted(
            [1, 1]
        ),
    ]
    if rng.random() < 0.7:
        a, b = rng.uniform(0.08, 0.2), rng.uniform(0.8, 1)
        parts.append(lathe([(1.006 * r, a), (1.006 * r, b * low)], 40).painted(2))
    solid = join(parts)
    if rng.random() < 0.2:
        solid = squared(solid, rng.uniform(3, 7))
    if rng.random() < 0.15:
        top = lathe([(0, 0), (0.03, 0), (0.07, 0.05), (0.05, 0.1), (0, 0.11)], 20)
        solid = join([solid, top.shifted(z=1).painted(1)])
    body = pick(rng, ("food", "glaze", "plain", "any"))
    return Shape(
        solid.scaled(1, 1, rng.uniform(0.6, 1.2)), (body, pick(rng, ("metal", "plain")), "label")
    )


def vase(rng: np.random.Generator) -> Shape:
    """A vase of any outline, some with two handles or square."""
    count = int(rng.integers(3, 6))
    radii = rng.uniform(0.12, 0.5, count)
    radii[0] = max(radii[0], 0.15)
    outer = smooth_path(np.stack([radii, np.linspace(0, 1, count)], -1), 24)
    outer[:, 0] = np.maximum(outer[:, 0], 0.08)
    body = hollow(outer, 0.03, 0.1)
    parts = [body]
    if rng.random() < 0.25:
        z0, z1 = 0.85, rng.uniform(0.4, 0.6)
        at = np.interp([z0, z1], outer[:, 1], outer[:, 0]) - 0.01
        grip = handle(rng, np.array([at[0], z0]), np.array([at[1], z1]), rng.uniform(0.15, 0.3))
        grip = grip.turned(2, np.pi / 2)
        parts += [grip, grip.mirrored()]
    solid = join(parts)
    if rng.random() < 0.15:
        solid = squared(solid, rng.uniform(3, 8))
    return Shape(solid, (*pick(rng, WARES), "plain"))


def stemmed(rng: np.random.Generator) -> Shape:
    """A wine glass, a goblet, an egg cup, a trophy: a bowl on a stem and a foot."""
    stem, low = rng.uniform(0.015, 0.04), rng.uniform(0.25, 0.6)
    foot, r = rng.uniform(0.15, 0.28), rng.uniform(0.15, 0.32)
    mouth = r * rng.uniform(0.65, 1.2)
    cup = smooth_path([(stem, low), (0.75 * r, low + 0.1), (r, low + 0.25), (mouth, 1)], 14)
    line = np.array([(foot, 0), (foot, 0.015), (0.4 * foot, 0.04), (stem, 0.08), *cup])
    parts = [
        hollow(line, 0.012, low + 0.05, rng.uniform(low + 0.1, 0.9) if rng.random() < 0.5 else None)
    ]
    if rng.random() < 0.2:
        at = np.interp([0.95, low + 0.15], cup[:, 1], cup[:, 0]) - 0.005
        grip = handle(rng, np.array([at[0], 0.95]), np.array([at[1], low + 0.15]), 0.2)
        parts += [grip.turned(2, np.pi / 2), grip.turned(2, -np.pi / 2)]
    ware = pick(rng, ("glaze", "plain", "metal", "any"))
    return Shape(join(parts), (ware, ware, "food"))


def turned_stack(rng: np.random.Generator) -> Shape:
    """Discs and cones on one axis: candlesticks, chess men, bollards, salt mills, cones."""
    if rng.random() < 0.25:  # a cone on a plate
        line = [(0, 0.04), (0.32, 0.04), (rng.uniform(0.02, 0.12), 1), (0, 1)]
        base = slab((0.8, 0.8, 0.05), (0, 0, 0.02), 1, 0.01)
        return Shape(
            join([lathe(line, 36).painted(0), base]), (pick(rng, ("pattern", "plain")), "plain")
        )
    count = int(rng.integers(3, 8))
    parts = []
    z = 0.0
    slots = int(rng.integers(1, 4))
    for _ in range(count):
        h, r = rng.uniform(0.05, 0.4), rng.uniform(0.06, 0.35)
        kind = rng.random()
        if kind < 0.4:
            part = disc(r, h, 0, rng.uniform(0, 0.03))
        elif kind < 0.7:
            part = disc(r, h, 0, 0.01, rng.uniform(0.3, 1.2) * r)
        else:
            t = np.linspace(0, np.pi, 12)
            part = lathe(
                np.stack([r * np.sin(t) + 0.02 * (t > 0.1) * (t < 3), h / 2 * (1 - np.cos(t))], -1)
            )
        parts.append(part.painted(int(rng.integers(slots))).shifted(z=z))
        z += 0.97 * h
    finish = pick(rng, ("wood", "plain", "metal", "glaze", "any"))
    return Shape(join(parts), (finish, "any", "plain")[:slots])


FAMILIES = {
    "bottle": Family(bottle, 6.0),
    "can": Family(can, 3.0),
    "jar": Family(jar, 2.5),
    "vase": Family(vase, 2.0),
    "stemmed glass": Family(stemmed, 1.0),
    "turned stack": Family(turned_stack, 1.2),
}
