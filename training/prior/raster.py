"""Where rays meet a triangle soup first and last, the light there, and outlines inflated.

It does not know objects, materials by name or where cameras come from. The work is done in C++,
compiled once per machine.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.native import build_library
from pipeline.types import FloatArray, UInt8Array

IntArray = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

#: Numbers that describe the paint of a slot, see `Paint`.
PAINT_NUMBERS = 24

#: Side of the picture that a light sees.
SHADOW_SIDE = 96


@dataclass(frozen=True)
class Mesh:
    """Triangles as the rasteriser wants them.

    Attributes:
        vertices: float32 [V, 3], in the world.
        faces: int32 [F, 3].
        uv: float32 [V, 2].
        slots: int32 [F].
        smooth: uint8 [F].
        face_normals: float32 [F, 3].
        vertex_normals: float32 [V, 3].
    """

    vertices: FloatArray
    faces: IntArray
    uv: FloatArray
    slots: IntArray
    smooth: UInt8Array
    face_normals: FloatArray
    vertex_normals: FloatArray


@dataclass(frozen=True)
class Paint:
    """What every slot of an object looks like.

    Attributes:
        bank: uint8 [N, M, M, 3], all pictures.
        pictures: int32 [slots], the one of each slot.
        numbers: float32 [slots, 24]: gain and offset of its colours (3 each), the map of texture
            coordinates (2 x 3), strength and exponent of the highlight, how much it mirrors its
            surroundings, how much it is metal, and 8 that are not used.
    """

    bank: UInt8Array
    pictures: IntArray
    numbers: FloatArray


@dataclass(frozen=True)
class Hits:
    """Where one ray per pixel of a square picture meets the soup.

    Attributes:
        faces: int32 [S, S], -1 where it does not.
        depths: float32 [S, S], along the axis of the camera; of no meaning there.
        shares: float32 [S, S, 2], of the face's corners 1 and 2.
    """

    faces: IntArray
    depths: FloatArray
    shares: FloatArray


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(build_library(source_dir=Path(__file__).parent, name="made-objects")))
    for name in ("scene_normals", "scene_hits", "scene_shadow", "scene_shade", "scene_inflate"):
        getattr(library, name).restype = None
    return library


def _call(name: str, *arguments: npt.NDArray[Any] | int | float) -> None:
    """Arrays go as pointers (they must be contiguous), numbers by value."""
    converted: list[Any] = []
    for value in arguments:
        if isinstance(value, np.ndarray):
            assert value.flags.c_contiguous, name
            converted.append(ctypes.c_void_p(value.ctypes.data))
        else:
            converted.append(ctypes.c_float(value) if isinstance(value, float) else value)
    getattr(_library(), name)(*converted)


def make_mesh(
    vertices: npt.NDArray[Any],
    faces: npt.NDArray[Any],
    uv: npt.NDArray[Any],
    slots: npt.NDArray[Any],
    smooth: npt.NDArray[Any],
) -> Mesh:
    """A mesh with its normals; shapes as in `Mesh`, any numeric types."""
    points = np.ascontiguousarray(vertices, np.float32)
    triangles = np.ascontiguousarray(faces, np.int32)
    face_normals = np.empty((len(triangles), 3), np.float32)
    vertex_normals = np.empty((len(points), 3), np.float32)
    _call(
        "scene_normals",
        *(points, len(points), triangles, len(triangles), face_normals, vertex_normals),
    )
    return Mesh(
        points,
        triangles,
        np.ascontiguousarray(uv, np.float32),
        np.ascontiguousarray(slots, np.int32),
        np.ascontiguousarray(smooth, np.uint8),
        face_normals,
        vertex_normals,
    )


def trace(points: npt.NDArray[Any], faces: IntArray, focal: float, side: int) -> tuple[Hits, Hits]:
    """First and last hit of every pixel of a square picture.

    Faces with a corner behind the camera are left out.

    Args:
        points: [V, 3] in the camera's frame: x right, y down, z forward.
        faces: int32 [F, 3].
        focal: focal length in pixels; the axis goes through the middle of the picture.
        side: of the picture, in pixels.
    """
    camera_points = np.ascontiguousarray(points, np.float32)
    first, last = (
        Hits(
            np.empty((side, side), np.int32),
            np.empty((side, side), np.float32),
            np.zeros((side, side, 2), np.float32),
        )
        for _ in range(2)
    )
    _call(
        "scene_hits",
        *(camera_points, len(camera_points), faces, len(faces), float(focal), side),
        *(first.faces, first.depths, first.shares, last.faces, last.depths, last.shares),
    )
    return first, last


@dataclass(frozen=True)
class Shadow:
    """What a distant light sees.

    Attributes:
        reach: float32 [S, S], the largest coordinate along the light's direction behind each pixel.
        place: float32 [9], from the world to the pixels: two rows of 3, two offsets, the width of
            a pixel.
    """

    reach: FloatArray
    place: FloatArray


@dataclass(frozen=True)
class Look:
    """All that gives a hit its colour.

    Attributes:
        light: float32, see `training.prior.light.Light.numbers`.
    """

    mesh: Mesh
    paint: Paint
    light: FloatArray
    shadow: Shadow


def cast_shadow(mesh: Mesh, direction: npt.NDArray[Any]) -> Shadow:
    """The shadow that a mesh throws on itself.

    Args:
        direction: unit vector [3] towards the light.
    """
    shadow = Shadow(np.empty((SHADOW_SIDE, SHADOW_SIDE), np.float32), np.empty(9, np.float32))
    _call(
        "scene_shadow",
        *(mesh.vertices, len(mesh.vertices), mesh.faces, len(mesh.faces)),
        *(np.ascontiguousarray(direction, np.float32), SHADOW_SIDE, shadow.reach, shadow.place),
    )
    return shadow


def shade(
    look: Look,
    hits: Hits,
    eye: npt.NDArray[Any],
    openness: FloatArray,
    *,
    behind: bool = False,
) -> FloatArray:
    """The colours of the hits as seen from `eye`, float32 [S, S, 3], sRGB 0..1; 0 elsewhere.

    Args:
        eye: [3], in the world.
        openness: float32 [S, S], 0..1: how much of the sky reaches the hit.
        behind: seen along the same rays, but from the other side, as the last hits are.
    """
    mesh, paint = look.mesh, look.paint
    colors = np.empty((*hits.faces.shape, 3), np.float32)
    _call(
        "scene_shade",
        *(hits.faces.size, hits.faces, hits.shares, openness),
        *(mesh.vertices, mesh.faces, mesh.uv, mesh.vertex_normals, mesh.face_normals),
        *(mesh.smooth, mesh.slots, paint.bank, paint.bank.shape[1], paint.pictures, paint.numbers),
        *(np.ascontiguousarray(eye, np.float32), int(behind), look.light),
        *(look.shadow.reach, look.shadow.place, SHADOW_SIDE, colors),
    )
    return colors


def inflate(inside: Mask) -> FloatArray:
    """The product's `relief_shape.inflate` for outlines of at most 64 px, float32 [S, S] in px.

    It is made for every sample, so it must be ten times as fast; the two agree to 2 percent.
    """
    thickness = np.empty(inside.shape, np.float32)
    _call("scene_inflate", np.ascontiguousarray(inside, np.uint8), inside.shape[0], thickness)
    return thickness
