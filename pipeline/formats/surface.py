"""A mesh as the writers of files want it: in their axes, unit normals, not empty.

It does not know how any of them lays out its bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pipeline.errors import InvalidInput
from pipeline.geometry.frames import GLTF_FROM_WORLD, unit_rows
from pipeline.mesh.mesh_types import IndexArray, TexturedMesh
from pipeline.types import FloatArray, UInt8Array

#: How far from a vertex towards the middle of its face the texture is looked at: past the soft rim
#: of its chart.
_TOWARDS = 0.3


def to_gltf_axes(mesh: TexturedMesh) -> TexturedMesh:
    """The mesh turned from the world frame to +Y up, front +Z; a normal of length zero points up.

    Raises:
        InvalidInput: the mesh has no triangles, or a vertex is NaN or infinite.
    """
    check_mesh(mesh)
    normals = mesh.normals.astype(np.float64) @ GLTF_FROM_WORLD.T
    return replace(
        mesh,
        vertices=(mesh.vertices @ GLTF_FROM_WORLD.T).astype(np.float32),
        normals=unit_rows(normals, [0, 1, 0], least=1e-12).astype(np.float32),
    )


def check_mesh(mesh: TexturedMesh) -> None:
    """Raises InvalidInput for a mesh without triangles, or where a vertex is NaN or infinite."""
    if not len(mesh.faces):
        raise InvalidInput("The mesh has no triangles to write.")
    if not np.isfinite(mesh.vertices).all():
        raise InvalidInput("The mesh holds NaN or infinity in its vertices.")


@dataclass(frozen=True)
class PrintSolid:
    """A mesh without seams, as slicers count: z up, front towards -y, equal places one vertex.

    Attributes:
        vertices: float32 [V, 3].
        faces: int32 [F, 3], counter-clockwise seen from outside.
        colors: uint8 [V, 3], sRGB.
    """

    vertices: FloatArray
    faces: IndexArray
    colors: UInt8Array


def to_print_solid(mesh: TexturedMesh) -> PrintSolid:
    """The mesh with the seams of its texture sewn up; a texture becomes colours of vertices, each
    the mean of what the faces around it show beside it.

    Raises:
        InvalidInput: the mesh has no triangles, or a vertex is NaN or infinite.
    """
    check_mesh(mesh)
    vertices, of_vertex = np.unique(mesh.vertices, axis=0, return_inverse=True)
    place: IndexArray = of_vertex.reshape(-1).astype(np.int32)
    faces = place[mesh.faces]
    # Faces without an area would join a place with itself.
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    turned = np.stack([vertices[:, 1], -vertices[:, 0], vertices[:, 2]], axis=1)
    return PrintSolid(
        np.ascontiguousarray(turned, np.float32),
        faces.astype(np.int32),
        _colors_of_places(mesh, place, len(vertices)),
    )


def _colors_of_places(mesh: TexturedMesh, place: IndexArray, count: int) -> UInt8Array:
    if mesh.texture is not None and mesh.uvs is not None:
        corners = mesh.uvs[mesh.faces].astype(np.float64)  # [F, corner, uv]
        inside = _TOWARDS * corners.mean(axis=1, keepdims=True) + (1 - _TOWARDS) * corners
        size = len(mesh.texture)
        column, row = np.clip((inside * size).astype(np.int64), 0, size - 1).reshape(-1, 2).T
        seen, places = mesh.texture[row, column], place[mesh.faces].reshape(-1)
    else:
        assert mesh.colors is not None, "a mesh has one or the other"
        seen, places = mesh.colors, place
    total = np.zeros((count, 3))
    np.add.at(total, places, seen.astype(np.float64))
    often = np.bincount(places, minlength=count)
    return np.round(total / np.maximum(often, 1)[:, None]).astype(np.uint8)
