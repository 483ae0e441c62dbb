"""A mesh as the writers of .glb, .obj and .usdz want it: glTF axes, unit normals, not empty.

It does not know how any of the three lays out its bytes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.errors import InvalidInput
from pipeline.geometry.frames import GLTF_FROM_WORLD
from pipeline.mesh.mesh_types import TexturedMesh

__all__ = ["to_gltf_axes"]


def to_gltf_axes(mesh: TexturedMesh) -> TexturedMesh:
    """The mesh turned from the world frame to +Y up, front +Z; a normal of length zero points up.

    Raises:
        InvalidInput: the mesh has no triangles, or a vertex is NaN or infinite.
    """
    if not len(mesh.faces):
        raise InvalidInput("The mesh has no triangles to write.")
    if not np.isfinite(mesh.vertices).all():
        raise InvalidInput("The mesh holds NaN or infinity in its vertices.")
    normals = mesh.normals.astype(np.float64) @ GLTF_FROM_WORLD.T
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    usable = np.isfinite(lengths) & (lengths > 1e-12)
    unit = np.where(usable, normals / np.where(usable, lengths, 1.0), [0.0, 1.0, 0.0])
    return replace(
        mesh,
        vertices=(mesh.vertices @ GLTF_FROM_WORLD.T).astype(np.float32),
        normals=unit.astype(np.float32),
    )
