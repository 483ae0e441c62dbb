"""Views on a machine that has nothing: the silhouette inflated to a solid, painted by the photo.

It is a preview and says so: everything but the photographed side is a guess. It does not know
where the cut-out came from and needs no weights.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.control import Control
from pipeline.engines.views.diffusion_notes import notes_on_diffusion
from pipeline.engines.views.elevation_note import note_on_elevation
from pipeline.engines.views.many_photos import columns_of, views_of_photos, with_photos
from pipeline.engines.views.outline import Plane, silhouette
from pipeline.engines.views.outline_sheet import triangulate
from pipeline.engines.views.relief.relief_paint import paint
from pipeline.engines.views.relief.relief_shape import inflate
from pipeline.engines.views.relief.relief_surface import (
    close_sheet,
    contour_plane,
    place_in_world,
)
from pipeline.engines.views.surface_views import ColoredMesh, reduced_to
from pipeline.engines.views.two_sheets import TwoSheets
from pipeline.errors import InvalidOption
from pipeline.geometry.cameras import photo_camera
from pipeline.requests import ViewRequest
from pipeline.rig import VIEW_SIZE
from pipeline.types import Cameras, Cutout, FloatArray, FurtherPhoto, ViewSet

PREVIEW_NOTE = (
    "The relief engine is a preview: the shape is inflated from the outline of the photo, and the "
    "back and the sides are a softened copy of the front."
)

#: Cut-outs above this side are reduced: 400 px of object over 200 px of view is detail enough.
MESH_SIZE = 512
MAX_ELEVATION_DEG = 80.0


def relief_mesh(
    cutout: Cutout, elevation_deg: float, control: Control | None = None
) -> ColoredMesh:
    """The solid of a cut-out, seen by the photo's camera exactly as in the photo.

    Args:
        elevation_deg: of the photo's camera above the horizon.

    Raises:
        InvalidImage: the cut-out is empty.
        InvalidOption: the elevation is out of range.
    """
    return relief_surface(cutout, elevation_deg, control)[0]


def relief_surface(
    cutout: Cutout, elevation_deg: float, control: Control | None = None
) -> tuple[ColoredMesh, TwoSheets]:
    """`relief_mesh`, and the same surface as other photos may reshape it."""
    control = control or Control()
    if not abs(elevation_deg) <= MAX_ELEVATION_DEG:
        raise InvalidOption(
            f"elevation_deg must be within {MAX_ELEVATION_DEG:g} degrees of the horizon, "
            f"got {elevation_deg}"
        )
    rgba = reduced_to(cutout.rgba, MESH_SIZE)
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
    mesh = ColoredMesh(vertices, close_sheet(sheet), np.clip(painted, 0.0, 1.0).astype(np.float32))
    return mesh, _sheets(vertices, len(rows), photo_camera(elevation_deg, size))


def _sheets(vertices: FloatArray, count: int, camera: Cameras) -> TwoSheets:
    """Of N near, N far and M rim vertices; both sheets meet in the rim."""
    near, far, rim = vertices[:count], vertices[count : 2 * count], vertices[2 * count :]

    def build(near: Plane, far: Plane) -> FloatArray:
        rim = 0.5 * (near + far)[count:]
        return np.concatenate([near[:count], far[:count], rim]).astype(np.float32)

    ends = (np.concatenate([side, rim]) for side in (near, far))
    return TwoSheets(camera, *columns_of(camera, *ends), build)


class Relief:
    """View synthesiser "relief": it draws nothing at random and takes no steps, and says so."""

    name = "relief"

    def synthesize(self, request: ViewRequest, control: Control) -> ViewSet:
        """`relief_views` of the request's cut-out, with notes on what it assumed and has no use
        for."""
        views = relief_views(
            request.cutout, request.assumed_elevation_deg, control, photos=request.photos
        )
        about = note_on_elevation(request, self.name) + notes_on_diffusion(request, self.name)
        return replace(views, notes=views.notes + about)


def relief_views(
    cutout: Cutout,
    elevation_deg: float,
    control: Control,
    *,
    size: int = VIEW_SIZE,
    photos: tuple[FurtherPhoto, ...] = (),
) -> ViewSet:
    """The views of the rig, with depth from the solid itself, and auxiliary ones from below.

    Args:
        elevation_deg: of the camera that took the photo; the rig has its own.
        size: side of the views in pixels.
        photos: further ones.
    """
    mesh, sheets = relief_surface(cutout, elevation_deg, control.part(0.0, 0.2))
    every = with_photos(cutout, photos, sheets, mesh, Relief.name, control.part(0.2, 0.4))
    return replace(
        views_of_photos(every, Relief.name, control.part(0.4, 1.0), size=size),
        notes=(PREVIEW_NOTE, *every.notes),
        photos=every.photos,
        registrations=every.registrations,
    )
