"""Textured objects whose surface is known exactly, photographed from given cameras.

The surfaces are parametric and sampled so densely (edges of about half a pixel at 256 px) that
their triangles stand for them; colours depend on the place only, never on the view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pipeline.mesh.mesh_raster import rasterize_mesh
from pipeline.types import Cameras, DepthMaps, FloatArray, ViewSet

Grid = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Object:
    """vertices float32 [V, 3] in [-0.5, 0.5]^3, faces int32 [F, 3], colors float32 [V, 3] 0..1."""

    vertices: FloatArray
    faces: npt.NDArray[np.int32]
    colors: FloatArray


def _closed_grid(rows: int, columns: int, surface: Callable[[Grid, Grid], Grid]) -> Object:
    """Triangles of surface(u, v) [..., 3] for u, v in 0..2 pi, closed in v and in u."""
    u, v = np.meshgrid(
        np.linspace(0, 2 * np.pi, rows, endpoint=False),
        np.linspace(0, 2 * np.pi, columns, endpoint=False),
        indexing="ij",
    )
    points = surface(u, v)
    # Normals from central differences, for the shading baked into the colours.
    du = np.roll(points, -1, 0) - np.roll(points, 1, 0)
    dv = np.roll(points, -1, 1) - np.roll(points, 1, 1)
    normals = np.cross(du, dv)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-12
    i, j = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    corner = [
        (i + a) % rows * columns + (j + b) % columns for a, b in ((0, 0), (1, 0), (1, 1), (0, 1))
    ]
    faces = np.concatenate(
        [
            np.stack([corner[0], corner[1], corner[2]], -1),
            np.stack([corner[0], corner[2], corner[3]], -1),
        ]
    )
    light = 0.75 + 0.25 * np.abs(normals @ np.array([0.4, -0.5, 0.77]))
    colors = texture(points) * light[..., None]
    return Object(
        points.reshape(-1, 3).astype(np.float32),
        faces.reshape(-1, 3).astype(np.int32),
        colors.reshape(-1, 3).astype(np.float32),
    )


def texture(p: Grid) -> Grid:
    """Colours [..., 3] with details down to .05 world units (9 px at 256 px) and soft edges."""
    waves = [
        np.sin(30 * p[..., 0] + 6 * np.sin(8 * p[..., 1])),
        np.sin(26 * p[..., 1] + 5 * np.cos(9 * p[..., 2])),
        np.sin(34 * p[..., 2] + 4 * np.sin(10 * p[..., 0])),
    ]
    base = np.array([0.55, 0.45, 0.40])
    return np.clip(base + 0.35 * np.tanh(2 * np.stack(waves, -1)), 0.02, 0.98)


@lru_cache(maxsize=1)
def torus() -> Object:
    """A torus of radii .30 and .13, leaning, so that no camera sees it edge on."""
    lean = np.deg2rad(35.0)
    turn = np.array([[1, 0, 0], [0, np.cos(lean), -np.sin(lean)], [0, np.sin(lean), np.cos(lean)]])

    def surface(u: Grid, v: Grid) -> Grid:
        ring = 0.30 + 0.13 * np.cos(v)
        return np.stack([ring * np.cos(u), ring * np.sin(u), 0.13 * np.sin(v)], -1) @ turn.T

    return _closed_grid(600, 300, surface)


@lru_cache(maxsize=1)
def bumpy_sphere() -> Object:
    """A sphere of radius .38 with bumps of 10 %."""

    def surface(u: Grid, v: Grid) -> Grid:
        # v runs from pole to pole and back, so the grid closes; each point is covered twice.
        polar = np.minimum(v, 2 * np.pi - v)
        d = np.stack([np.sin(polar) * np.cos(u), np.sin(polar) * np.sin(u), np.cos(polar)], -1)
        bumps = np.sin(9 * d[..., 0]) * np.sin(9 * d[..., 1] + 1) * np.sin(9 * d[..., 2] + 2)
        return 0.38 * (1 + 0.10 * bumps)[..., None] * d

    return _closed_grid(500, 1000, surface)


def joined(*parts: Object) -> Object:
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts)])
    return Object(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([p.faces + np.int32(o) for p, o in zip(parts, offsets, strict=False)]),
        np.concatenate([part.colors for part in parts]),
    )


def sheet(surface: Callable[[Grid, Grid], Grid], rows: int, columns: int) -> tuple[Grid, Grid]:
    """Points of surface(u, v), u and v in 0..1, and the faces of their open grid."""
    u, v = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    points = surface(u, v).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns - 1), indexing="ij")
    a = (i * columns + j).ravel()
    faces = np.concatenate(
        [
            np.stack([a, a + columns, a + columns + 1], -1),
            np.stack([a, a + columns + 1, a + 1], -1),
        ]
    )
    return points, faces


@lru_cache(maxsize=1)
def printed_box() -> Object:
    """A box with a print of its own on every face: stripes, rings, checks and dots."""
    half = np.array([0.34, 0.26, 0.30])
    prints: list[Callable[[Grid, Grid], Grid]] = [
        lambda u, v: np.sin(40 * u),
        lambda u, v: np.sin(45 * np.hypot(u - 0.5, v - 0.5)),
        lambda u, v: np.sin(24 * u) * np.sin(24 * v) * 3,
        lambda u, v: np.sin(30 * (u + v)),
        lambda u, v: np.cos(20 * u) + np.cos(20 * v) - 0.5,
        lambda u, v: np.sin(28 * u * (1 + v)),
    ]
    inks = np.array(
        [
            *([0.8, 0.2, 0.2], [0.2, 0.6, 0.3], [0.2, 0.3, 0.8]),
            *([0.8, 0.6, 0.1], [0.6, 0.2, 0.7], [0.1, 0.6, 0.7]),
        ]
    )
    parts = []
    for face in range(6):
        axis, sign = face % 3, 1 - 2 * (face // 3)
        across, up = (axis + 1) % 3, (axis + 2) % 3

        def surface(u: Grid, v: Grid, axis: int = axis, sign: int = sign) -> Grid:
            points = np.empty((*u.shape, 3))
            points[..., axis] = sign * half[axis]
            points[..., (axis + 1) % 3] = (2 * u - 1) * half[(axis + 1) % 3]
            points[..., (axis + 2) % 3] = (2 * v - 1) * half[(axis + 2) % 3]
            return points

        points, faces = sheet(surface, 200, 200)
        u = (points[:, across] / half[across] + 1) / 2
        v = (points[:, up] / half[up] + 1) / 2
        ink = 0.5 + 0.5 * np.tanh(2.5 * prints[face](u, v))
        colors = inks[face] * ink[:, None] + np.array([0.92, 0.9, 0.85]) * (1 - ink[:, None])
        parts.append(
            Object(points.astype(np.float32), faces.astype(np.int32), colors.astype(np.float32))
        )
    return joined(*parts)


@lru_cache(maxsize=1)
def mug() -> Object:
    """A cup with walls, a bottom and a handle: hollow, with a hole."""

    def of(surface: Callable[[Grid, Grid], Grid], rows: int, columns: int) -> Object:
        points, faces = sheet(surface, rows, columns)
        return Object(
            points.astype(np.float32), faces.astype(np.int32), texture(points).astype(np.float32)
        )

    # Outline from the middle of the bottom up the outside, over the rim and down the inside.
    outline = np.array(
        [
            *([0, -0.34], [0.24, -0.34], [0.27, -0.31], [0.27, 0.33], [0.255, 0.345]),
            *([0.24, 0.33], [0.235, -0.28], [0, -0.29]),
        ]
    )
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(outline, axis=0), axis=1))])

    def wall(u: Grid, v: Grid) -> Grid:
        at = u * lengths[-1]
        radius = np.interp(at, lengths, outline[:, 0])
        height = np.interp(at, lengths, outline[:, 1])
        angle = 2 * np.pi * v
        return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], -1)

    def handle(u: Grid, v: Grid) -> Grid:
        along, around = np.pi * (u - 0.5), 2 * np.pi * v
        reach = 0.17 + 0.035 * np.cos(around)
        return np.stack(
            [0.035 * np.sin(around), 0.26 + reach * np.cos(along), 1.1 * reach * np.sin(along)], -1
        )

    return joined(of(wall, 500, 500), of(handle, 250, 80))


def _glazed(thing: Object, darkest: float) -> Object:
    """The same in white, from `darkest` away from the light to pure white towards it."""
    v, f = thing.vertices.astype(np.float64), thing.faces
    across = np.cross(v[f[:, 1]] - v[f[:, 0]], v[f[:, 2]] - v[f[:, 0]])
    normals = np.zeros_like(v)
    for corner in range(3):
        np.add.at(normals, f[:, corner], across)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    towards = 0.5 + 0.5 * normals @ (np.array([0.4, -0.5, 0.77]) / 1.0008)
    grey = darkest + (1 - darkest) * np.clip(towards, 0, 1)
    return Object(thing.vertices, f, np.repeat(grey[:, None], 3, 1).astype(np.float32))


@lru_cache(maxsize=1)
def white_mug() -> Object:
    """`mug` in porcelain: on white, much of its outline cannot be told by colour."""
    return _glazed(mug(), 0.85)


def photograph(
    thing: Object, cameras: Cameras, *, supersample: int = 3
) -> tuple[ViewSet, DepthMaps]:
    """Views on white with exact depth; depth and confidence are 0 where less than half is covered.

    The same numbers twice: `ViewSet.surface_depth` and `DepthMaps.depth`.
    """
    drawn = rasterize_mesh(
        thing.vertices, thing.faces, thing.colors, cameras, supersample=supersample
    )
    coverage = drawn.coverage[..., None]
    images = np.round(255 * (drawn.attributes * coverage + 1 - coverage)).astype(np.uint8)
    alphas = np.round(255 * drawn.coverage).astype(np.uint8)
    depth = np.where(drawn.coverage >= 0.5, drawn.depth, 0).astype(np.float32)
    confidence = (depth > 0).astype(np.float32)
    return (
        ViewSet(images, alphas, cameras, "oracle", depth),
        DepthMaps(depth, confidence, "oracle"),
    )
