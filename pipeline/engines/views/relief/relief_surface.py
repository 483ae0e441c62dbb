"""Makes a closed triangle mesh of a silhouette and its thickness, placed in the world.

It knows the photo's camera and nothing about colours.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pipeline.engines.views.outline import Mask, Plane
from pipeline.engines.views.outline_sheet import Indices, Sheet
from pipeline.geometry.cameras import photo_camera, rig_cameras
from pipeline.geometry.projection import project, rays_through, to_camera
from pipeline.rig import FOCAL_AT_256, RADIUS
from pipeline.types import Cameras, FloatArray

#: The outline's plane leans at most this far out of the picture plane. An upright plane seen
#: from 30 deg stretches the foot of a bottle to z = -0.72, out of the unit box; at 20 deg the
#: bottle leans back by 10 deg, which hardly shows, and ends at -0.66.
MAX_TILT_DEG = 20.0
#: How much nearer than "centred" the object may come so that every view of the rig shows all of
#: it. Cup, motorcycle and rocket stay at 1.0; the horse would lose 11 px there and fits at 0.94;
#: the astronaut's bust, as wide as its frame, loses 22 px there and 10 px at 0.86.
APPROACHES = (1.0, 0.98, 0.96, 0.94, 0.92, 0.9, 0.88, 0.86)


def close_sheet(sheet: Sheet) -> Indices:
    """Faces int32 [2T, 3] of front and back joined along the outline, normals outwards.

    Vertices are numbered: N front, N back, M rim (see `place_in_world`).
    """
    count = len(sheet.pixels)
    front = np.where(sheet.triangles < count, sheet.triangles, sheet.triangles + count)
    back = sheet.triangles + count
    return np.concatenate([front[:, ::-1], back]).astype(np.int32)


def contour_plane(inside: Mask, elevation_deg: float) -> tuple[float, float]:
    """How the outline lies in space, and how deep the body is behind it.

    A photo from above does not say whether an object leans back or stands. The guess: it is as
    deep as its largest inscribed disc, as wide as it looks, and it stands upright, like an
    ellipsoid with semi-axes (depth r, width a, height c). Seen from elevation e its outline has
    half height h with h^2 = c^2 cos^2 e + r^2 sin^2 e, and lies in the plane conjugate to the
    view direction d = (cos e, 0, sin e), with normal (cos e / r^2, 0, sin e / c^2). The semi-axis
    along d is 1 / sqrt(cos^2 e / r^2 + sin^2 e / c^2). A ball gives the plane square to the view
    and depth r; a tall object gives an upright plane and depth r / cos e.

    Returns:
        Elevation of the plane's normal in degrees, and the factor from thickness across the
        picture to thickness along the view.
    """
    rows = np.flatnonzero(inside.any(1))
    half_height = (rows[-1] - rows[0] + 1) / 2.0
    r = min(float(ndimage.distance_transform_edt(inside).max()), half_height)
    cos_e, sin_e = np.cos(np.deg2rad(elevation_deg)), np.sin(np.deg2rad(elevation_deg))
    c2 = max((half_height**2 - (r * sin_e) ** 2) / cos_e**2, r**2)
    normal_deg = float(np.rad2deg(np.arctan2(sin_e / c2, cos_e / r**2)))
    normal_deg = float(
        np.clip(normal_deg, elevation_deg - MAX_TILT_DEG, elevation_deg + MAX_TILT_DEG)
    )
    along_view = 1.0 / np.sqrt(cos_e**2 / r**2 + sin_e**2 / c2)
    return normal_deg, float(along_view / r)


def place_in_world(
    sheet: Sheet, thickness: Plane, size: int, normal_deg: float, elevation_deg: float
) -> FloatArray:
    """Vertices in the world: N front, N back, M rim, float32 [2N + M, 3].

    Every point stays on the view ray of its pixel, so the photo's camera sees the photo again.
    Front and back lie at inverse depths w (1 + q) and w (1 - q) around the plane of the outline:
    a quadric cuts each ray harmonically about its contour plane, so a disc becomes a ball without
    perspective error (q = t / sqrt(1 + t^2), t = thickness / focal length).

    Args:
        thickness: float64 [size, size], pixels.
        size: side of the picture in pixels.
        normal_deg: elevation of the normal of the outline's plane.
    """
    camera = photo_camera(elevation_deg, size)
    R = camera.viewmats[0, :3, :3].astype(np.float64)
    focal = FOCAL_AT_256 * size / 256
    rays = rays_through(camera, 0, *sheet.points.T)
    tilt = np.deg2rad(normal_deg)
    normal = R @ np.array([np.cos(tilt), 0.0, np.sin(tilt)])
    inverse_depth = (rays @ normal) / (normal[2] * RADIUS)

    count = len(sheet.pixels)
    t = np.minimum(thickness[sheet.pixels[:, 0], sheet.pixels[:, 1]] / focal, 1.0)
    q = t / np.sqrt(1.0 + t * t)
    node_rays, node_inverse = rays[:count], inverse_depth[:count]
    local = np.concatenate(
        [
            node_rays / (node_inverse * (1.0 + q))[:, None],
            node_rays / (node_inverse * (1.0 - q))[:, None],
            rays[count:] / inverse_depth[count:, None],
        ]
    )
    # Moving along the rays (scaling about the camera) changes no pixel of the photo.
    local *= RADIUS / (0.5 * (local[:, 2].min() + local[:, 2].max()))
    centre = camera.centres[0].astype(np.float64)
    offsets = local @ R
    vertices: FloatArray = (centre + _approach(offsets, centre) * offsets).astype(np.float32)
    return vertices


def _approach(offsets: Plane, centre: Plane) -> float:
    """The largest of `APPROACHES` that keeps the object inside every view of the rig.

    Args:
        offsets: float64 [V, 3], vertices relative to the photo's camera, world axes.
        centre: float64 [3], centre of the photo's camera.
    """
    rig = rig_cameras()
    sample = offsets[:: max(1, len(offsets) // 4000)]
    best, least = APPROACHES[0], np.inf
    for approach in APPROACHES:
        points = centre + approach * sample
        overflow = max(_overflow(rig, view, points) for view in range(len(rig)))
        if overflow <= 0.0:
            return approach
        if overflow < least:
            best, least = approach, overflow
    return best


def _overflow(cameras: Cameras, view: int, points: Plane) -> float:
    """Pixels by which the outermost of points [n, 3] is outside of a square view."""
    local = to_camera(cameras, view, points)
    pixels = np.stack(project(cameras, view, local, local[:, 2]))
    return float(np.abs(pixels - cameras.width / 2).max()) - cameras.width / 2
