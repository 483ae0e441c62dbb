"""A rough coloured surface that is drawn fast, of a mesh or of views with their depth.

It does not know photos or what its pictures are compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.geometry.projection import pixel_rays, to_world
from pipeline.mesh.mesh_raster import rasterize_mesh
from pipeline.types import Cameras, DepthMaps, FloatArray, ViewSet

#: Depth with less confidence than this is no surface.
SURE = 0.2
#: Neighbours further apart than this (world units) are not joined.
JUMP = 0.05
#: Side of the cells whose vertices become one, world units: two pixels of a picture of 96.
CELL = 0.022
SUPERSAMPLE = 2

Indices = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Pictures:
    """What a surface looks like from C cameras.

    Attributes:
        colors: float32 [C, H, W, 3], straight, 0 where nothing is.
        belief: float32 [C, H, W], 0..1, how far the colours are known.
        coverage: float32 [C, H, W], 0..1.
    """

    colors: FloatArray
    belief: FloatArray
    coverage: FloatArray


@dataclass(frozen=True)
class Sketch:
    """Triangles with a colour per vertex.

    Attributes:
        vertices: float32 [V, 3], world frame.
        faces: int32 [F, 3].
        colors: float32 [V, 3], 0..1.
        belief: float32 [V], 0..1, how far each colour is known rather than guessed.
    """

    vertices: FloatArray
    faces: Indices
    colors: FloatArray
    belief: FloatArray

    def draw(self, cameras: Cameras) -> Pictures:
        attributes = np.concatenate([self.colors, self.belief[:, None]], 1)
        drawn = rasterize_mesh(
            self.vertices, self.faces, attributes, cameras, supersample=SUPERSAMPLE
        )
        return Pictures(drawn.attributes[..., :3], drawn.attributes[..., 3], drawn.coverage)


def sketch_of(
    vertices: FloatArray,
    faces: Indices,
    colors: FloatArray,
    belief: FloatArray,
    *,
    cell: float = CELL,
) -> Sketch:
    """A mesh with all vertices of a cell of space taken together as their mean."""
    cells = np.floor(vertices / cell).astype(np.int64) + (1 << 20)
    keys = (cells[:, 0] << 42) | (cells[:, 1] << 21) | cells[:, 2]
    _, where = np.unique(keys, return_inverse=True)
    counts = np.bincount(where).astype(np.float64)
    planes = np.concatenate([vertices, colors, belief[:, None]], 1).T
    sums = [np.bincount(where, plane) for plane in planes]
    means: FloatArray = (np.stack(sums, 1) / counts[:, None]).astype(np.float32)
    joined = where[faces]
    a, b, c = joined.T
    kept = np.unique(np.sort(joined[(a != b) & (b != c) & (a != c)], 1), axis=0)
    return Sketch(means[:, :3], kept.astype(np.int32), means[:, 3:6], means[:, 6])


def sketch_of_views(
    views: ViewSet,
    depths: DepthMaps,
    *,
    belief: FloatArray | None = None,
    stride: int = 2,
    cell: float = CELL,
) -> Sketch | None:
    """Every view's pixels at their depth, joined to their neighbours; None without any depth.

    Args:
        belief: float32 [V], 0..1, how far the colours of each view are known; None: fully.
        stride: between the pixels that are taken.
        cell: as `sketch_of` has it.
    """
    parts, offset = [], 0
    for view in range(len(views)):
        some = slice(stride // 2, None, stride)
        z = np.where(depths.confidence[view] > SURE, depths.depth[view], 0)[some, some]
        rays = pixel_rays(views.cameras, view, np.float32, stride=stride)
        z = z[: rays.shape[0], : rays.shape[1]]
        known = z > 0
        number = np.full(z.shape, -1)
        number[known] = np.arange(np.count_nonzero(known))
        corners = (number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1])
        triangles = np.concatenate(
            [np.stack([corners[i] for i in three], -1).reshape(-1, 3) for three in _HALVES]
        )
        triangles = triangles[(triangles >= 0).all(1)]
        heights = z[known][triangles]
        triangles = triangles[np.ptp(heights, axis=1) < JUMP] if len(triangles) else triangles
        places = to_world(views.cameras, view, (rays * z[..., None])[known])
        colors = views.images[view][some, some][: z.shape[0], : z.shape[1]][known] / 255
        known_to = np.full(len(places), 1.0 if belief is None else belief[view], np.float32)
        parts.append((places, triangles + offset, colors, known_to))
        offset += len(places)
    vertices, faces, colors, beliefs = (np.concatenate(part) for part in zip(*parts, strict=True))
    if not len(faces):
        return None
    return sketch_of(
        vertices.astype(np.float32),
        faces.astype(np.int32),
        colors.astype(np.float32),
        beliefs,
        cell=cell,
    )


#: The triangles of a square of four neighbours.
_HALVES = ((0, 2, 1), (0, 3, 2))
