"""Meshes as binary .stl for printers: triangles in millimetres, and nothing else.

It does not know how large the thing is to be (`pipeline.engines.exporter` does).
"""

from __future__ import annotations

import trimesh

from pipeline.formats.surface import to_print_solid
from pipeline.mesh.mesh_types import TexturedMesh


def write_stl(mesh: TexturedMesh, *, compact: bool = False) -> bytes:
    """The file's bytes; the mesh is in millimetres, z up, and its front is turned to -y, the front
    of a printer. The format has neither units, colours nor smaller numbers; deterministic.

    Args:
        compact: the format has one encoding only.

    Raises:
        InvalidInput: the mesh is empty or not finite.
    """
    del compact
    solid = to_print_solid(mesh)
    data: bytes = trimesh.exchange.stl.export_stl(
        trimesh.Trimesh(solid.vertices, solid.faces, process=False)
    )
    return data
