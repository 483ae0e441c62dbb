"""Views on a machine that has nothing: the silhouette inflated to a solid, painted by the photo.

It is a preview and says so: everything but the photographed side is a guess. It does not know
where the cut-out came from and needs no weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.control import Control
from pipeline.engines.views.relief.relief_paint import paint
from pipeline.engines.views.relief.relief_shape import inflate, silhouette
from pipeline.engines.views.relief.relief_surface import (
    close_sheet,
    contour_plane,
    place_in_world,
    triangulate,
)
from pipeline.errors import InvalidOption
from pipeline.geometry.cameras import rig_cameras, underside_cameras
from pipeline.imaging.rounding import to_bytes
from pipeline.mesh.mesh_raster import rasterize_mesh
from pipeline.requests import ViewRequest
from pipeline.rig import VIEW_SIZE
from pipeline.types import Cameras, Cutout, FloatArray, UInt8Array, ViewSet

PREVIEW_NOTE = (
    "The relief engine is a preview: the shape is inflated from the outline of the photo, and the "
    "back and the sides are a softened copy of the front."
)

#: Cut-outs above this side are reduced: 400 px of object over 200 px of view is detail enough.
MESH_SIZE = 512
MAX_ELEVATION_DEG = 80.0
#: Cameras drawn per call: the rasteriser has one thread per camera. A stop waits for these few.
CAMERAS_PER_CALL = 4


@dataclass(frozen=True)
class ReliefMesh:
    """A closed surface with a colour per vertex.

    Attributes:
        vertices: float32 [V, 3], world frame.
        faces: int32 [F, 3], counter-clockwise seen from outside.
        colors: float32 [V, 3], sRGB in 0..1.
    """

    vertices: FloatArray
    faces: npt.NDArray[np.int32]
    colors: FloatArray


def relief_mesh(cutout: Cutout, elevation_deg: float, control: Control | None = None) -> ReliefMesh:
    """The solid of a cut-out, seen by the photo's camera exactly as in the photo.

    Args:
        elevation_deg: of the photo's camera above the horizon.

    Raises:
        InvalidImage: the cut-out is empty.
        InvalidOption: the elevation is out of range.
    """
    control = control or Control()
    if not abs(elevation_deg) <= MAX_ELEVATION_DEG:
        raise InvalidOption(
            f"elevation_deg must be within {MAX_ELEVATION_DEG:g} degrees of the horizon, "
            f"got {elevation_deg}"
        )
    rgba = _reduced_to(cutout.rgba, MESH_SIZE)
    size = rgba.shape[0]
    outline = silhouette(rgba[..., 3])
    control.step(0.15, "outline")
    normal_deg, depth_factor = contour_plane(outline.inside, elevation_deg)
    thickness = inflate(outline.inside) * depth_factor
    control.step(0.5, "shape")
    colours = paint(rgba, outline.inside, thickness)
    control.step(0.75, "colours")
    sheet = triangulate(outline)
    vertices = place_in_world(sheet, thickness, size, normal_deg, elevation_deg)
    rows, columns = sheet.pixels.T
    rim = sheet.points[len(sheet.pixels) :]
    rim_rows, rim_columns = np.floor(rim[:, 1]).astype(int), np.floor(rim[:, 0]).astype(int)
    rim_colours = 0.5 * (colours.front + colours.back)[rim_rows, rim_columns]
    painted = np.concatenate(
        [colours.front[rows, columns], colours.back[rows, columns], rim_colours]
    )
    control.step(1.0, "surface")
    return ReliefMesh(vertices, close_sheet(sheet), np.clip(painted, 0.0, 1.0).astype(np.float32))


def _reduced_to(rgba: UInt8Array, size: int) -> UInt8Array:
    if rgba.shape[0] <= size:
        return rgba
    smaller: UInt8Array = cv2.resize(rgba, (size, size), interpolation=cv2.INTER_AREA)
    return smaller


class Relief:
    """View synthesiser "relief": it draws nothing at random and takes no steps, and says so."""

    name = "relief"

    def synthesize(self, request: ViewRequest, control: Control) -> ViewSet:
        """`relief_views` of the request's cut-out, with notes on options that it has no use for."""
        views = relief_views(request.cutout, request.elevation_deg, control)
        notes = tuple(
            f"The {self.name} engine has no use for {option}."
            for option in ("steps", "guidance_scale", "sampler")
            if getattr(request, option) is not None
        )
        return replace(views, notes=views.notes + notes)


def relief_views(
    cutout: Cutout, elevation_deg: float, control: Control, *, size: int = VIEW_SIZE
) -> ViewSet:
    """The views of the rig, with depth from the solid itself, and auxiliary ones from below.

    Args:
        elevation_deg: of the camera that took the photo; the rig has its own.
        size: side of the views in pixels.
    """
    mesh = relief_mesh(cutout, elevation_deg, control.part(0.0, 0.3))
    rig = _render(mesh, rig_cameras(size), control.part(0.3, 0.8))
    below = _render(mesh, underside_cameras(size), control.part(0.8, 1.0))
    return replace(rig, notes=(PREVIEW_NOTE,), auxiliary=below)


def _render(mesh: ReliefMesh, cameras: Cameras, control: Control) -> ViewSet:
    """The solid on white from every camera, and its depth."""
    images, alphas, depths = [], [], []
    no_attributes = np.zeros((len(mesh.vertices), 0), np.float32)
    for first in range(0, len(cameras), CAMERAS_PER_CALL):
        end = min(first + CAMERAS_PER_CALL, len(cameras))
        some = cameras.select(list(range(first, end)))
        colour = rasterize_mesh(mesh.vertices, mesh.faces, mesh.colors, some, supersample=3)
        control.check()
        # Depth at pixel centres: a mean over samples would invent surfaces at edges.
        exact = rasterize_mesh(mesh.vertices, mesh.faces, no_attributes, some, supersample=1)
        coverage = colour.coverage[..., None]
        over_white = colour.attributes * coverage + (1.0 - coverage)
        images.append(to_bytes(over_white * 255.0))
        alphas.append(to_bytes(colour.coverage * 255.0))
        depths.append(exact.depth)
        for view in range(first, end):
            control.step((view + 1) / len(cameras), f"view {view + 1}")
    return ViewSet(
        np.concatenate(images),
        np.concatenate(alphas),
        cameras,
        Relief.name,
        np.concatenate(depths),
    )
