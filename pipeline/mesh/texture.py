"""Colours for a surface: lays it out flat, then paints it with what views of the model show.

It does not know how the surface was found or how files hold textures.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial import cKDTree

from pipeline.control import Control
from pipeline.errors import InvalidInput
from pipeline.imaging.rounding import to_bytes
from pipeline.mesh.mesh_raster import rasterize_mesh
from pipeline.mesh.mesh_types import IndexArray, TexturedMesh, TriangleMesh
from pipeline.mesh.unwrap import Layout, unwrap
from pipeline.native import FLOAT, FLOATS, INT, INTS, LONG, native_function
from pipeline.splats.render import render_model
from pipeline.types import Cameras, FloatArray, SplatModel, UInt8Array

#: xatlas takes 1 s for 10,000 faces, 7 s for 20,000 and 20 s for 50,000: above this many faces
#: colours are per vertex.
UNWRAP_LIMIT = 12_000

#: Share of an atlas that charts fill, about; decides how large xatlas draws them.
_FILL = 0.6

#: A view does not colour what it sees flatter than this (cosine of the angle to the normal).
_MIN_COS = 0.2

#: How much nearer than a point its pixel may be, for an object of radius 1: the depth that a pixel
#: spans where it is seen at `_MIN_COS`.
_TOLERANCE = 0.03

#: Views per call while baking: 8 of 1024 x 1024 take 200 MB.
_VIEWS_AT_ONCE = 8

#: bool [P].
_Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]


def bake_texture(
    surface: TriangleMesh,
    normals: FloatArray,
    model: SplatModel,
    cameras: Cameras,
    texture_size: int,
    control: Control,
) -> TexturedMesh:
    """The surface with a square texture.

    Args:
        normals: float32 [V, 3], unit length, of the surface's vertices.
        model: drawn from `cameras`; what none of them sees takes the colour of its neighbours on
            the texture.

    Raises:
        InvalidInput: no view shows any of the surface.
        Cancelled: a stop was asked for.
        OutOfMemory, ModelFailed: the surface could not be laid out.
    """
    control.step(0.0, "unwrap")
    layout = _unwrap(surface, texture_size, control)
    control.step(0.4, "bake")
    face, weights = _texels(layout, texture_size)
    drawn = face >= 0
    corners = layout.source[layout.faces[face[drawn]]]  # [P, 3]
    share = weights[drawn][..., None]
    points = (surface.vertices[corners] * share).sum(axis=1)
    directions = (normals[corners] * share).sum(axis=1)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True) + 1e-12
    colors, seen = _colors(points, directions, surface, model, cameras, control.part(0.4, 0.9))
    control.step(0.9, "fill")
    texture = np.zeros((texture_size, texture_size, 3), np.uint8)
    known = np.zeros((texture_size, texture_size), bool)
    texture[drawn], known[drawn] = to_bytes(255 * colors), seen
    return TexturedMesh(
        vertices=surface.vertices[layout.source],
        normals=normals[layout.source],
        faces=layout.faces,
        uvs=layout.uvs,
        texture=_fill_unknown(texture, known),
    )


def bake_colors(
    surface: TriangleMesh,
    normals: FloatArray,
    model: SplatModel,
    cameras: Cameras,
    control: Control,
) -> TexturedMesh:
    """The surface with a colour per vertex; arguments and errors as of `bake_texture`."""
    colors, seen = _colors(surface.vertices, normals, surface, model, cameras, control)
    colors, seen = _spread_over_edges(colors, seen, surface.faces)
    if not seen.all():  # a part that no view saw, behind the others
        nearest = cKDTree(surface.vertices[seen]).query(surface.vertices[~seen])[1]
        colors[~seen] = colors[seen][nearest]
    return TexturedMesh(surface.vertices, normals, surface.faces, colors=to_bytes(255 * colors))


def _unwrap(surface: TriangleMesh, texture_size: int, control: Control) -> Layout:
    corners = surface.vertices[surface.faces].astype(np.float64)
    area = 0.5 * np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    return unwrap(surface, float(texture_size * np.sqrt(_FILL / area.sum())), control)


def _texels(layout: Layout, size: int) -> tuple[IndexArray, FloatArray]:
    """Which face covers each texel ([S, S], -1: none) and its barycentric weights [S, S, 3]."""
    face = np.empty((size, size), np.int32)
    weights = np.empty((size, size, 3), np.float32)
    fill = native_function("texture_rasterize", LONG, INTS, FLOATS, INT, INTS, FLOATS)
    fill(len(layout.faces), layout.faces, layout.uvs, size, face, weights)
    return face, weights


def _colors(
    points: FloatArray,
    normals: FloatArray,
    surface: TriangleMesh,
    model: SplatModel,
    cameras: Cameras,
    control: Control,
) -> tuple[FloatArray, _Flags]:
    """Colours [P, 3], 0..1, and where any view saw the point [P]."""
    points, normals = (np.ascontiguousarray(a, np.float32) for a in (points, normals))
    total, weight = np.zeros((len(points), 3), np.float32), np.zeros(len(points), np.float32)
    none = np.empty((len(surface.vertices), 0), np.float32)
    for start in range(0, len(cameras), _VIEWS_AT_ONCE):
        control.step(start / len(cameras), "bake")
        some = cameras.select(list(range(start, min(start + _VIEWS_AT_ONCE, len(cameras)))))
        drawn = render_model(model, some, background=0.0)
        images = (drawn.images / np.maximum(drawn.alphas, 1e-6)[..., None]).astype(np.float32)
        # The depth of the surface, not of the splats: what hides a point is the mesh itself.
        own = rasterize_mesh(surface.vertices, surface.faces, none, some, supersample=1)
        colors, share = _colors_from_views(points, normals, some, images, drawn.alphas, own.depth)
        total += colors * share[:, None]
        weight += share
    seen = weight > 0
    if not seen.any():
        raise InvalidInput("The model is too transparent to take colours from it.")
    return (total / np.maximum(weight, 1e-12)[:, None]).astype(np.float32), seen


def _colors_from_views(
    points: FloatArray,
    normals: FloatArray,
    cameras: Cameras,
    images: FloatArray,
    alphas: FloatArray,
    depth: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Colours [P, 3] and weights [P] of points that some of the views see; see `surface.cpp`."""
    colors, weights = np.empty((len(points), 3), np.float32), np.empty(len(points), np.float32)
    viewmats, Ks = (
        np.ascontiguousarray(a, np.float32) for a in (cameras.viewmats, cameras.intrinsics)
    )
    arguments = (LONG, FLOATS, FLOATS, *[INT] * 3, *[FLOATS] * 5, FLOAT, FLOAT, FLOATS, FLOATS)
    native_function("surface_colors", *arguments)(
        *(len(points), points, normals, *depth.shape),
        *(images, alphas, depth, viewmats, Ks),
        *(_TOLERANCE, _MIN_COS, colors, weights),
    )
    return colors, weights


def _fill_unknown(
    texture: UInt8Array, known: np.ndarray[tuple[int, int], np.dtype[np.bool_]]
) -> UInt8Array:
    """Every unknown texel takes the nearest known one: gutters, and what no view saw."""
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colors = np.zeros((int(labels.max()) + 1, 3), np.uint8)
    colors[labels[known]] = texture[known]
    filled: UInt8Array = colors[labels]
    return filled


def _spread_over_edges(
    colors: FloatArray, seen: _Flags, faces: IndexArray
) -> tuple[FloatArray, _Flags]:
    """Vertices that no view saw take the mean of their neighbours, ring by ring; also which have
    a colour then."""
    colors, seen = colors.copy(), seen.copy()
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    while not seen.all():
        useful = edges[~seen[edges[:, 0]] & seen[edges[:, 1]]]
        if not len(useful):
            break
        total = np.zeros((len(colors), 3))
        count = np.zeros(len(colors))
        np.add.at(total, useful[:, 0], colors[useful[:, 1]])
        np.add.at(count, useful[:, 0], 1)
        reached = count > 0
        colors[reached] = (total[reached] / count[reached, None]).astype(np.float32)
        seen |= reached
    return colors, seen
