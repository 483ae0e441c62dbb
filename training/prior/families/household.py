"""Tubes, sprays, bulbs, hats, toasters, irons, dryers, guitars: things about a house.

It does not know which room they are in.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.family import Family
from training.prior.families.parts import (
    ball,
    bars,
    both_sides,
    disc,
    knob,
    legs,
    limb,
    pick,
    plate,
    resampled,
    ring,
    rod,
    slab,
    squared,
)
from training.prior.primitives import (
    extrude,
    lathe,
    loft,
    pitched,
    rounded_box,
    smooth_path,
    superquadric,
    tube,
)
from training.prior.solids import Points, Shape, Solid, grid_surface, join


def squeeze_tube(rng: np.random.Generator) -> Shape:
    """A tube of paste or cream, round at its cap and flat at its end; on its cap or lying."""
    r = rng.uniform(0.12, 0.2)
    z = np.linspace(0.16, 1, 12)[:, None]
    share = (z - 0.16) / 0.84
    turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    wide = r * (1 + rng.uniform(0.1, 0.5) * share)
    thick = r * (1 - share ** rng.uniform(0.8, 1.6)) + 0.006
    along, across = thick * np.cos(turn), wide * np.sin(turn)
    body = loft(np.stack([along, across, np.broadcast_to(z, along.shape)], -1))
    # Its print reads upright on the front.
    uv = np.stack([0.5 + body.vertices[:, 1] / (2.4 * r), 1 - body.vertices[:, 2]], -1)
    body = Solid(body.vertices, body.faces, uv, body.slots, body.smooth).painted([0, 0])
    cap = rng.uniform(0.4, 1.0) * r
    parts = [body, disc(cap, 0.14, 1, 0.012, 0.95 * cap)]
    parts.append(lathe([(cap, 0.13), (r, 0.165)], 28).painted(0))
    solid = join(parts)
    if rng.random() < 0.4:
        solid = solid.turned(0, np.pi)
    if rng.random() < 0.4:
        solid = solid.rotated(pitched(np.pi / 2))
    return Shape(solid, (pick(rng, ("label", "pattern", "plain"), (4, 1, 1)), "plain"))


def trigger_spray(rng: np.random.Generator) -> Shape:
    """A spray bottle with a trigger."""
    r, low = rng.uniform(0.2, 0.3), rng.uniform(0.4, 0.55)
    profile = smooth_path([(r, low), (r, low + 0.02), (0.45 * r, low + 0.15), (0.32 * r, 0.72)], 14)
    body = lathe([(0, 0), (0.95 * r, 0), (r, 0.03), *profile, (0, 0.72)], 36).painted(0)
    power, flat = rng.uniform(2, 5), rng.uniform(0.5, 0.9)
    body = squared(body, power).scaled(flat, 1, 1)
    head = extrude(
        [
            (-0.28, 0.86),
            (-0.28, 0.95),
            (0.02, 1.0),
            (0.14, 0.96),
            (0.16, 0.84),
            (0.06, 0.78),
            (-0.08, 0.78),
        ],
        rng.uniform(0.1, 0.16),
        0.02,
    )
    parts = [body, disc(0.42 * r + 0.02, 0.1, 1).shifted(z=0.7), head.painted(1)]
    lever = smooth_path([(0, -0.14, 0.84), (0, -0.2, 0.76), (0, -0.17, 0.64)], 8)
    parts += [tube(lever, 0.025, 8).painted(2), rod((0, -0.27, 0.905), (0, -0.33, 0.905), 0.03, 2)]
    if rng.random() < 0.7:
        band = 1.02 * r
        label = squared(lathe([(band, 0.12), (band, 0.9 * low)], 36), power)
        parts.append(label.scaled(flat, 1, 1).painted(3))
    solid = join(parts)
    if rng.random() < 0.5:
        solid = solid.turned(2, np.pi)
    return Shape(solid, (pick(rng, ("plain", "glaze", "label")), "plain", "plain", "label"))


def bulb(rng: np.random.Generator) -> Shape:
    """A light bulb on its thread."""
    r, z = rng.uniform(0.24, 0.34), rng.uniform(0.6, 0.7)
    t = np.linspace(-0.9, np.pi / 2, 16)
    glass = np.stack([r * np.cos(t), z + (1 - z) * np.sin(t)], -1)
    neck = rng.uniform(0.11, 0.15)
    parts = [lathe([(neck, 0.24), (neck, 0.3), *glass[:-1], (0, 1)], 36).painted(0)]
    s = np.linspace(0, 1, 30)
    thread = np.stack([neck * (0.95 + 0.06 * np.cos(2 * np.pi * 5 * s)), 0.05 + 0.2 * s], -1)
    parts.append(lathe([(0, 0), (0.4 * neck, 0.0), *thread], 28).painted(1))
    solid = join(parts)
    if rng.random() < 0.5:
        solid = solid.turned(0, rng.uniform(0.5, np.pi))
    return Shape(solid, (pick(rng, ("glaze", "plain")), "metal"))


def hat(rng: np.random.Generator) -> Shape:
    """A cap with a peak, a hat with a brim, a woollen hat with a bobble, a top hat."""
    kind = pick(rng, ("cap", "brim", "wool", "tall", "helmet"))
    t = np.linspace(0, np.pi / 2, 14)
    high = rng.uniform(0.35, 0.55)
    dome = np.stack([0.5 * np.cos(t), high * np.sin(t) ** rng.uniform(0.7, 1)], -1)
    dome[-1, 0] = 0
    crown = lathe([(0, 0), *dome], 40, 2).painted([0, 0])
    parts = [crown]
    if kind == "cap":
        turn = np.linspace(-1.1, 1.1, 24)
        outer = np.stack([0.3 + 0.62 * np.cos(turn), 0.55 * np.sin(turn), 0 * turn], -1)
        inner = np.stack([0.48 * np.cos(turn), 0.46 * np.sin(turn), 0 * turn], -1)
        around = np.stack([inner, outer, outer, inner])
        around[..., 2] = 0.03 - rng.uniform(0.2, 0.6) * around[..., 1] ** 2
        around[:2, :, 2] += 0.025
        u, v = np.meshgrid(np.linspace(0, 1, 24), np.linspace(0, 1, 4))
        peak = grid_surface(around, np.stack([u, v], -1), slot=1, smooth=False)
        parts += [peak, ball(0.03, (0, 0, high), 1)]
        parts[0] = crown.scaled(1.1, 0.95, 1)
    elif kind == "wool":
        ribs = int(rng.integers(14, 30))

        def knitted(v: Points) -> Points:
            wave = 1 + 0.02 * np.cos(ribs * np.arctan2(v[:, 1], v[:, 0]))
            ribbed: Points = v * np.stack([wave, wave, np.full(len(v), 1.3)], -1)
            return ribbed

        parts = [crown.deformed(knitted), disc(0.54, rng.uniform(0.12, 0.2), 1, 0.05, columns=36)]
        if rng.random() < 0.7:
            parts.append(ball(rng.uniform(0.1, 0.18), (0, 0, 1.3 * high + 0.06), 1, 14))
    elif kind == "helmet":
        parts += [disc(0.53, 0.06, 1, 0.02, columns=36)]
        parts[0] = crown.scaled(1.25, 1, 1)
        parts[1] = parts[1].scaled(1.25, 1, 1)
        parts += [
            tube(
                np.stack([0.62 * np.cos(2 * t), 0 * t, 0.02 + high * np.sin(2 * t)], -1), 0.03
            ).painted(1)
        ]
    else:
        reach = rng.uniform(0.7, 0.95)
        if kind == "tall":
            top = rng.uniform(0.45, 0.55)
            line = [(0, 0), (0.45, 0), (0.43, 0.3), (top, 0.8), (0, 0.8)]
            parts[0] = lathe(line, 40).painted([0, 0])
            reach = 0.7
        brim = [
            (0.4, 0.0),
            (0.8 * reach, 0.0),
            (reach, 0.06),
            (reach, 0.08),
            (0.8 * reach, 0.03),
            (0.4, 0.03),
        ]
        parts.append(lathe(brim, 44).painted([0, 0]))
        parts.append(lathe([(0.508, 0.03), (0.5, 0.03 + rng.uniform(0.06, 0.14))], 40).painted(1))
        curl = rng.uniform(0, 0.35)

        def curled(v: Points) -> Points:
            brim = (v[:, 2] < 0.1) & (np.hypot(v[:, 0], v[:, 1]) > 0.51)
            risen: Points = v + np.outer(curl * v[:, 1] ** 2 * brim, [0, 0, 1])
            return risen

        felt = pick(rng, ("cloth", "leather", "plain", "pattern"))
        return Shape(join(parts).deformed(curled).scaled(1.1, 0.95, 1), (felt, "cloth"))
    cover = pick(rng, ("cloth", "pattern", "plain", "label"))
    return Shape(join(parts), (cover, pick(rng, ("cloth", "fur", "plain"))))


def toaster(rng: np.random.Generator) -> Shape:
    """A toaster with slots, a lever and feet, some with toast."""
    w, d, h = 1.0, rng.uniform(0.45, 0.65), rng.uniform(0.55, 0.75)
    parts = [rounded_box((d, w, h), rng.uniform(0.06, 0.2), 4).painted(0).shifted(z=h / 2 + 0.04)]
    parts += legs(0.3 * d, 0.36, lambda x, y: disc(0.04, 0.06, 1).shifted(x, y))
    toast = rng.random() < 0.5
    for x in (-0.17 * d, 0.17 * d):
        parts.append(slab((0.14 * d, 0.7, 0.012), (x, 0, h + 0.037), 1))
        if toast:
            parts.append(slab((0.1 * d, 0.55, 0.4), (x, 0, h + rng.uniform(-0.08, 0.05)), 2, 0.03))
    side = pick(rng, (-1, 1))
    parts.append(slab((0.14, 0.07, 0.05), (0, side * 0.53, rng.uniform(0.3, 0.6)), 1, 0.02))
    dial = disc(0.07, 0.04, 1, 0.01).turned(0, -np.pi / 2).shifted(0.12 * d, 0.5, 0.2)
    parts.append(dial if side > 0 else dial.mirrored())
    solid = join(parts).turned(2, pick(rng, (0, np.pi / 2)))
    return Shape(solid, (pick(rng, ("metal", "plain", "any")), "plain", "food"))


def iron(rng: np.random.Generator) -> Shape:
    """A clothes iron, its point to the front."""
    t = np.linspace(0, 1, 12)
    half = 0.24 * (1 - t**2.2) ** 0.7
    x = -0.5 + t
    edge = np.concatenate(
        [np.stack([x, -half], -1), np.stack([x, half], -1)[::-1][1:-1], [[-0.5, 0.0]]]
    )
    edge = resampled(edge, 40)
    rings = []
    for z, share in ((0, 1.0), (0.05, 1.0), (0.051, 0.93), (0.16, 0.85), (0.26, 0.55), (0.3, 0.3)):
        shrunk = edge * [share, share] + np.array([-0.1 * (1 - share), 0])
        rings.append(np.column_stack([shrunk, np.full(len(edge), z)]))
    body = loft(np.stack(rings)).painted([0, 0])
    middle = body.vertices[body.faces].mean(1)[:, 2]
    body = Solid(body.vertices, body.faces, body.uv, np.where(middle < 0.05, 1, 0), body.smooth)
    grip = smooth_path(
        [(0.2, 0, 0.2), (0.18, 0, 0.42), (-0.1, 0, 0.5), (-0.42, 0, 0.45), (-0.46, 0, 0.1)], 20
    )
    parts = [body, tube(grip, rng.uniform(0.04, 0.065), 12).painted(2)]
    parts.append(disc(0.07, 0.05, 3, 0.01).shifted(-0.1, 0, 0.27))
    return Shape(join(parts), (pick(rng, ("plain", "any")), "metal", "plain", "any"))


def dryer(rng: np.random.Generator) -> Shape:
    """A hair dryer or a drill: a barrel, a grip below, a nozzle."""
    r, long = rng.uniform(0.16, 0.24), rng.uniform(0.6, 0.9)
    line = [(0, -0.3), (0.7 * r, -0.3), (r, -0.2), (r, 0.15), (0.75 * r, long - 0.3)]
    drill = rng.random() < 0.4
    tip = [(0.4 * r, long - 0.28), (0.3 * r, long - 0.1), (0, long - 0.1)]
    if not drill:
        tip = [(0.7 * r, long - 0.3), (0.7 * r, long - 0.34), (0, long - 0.34)]
    barrel = lathe([*line, *tip], 32).painted([0, 1]).turned(0, -np.pi / 2)
    lean = rng.uniform(-0.05, 0.2)
    grip = limb([(-0.7, 0.11, 0.09, 0), (-0.4, 0.09, 0.075, 0), (-0.05, 0.1, 0.08, 0)])
    grip = grip.turned(0, lean).painted(2)
    parts = [barrel, grip, slab((0.05, 0.04, 0.12), (0, 0.11 + 0.15 * lean, -0.28), 1, 0.015)]
    if drill:
        parts.append(rod((0, long - 0.12, 0), (0, long + 0.2, 0), 0.02, 3))
        parts.append(slab((0.24, 0.36, 0.16), (0, 0.1 + 0.7 * lean, -0.75), 1, 0.03))
    else:
        mouth = superquadric(0.4, 0.6, 14, 20).scaled(1.3 * r, 0.2, 0.5 * r)
        parts.append(mouth.shifted(0, long - 0.26, 0).painted(1))
        cord = [
            (0, 0.7 * lean, -0.68),
            (0, 0.72 * lean, -0.8),
            (0.02, 0.2, -0.9),
            (0.05, 0.4, -0.86),
        ]
        parts.append(tube(smooth_path(cord, 14), 0.018, 8).painted(1))
    solid = join(parts)
    return Shape(
        solid if rng.random() < 0.5 else solid.mirrored(),
        (pick(rng, ("plain", "any", "metal")), "plain", pick(rng, ("plain", "leather")), "metal"),
    )


def guitar(rng: np.random.Generator) -> Shape:
    """A guitar, a violin, a ukulele: a waisted body, a neck, strings."""
    upper, waist, lower = rng.uniform(0.14, 0.18), rng.uniform(0.09, 0.13), rng.uniform(0.18, 0.23)
    right = smooth_path(
        [
            (0, 0),
            (0.7 * lower, 0.02),
            (lower, 0.15),
            (waist, 0.31),
            (upper, 0.43),
            (0.6 * upper, 0.51),
            (0, 0.52),
        ],
        30,
    )
    outline = np.concatenate([right, (right * [-1, 1])[::-1][1:-1]])
    depth = rng.uniform(0.04, 0.12)
    parts = [extrude(outline, depth, 0.008).painted([0, 0, 1])]
    front = depth / 2
    neck = rng.uniform(0.025, 0.04)
    parts.append(slab((0.03, 2 * neck, 0.5), (front + 0.005, 0, 0.72), 2, 0.008))
    parts.append(slab((0.025, 2.6 * neck, 0.14), (front, 0, 1.02), 1, 0.008))
    parts.append(slab((0.02, 0.12, 0.03), (front + 0.005, 0, 0.13), 2))
    if rng.random() < 0.7:
        parts += [knob(0.055, 0.002, (front, 0, 0.35), 3), ring(0.06, 0.006, (front, 0, 0.35), 1)]
    y = np.linspace(-0.6, 0.6, int(rng.integers(4, 7))) * neck
    low = np.stack([np.full_like(y, front + 0.025), y, np.full_like(y, 0.13)], -1)
    parts.append(bars(low, low + np.array([0, 0, 0.85]), 0.0025, 4, 4))
    pegs = disc(0.012, 0.04, 4, columns=10).turned(0, -np.pi / 2)
    for z in (0.98, 1.02, 1.06):
        parts.append(both_sides(pegs.shifted(front, 1.3 * neck, z)))
    if rng.random() < 0.3:
        parts.append(
            plate(resampled(outline * 0.5, 30), 0.004, x=front, slot=3).shifted(0, 0.03, 0.1)
        )
    wood = pick(rng, ("wood", "plain", "any"), (3, 1, 1))
    return Shape(join(parts), (wood, pick(rng, (wood, "plain", "wood")), "wood", "plain", "metal"))


FAMILIES = {
    "squeeze tube": Family(squeeze_tube, 1.5, "any"),
    "trigger spray": Family(trigger_spray, 1.2),
    "bulb": Family(bulb, 0.6, "any"),
    "hat": Family(hat, 1.5),
    "toaster": Family(toaster, 0.8),
    "iron": Family(iron, 0.7),
    "dryer": Family(dryer, 0.8),
    "guitar": Family(guitar, 0.8, "flat"),
}
