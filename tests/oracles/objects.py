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

from pipeline.mesh.raster import rasterize_mesh
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
    colors = _texture(points) * light[..., None]
    return Object(
        points.reshape(-1, 3).astype(np.float32),
        faces.reshape(-1, 3).astype(np.int32),
        colors.reshape(-1, 3).astype(np.float32),
    )


def _texture(p: Grid) -> Grid:
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
