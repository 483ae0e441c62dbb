"""Telephones, screens, clocks, cameras, radios: cases with things on their fronts.

It does not know what they show or play.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.family import Family
from training.prior.families.parts import (
    ball,
    both_sides,
    bricks,
    disc,
    knob,
    pick,
    plate,
    ring,
    rod,
    rounded_outline,
    slab,
)
from training.prior.primitives import extrude, lathe, pitched, rounded_box, superquadric, tube
from training.prior.solids import Shape, Solid, join


def phone(rng: np.random.Generator) -> Shape:
    """A telephone or a tablet, its screen in front and its lens behind."""
    tablet = rng.random() < 0.3
    w = rng.uniform(0.62, 0.8) if tablet else rng.uniform(0.42, 0.52)
    thick = rng.uniform(0.03, 0.07)
    corner = rng.uniform(0.02, 0.08)
    body = extrude(rounded_outline(w, 1, corner), thick, 0.3 * thick).painted([1, 1, 1])
    edge = rng.uniform(0.01, 0.04)
    glass = plate(rounded_outline(w - edge, 1 - edge, corner), 0.004, x=thick / 2, slot=0)
    parts = [body, glass]
    camera = slab((0.02, 0.2, 0.2), (-thick / 2, 0.5 * w - 0.14, 0.36), 2, 0.008)
    parts.append(camera)
    for z in (0.31, 0.41):
        parts.append(knob(0.04, 0.02, (-thick / 2 - 0.028, 0.5 * w - 0.14, z), 2))
    if rng.random() < 0.3:  # an older one with keys
        keys = np.meshgrid(np.array([-0.28, 0, 0.28]) * w, np.linspace(-0.42, -0.15, 4))
        spots = np.stack([np.full(12, thick / 2 + 0.005), *(key.ravel() for key in keys)], -1)
        parts.append(bricks((0.02, 0.22 * w, 0.05), spots, 3))
    solid = join(parts)
    if rng.random() < 0.2:
        solid = solid.turned(0, np.pi / 2)
    return Shape(
        solid, ("screen", pick(rng, ("plain", "metal", "pattern", "photo")), "plain", "plain")
    )


def screen(rng: np.random.Generator) -> Shape:
    """A monitor or a television on its foot, or a picture in a frame."""
    w, h, d = 1.0, rng.uniform(0.5, 0.8), rng.uniform(0.03, 0.1)
    edge = rng.uniform(0.02, 0.07)
    parts = [slab((d, w, h), slot=1, radius=rng.uniform(0.003, 0.02))]
    parts.append(slab((0.006, w - 2 * edge, h - 2 * edge), (d / 2, 0, 0), 0))
    if rng.random() < 0.25:  # a picture in a frame, leaning on its strut
        frame = rng.uniform(0.04, 0.1)
        for s in (-1, 1):
            parts.append(slab((0.06, frame, h + frame), (d / 2, s * w / 2, 0), 1, 0.01))
            parts.append(slab((0.06, w, frame), (d / 2, 0, s * h / 2), 1, 0.01))
        solid = join([*parts, slab((0.02, 0.15, h), (-0.12, 0, -0.08), 1).turned(1, 0)])
        return Shape(solid.rotated(pitched(0.15)), ("photo", pick(rng, ("wood", "plain", "metal"))))
    if rng.random() < 0.3:  # a deep old set
        deep = rounded_box((rng.uniform(0.4, 0.8), 0.8 * w, 0.85 * h), 0.1).painted(1)
        parts.append(deep.shifted(-deep.box[1][0]))
    parts.append(slab((0.04, rng.uniform(0.06, 0.2), 0.35), (-d / 2, 0, -h / 2), 1))
    foot = rng.uniform(0.3, 0.6)
    base = disc(foot / 2, 0.03, 1) if rng.random() < 0.4 else slab((0.25, foot, 0.03), slot=1)
    parts.append(base.shifted(0, 0, -h / 2 - 0.17))
    return Shape(join(parts), ("screen", pick(rng, ("plain", "wood", "metal"))))


def laptop(rng: np.random.Generator) -> Shape:
    """A laptop, open at an angle, or a closed one."""
    w, d, t = 1.0, rng.uniform(0.6, 0.75), rng.uniform(0.02, 0.04)
    base = slab((d, w, t), (d / 2, 0, t / 2), 1, 0.01)
    keys = slab((0.45 * d, 0.85 * w, 0.006), (0.32 * d, 0, t), 2)
    pad = slab((0.25 * d, 0.28 * w, 0.004), (0.78 * d, 0, t), 3)
    lid = slab((0.7 * t, w, d), (0, 0, d / 2), 1, 0.007)
    glass = slab((0.004, 0.93 * w, 0.88 * d), (0.35 * t, 0, d / 2), 0)
    back = -rng.uniform(0.1, 0.6) if rng.random() < 0.9 else np.pi / 2
    upper = join([lid, glass]).turned(1, back).shifted(0, 0, t)
    return Shape(
        join([base, keys, pad, upper]), ("screen", pick(rng, ("metal", "plain")), "label", "plain")
    )


def clock(rng: np.random.Generator) -> Shape:
    """An alarm clock with bells and feet, a table clock, a wall clock, a wrist watch."""
    r, d = 0.5, rng.uniform(0.12, 0.5)
    square = rng.random() < 0.25
    if square:
        parts = [
            rounded_box((d, 1, 1), 0.1, 3).painted(0),
            slab((0.02, 0.84, 0.84), (d / 2, 0, 0), 1),
        ]
    else:
        parts = [disc(r, d, 0, 0.04, columns=40).turned(1, np.pi / 2).shifted(-d / 2)]
        parts.append(knob(0.86 * r, 0.012, (d / 2, 0, 0), 1))
        parts.append(ring(0.93 * r, 0.05, (d / 2, 0, 0), 0))
    for length, thick in ((0.24, 0.03), (0.36, 0.02)):
        hand = slab((0.012, thick, length), (0, 0, 0.45 * length), 2).turned(0, rng.uniform(0, 6.3))
        parts.append(hand.shifted(d / 2 + 0.025))
    parts.append(knob(0.03, 0.03, (d / 2 + 0.01, 0, 0), 2))
    kind = rng.random()
    if kind < 0.4:
        foot = rod((0, 0.28, -0.4), (0, 0.42, -0.62), 0.04, 3)
        dome = [(0.2 * np.cos(a), 0.14 * np.sin(a)) for a in np.linspace(0, np.pi / 2, 8)]
        bell = lathe([(0, 0), *dome], 24).painted(3).shifted(0, 0, 0.55).turned(0, -0.55)
        arch = np.linspace(0, np.pi, 12)
        loop = tube(
            np.stack([0 * arch, 0.14 * np.cos(arch), 0.55 + 0.25 * np.sin(arch)], -1), 0.025
        )
        parts += [both_sides(foot), both_sides(bell), loop.painted(3)]
    elif kind < 0.65:
        parts.append(slab((1.3 * d, 0.9, 0.1), (0, 0, -0.53), 0, 0.03))
    elif kind < 0.8:  # a watch
        for s in (-1, 1):
            strap = slab((0.08, 0.5, rng.uniform(0.9, 1.4)), (0, 0, 0), 3, 0.03)
            parts.append(strap.shifted(0, 0, s * (0.4 + strap.box[1][2])))
    return Shape(
        join(parts),
        (
            pick(rng, ("plain", "metal", "wood", "any")),
            pick(rng, ("label", "plain")),
            "plain",
            pick(rng, ("metal", "leather", "plain")),
        ),
    )


def camera(rng: np.random.Generator) -> Shape:
    """A photo camera: case, lens, finder, release; some on a strap."""
    w, h, d = 1.0, rng.uniform(0.55, 0.8), rng.uniform(0.25, 0.5)
    parts = [rounded_box((d, w, h), rng.uniform(0.02, 0.12), 3).painted(0)]
    parts.append(slab((1.01 * d, 1.005 * w, 0.45 * h), (0, 0, -0.05 * h), 1, 0.02))
    y = rng.uniform(-0.12, 0.12)
    r = rng.uniform(0.2, 0.33)
    x = d / 2
    for _ in range(int(rng.integers(1, 4))):
        length = rng.uniform(0.08, 0.25)
        parts.append(knob(r, length, (x, y, -0.04), 2, 0.015))
        x += length
        r *= rng.uniform(0.8, 1.0)
    parts += [knob(0.75 * r, 0.004, (x, y, -0.04), 3), ring(0.85 * r, 0.03, (x, y, -0.04), 2)]
    if rng.random() < 0.6:
        hump = slab((0.7 * d, 0.32, 0.22), (0, y, h / 2 + 0.05), 0, 0.05)
        parts += [hump, slab((0.02, 0.16, 0.08), (0.35 * d, y, h / 2 + 0.08), 3)]
    for at in (-0.36, 0.33):
        parts.append(disc(rng.uniform(0.05, 0.1), 0.06, 4, 0.01).shifted(0, at, h / 2 - 0.01))
    if rng.random() < 0.5:
        parts.append(slab((0.02, 0.14, 0.09), (d / 2, 0.36, 0.36 * h), 4, 0.01))
    return Shape(
        join(parts),
        (pick(rng, ("plain", "metal")), pick(rng, ("leather", "plain")), "plain", "glaze", "metal"),
    )


def radio(rng: np.random.Generator) -> Shape:
    """A radio, a speaker, a toaster-like case with knobs, a grille and an aerial."""
    w, h, d = pick(rng, ((1.0, 0.6, 0.3), (0.6, 1.0, 0.5), (1.0, 0.45, 0.4)))
    w, h, d = (s * rng.uniform(0.85, 1.15) for s in (w, h, d))
    parts = [rounded_box((d, w, h), rng.uniform(0.02, 0.14), 3).painted(0)]
    x = d / 2
    if h > w:  # a loudspeaker
        for z, r in ((-0.18 * h, 0.36 * w), (0.28 * h, 0.2 * w)):
            parts += [ring(r, 0.03, (x, 0, z), 2), knob(r, 0.01, (x, 0, z), 1)]
            parts.append(ball(0.35 * r, (x - 0.02, 0, z), 2))
    else:
        side = pick(rng, (-1, 1))
        parts.append(knob(0.34 * h, 0.02, (x, side * 0.25 * w, 0), 1, 0.005))
        parts.append(slab((0.02, 0.36 * w, 0.2 * h), (x, -side * 0.22 * w, 0.2 * h), 3))
        for y in np.linspace(0.1, 0.36, int(rng.integers(2, 5))):
            parts.append(knob(0.05, rng.uniform(0.04, 0.1), (x, -side * y * w, -0.2 * h), 2, 0.01))
    if rng.random() < 0.5:
        turn = np.linspace(0, np.pi, 16)
        shape = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** 0.5
        grip = np.stack([0 * turn, 0.4 * w * shape, h / 2 - 0.02 + 0.2 * np.sin(turn) ** 0.6], -1)
        parts.append(tube(grip, 0.03).painted(2))
    if rng.random() < 0.5:
        end = (-0.3 * d, 0.45 * w + rng.uniform(-0.2, 0.3), h / 2 + rng.uniform(0.4, 0.9))
        parts.append(rod((-0.3 * d, 0.42 * w, h / 2 - 0.03), end, 0.012, 2, 6))
    return Shape(
        join(parts),
        (
            pick(rng, ("plain", "wood", "any")),
            pick(rng, ("cloth", "plain", "pattern")),
            "metal",
            "label",
        ),
    )


def headphones(rng: np.random.Generator) -> Shape:
    """A band over the head with two cups."""
    turn = np.linspace(-0.15, np.pi + 0.15, 26)
    band = tube(np.stack([0 * turn, 0.45 * np.cos(turn), 0.5 * np.sin(turn)], -1), 0.03)
    parts = [band.scaled(rng.uniform(1.2, 2.5), 1, 1).painted(0)]
    r = rng.uniform(0.17, 0.24)
    cup = disc(r, 0.12, 1, 0.03).turned(0, -np.pi / 2)
    pad = ring(0.8 * r, 0.06, slot=2, axis="y")
    side = join([cup, pad]).scaled(0.9, 1, 1.1).shifted(0, 0.42, -0.12)
    parts.append(both_sides(side))
    return Shape(join(parts), (pick(rng, ("plain", "metal", "leather")), "plain", "leather"))


def gadget(rng: np.random.Generator) -> Shape:
    """A mouse, a remote control, a game pad, a calculator, a keyboard."""
    kind = pick(rng, ("mouse", "remote", "pad", "keys"))
    parts: list[Solid] = []
    if kind == "mouse":
        body = superquadric(0.8, 0.8, 20, 32).scaled(1, 0.6, 0.45)
        body = body.deformed(
            lambda v: np.column_stack([v[:, :2], np.maximum(v[:, 2] * (1 - 0.5 * v[:, 0]), -0.08)])
        )
        parts += [body, disc(0.06, 0.05, 1).turned(0, np.pi / 2).shifted(0.32, 0.025, 0.13)]
    elif kind == "pad":
        parts.append(rounded_box((0.2, 0.8, 0.45), 0.09, 3).painted(0))
        grip = tube(
            [(0, 0.36, 0.05), (0.02, 0.5, -0.15), (0.04, 0.54, -0.4)],
            [0.17, 0.15, 0.1],
            14,
            round_ends=True,
        )
        parts.append(both_sides(grip))
        for y, z in ((-0.17, -0.1), (0.17, -0.1)):
            parts += [knob(0.07, 0.1, (0.1, y, z), 1, 0.02)]
        for a in np.arange(4) * np.pi / 2:
            parts.append(
                knob(0.03, 0.03, (0.1, 0.33 + 0.07 * np.cos(a), 0.08 + 0.07 * np.sin(a)), 2)
            )
        parts += [
            slab((0.03, 0.16, 0.05), (0.1, -0.33, 0.08), 1),
            slab((0.03, 0.05, 0.16), (0.1, -0.33, 0.08), 1),
        ]
    else:
        w, h = (
            (rng.uniform(0.22, 0.55), 1.0) if kind == "remote" else (1.0, rng.uniform(0.35, 0.45))
        )
        rows, columns = (int(rng.integers(4, 8)), 3) if kind == "remote" else (4, 11)
        parts.append(rounded_box((0.1, w, h), 0.04, 2).painted(0))
        low = -0.42 * h
        high = (0.15 if kind == "remote" else 0.38) * h
        spread = w * (1 if kind == "remote" else 1.2)
        across, up = np.linspace(-0.36, 0.36, columns) * spread, np.linspace(low, high, rows)
        keys = np.meshgrid(across, up)
        size = (0.03, 0.7 * 0.8 * w / columns, 0.7 * (high - low) / rows)
        spots = np.stack([np.full(rows * columns, 0.055), *(key.ravel() for key in keys)], -1)
        parts.append(bricks(size, spots, 1))
        if kind == "remote":
            parts.append(slab((0.02, 0.8 * w, 0.18), (0.05, 0, 0.34), 2))
    return Shape(join(parts), ("plain", "plain", pick(rng, ("screen", "plain"))))


FAMILIES = {
    "phone": Family(phone, 2.0, "flat"),
    "screen": Family(screen, 1.5),
    "laptop": Family(laptop, 1.0),
    "clock": Family(clock, 1.5),
    "camera": Family(camera, 2.0),
    "radio": Family(radio, 1.5),
    "headphones": Family(headphones, 0.8),
    "gadget": Family(gadget, 1.5, "flat"),
}
