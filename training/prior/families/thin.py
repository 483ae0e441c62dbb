"""Cutlery, pens, keys, spectacles, baskets: things that are thin or of wire.

It does not know what they are for.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.family import Family
from training.prior.families.parts import (
    bars,
    both_sides,
    limb,
    pick,
    polar_outline,
    ring,
    rod,
    slab,
    with_hole,
)
from training.prior.primitives import extrude, lathe, smooth_path, superquadric, tube
from training.prior.solids import Points, Shape, join


def cutlery(rng: np.random.Generator) -> Shape:
    """A spoon, a fork or a knife, upright, its inside to the front."""
    kind = pick(rng, ("spoon", "fork", "knife"))
    end, neck = rng.uniform(0.035, 0.06), rng.uniform(0.012, 0.02)
    t = 0.012
    grip = [(0, 0.6 * end, t, 0), (0.03, end, t, 0), (0.3, 0.7 * end, t, 0), (0.55, neck, t, -0.01)]
    if kind == "knife":
        blade = [
            (0.52, neck, t, 0),
            (0.58, 0.05, 0.006, 0),
            (0.85, 0.05, 0.005, 0),
            (1.0, 0.006, 0.004, 0),
        ]
        handle = limb([(0, 0.03, 0.02, 0), (0.1, 0.045, 0.025, 0), (0.5, 0.03, 0.02, 0)])
        edge = limb(blade).deformed(lambda v: v + np.array([0, 0.02, 0]))
        return Shape(
            join([handle.painted(1), edge]), ("metal", pick(rng, ("metal", "wood", "plain")))
        )
    if kind == "spoon":
        wide = rng.uniform(0.09, 0.14)
        parts = [limb([*grip, (0.66, neck, t, -0.02)])]
        head = superquadric(1, 1, 16, 24).scaled(0.03, 2 * wide, 0.36).shifted(0, 0, 0.82)
        deep = rng.uniform(0.04, 0.09)

        def cupped(v: Points) -> Points:
            share = (v[:, 1] / wide) ** 2 + ((v[:, 2] - 0.82) / 0.18) ** 2
            return v + np.stack([-deep * np.clip(1 - share, 0, 1), 0 * share, 0 * share], -1)

        parts.append(head.deformed(cupped))
    else:
        parts = [limb([*grip, (0.68, neck, t, -0.03)])]
        wide = rng.uniform(0.07, 0.1)
        palm = limb(
            [(0.66, neck, 0.012, -0.03), (0.72, wide, 0.012, -0.04), (0.8, wide, 0.012, -0.03)]
        )
        parts.append(palm)
        for y in np.linspace(-1, 1, int(rng.integers(3, 5))) * (wide - 0.012):
            line = smooth_path([(-0.03, y, 0.78), (-0.02, y, 0.88), (0.02, y, 1.0)], 8)
            parts.append(tube(line, np.linspace(0.014, 0.007, 8), 8))
    return Shape(join(parts).painted(0), (pick(rng, ("metal", "metal", "wood", "plain")),))


def pen(rng: np.random.Generator) -> Shape:
    """A pen, a pencil, a marker, a brush, a candle, a lipstick."""
    r = rng.uniform(0.03, 0.09)
    kind = pick(rng, ("pencil", "pen", "marker", "brush"))
    if kind == "pencil":
        parts = [
            lathe([(0, 0), (r, 0), (r, 0.82)], 6).painted([0, 0]),
            lathe([(r, 0.82), (0.25 * r, 0.96)], 12).painted(1),
            lathe([(0.25 * r, 0.96), (0, 1)], 12).painted(2),
        ]
    elif kind == "brush":
        parts = [limb([(0, 0.4 * r, 0.4 * r, 0), (0.3, r, r, 0), (0.62, 0.5 * r, 0.5 * r, 0)])]
        parts.append(lathe([(0.7 * r, 0.6), (r, 0.8), (0, 0.8)], 16).painted(2))
        parts.append(lathe([(r, 0.8), (1.15 * r, 0.88), (0.7 * r, 0.96), (0, 1.0)], 16).painted(1))
    else:
        n = 0.4 * r if kind == "pen" else 0.95 * r
        parts = [
            lathe([(0, 0), (0.9 * r, 0), (r, 0.01), (r, 0.6)], 20).painted([0, 0]),
            lathe([(1.06 * r, 0.6), (1.06 * r, 0.86), (n, 0.97), (0.3 * n, 1), (0, 1)], 20).painted(
                1
            ),
        ]
        parts.append(slab((0.25 * r, 0.4 * r, 0.25), (1.3 * r, 0, 0.2), 2))
        parts.append(slab((0.5 * r, 0.4 * r, 0.03), (1.1 * r, 0, 0.08), 2))
    return Shape(
        join(parts),
        (pick(rng, ("plain", "pattern", "wood", "label")), pick(rng, ("wood", "plain")), "metal"),
    )


def key(rng: np.random.Generator) -> Shape:
    """A key, an opener or a tag with a hole."""
    outer, inner = rng.uniform(0.14, 0.22), rng.uniform(0.3, 0.6)
    lobes, deep = int(rng.integers(0, 5)), rng.uniform(0, 0.15)
    head = polar_outline(lambda a: outer * (1 + deep * np.cos(lobes * a + np.pi / 2)), 32)
    hole = polar_outline(lambda a: 0 * a + outer * inner, 18)
    t = rng.uniform(0.03, 0.06)
    parts = [extrude(with_hole(head, hole), t).painted(0).shifted(0, 0, 1 - outer)]
    if rng.random() < 0.6:
        parts.append(rod((0, 0, 0), (0, 0, 1 - 1.8 * outer), 0.6 * t + 0.012, 0))
        for z in rng.uniform(0.04, 0.24, int(rng.integers(1, 4))):
            parts.append(slab((0.8 * t, rng.uniform(0.08, 0.16), 0.06), (0, 0.08, z), 0))
    else:
        n = int(rng.integers(4, 8))
        z = np.linspace(0.04, 0.5, n)
        teeth = np.stack([0.02 + 0.035 * rng.random(n), z], -1)
        line = [(0.0, 0.0), *teeth, (0.06, 0.56), (0.06, 0.75), (-0.06, 0.75), (-0.06, 0.03)]
        parts.append(extrude(np.array(line), 0.7 * t).painted(0))
    if rng.random() < 0.3:
        parts.append(ring(0.16, 0.012, (0, 0, 1.06), 1, "y"))
    return Shape(join(parts), ("metal", "metal"))


def spectacles(rng: np.random.Generator) -> Shape:
    """Glasses with rims, a bridge and arms; some dark."""
    w, h = rng.uniform(0.2, 0.26), rng.uniform(0.15, 0.22)
    power = rng.uniform(0.5, 1.0)
    turn = np.linspace(0, 2 * np.pi, 28)
    c, s = np.cos(turn), np.sin(turn)
    y = np.sign(c) * np.abs(c) ** power * w
    z = np.sign(s) * np.abs(s) ** power * h
    wire = rng.uniform(0.012, 0.035)
    rim = np.stack([-0.03 * (y / w) ** 2 * (y > 0), 0.28 + y, z], -1)
    parts = [both_sides(tube(rim, wire, 8).painted(0))]
    outline = np.stack([y[:-1], z[:-1]], -1)
    if rng.random() < 0.7:
        lens = extrude(outline, 0.012).shifted(0, 0.28, 0).painted(1)
        parts.append(both_sides(lens))
    arch = np.linspace(0, np.pi, 8)
    gap = 0.28 - w
    parts.append(
        tube(
            np.stack([0 * arch, (gap + 0.01) * np.cos(arch), 0.05 + 0.04 * np.sin(arch)], -1), wire
        ).painted(0)
    )
    far = 0.28 + w
    arm = smooth_path(
        [(0, far, 0.06), (-0.06, far + 0.03, 0.06), (-0.7, far, 0.05), (-0.95, far - 0.02, -0.12)],
        14,
    )
    parts.append(both_sides(tube(arm, wire * 0.8, 6).painted(0)))
    return Shape(
        join(parts), (pick(rng, ("plain", "metal", "pattern")), pick(rng, ("glaze", "plain")))
    )


def hanger(rng: np.random.Generator) -> Shape:
    """A coat hanger, a triangle, a horseshoe: one bent rod."""
    kind = pick(rng, ("hanger", "horseshoe", "clip"))
    if kind == "hanger":
        hook = np.linspace(-0.3 * np.pi, np.pi, 14)
        r = 0.07
        neck = np.stack([0 * hook, -r * np.cos(hook) * 1.0, 0.42 + r * np.sin(hook)], -1)[::-1]
        shoulders = tube(
            [(0, -0.5, 0), (0, -0.45, 0.06), (0, 0, 0.25), (0, 0.45, 0.06), (0, 0.5, 0)], 0.02
        )
        top = tube(np.concatenate([neck, [[0, 0, 0.3], [0, 0, 0.24]]]), 0.012)
        parts = [
            shoulders.scaled(rng.uniform(1, 3), 1, 1).painted(0),
            top.painted(1),
            rod((0, -0.49, 0), (0, 0.49, 0), 0.014, 0),
        ]
        return Shape(join(parts), (pick(rng, ("wood", "plain", "metal")), "metal"))
    if kind == "horseshoe":
        turn = np.linspace(-0.25 * np.pi, 1.25 * np.pi, 24)
        path = np.stack([0 * turn, 0.4 * np.cos(turn), 0.45 * np.sin(turn)], -1)
        return Shape(
            tube(path, rng.uniform(0.05, 0.1)).scaled(rng.uniform(0.5, 1.2), 1, 1), ("metal",)
        )
    half = np.linspace(-np.pi / 2, np.pi / 2, 10)
    points = []
    for k, (r, low, high) in enumerate(((0.2, -0.3, 0.3), (0.16, -0.1, 0.35), (0.12, -0.2, 0.25))):
        side = 1 if k % 2 == 0 else -1
        centre = high if k % 2 == 0 else low
        points.append(
            np.stack([0 * half, r * np.sin(half) * -side, centre + side * r * np.cos(half)], -1)
        )
    return Shape(
        tube(np.concatenate(points) * [1, 1, rng.uniform(0.7, 1.5)], rng.uniform(0.015, 0.04)),
        (pick(rng, ("metal", "plain")),),
    )


def racket(rng: np.random.Generator) -> Shape:
    """A racket with strings, a bat, a magnifier, a hand mirror, a fan, a lollipop."""
    kind = pick(rng, ("strings", "bat", "glass"))
    wide, high = rng.uniform(0.2, 0.3), rng.uniform(0.2, 0.36)
    turn = np.linspace(0, 2 * np.pi, 30)
    z0 = 1 - high
    frame = np.stack([0 * turn, wide * np.cos(turn), z0 + high * np.sin(turn)], -1)
    grip = rod((0, 0, 0), (0, 0, 0.3), rng.uniform(0.03, 0.05), 1)
    parts = [grip, rod((0, 0, 0.25), (0, 0, 1 - 1.95 * high), 0.02, 0)]
    if kind == "bat":
        oval = polar_outline(
            lambda a: wide * high / np.hypot(high * np.cos(a), wide * np.sin(a)), 32
        )
        parts.append(extrude(oval, 0.05, 0.01).painted([2, 2, 0]).shifted(0, 0, z0))
    else:
        parts.append(tube(frame, rng.uniform(0.018, 0.035), 8).painted(0))
        if kind == "glass":
            oval = polar_outline(
                lambda a: wide * high / np.hypot(high * np.cos(a), wide * np.sin(a)), 32
            )
            parts.append(extrude(oval, 0.015).painted(2).shifted(0, 0, z0))
        else:
            s = np.linspace(-0.85, 0.85, int(rng.integers(6, 11)))
            reach, zero = np.sqrt(1 - s * s), np.zeros_like(s)
            for line in (
                (zero, wide * s, z0 + high * reach, wide * s, z0 - high * reach),
                (zero, wide * reach, z0 + high * s, -wide * reach, z0 + high * s),
            ):
                start, end = np.stack(line[:3], -1), np.stack((zero, *line[3:]), -1)
                parts.append(bars(start, end, 0.005, 3, 4))
    return Shape(
        join(parts),
        (
            pick(rng, ("plain", "wood", "metal")),
            pick(rng, ("leather", "wood", "plain")),
            pick(rng, ("plain", "glaze", "photo")),
            "plain",
        ),
    )


def wire_frame(rng: np.random.Generator) -> Shape:
    """A basket, a cage, a rack: bars along the edges and on the sides."""
    x, y, z = rng.uniform(0.4, 1), rng.uniform(0.5, 1), rng.uniform(0.3, 1)
    r = rng.uniform(0.012, 0.03)
    flare = rng.uniform(1, 1.3)
    levels = np.linspace(0, z, int(rng.integers(2, 5)))
    wide = 1 + (flare - 1) * levels / z
    corners = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)]) * [x / 2, y / 2]
    high = np.broadcast_to(levels[:, None, None], (len(levels), 4, 1))
    hoops = np.concatenate([wide[:, None, None] * corners, high], 2)
    ends = np.roll(hoops, -1, axis=1)
    parts = [
        bars(hoops[:-1].reshape(-1, 3), ends[:-1].reshape(-1, 3), r),
        bars(hoops[-1], ends[-1], 1.4 * r),
    ]
    s = np.linspace(-0.5, 0.5, int(rng.integers(2, 7)))
    half = np.full_like(s, 0.5)
    around = [np.stack(side, -1) for side in ((half, s), (-half, s), (s, half), (s, -half))]
    feet = np.column_stack([np.concatenate(around) * [x, y], np.zeros(4 * len(s))])
    parts.append(bars(feet, feet * [flare, flare, 1] + [0, 0, z], r))
    parts.append(bars(feet[: len(s)], feet[len(s) : 2 * len(s)], r))
    if rng.random() < 0.4:
        turn = np.linspace(0, np.pi, 16)
        parts.append(
            tube(
                np.stack([0 * turn, 0.5 * flare * y * np.cos(turn), z + 0.4 * np.sin(turn)], -1),
                1.4 * r,
            ).painted(1)
        )
    return Shape(join(parts), (pick(rng, ("metal", "plain", "wood")), pick(rng, ("metal", "wood"))))


FAMILIES = {
    "cutlery": Family(cutlery, 1.5, "flat"),
    "pen": Family(pen, 1.0, "flat"),
    "key": Family(key, 0.8, "flat"),
    "spectacles": Family(spectacles, 1.0),
    "hanger": Family(hanger, 0.5, "flat"),
    "racket": Family(racket, 1.0, "flat"),
    "wire frame": Family(wire_frame, 0.7),
}
