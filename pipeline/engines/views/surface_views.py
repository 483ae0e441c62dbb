"""Views of a coloured surface on white, with its own depth.

It does not know how the surface was made.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.control import Control
from pipeline.imaging.rounding import to_bytes
from pipeline.mesh.mesh_raster import rasterize_mesh
from pipeline.types import Cameras, FloatArray, UInt8Array, ViewSet

#: Cameras drawn per call: the rasteriser has one thread per camera. A stop waits for these few.
CAMERAS_PER_CALL = 4


@dataclass(frozen=True)
class ColoredMesh:
    """A closed surface with a colour per vertex.

    Attributes:
        vertices: float32 [V, 3], world frame.
        faces: int32 [F, 3], counter-clockwise seen from outside.
        colors: float32 [V, 3], sRGB in 0..1.
    """

    vertices: FloatArray
    faces: npt.NDArray[np.int32]
    colors: FloatArray


def reduced_to(rgba: UInt8Array, size: int) -> UInt8Array:
    """The cut-out [S, S, 4] at `size` or less."""
    if rgba.shape[0] <= size:
        return rgba
    smaller: UInt8Array = cv2.resize(rgba, (size, size), interpolation=cv2.INTER_AREA)
    return smaller


def render_views(
    mesh: ColoredMesh,
    cameras: Cameras,
    engine: str,
    control: Control,
    *,
    confidence: FloatArray | None = None,
) -> ViewSet:
    """The surface on white from every camera, and its depth.

    Args:
        engine: name of the view synthesiser.
        confidence: float32 [V], 0..1, how far each vertex may be believed; `surface_confidence` of
            the views is made of it.
    """
    images, alphas, depths, beliefs = [], [], [], []
    attributes = np.zeros((len(mesh.vertices), 0), np.float32)
    if confidence is not None:
        attributes = confidence[:, None]
    for first in range(0, len(cameras), CAMERAS_PER_CALL):
        end = min(first + CAMERAS_PER_CALL, len(cameras))
        some = cameras.select(list(range(first, end)))
        colour = rasterize_mesh(mesh.vertices, mesh.faces, mesh.colors, some, supersample=3)
        control.check()
        # Depth at pixel centres: a mean over samples would invent surfaces at edges.
        exact = rasterize_mesh(mesh.vertices, mesh.faces, attributes, some, supersample=1)
        coverage = colour.coverage[..., None]
        over_white = colour.attributes * coverage + (1.0 - coverage)
        images.append(to_bytes(over_white * 255.0))
        alphas.append(to_bytes(colour.coverage * 255.0))
        depths.append(exact.depth)
        beliefs.append(exact.attributes)
        for view in range(first, end):
            control.step((view + 1) / len(cameras), f"view {view + 1}")
    return ViewSet(
        np.concatenate(images),
        np.concatenate(alphas),
        cameras,
        engine,
        np.concatenate(depths),
        surface_confidence=(
            None if confidence is None else np.concatenate(beliefs)[..., 0].clip(0.0, 1.0)
        ),
    )
