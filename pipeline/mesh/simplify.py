"""Fewer faces for a closed surface, which stays closed; solids that overlap become one.

It does not know splats or colours.
"""

from __future__ import annotations

from collections.abc import Sequence

import fast_simplification
import manifold3d
import numpy as np
import trimesh

from pipeline.control import Control
from pipeline.mesh.mesh_types import IndexArray, TriangleMesh

#: Steps in which Manifold takes off what is smaller, for an object of radius 1: parts of a voxel.
_TOLERANCES = (0.002, 0.004, 0.008, 0.016)

#: A solid that lost more of its volume has another shape.
_LEAST_VOLUME = 0.9


def is_closed(mesh: trimesh.Trimesh) -> bool:
    """One component, watertight, consistently wound, with a positive volume."""
    return bool(
        len(mesh.faces) > 0
        and mesh.is_watertight
        and mesh.is_winding_consistent
        and mesh.volume > 0
        and mesh.body_count == 1
    )


def simplify_surface(mesh: TriangleMesh, face_limit: int, control: Control) -> TriangleMesh | None:
    """At most `face_limit` faces, still closed, and no two sheets of it share a vertex (Manifold
    would split that in two); None when no setting keeps it so.

    Quadric error metrics (Garland and Heckbert 1997), slower and more careful until it holds.
    Raises Cancelled, between two settings: one takes .1 s for 100,000 faces.
    """
    if len(mesh.faces) <= face_limit:
        return mesh
    for aggressiveness in (7.0, 4.0, 2.0):
        control.check()
        vertices, faces = fast_simplification.simplify(
            mesh.vertices, mesh.faces, target_count=face_limit, agg=aggressiveness
        )
        simple = trimesh.Trimesh(vertices, faces, process=True)
        if len(simple.faces) <= face_limit and is_closed(simple):
            found = TriangleMesh(np.asarray(simple.vertices, np.float32), faces_of(simple))
            if _solid(found).num_vert() == len(found.vertices):
                return found
    return None


def simplify_carefully(
    mesh: TriangleMesh, face_limit: int, control: Control
) -> TriangleMesh | None:
    """As `simplify_surface`, for a surface that tears: Manifold, which cannot tear one, takes off
    what is small first, in steps; rougher, so it is for what cannot be had otherwise.

    None where the surface has more handles than `face_limit` faces can show.
    """
    whole = solid = _solid(mesh)
    for tolerance in _TOLERANCES:
        control.check()
        solid = solid.simplify(tolerance)
        if solid.status() != manifold3d.Error.NoError or solid.is_empty():
            return None
        if solid.volume() < _LEAST_VOLUME * whole.volume():
            return None
        largest = max(solid.decompose(), key=lambda part: float(part.volume()))
        simple = simplify_surface(_mesh_of(largest), face_limit, control)
        if simple is not None:
            return simple
    return None


def unite(meshes: Sequence[TriangleMesh], control: Control) -> tuple[TriangleMesh, ...]:
    """Closed surfaces that do not overlap and of which none lies inside another.

    The meshes as they are where that is so already. What overlaps becomes one surface, with the
    faces that the cut needs; what lies inside is gone.
    """
    control.check()
    solids = [_solid(mesh) for mesh in meshes]
    united = manifold3d.Manifold.batch_boolean(solids, manifold3d.OpType.Add)
    control.check()
    # A hollow between solids is a component, too, turned inside out.
    parts = [part for part in united.decompose() if part.volume() > 0]
    apart = len(parts) == len(meshes) and united.num_tri() == sum(len(m.faces) for m in meshes)
    if apart or united.status() != manifold3d.Error.NoError or not parts:
        return tuple(meshes)
    parts.sort(key=lambda part: -float(part.volume()))
    return tuple(_mesh_of(part) for part in parts)


def surface_area(mesh: TriangleMesh) -> float:
    """Of all faces, in world units squared."""
    return float(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).area)


def _solid(mesh: TriangleMesh) -> manifold3d.Manifold:
    return manifold3d.Manifold(
        manifold3d.Mesh(
            np.ascontiguousarray(mesh.vertices, np.float32),
            np.ascontiguousarray(mesh.faces, np.uint32),
        )
    )


def _mesh_of(solid: manifold3d.Manifold) -> TriangleMesh:
    mesh = solid.to_mesh()
    vertices = np.array(mesh.vert_properties[:, :3], np.float32)
    return TriangleMesh(vertices, np.array(mesh.tri_verts, np.int32))


def faces_of(mesh: trimesh.Trimesh) -> IndexArray:
    """int32 [F, 3]."""
    return np.asarray(mesh.faces, np.int32)
