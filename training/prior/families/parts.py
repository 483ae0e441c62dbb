"""What many families are put together from: rods, discs, rings, plates, outlines, hollow walls.

It does not know what the things are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from training.prior.primitives import box, extrude, lathe, loft, rounded_box, smooth_path, tube
from training.prior.solids import Points, Solid, grid_surface, join

T = TypeVar("T")
Vector = Sequence[float] | Points


def pick(rng: np.random.Generator, options: Sequence[T], weights: Sequence[float] = ()) -> T:
    """One of the options, equally likely unless weights are given."""
    if not weights:
        return options[int(rng.integers(len(options)))]
    shares = np.asarray(weights) / np.sum(weights)
    return options[int(rng.choice(len(options), p=shares))]


def slab(
    size: Vector, centre: Vector = (0.0, 0.0, 0.0), slot: int = 0, radius: float = 0.0
) -> Solid:
    """A box in one slot, with rounded edges when there is a radius."""
    x, y, z = (float(s) for s in size)
    body = rounded_box((x, y, z), radius, 2) if radius > 0 else box(2).scaled(x, y, z)
    return body.painted(slot).shifted(*(float(c) for c in centre))


def disc(
    radius: float,
    height: float,
    slot: int = 0,
    bevel: float = 0.0,
    top: float | None = None,
    columns: int = 28,
) -> Solid:
    """A cylinder on z = 0, or a cone's stump when `top` is its upper radius."""
    top = radius if top is None else top
    b = min(bevel, 0.49 * height, 0.9 * min(radius, top))
    line = [(0.0, 0.0), (radius - b, 0.0), (radius, b), (top, height - b), (top - b, height)]
    return lathe([*line, (0.0, height)], columns).painted(slot)


def knob(radius: float, depth: float, centre: Vector, slot: int = 0, bevel: float = 0.0) -> Solid:
    """A cylinder that stands out towards +x from `centre`."""
    out = disc(radius, depth, slot, bevel).turned(1, np.pi / 2)
    return out.shifted(*(float(c) for c in centre))


def rod(a: Vector, b: Vector, radius: float, slot: int = 0, columns: int = 10) -> Solid:
    """A round bar from a to b."""
    return tube([list(a), list(b)], radius, columns).painted(slot)


def bars(starts: Points, ends: Points, radius: float, slot: int = 0, columns: int = 6) -> Solid:
    """Many straight round bars at once, from [n, 3] to [n, 3]."""
    way = ends - starts
    way = way / (np.linalg.norm(way, axis=1, keepdims=True) + 1e-12)
    # Any direction across will do; the axis that a bar runs along least gives one.
    side = np.cross(way, np.eye(3)[np.abs(way).argmin(1)])
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    other = np.cross(side, way)
    turn = np.linspace(0, 2 * np.pi, columns + 1)[:, None]
    spokes = radius * (np.cos(turn) * side[:, None] + np.sin(turn) * other[:, None])
    a, b = starts[:, None] + 0 * spokes, ends[:, None] + 0 * spokes
    rings = np.stack([a, a + spokes, b + spokes, b], 1)
    u, v = np.meshgrid(np.linspace(0, 1, columns + 1), np.linspace(0, 1, 4))
    return _copies(grid_surface(rings[0], np.stack([u, v], -1), slot=slot), rings)


def bricks(size: Vector, centres: Points, slot: int = 0) -> Solid:
    """Many equal boxes at once, around [n, 3]."""
    one = box(1).scaled(*(float(s) for s in size)).painted(slot)
    return _copies(one, one.vertices + np.asarray(centres)[:, None])


def _copies(one: Solid, points: Points) -> Solid:
    """As many copies of a solid as there are sets of its vertices in [n, ..., 3]."""
    n, v = len(points), len(one.vertices)
    faces = one.faces + v * np.arange(n)[:, None, None]
    return Solid(
        points.reshape(-1, 3),
        faces.reshape(-1, 3),
        np.tile(one.uv, (n, 1)),
        np.tile(one.slots, n),
        np.tile(one.smooth, n),
    )


def ball(radius: float, centre: Vector, slot: int = 0, rows: int = 10) -> Solid:
    turn = np.linspace(-np.pi / 2, np.pi / 2, rows)
    line = radius * np.stack([np.maximum(np.cos(turn), 0), np.sin(turn)], -1)
    return lathe(line, 2 * rows).painted(slot).shifted(*(float(c) for c in centre))


def ring(
    radius: float, thickness: float, centre: Vector = (0, 0, 0), slot: int = 0, axis: str = "x"
) -> Solid:
    """A torus around an axis; `thickness` is the radius of its section."""
    turn = np.linspace(0, 2 * np.pi, 29)
    a, b, o = radius * np.cos(turn), radius * np.sin(turn), np.zeros(29)
    path = {"x": (o, a, b), "y": (a, o, b), "z": (a, b, o)}[axis]
    loop = tube(np.stack(path, -1), thickness, 10).painted(slot)
    return loop.shifted(*(float(c) for c in centre))


def both_sides(solid: Solid) -> Solid:
    """With its mirror image at y = 0."""
    return join([solid, solid.mirrored()])


def legs(x: float, y: float, make: Callable[[float, float], Solid]) -> list[Solid]:
    """Four of a thing, at (x, y) and its mirror images."""
    return [make(a, b) for a in (-x, x) for b in (-y, y)]


def hollow(
    outer: Sequence[Sequence[float]] | Points,
    wall: float,
    floor: float,
    level: float | None = None,
    columns: int = 40,
    repeat: float = 1,
) -> Solid:
    """An open vessel: slot 0 outside, 1 inside, 2 what it is filled with.

    Args:
        outer: [n, 2] of (radius, z) from the foot to the rim, z rising.
        wall: its thickness.
        floor: z of the floor inside.
        level: z of the filling; None leaves it empty.
    """
    line = np.asarray(outer, np.float64)
    radius, z = line.T
    bottom = floor if level is None else max(level, floor)
    down = np.linspace(z[-1], bottom, 9)
    inner = np.maximum(np.interp(down, z, radius) - wall, 0.02 * radius.max())
    lip = (radius[-1] - 0.5 * wall, z[-1] + 0.35 * wall)
    outside = lathe([(0.0, z[0]), *line, lip], columns, repeat).painted(0)
    inside = lathe([lip, *np.stack([inner, down], -1)], columns, repeat).painted(1)
    bed = lathe([(inner[-1], bottom), (0.0, bottom)], columns).painted(1 if level is None else 2)
    return join([outside, inside, bed])


def squared(solid: Solid, power: float) -> Solid:
    """A round body with its section seen from above made square: power 2 is round, 8 a square."""

    def change(v: Points) -> Points:
        flat = np.abs(v[:, :2])
        length = np.hypot(*flat.T)
        factor = length / np.maximum((flat**power).sum(1) ** (1 / power), 1e-9)
        return np.column_stack([v[:, :2] * factor[:, None], v[:, 2]])

    return solid.deformed(change)


def tapered(solid: Solid, top: float, axis: int | None = None) -> Solid:
    """Its width from 1 at the bottom to `top` at the top, along x and y or one of them."""
    low, high = solid.box

    def change(v: Points) -> Points:
        share = (v[:, 2] - low[2]) / max(high[2] - low[2], 1e-9)
        factor = np.ones_like(v)
        factor[:, [0, 1] if axis is None else [axis]] = (1 + (top - 1) * share)[:, None]
        return v * factor

    return solid.deformed(change)


def limb(stations: Sequence[Sequence[float]], count: int = 18, sides: int = 16) -> Solid:
    """A smooth bar along z with elliptic sections; slot 0, ends 1.

    Args:
        stations: (z, half width along y, half thickness along x, x of the middle), z rising.
    """
    z, wide, thick, x = smooth_path(stations, count).T[:, :, None]
    turn = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    wide, thick = np.maximum(wide, 1e-4), np.maximum(thick, 1e-4)
    across, along = wide * np.sin(turn), x + thick * np.cos(turn)
    sections = np.stack([along, across, np.broadcast_to(z, across.shape)], -1)
    return loft(sections).painted([0, 0])


# ------------------------------------------------------------------ outlines in the y-z plane


def rounded_outline(width: float, height: float, radius: float, steps: int = 5) -> Points:
    """A rectangle with round corners around the origin, counter-clockwise."""
    r = min(radius, 0.499 * width, 0.499 * height)
    turn = np.linspace(0, np.pi / 2, steps)
    signs = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    arcs = [
        np.stack([np.cos(turn + k * np.pi / 2), np.sin(turn + k * np.pi / 2)], -1) * r
        + np.array([a * (width / 2 - r), b * (height / 2 - r)])
        for k, (a, b) in enumerate(signs)
    ]
    return np.concatenate(arcs)


def polar_outline(radius: Callable[[Points], Points], count: int = 48) -> Points:
    """r(angle) around the origin; angle 0 is +y, a quarter turn is up."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    r = radius(angle)
    return np.stack([r * np.cos(angle), r * np.sin(angle)], -1)


def circle(radius: float, count: int = 24) -> Points:
    return radius * polar_outline(np.ones_like, count)


def star_outline(points: int, inner: float, radius: float = 0.5) -> Points:
    """A star with a point upwards; `inner` is the share of the radius between points."""
    angle = np.pi / 2 + np.pi * np.arange(2 * points) / points
    r = radius * np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
    return np.stack([r * np.cos(angle), r * np.sin(angle)], -1)


def with_hole(outer: Points, inner: Points) -> Points:
    """One outline around both, with a slit of no width from the one to the other."""
    apart = np.linalg.norm(outer[:, None] - inner[None], axis=2)
    i, j = np.unravel_index(int(apart.argmin()), apart.shape)
    back = np.roll(inner, -int(j), axis=0)[::-1]
    back = np.concatenate([back[-1:], back])
    return np.concatenate([outer[: i + 1], back, outer[i:]])


def resampled(outline: Points, count: int) -> Points:
    """A closed outline [m, 2] as `count` points at equal distances along it."""
    ring = np.concatenate([outline, outline[:1]])
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(ring, axis=0), axis=1))])
    at = along[-1] * np.arange(count) / count
    return np.stack([np.interp(at, along, ring[:, k]) for k in (0, 1)], -1)


def plate(
    outline: Points, depth: float, *, x: float = 0.0, bevel: float = 0.0, slot: int | None = None
) -> Solid:
    """An outline cut out, its back at `x`; slots of `extrude` unless one is given."""
    cut = extrude(outline, depth, bevel).shifted(x + depth / 2)
    return cut if slot is None else cut.painted(slot)
