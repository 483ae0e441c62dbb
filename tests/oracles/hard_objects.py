"""Objects that are hard to fit: fine prints, letters, flat facets, thin handles, a hollow bowl.

They are made as those of `tests.oracles.objects` are, so `photograph` shows them from anywhere;
their colours depend on the place only. They do not know what is fitted. A pixel of a view of 256 px
is about .0045 world units wide in the middle of the object, and meshes are finer than half of that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull

from tests.oracles.objects import Grid, Object, joined, sheet, texture

#: World units between two vertices.
_STEP = 0.002
_LIGHT = np.array([0.48, -0.36, 0.80])
#: Texels of a painted picture in one world unit.
_TEXELS = 1000

Picture = npt.NDArray[np.uint8]
Color = tuple[float, float, float]


def _shaded(colors: Grid, normals: Grid) -> Grid:
    """Colours under a light from above, with a little from everywhere."""
    facing = np.clip(normals @ (_LIGHT / np.linalg.norm(_LIGHT)), 0, 1)
    shaded: Grid = np.clip(colors * (0.55 + 0.5 * facing)[..., None], 0.02, 0.98)
    return shaded


def _panel(
    surface: Callable[[Grid, Grid], Grid],
    size: tuple[float, float],
    paint: Callable[[Grid, Grid, Grid], Grid],
    finer: float = 1.0,
) -> Object:
    """A sheet, shaded.

    Args:
        surface: points [..., 3] of u and v in 0..1.
        size: how long u and v are in world units.
        paint: colours [n, 3] of u, v [n] and the points [n, 3].
        finer: divides the distance of the vertices.
    """
    rows, columns = (max(3, int(length * finer / _STEP)) for length in size)
    points, faces = sheet(surface, rows, columns)
    u, v = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    grid = points.reshape(rows, columns, 3)
    normals = np.cross(np.gradient(grid, axis=0), np.gradient(grid, axis=1))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-12
    outward = np.sign((normals * (grid - grid.mean((0, 1)))).sum(-1).mean() + 1e-9)
    colors = _shaded(paint(u.ravel(), v.ravel(), points), outward * normals.reshape(-1, 3))
    return Object(points.astype(np.float32), faces.astype(np.int32), colors.astype(np.float32))


def _pasted(picture: Picture) -> Callable[[Grid, Grid, Grid], Grid]:
    """Paint: a picture [h, w, 3] laid over a sheet, u along its height and v along its width."""
    height, width = picture.shape[:2]

    def paint(u: Grid, v: Grid, points: Grid) -> Grid:
        y, x = (u * (height - 1)).astype(np.float32), (v * (width - 1)).astype(np.float32)
        # remap takes no more than 32,767 rows.
        shape = (-1, 1) if len(x) < 32_000 else (len(x) // np.gcd(len(x), 1024), -1)
        colors = cv2.remap(picture, x.reshape(shape), y.reshape(shape), cv2.INTER_LINEAR)
        return np.asarray(colors.reshape(-1, 3) / 255.0)

    return paint


def _ground(width: float, height: float, color: Color) -> Picture:
    """A picture of one colour, sizes in world units."""
    shape = (round(height * _TEXELS), round(width * _TEXELS), 3)
    return np.tile(_ink(color), (*shape[:2], 1))


def _ink(color: Color) -> npt.NDArray[np.uint8]:
    return np.round(255 * np.array(color)).astype(np.uint8)


def _write(
    picture: Picture, words: str, place: tuple[float, float], height: float, color: Color
) -> None:
    """Letters `height` world units high; `place` is the left end of their line."""
    scale = height * _TEXELS / 21  # capitals of this font are 21 px high at scale 1
    at = round(place[0] * _TEXELS), round(place[1] * _TEXELS)
    thick = max(2, round(scale * 3.2))
    ink = _ink(color).tolist()
    cv2.putText(picture, words, at, cv2.FONT_HERSHEY_DUPLEX, scale, ink, thick, cv2.LINE_AA)


@lru_cache(maxsize=1)
def lettered_can() -> Object:
    """A can with letters of 20, 9 and 5 pixels all around it and rings on its lid."""
    radius, tall = 0.26, 0.72
    around = 2 * np.pi * radius
    label = _ground(around, tall, (0.90, 0.86, 0.74))
    label[: round(0.13 * _TEXELS)] = _ink((0.70, 0.12, 0.14))
    label[-round(0.10 * _TEXELS) :] = _ink((0.12, 0.24, 0.45))
    for turn in range(3):
        left = (turn + 0.62) % 3 * around / 3 + 0.03
        _write(
            label, ("TOMATO", "POMODORI", "TOMATEN")[turn], (left, 0.27), 0.085, (0.72, 0.10, 0.12)
        )
        _write(label, "peeled, in juice", (left, 0.35), 0.038, (0.10, 0.10, 0.12))
        for line in range(6):
            words = "net weight 400 g  drained 240 g  best before end  see lid"[line * 3 :][:40]
            _write(label, words, (left, 0.41 + 0.036 * line), 0.020, (0.15, 0.20, 0.15))
        _write(label, "No. 1893", (left + 0.1, 0.08), 0.045, (0.97, 0.92, 0.80))

    def wall(u: Grid, v: Grid) -> Grid:
        angle = 2 * np.pi * v
        return np.stack([radius * np.cos(angle), radius * np.sin(angle), tall * (0.5 - u)], -1)

    def disc(height: float) -> Callable[[Grid, Grid], Grid]:
        return lambda u, v: np.stack(
            [
                radius * u * np.cos(2 * np.pi * v),
                radius * u * np.sin(2 * np.pi * v),
                np.full_like(u, height),
            ],
            -1,
        )

    def rings(u: Grid, v: Grid, points: Grid) -> Grid:
        return (0.62 + 0.16 * np.tanh(4 * np.sin(70 * u)))[:, None] * np.array([1.0, 1.0, 1.03])

    return joined(
        _panel(wall, (tall, around), _pasted(label)),
        _panel(disc(tall / 2), (radius, around), rings),
        _panel(disc(-tall / 2), (radius, around), rings),
    )


@lru_cache(maxsize=1)
def fine_print() -> Object:
    """A carton with what is two to six pixels wide on its faces: bars, dots, checks, letters."""
    half = np.array([0.30, 0.22, 0.33])
    rng = np.random.default_rng(7)
    inks: list[Color] = [(0.13, 0.35, 0.62), (0.75, 0.25, 0.12), (0.16, 0.45, 0.24)]
    parts = []
    for face in range(6):
        axis, sign = face % 3, 1 - 2 * (face // 3)
        across, up = ((1, 2), (0, 2), (0, 1))[axis]
        width, height = 2 * half[across], 2 * half[up]
        ink = inks[axis]
        picture = _ground(width, height, (0.93, 0.91, 0.86) if sign > 0 else ink)
        print_color = ink if sign > 0 else (0.95, 0.93, 0.88)
        y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] / _TEXELS
        # Bars of a code, a field of dots, checks: each in a strip of its own.
        strips = (y < 0.26 * height, (y > 0.30 * height) & (y < 0.52 * height), y > 0.82 * height)
        widths = np.repeat(rng.random(400) < 0.5, 9)[: picture.shape[1]]  # bars of two pixels
        picture[strips[0] & widths[None]] = _ink(print_color)
        dots = (np.hypot(x % 0.027 - 0.0135, y % 0.027 - 0.0135) < 0.0085) & strips[1]
        picture[dots] = _ink(print_color)
        picture[((x // 0.018 + y // 0.018) % 2 < 1) & strips[2]] = _ink(print_color)
        for line in range(4):
            words = "".join(rng.choice(list("aeionrst dlmcu"), 40))
            _write(picture, words, (0.02, (0.58 + 0.06 * line) * height), 0.022, print_color)

        def surface(u: Grid, v: Grid, axis: int = axis, sign: int = sign) -> Grid:
            across, up = ((1, 2), (0, 2), (0, 1))[axis]
            points = np.empty((*u.shape, 3))
            points[..., axis] = sign * half[axis]
            points[..., across] = (2 * v - 1) * half[across]
            points[..., up] = (1 - 2 * u) * half[up]
            return points

        parts.append(_flat(surface, (height, width), _pasted(picture), axis, sign))
    return joined(*parts)


def _flat(
    surface: Callable[[Grid, Grid], Grid],
    size: tuple[float, float],
    paint: Callable[[Grid, Grid, Grid], Grid],
    axis: int,
    sign: int,
) -> Object:
    """A flat panel that looks along `sign` times an axis."""
    rows, columns = (max(3, int(length / _STEP)) for length in size)
    points, faces = sheet(surface, rows, columns)
    u, v = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    normal = np.zeros((1, 3))
    normal[0, axis] = sign
    colors = _shaded(paint(u.ravel(), v.ravel(), points), np.repeat(normal, len(points), 0))
    return Object(points.astype(np.float32), faces.astype(np.int32), colors.astype(np.float32))


def _facets(
    corners: Grid, triangles: npt.NDArray[np.int64], paint: Callable[[Grid], Grid]
) -> Object:
    """Flat triangles, each of one colour, which `paint` knows of their middles [n, 3]."""
    points = corners[triangles]
    normals = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    middles = points.mean(1)
    normals *= np.sign((normals * (middles - corners.mean(0))).sum(1))[:, None]
    colors = np.repeat(_shaded(paint(middles), normals), 3, 0)
    faces = np.arange(3 * len(triangles), dtype=np.int32).reshape(-1, 3)
    return Object(points.reshape(-1, 3).astype(np.float32), faces, colors.astype(np.float32))


def _hull(points: Grid) -> npt.NDArray[np.int64]:
    return np.asarray(ConvexHull(points).simplices, np.int64)


@lru_cache(maxsize=1)
def faceted_bird() -> Object:
    """A bird of flat facets, as games show them: body, head, beak, tail, two wings."""
    rng = np.random.default_rng(3)

    def ball(count: int, radii: Color, centre: Color) -> Grid:
        i = np.arange(count) + 0.5
        polar, turn = np.arccos(1 - 2 * i / count), np.pi * (1 + 5**0.5) * i
        d = np.stack(
            [np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)], -1
        )
        return np.asarray(d * (1 + 0.06 * rng.normal(size=(count, 1))) * radii + centre)

    def in_tones(tone: Color, spread: float) -> Callable[[Grid], Grid]:
        return lambda p: np.clip(np.array(tone) + spread * rng.normal(size=(len(p), 1)), 0.03, 0.97)

    solids: list[tuple[Grid, Color, float]] = [
        (ball(46, (0.30, 0.22, 0.21), (-0.04, 0, -0.08)), (0.20, 0.45, 0.62), 0.05),
        (ball(30, (0.15, 0.14, 0.14), (0.17, 0, 0.19)), (0.86, 0.80, 0.70), 0.05),
        (
            np.array(
                [
                    [0.29, 0.05, 0.2],
                    [0.29, -0.05, 0.2],
                    [0.28, 0, 0.26],
                    [0.28, 0, 0.14],
                    [0.44, 0, 0.17],
                ]
            ),
            *((0.93, 0.55, 0.10), 0.03),
        ),
        (
            np.array(
                [
                    *([-0.26, 0.06, -0.03], [-0.26, -0.06, -0.03], [-0.26, 0, 0.04]),
                    *([-0.47, 0.13, 0.14], [-0.47, -0.13, 0.14], [-0.45, 0, 0.1]),
                ]
            ),
            *((0.62, 0.20, 0.22), 0.05),
        ),
    ]
    for side in (1, -1):
        wing = np.array(
            [
                [0.1, 0.18, 0.05],
                [-0.2, 0.2, 0.05],
                [-0.3, 0.3, -0.2],
                [0, 0.26, -0.16],
                [-0.1, 0.3, -0.02],
            ]
        )
        solids.append((wing * [1, side, 1], (0.80, 0.70, 0.25), 0.06))
    for side in (1, -1):
        leg = np.array([[0, 0.08], [0.02, 0.08], [0.01, 0.1]])
        rows = [[x, side * y, z] for z in (-0.25, -0.42) for x, y in leg]
        solids.append((np.array(rows), (0.85, 0.45, 0.12), 0.02))
    return joined(*(_facets(p, _hull(p), in_tones(tone, spread)) for p, tone, spread in solids))


def _tube(path: Grid, radius: float, color: Callable[[Grid, Grid, Grid], Grid]) -> Object:
    """A wire of round section along `path` [n, 3]."""
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])

    def surface(u: Grid, v: Grid) -> Grid:
        at = u * lengths[-1]
        point = np.stack([np.interp(at, lengths, path[:, k]) for k in range(3)], -1)
        ahead = np.stack([np.interp(at + 1e-3, lengths, path[:, k]) for k in range(3)], -1)
        behind = np.stack([np.interp(at - 1e-3, lengths, path[:, k]) for k in range(3)], -1)
        along = ahead - behind
        along /= np.linalg.norm(along, axis=-1, keepdims=True) + 1e-12
        helper = np.where(np.abs(along[..., 2:]) < 0.8, [[[0.0, 0.0, 1.0]]], [[[1.0, 0.0, 0.0]]])
        one = np.cross(along, helper)
        one /= np.linalg.norm(one, axis=-1, keepdims=True) + 1e-12
        two = np.cross(along, one)
        angle = (2 * np.pi * v)[..., None]
        return point + radius * (np.cos(angle) * one + np.sin(angle) * two)

    return _panel(surface, (float(lengths[-1]), 2 * np.pi * radius), color, finer=1.5)


@lru_cache(maxsize=1)
def wire_basket() -> Object:
    """A pot between wires: an arch and two loops three and four pixels thick, a wire foot."""
    t = np.linspace(0, np.pi, 200)

    def pot(u: Grid, v: Grid) -> Grid:
        radius = 0.17 + 0.06 * np.sin(np.pi * u) + 0.03 * u
        angle = 2 * np.pi * v
        return np.stack([radius * np.cos(angle), radius * np.sin(angle), 0.08 - 0.36 * u], -1)

    def lid(u: Grid, v: Grid) -> Grid:
        r, angle = 0.17 * u, 2 * np.pi * v
        return np.stack([r * np.cos(angle), r * np.sin(angle), 0.08 + 0.05 * (1 - u**2)], -1)

    def base(u: Grid, v: Grid) -> Grid:
        r, angle = 0.20 * u, 2 * np.pi * v
        return np.stack([r * np.cos(angle), r * np.sin(angle), np.full_like(u, -0.28)], -1)

    def marbled(u: Grid, v: Grid, points: Grid) -> Grid:
        return texture(0.7 * points)

    def of(tone: Color) -> Callable[[Grid, Grid, Grid], Grid]:
        return lambda u, v, p: np.array(tone) * (1 + 0.25 * np.sin(60 * u))[:, None]

    wires = [
        _tube(
            np.stack([0.0 * t, 0.2 * np.cos(t), 0.06 + 0.38 * np.sin(t)], -1),
            0.009,
            of((0.72, 0.55, 0.25)),
        ),
    ]
    for side in (1, -1):
        loop = np.stack([side * (0.2 + 0.16 * np.sin(t)), 0 * t, -0.08 + 0.13 * np.cos(t)], -1)
        wires.append(_tube(loop, 0.007, of((0.30, 0.30, 0.34))))
    turn = 2 * t
    ring = np.stack([0.27 * np.cos(turn), 0.27 * np.sin(turn), np.full_like(t, -0.40)], -1)
    wires.append(_tube(ring, 0.008, of((0.45, 0.18, 0.16))))
    for k in range(6):
        a = np.pi * k / 3
        foot = np.array(
            [
                [0.19 * np.cos(a), 0.19 * np.sin(a), -0.27],
                [0.27 * np.cos(a), 0.27 * np.sin(a), -0.40],
            ]
        )
        wires.append(_tube(foot, 0.007, of((0.45, 0.18, 0.16))))
    return joined(
        _panel(pot, (0.38, 1.4), marbled),
        _panel(lid, (0.17, 1.1), marbled),
        _panel(base, (0.2, 1.2), marbled),
        *wires,
    )


@lru_cache(maxsize=1)
def deep_bowl() -> Object:
    """A bowl, deeper than a camera at 30 degrees can see, painted inside and out."""
    outline = np.array(
        [
            *([0, -0.30], [0.14, -0.30], [0.14, -0.26], [0.27, -0.14], [0.36, 0.04], [0.40, 0.26]),
            *([0.385, 0.27], [0.37, 0.26], [0.335, 0.05], [0.25, -0.12], [0.12, -0.22], [0, -0.23]),
        ]
    )
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(outline, axis=0), axis=1))])
    inside = lengths[6] / lengths[-1]

    def wall(u: Grid, v: Grid) -> Grid:
        at, angle = u * lengths[-1], 2 * np.pi * v
        radius = np.interp(at, lengths, outline[:, 0])
        height = np.interp(at, lengths, outline[:, 1])
        return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], -1)

    def painted(u: Grid, v: Grid, points: Grid) -> Grid:
        angle, z = 2 * np.pi * v, points[:, 2]
        leaves = np.tanh(3 * (np.sin(12 * angle + 30 * z) + np.sin(9 * angle - 40 * z)))
        waves = np.tanh(4 * np.sin(70 * z + 2 * np.sin(8 * angle)))
        outer = np.array([0.84, 0.80, 0.72]) - 0.22 * (leaves > 0)[:, None] * np.array(
            [1.6, 1.0, 0.3]
        )
        inner = np.array([0.30, 0.52, 0.55]) + 0.2 * waves[:, None] * np.array([1.0, 0.9, 0.6])
        # Less light reaches the bottom.
        depth = np.clip((0.27 - z) / 0.5, 0, 1)[:, None]
        return np.where((u > inside)[:, None], inner * (1 - 0.45 * depth), outer)

    return _panel(wall, (float(lengths[-1]), 2 * np.pi * 0.38), painted)


#: All of them, by name.
HARD_OBJECTS: dict[str, Callable[[], Object]] = {
    "fine print": fine_print,
    "lettered can": lettered_can,
    "faceted bird": faceted_bird,
    "wire basket": wire_basket,
    "deep bowl": deep_bowl,
}
