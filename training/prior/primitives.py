"""Boxes, turned, swept, cut-out and melted bodies: the parts of which made objects consist.

It does not know what an object is, how large it is in the world or what it is made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from training.prior.melting import Blob, melt
from training.prior.polygons import bends_twice, corners_twice, filled, inset, signed_area
from training.prior.solids import Points, Solid, axis_rotation, grid_surface, join, outward

__all__ = [
    "Blob",
    "box",
    "ellipsoid",
    "extrude",
    "lathe",
    "loft",
    "melt",
    "pitched",
    "random_rotation",
    "rounded_box",
    "smooth_path",
    "superquadric",
    "tube",
]


def box(segments: int = 5) -> Solid:
    """The cube of side 1 around the origin; slots 0..5 are +x -x +y -y +z -z.

    Its texture stands upright on the four sides and reads from the front on top.
    """
    return _six_faces(np.linspace(-0.5, 0.5, segments + 1), smooth=False)


def rounded_box(
    size: Sequence[float] = (1.0, 1.0, 1.0), radius: float = 0.1, steps: int = 3
) -> Solid:
    """A box with edges and corners of one radius, around the origin; slots as `box`.

    Args:
        size: lengths along x, y, z.
        radius: at most half the shortest side, else it is cut to that.
        steps: segments of each half of an edge.
    """
    half = np.asarray(size, np.float64) / 2
    radius = float(np.clip(radius, 1e-6, 0.999 * half.min()))
    # The cube's grid is denser where it is rounded: its outermost `steps` become an eighth turn.
    bend = 1 + np.tan(np.linspace(0, np.pi / 4, steps + 1))
    nodes = np.concatenate([-bend[::-1], bend])
    cube = _six_faces(nodes, smooth=True)

    def rounded(v: Points) -> Points:
        core = half - radius
        inner = np.clip(v, -1, 1) * core
        way = np.sign(v) * np.clip(np.abs(v) - 1, 0, None)
        round_: Points = inner + radius * way / np.linalg.norm(way, axis=1, keepdims=True)
        return round_

    return replace(cube.deformed(rounded), uv=(cube.uv - 0.5) / 4 + 0.5)


def superquadric(e1: float, e2: float, rows: int = 20, columns: int = 32) -> Solid:
    """A superquadric with semi-axes .5 around the origin, slot 0.

    Args:
        e1: roundness from pole to pole: 0 a cylinder's, 1 a ball's, 2 a double cone's.
        e2: roundness seen from above: 0 square, 1 round, 2 a rhombus.
    """
    latitude, longitude = np.meshgrid(
        np.linspace(-np.pi / 2, np.pi / 2, rows), np.linspace(-np.pi, np.pi, columns), indexing="ij"
    )
    ring = _power(np.cos(latitude), e1)
    points = 0.5 * np.stack(
        [
            ring * _power(np.cos(longitude), e2),
            ring * _power(np.sin(longitude), e2),
            _power(np.sin(latitude), e1),
        ],
        -1,
    )
    uv = np.stack([longitude / (2 * np.pi) + 0.5, 0.5 - latitude / np.pi], -1)
    return outward(grid_surface(points, uv))


def ellipsoid(
    semi_axes: Sequence[float] | Points,
    centre: Sequence[float] | Points = (0.0, 0.0, 0.0),
    pitch: float = 0.0,
    rows: int = 14,
    columns: int = 20,
) -> Solid:
    """An ellipsoid in slot 0; a positive `pitch` (radians) lifts its front."""
    ball = superquadric(1.0, 1.0, rows, columns).scaled(*(2 * float(a) for a in semi_axes))
    return ball.turned(1, -pitch).shifted(*(float(c) for c in centre))


def lathe(
    profile: Sequence[Sequence[float]] | Points, columns: int = 36, repeat: float = 1
) -> Solid:
    """A body turned about z; slot 0 is the wall, slot 1 what lies flat (lids, floors).

    Rings are doubled where the profile bends sharply, so that edges are crisp.

    Args:
        profile: [n, 2] of (radius, z), outside from the bottom up; starts and ends on the axis
            (radius 0) when the body is to be closed.
        repeat: how often the texture goes around; its middle faces the front.
    """
    line = np.asarray(profile, np.float64)
    line = line[np.concatenate([[True], np.abs(np.diff(line, axis=0)).max(1) > 1e-9])]
    line = line[bends_twice(line)]
    steps = np.diff(line, axis=0)
    along = np.concatenate([[0], np.cumsum(np.hypot(*steps.T))])
    angle = np.linspace(-np.pi, np.pi, columns + 1)
    points = np.stack(
        [
            line[:, :1] * np.cos(angle),
            line[:, :1] * np.sin(angle),
            np.repeat(line[:, 1:], columns + 1, 1),
        ],
        -1,
    )
    u = np.broadcast_to(angle / (2 * np.pi) * repeat + 0.5, points.shape[:2])
    v = np.broadcast_to(1 - along[:, None] / along[-1], points.shape[:2])
    flat = np.abs(steps[:, 1]) < 0.3 * np.abs(steps[:, 0])
    wall = grid_surface(points, np.stack([u, v], -1))
    lids = np.tile(np.repeat(flat, columns), 2).astype(np.int64)
    # Seen from above a lid shows a picture, not a picture's one edge drawn around.
    reach = max(float(line[:, 0].max()), 1e-9)
    seen = np.stack([0.5 + points[..., 1] / (2 * reach), 0.5 + points[..., 0] / (2 * reach)], -1)
    level = np.concatenate([flat, [False]]) | np.concatenate([[False], flat])
    steep = np.concatenate([~flat, [False]]) | np.concatenate([[False], ~flat])
    uv = np.where((level & ~steep)[:, None, None], seen, wall.uv.reshape((*points.shape[:2], 2)))
    return _without_empty(replace(wall, slots=lids, uv=uv.reshape(-1, 2)))


def extrude(outline: Sequence[Sequence[float]] | Points, depth: float, bevel: float = 0.0) -> Solid:
    """A plate cut out along an outline; slots 0 front (+x), 1 back, 2 side.

    Args:
        outline: [m, 2] of (y, z), simple, either way around, first point not repeated. It may be
            concave.
        depth: thickness along x, centred at 0.
        bevel: width of the chamfer between sides and caps, inside the outline.
    """
    ring = np.asarray(outline, np.float64)
    if signed_area(ring) < 0:
        ring = ring[::-1]
    bevel = min(bevel, 0.49 * depth)
    low, high = ring.min(0), ring.max(0)
    span = float((high - low).max())
    inner = inset(ring, bevel) if bevel > 0 else ring
    caps = []
    flat, triangles = filled(inner)
    for sign, slot in ((1, 0), (-1, 1)):
        points = _at(sign * depth / 2, flat)
        middle = (low + high) / 2
        uv = (flat - middle) * [sign, -1] / span + 0.5
        faces = triangles[:, ::sign]
        count = len(faces)
        caps.append(Solid(points, faces, uv, np.full(count, slot), np.zeros(count, dtype=np.bool_)))
    order = corners_twice(ring)
    wall = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(ring[order], axis=0).T))]) / span
    if bevel > 0:
        x = np.array([-depth / 2, -depth / 2 + bevel, depth / 2 - bevel, depth / 2])
        rings = [inner, ring, ring, inner]
    else:
        x, rings = np.array([-depth / 2, depth / 2]), [ring, ring]
    # Each band has its own vertices: the chamfer's edges stay edges.
    bands = [
        grid_surface(
            np.stack([_at(x[k + j], rings[k + j][order]) for j in (0, 1)]),
            np.stack(
                [np.column_stack([wall, np.full(len(wall), x[k + j] / span)]) for j in (0, 1)]
            ),
            slot=2,
        )
        for k in range(len(x) - 1)
    ]
    return join([*caps, outward(_without_empty(join(bands)))])


def tube(
    path: Sequence[Sequence[float]] | Points,
    radius: float | Sequence[float] | Points,
    columns: int = 12,
    closed_ends: bool = True,
    round_ends: bool = False,
) -> Solid:
    """A round sweep in slot 0.

    Args:
        path: [n, 3], n at least 2; when its last point repeats its first, it is a ring without
            ends.
        radius: one, or one per point.
        closed_ends: with flat ends; open otherwise.
        round_ends: with half balls instead.
    """
    line = np.asarray(path, np.float64)
    around = len(line) > 3 and bool(np.allclose(line[0], line[-1]))
    tangent = np.gradient(line, axis=0)
    if around:
        tangent[0] = tangent[-1] = line[1] - line[-2]
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-12
    # Of the path's own three directions, the one it never runs along keeps the frame untwisted.
    directions = np.linalg.svd(line - line.mean(0), full_matrices=True)[2]
    up = directions[np.abs(tangent @ directions.T).max(0).argmin()]
    side = np.cross(tangent, up)
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-12
    other = np.cross(side, tangent)
    width = np.broadcast_to(np.asarray(radius, np.float64), (len(line),))
    if closed_ends and not around:
        ends = _round_end() if round_ends else np.array([[1.0, 0.0], [0.0, 0.0]])
        first, last = line[0], line[-1]
        line = np.concatenate(
            [
                first - tangent[0] * width[0] * ends[::-1, 1:],
                line,
                last + tangent[-1] * width[-1] * ends[:, 1:],
            ]
        )
        repeat = np.r_[[0] * len(ends), np.arange(len(side)), [len(side) - 1] * len(ends)]
        width = np.concatenate([width[0] * ends[::-1, 0], width, width[-1] * ends[:, 0]])
        side, other = side[repeat], other[repeat]
    angle = np.linspace(0, 2 * np.pi, columns + 1)
    spokes = (
        np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * other[:, None]
    )
    points = line[:, None] + width[:, None, None] * spokes
    v = np.broadcast_to(np.linspace(0, 1, len(line))[:, None], points.shape[:2])
    uv = np.stack([np.broadcast_to(angle / (2 * np.pi), points.shape[:2]), v], -1)
    swept = _without_empty(grid_surface(points, uv))
    return outward(swept)


def loft(sections: Points, closed_ends: bool = True) -> Solid:
    """A skin over closed cross sections [n, m, 3] (first point not repeated); slot 0, ends 1."""
    rings = np.concatenate([sections, sections[:, :1]], 1)
    n, m = rings.shape[:2]
    u, v = np.meshgrid(np.linspace(0, 1, m), np.linspace(0, 1, n))
    skin = grid_surface(rings, np.stack([u, v], -1))
    if not closed_ends:
        return skin
    ends: list[Solid] = []
    for ring, middle in ((rings[0], sections[0].mean(0)), (rings[-1], sections[-1].mean(0))):
        fan = np.stack([np.broadcast_to(middle, ring.shape), ring])
        fan = fan if len(ends) == 0 else fan[::-1]
        turn = np.linspace(0, 2 * np.pi, m)
        rim = np.stack([0.5 + 0.5 * np.cos(turn), 0.5 - 0.5 * np.sin(turn)], -1)
        rims = np.stack([np.full_like(rim, 0.5), rim])
        ends.append(grid_surface(fan, rims if len(ends) == 0 else rims[::-1], slot=1, smooth=False))
    return outward(_without_empty(join([skin, *ends])))


def random_rotation(rng: np.random.Generator) -> Points:
    """A rotation matrix [3, 3], all equally likely."""
    w, x, y, z = (q := rng.standard_normal(4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def pitched(radians: float) -> Points:
    """The rotation that lifts the front (+x) by an angle."""
    return axis_rotation(1, -radians)


def smooth_path(points: Sequence[Sequence[float]] | Points, count: int = 16) -> Points:
    """`count` points on a curve through [n, d] given ones (Catmull-Rom), float64 [count, d]."""
    p = np.asarray(points, np.float64)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.linspace(0, len(p) - 3, count)
    k = np.minimum(t.astype(int), len(p) - 4)
    f = (t - k)[:, None]
    a, b, c, d = p[k], p[k + 1], p[k + 2], p[k + 3]
    curve: Points = b + 0.5 * f * (
        c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a))
    )
    return curve


def _power(x: Points, exponent: float) -> Points:
    signed: Points = np.sign(x) * np.abs(x) ** exponent
    return signed


def _at(x: float, ring: Points) -> Points:
    """Points [m, 2] of the y-z plane, moved to `x`."""
    return np.column_stack([np.full(len(ring), x), ring])


def _six_faces(nodes: Points, *, smooth: bool) -> Solid:
    """A cube's surface, its grid at `nodes` along every edge."""
    edge = nodes[-1]
    a, b = np.meshgrid(nodes, nodes)
    h = np.full_like(a, edge)
    uv = np.stack([a, -b], -1) / (2 * edge) + 0.5
    sides = ((h, a, b), (-h, -a, b), (-a, h, b), (a, -h, b), (-b, a, h), (b, a, -h))
    return join(
        [
            grid_surface(np.stack(side, -1), uv, slot=k, smooth=smooth)
            for k, side in enumerate(sides)
        ]
    )


def _round_end() -> Points:
    """Shares of the radius, across and along, from a tube's rim to its tip: float64 [4, 2]."""
    turn = np.linspace(0, np.pi / 2, 5)[1:]
    return np.stack([np.cos(turn), np.sin(turn)], -1)


def _without_empty(solid: Solid) -> Solid:
    """Without faces of no area, as doubled rings and poles make them."""
    a, b, c = (solid.vertices[solid.faces[:, k]] for k in range(3))
    keep = (np.cross(b - a, c - a) ** 2).sum(1) > 1e-20
    return replace(
        solid, faces=solid.faces[keep], slots=solid.slots[keep], smooth=solid.smooth[keep]
    )
