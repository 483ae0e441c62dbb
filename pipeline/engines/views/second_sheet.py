"""What the surface of a photo from behind says of the first photo's far side.

It knows cameras and surfaces, and neither colours nor how a surface was guessed of a photo.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.engines.views.outline import Mask, Plane
from pipeline.engines.views.surface_views import ColoredMesh
from pipeline.engines.views.two_sheets import LEAST, TwoSheets
from pipeline.geometry.projection import project, to_camera, to_world
from pipeline.imaging.nearest import nearest_known
from pipeline.mesh.mesh_raster import rasterize_mesh
from pipeline.types import Cameras, Cutout

#: How much a side counts as the photo that looks at it has it, beside what the photo of the other
#: side guesses of it.
SEEN = 2 / 3
#: How often both surfaces are laid upon each other along the line of sight.
TURNS = 3
#: Pixels of the picture in which the sheets of the other surface are looked up.
SIDE = 256
#: Blur of the changes, pixels of that picture.
SMOOTH = 1.0


@dataclass(frozen=True)
class OwnSurface:
    """What one photo alone is guessed to show.

    Attributes:
        mesh: closed, in a world of its own.
        camera: the photo's there.
    """

    mesh: ColoredMesh
    camera: Cameras


#: The surface of a cut-out whose camera has this elevation in degrees.
SurfaceOf = Callable[[Cutout, float], OwnSurface]


def told_from_behind(sheets: TwoSheets, own: OwnSurface, seen_by: Cameras) -> TwoSheets:
    """The sheets with what a photo from behind is guessed to show: mostly its own front where the
    far sheet is, and a little of its back where the near sheet is.

    How far from a camera its surface is cannot be seen in a photo. So the other surface is moved
    along its photo's line of sight until the middles between both sheets lie upon each other. Rays
    that miss it change as the nearest one does that meets it.

    Args:
        seen_by: the photo's camera, as it was placed before the sheets.
    """
    camera = sheets.camera.resized(SIDE, SIDE)
    local = sheets.rays * np.ones(3)
    x, y = project(camera, 0, local, local[:, 2])
    columns, rows = (np.clip(np.floor(v).astype(int), 0, SIDE - 1) for v in (x, y))
    middle = 0.5 * (sheets.near + sheets.far)
    opposite = float(camera.viewmats[0, 2, :3] @ seen_by.viewmats[0, 2, :3])
    shift = 0.0
    for turn in range(TURNS + 1):
        near, far = _sheets_of(_placed(own, seen_by, shift), own.mesh, camera)
        theirs_near, theirs_far = near[rows, columns], far[rows, columns]
        hit = theirs_near > 0
        if not hit.any():
            return sheets
        if turn < TURNS:
            apart = middle - 0.5 * (theirs_near + theirs_far)
            shift += float(np.median(apart[hit])) / opposite
    changes = []
    for ours, theirs, share in (
        (sheets.near, theirs_near, 1 - SEEN),
        (sheets.far, theirs_far, SEEN),
    ):
        changes.append(_continued(share * (theirs - ours), hit, rows, columns))
    moved = sheets.near + changes[0], sheets.far + changes[1]
    return replace(sheets, near=moved[0], far=np.maximum(moved[1], moved[0] + LEAST))


def _placed(own: OwnSurface, seen_by: Cameras, shift: float) -> Plane:
    """Vertices float64 [V, 3] of the surface where another camera sees them in the same pixels.

    Args:
        shift: along the line of sight, from where the middle of the world is.
    """
    local = to_camera(own.camera, 0, own.mesh.vertices.astype(np.float64))
    x, y = project(own.camera, 0, local, local[:, 2])
    width, ahead = own.camera.width, local[:, 2]
    focals = [float(c.intrinsics[0, 0, 0]) / c.width for c in (own.camera, seen_by)]
    middles = [float(c.viewmats[0, 2, 3]) for c in (own.camera, seen_by)]
    # As much larger across the line of sight as along it.
    scale = (middles[1] / focals[1]) / (middles[0] / focals[0])
    depth = np.maximum(middles[1] + scale * (ahead - middles[0]) + shift, 0.05)
    K = seen_by.intrinsics[0].astype(np.float64)
    across = (x * seen_by.width / width - K[0, 2]) / K[0, 0]
    down = (y * seen_by.width / width - K[1, 2]) / K[1, 1]
    rays = np.stack([across, down, np.ones_like(across)], 1)
    return to_world(seen_by, 0, rays * depth[:, None])


def _sheets_of(vertices: Plane, mesh: ColoredMesh, camera: Cameras) -> tuple[Plane, Plane]:
    """Depth [H, W] of the first and of the last surface at every pixel, 0 where there is none."""
    bare = np.zeros((len(vertices), 0), np.float32)
    local = to_camera(camera, 0, vertices)
    ends = float(local[:, 2].min() + local[:, 2].max())
    # Mirrored along every ray the last surface is the first.
    mirrored = local / local[:, 2:] * (ends - local[:, 2:])
    depths: list[npt.NDArray[np.float32]] = [
        rasterize_mesh(points.astype(np.float32), mesh.faces, bare, camera, supersample=1).depth[0]
        for points in (vertices, to_world(camera, 0, mirrored))
    ]
    first, last = (depth.astype(np.float64) for depth in depths)
    return first, np.where(last > 0, ends - last, 0.0)


def _continued(change: Plane, hit: Mask, rows: Plane, columns: Plane) -> Plane:
    """The change of every ray; of one that misses that of the nearest pixel that does not. It is
    smooth, for the other surface has steps of its own."""
    plane, known = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE), bool)
    plane[rows[hit], columns[hit]] = change[hit]
    known[rows[hit], columns[hit]] = True
    smooth = cv2.GaussianBlur(nearest_known(plane, known), (0, 0), SMOOTH)
    whole: Plane = smooth[rows, columns]
    return whole
