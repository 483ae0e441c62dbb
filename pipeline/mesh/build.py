"""A splat model to a textured mesh: frame it, find its parts and their surfaces, colour them.

It reads like the method and leaves each step to its module. It does not know file formats.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import trimesh

from pipeline.control import Control
from pipeline.errors import InvalidInput
from pipeline.geometry.cameras import surround_cameras
from pipeline.geometry.unit_frame import CAMERA_RADIUS, UnitFrame
from pipeline.mesh.extract_parts import extract_parts
from pipeline.mesh.mesh_types import TexturedMesh, TriangleMesh
from pipeline.mesh.parts import find_parts
from pipeline.mesh.texture import UNWRAP_LIMIT, bake_colors, bake_texture
from pipeline.splats.floaters import VISIBLE_OPACITY, floating
from pipeline.types import FloatArray, SplatModel

_BAKE_VIEWS = 32


@dataclass(frozen=True)
class MeshRequest:
    """What mesh is wanted.

    Attributes:
        face_limit: most faces.
        texture_size: pixels along each side of the texture.
    """

    face_limit: int
    texture_size: int


@dataclass(frozen=True)
class BuiltMesh:
    """A mesh and what happened on the way.

    Attributes:
        parts: closed surfaces that do not touch.
        surface_faces: faces of the surface before it was simplified.
        notes: sentences for the user.
    """

    mesh: TexturedMesh
    parts: int
    surface_faces: int
    notes: tuple[str, ...]


def build_mesh(model: SplatModel, request: MeshRequest, control: Control) -> BuiltMesh:
    """The closed, coloured surfaces of a model of any size and place, one of each part of it.

    Raises:
        InvalidInput: the model has no splats, or nothing opaque enough to have a surface.
        Cancelled: a stop was asked for.
    """
    model = _without_floaters(model)
    frame = UnitFrame.of(model)
    unit = frame.to_unit(model)
    near = frame.near(model)
    unit = unit.select(near)
    parts = find_parts(unit)
    surfaces = extract_parts(unit, parts, request.face_limit, control.part(0.0, 0.45))
    simple, notes = surfaces.joined(), list(surfaces.notes)
    if not near.all():
        notes.append(
            f"{int((~near).sum()):,} splats have no part in the surface: they lie far away from "
            "the object or are larger than it."
        )
    # What has no surface would only hide what has one.
    unit = unit.select(surfaces.shown)
    normals = _normals(simple)
    bake_size = int(np.clip(request.texture_size // 2, 256, 1024))
    cameras = surround_cameras(_BAKE_VIEWS, size=bake_size, radius=CAMERA_RADIUS)
    if len(simple.faces) <= UNWRAP_LIMIT:
        mesh = bake_texture(
            simple, normals, unit, cameras, request.texture_size, control.part(0.45, 1.0)
        )
    else:
        mesh = bake_colors(simple, normals, unit, cameras, control.part(0.45, 1.0))
        notes.append(f"Above {UNWRAP_LIMIT:,} faces colours are per vertex: there is no texture.")
    mesh = replace(mesh, vertices=frame.to_world(mesh.vertices))
    return BuiltMesh(mesh, len(surfaces.meshes), surfaces.full_faces, tuple(notes))


def _without_floaters(model: SplatModel) -> SplatModel:
    """The visible splats, without those that float far from all others (`floating`): they belong
    to no surface and would make the volume larger than the object.
    """
    seen = model.opacities >= VISIBLE_OPACITY
    if not seen.any():
        raise InvalidInput("The model has no surface: it holds no visible splat.")
    return model.select(seen & ~floating(model))


def _normals(surface: TriangleMesh) -> FloatArray:
    """Unit vertex normals, float32 [V, 3]."""
    mesh = trimesh.Trimesh(surface.vertices, surface.faces, process=False)
    return np.asarray(mesh.vertex_normals, np.float32)
