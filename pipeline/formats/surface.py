"""A mesh as the writers of .glb, .obj and .usdz want it: glTF axes, unit normals, not empty.

It does not know how any of the three lays out its bytes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.errors import InvalidInput
from pipeline.geometry.frames import GLTF_FROM_WORLD, unit_rows
from pipeline.mesh.mesh_types import TexturedMesh


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
    return replace(
        mesh,
        vertices=(mesh.vertices @ GLTF_FROM_WORLD.T).astype(np.float32),
        normals=unit_rows(normals, [0, 1, 0], least=1e-12).astype(np.float32),
    )
