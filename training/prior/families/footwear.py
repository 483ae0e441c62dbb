"""Shoes, boots and slippers, single and in pairs.

It does not know feet.
"""

from __future__ import annotations

import numpy as np

from training.prior.families.family import Family
from training.prior.families.parts import pick
from training.prior.primitives import loft, smooth_path, tube
from training.prior.solids import Points, Shape, Solid, grid_surface, join


def _sections(x: Points, half: Points, top: Points, bottom: Points, middle: Points) -> Points:
    """Cross sections along x, flat below and round above, float64 [n, 20, 3]."""
    turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    across = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** 0.75
    up = np.clip(np.sin(turn), 0, None) ** 0.9
    y = middle[:, None] + half[:, None] * across
    z = bottom[:, None] + (top - bottom)[:, None] * up
    return np.stack([np.broadcast_to(x[:, None], y.shape), y, z], -1)


def _plan(x: Points, width: float, turned_in: float) -> tuple[Points, Points]:
    """Half width and middle of a foot's print at x in -.5 (heel) .. .5 (toe)."""
    half = np.interp(
        x,
        [-0.5, -0.48, -0.4, -0.25, 0.0, 0.2, 0.34, 0.44, 0.49, 0.5],
        np.array([0.15, 0.45, 0.72, 0.8, 0.78, 0.98, 1.0, 0.8, 0.42, 0.15]) * width / 2,
    )
    return half, turned_in * np.sin(np.pi * (x + 0.5)) * 0.5


def _sole(
    width: float, turned_in: float, thick: float, heel: float, raised: float
) -> tuple[Solid, Solid | None]:
    """The sole and, when it has one, the block of the heel."""
    x = np.linspace(-0.505, 0.505, 22)
    half, middle = _plan(np.clip(x, -0.5, 0.5), width * 1.06, turned_in)
    lift = (
        raised * np.clip((0.1 - x) / 0.45, 0, 1) ** 1.3
        + 0.03 * np.clip((x - 0.25) / 0.25, 0, 1) ** 2
    )
    outline = [np.stack([x, middle + s * half], -1) for s in (-1, 1)]
    rings = []
    for side in (lift, lift + thick):
        ring = [np.column_stack([edge, side]) for edge in outline]
        rings.append(np.concatenate([ring[0], ring[1][::-1]]))
    sole = loft(np.stack(rings))
    block = None
    if heel > 0.01:
        k = (x > -0.5) & (x < -0.22)
        rings = []
        for z, share in ((0.0, 0.85), (raised + 0.5 * thick, 1.0)):
            edge = [
                np.column_stack([x[k], middle[k] + s * share * half[k], np.full(k.sum(), z)])
                for s in (-1, 1)
            ]
            rings.append(np.concatenate([edge[0], edge[1][::-1]]))
        block = loft(np.stack(rings)).painted(0)
    return sole.painted([0, 0]), block


def _shaft(low: float, high: float, half: Points, lean: float, flare: float) -> tuple[Solid, Solid]:
    """A hollow collar from `low` to `high` around the ankle: outside and inside.

    Args:
        half: its half lengths along x and y, at the top.
    """
    turn = np.linspace(0, 2 * np.pi, 25)
    z = np.linspace(0, 1, 8)[:, None]
    grow = 1 + flare * z * z
    x = -0.29 - lean * z + half[0] * grow * np.cos(turn)
    y = half[1] * grow * np.sin(turn)
    dip = 0.12 * (high - low) * np.cos(2 * turn)  # lower at the ankles than at the tongue
    height = low + (high - low) * z + dip * z * z
    outside = np.stack([x, y, height], -1)
    centre = np.stack([-0.29 - lean * z + 0 * turn, 0 * y, height], -1)
    inside = centre + 0.86 * (outside - centre)
    rim = np.stack([outside[-1], inside[-1]])
    well = np.concatenate([rim, inside[::-1], centre[:1]])
    u, v = np.meshgrid(np.linspace(0, 1, 25), np.linspace(0, 1, 8))
    wall = grid_surface(outside, np.stack([u, v], -1))
    u, v = np.meshgrid(np.linspace(0, 1, 25), np.linspace(0, 1, len(well)))
    return wall, grid_surface(well, np.stack([u, v], -1))


def _shoe(rng: np.random.Generator, kind: str) -> Solid:
    """One left shoe; slots: upper, sole, inside, laces, cap."""
    width, turned_in = rng.uniform(0.32, 0.42), rng.uniform(0, 0.06)
    thick = {"trainer": rng.uniform(0.06, 0.12), "slipper": rng.uniform(0.02, 0.05)}.get(
        kind, rng.uniform(0.03, 0.07)
    )
    raised = {"boot": rng.uniform(0.03, 0.12), "pump": rng.uniform(0.1, 0.3)}.get(
        kind, rng.uniform(0, 0.03)
    )
    sole, block = _sole(width, turned_in, thick, raised, raised)
    parts = [sole.painted(1)]
    if block is not None:
        parts.append(block.painted(1))
    x = np.r_[
        -0.5, np.linspace(-0.495, -0.44, 4), np.linspace(-0.4, 0.4, 15), np.linspace(0.43, 0.5, 6)
    ]
    half, middle = _plan(x, width, turned_in)
    toe = rng.uniform(0.1, 0.17)
    throat = rng.uniform(-0.02, 0.12)  # where the tongue ends
    instep = rng.uniform(0.24, 0.32)
    heel = {"pump": 0.2, "slipper": 0.12}.get(kind, rng.uniform(0.24, 0.32))
    height = smooth_path(
        [
            (-0.5, heel * 0.9),
            (-0.38, heel),
            (-0.12, instep),
            (throat + 0.12, 0.72 * instep),
            (0.33, toe + 0.02),
            (0.45, 0.8 * toe),
            (0.5, 0.25 * toe),
        ],
        60,
    )
    top = np.interp(x, height[:, 0], height[:, 1])
    base = raised * np.clip((0.1 - x) / 0.45, 0, 1) ** 1.3 + thick * 0.9
    upper = loft(_sections(x, half, base + top, base, middle)).painted([0, 0])
    cap = upper.vertices[upper.faces].mean(1)[:, 0] > 0.5 - rng.uniform(0.08, 0.2)
    if rng.random() < 0.4:
        upper = upper.painted(0)
        upper = Solid(upper.vertices, upper.faces, upper.uv, np.where(cap, 4, 0), upper.smooth)
    parts.append(upper)
    collar = np.array([0.2, 0.4 * width])
    low = thick + raised
    if kind == "boot":
        tall = rng.uniform(0.5, 1.1)
        wall, well = _shaft(
            low, low + tall, collar * 0.9, rng.uniform(0, 0.05), rng.uniform(0, 0.2)
        )
        parts += [wall.painted(0), well.painted(2)]
    else:
        rim = low + heel + {"trainer": rng.uniform(0.03, 0.12)}.get(kind, 0.02)
        wall, well = _shaft(low + 0.5 * heel, rim, collar, 0.0, 0.0)
        parts += [wall.painted(0), well.painted(2)]
    if kind in {"trainer", "boot"} and rng.random() < 0.8:
        parts += _laces(x, base + top, half, throat)
    return join(parts)


def _laces(x: Points, top: Points, half: Points, throat: float) -> list[Solid]:
    """Bars across the instep."""
    bars = []
    for at in np.linspace(-0.08, throat + 0.14, 5):
        z, w = float(np.interp(at, x, top)), 0.45 * float(np.interp(at, x, half))
        y = np.linspace(-w, w, 6)
        bars.append(
            tube(np.stack([at + 0 * y, y, z + 0.012 - 0.35 * z * (y / w) ** 2 * 0.3], -1), 0.014, 6)
        )
    return [bar.painted(3) for bar in bars]


def shoe(rng: np.random.Generator) -> Shape:
    """A trainer, a leather shoe, a pump, a boot or a slipper; its toe is the front."""
    kind = pick(rng, ("trainer", "leather", "boot", "pump", "slipper"), (4, 2, 3, 1, 1))
    solid = _shoe(rng, kind)
    if rng.random() < 0.5:
        solid = solid.mirrored()
    if rng.random() < 0.3:
        gap = rng.uniform(0.24, 0.36)
        step = rng.normal(0, 0.06)
        left = solid.shifted(0, gap, 0).turned(2, rng.normal(0, 0.08))
        solid = join([left, solid.mirrored().shifted(step, -gap, 0)])
    upper = {
        "trainer": ("cloth", "pattern", "leather", "plain"),
        "slipper": ("cloth", "fur", "pattern"),
        "boot": ("leather", "plain", "pattern", "cloth"),
    }.get(kind, ("leather", "leather", "plain"))
    return Shape(solid, (pick(rng, upper), "plain", pick(rng, ("cloth", "plain")), "plain", "any"))


FAMILIES = {"shoe": Family(shoe, 5.0)}
