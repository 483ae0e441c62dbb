"""Draws a triangle mesh with vertex attributes from given cameras.

It does not know textures, materials or what the attributes mean (colours, normals, positions).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import InvalidInput
from pipeline.native import FLOAT, FLOATS, INT, INTS, LONG, native_function
from pipeline.types import Cameras, FloatArray

#: Faces are cut here, in world units in front of the camera.
NEAR_PLANE = 0.01

MAX_SUPERSAMPLE = 8

#: Most samples (pixels times `supersample`) along one side: each takes 16 bytes, so that one image
#: of this size takes 1 GiB while it is drawn, and every thread draws one.
MAX_SAMPLES = 8192


@dataclass(frozen=True)
class MeshRaster:
    """C images of a mesh.

    Attributes:
        attributes: float32 [C, H, W, A], mean over the covered samples of the pixel (straight,
            not multiplied by coverage), 0 where nothing is covered.
        coverage: float32 [C, H, W], covered share of the pixel, 0..1.
        depth: float32 [C, H, W], mean z-depth of the covered samples in world units, 0 where
            nothing is covered.
    """

    attributes: FloatArray
    coverage: FloatArray
    depth: FloatArray


def rasterize_mesh(
    vertices: FloatArray,
    faces: npt.NDArray[np.int32],
    attributes: FloatArray,
    cameras: Cameras,
    *,
    supersample: int = 2,
) -> MeshRaster:
    """Draws the nearest surface, front and back faces alike, interpolated in perspective.

    A sample on the common edge of two faces is drawn exactly once, so closed meshes have no
    cracks. Results do not depend on the number of threads.

    Args:
        vertices: float32 [V, 3], world frame.
        faces: int32 [F, 3], indices into `vertices`, any winding.
        attributes: float32 [V, A], A may be 0.
        supersample: samples per pixel and axis, 1..8; 1 samples pixel centres (+0.5). The longer
            side of the cameras times this is at most `MAX_SAMPLES`.

    Raises:
        OutOfMemory: the host is too small for images of this size.
        InvalidInput: a shape, index or value is wrong; the text names the argument.
        Unavailable: the C++ library cannot be compiled.
    """
    vertices = _checked("vertices", vertices, 3)
    attributes = _checked("attributes", attributes, None)
    if len(attributes) != len(vertices):
        raise InvalidInput(
            f"attributes must have one row per vertex: {len(attributes)} for {len(vertices)}"
        )
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
        raise InvalidInput(f"faces must be integers [F, 3], got {faces.dtype} {faces.shape}")
    if faces.size and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise InvalidInput(f"faces must hold indices from 0 to {len(vertices) - 1}")
    if not 1 <= supersample <= MAX_SUPERSAMPLE:
        raise InvalidInput(f"supersample must be 1 to {MAX_SUPERSAMPLE}, got {supersample}")
    W, H, C, A = cameras.width, cameras.height, len(cameras), attributes.shape[1]
    if min(W, H) < 1 or max(W, H) * supersample > MAX_SAMPLES:
        raise InvalidInput(
            f"cameras must be 1 to {MAX_SAMPLES // supersample} pixels wide and high with "
            f"supersample {supersample}, got {W} x {H}"
        )
    viewmats = _checked("cameras.viewmats", cameras.viewmats.reshape(C, 16), 16)
    Ks = _checked("cameras.intrinsics", cameras.intrinsics.reshape(C, 9), 9)
    triangles = np.ascontiguousarray(faces, dtype=np.int32)

    image = np.empty((C, H, W, A), np.float32)
    coverage, depth = np.empty((C, H, W), np.float32), np.empty((C, H, W), np.float32)
    arrays = (FLOATS, INTS, FLOATS, FLOATS, FLOATS)
    arguments = (INT, LONG, LONG, INT, *arrays, *[INT] * 3, FLOAT, *[FLOATS] * 3)
    native_function("mesh_rasterize", *arguments)(
        *(C, len(vertices), len(triangles), A),
        *(vertices, triangles, attributes, viewmats, Ks),
        *(W, H, supersample, NEAR_PLANE),
        *(image, coverage, depth),
    )
    return MeshRaster(image, coverage, depth)


def _checked(name: str, array: FloatArray, columns: int | None) -> FloatArray:
    """`array` as contiguous float32 [n, columns]."""
    if array.ndim != 2 or (columns is not None and array.shape[1] != columns):
        raise InvalidInput(f"{name} must be [n, {columns or 'A'}], got {array.shape}")
    if not np.isfinite(array).all():
        raise InvalidInput(f"{name} contains NaN or infinity")
    return np.ascontiguousarray(array, dtype=np.float32)
