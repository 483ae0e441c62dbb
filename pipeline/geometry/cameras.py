"""The cameras of the product: SyncDreamer's rig of 16 views, the photo's own camera, held-out ones.

It knows the rig's numbers and nothing about images.
"""

from __future__ import annotations

import numpy as np

from pipeline.rig import ELEVATION_DEG, FOCAL_AT_256, RADIUS, VIEW_COUNT, VIEW_SIZE
from pipeline.types import Cameras, FloatArray

# The front stays in sight while one flank and the top show that there is a third dimension.
THUMBNAIL_AZIMUTH_DEG = 15.0
THUMBNAIL_ELEVATION_DEG = 25.0


def _look_at_origin(azimuth_deg: float, elevation_deg: float, radius: float) -> FloatArray:
    """World-to-camera matrix [4, 4] of a camera that looks at the origin, z up, OpenCV axes."""
    az, el = np.deg2rad(azimuth_deg), np.deg2rad(elevation_deg)
    centre = radius * np.array([np.cos(el) * np.cos(az), np.cos(el) * np.sin(az), np.sin(el)])
    forward = -centre / radius
    right = np.array([-np.sin(az), np.cos(az), 0.0])
    down = np.cross(forward, right)
    viewmat = np.eye(4)
    viewmat[:3, :3] = np.stack([right, down, forward])
    viewmat[:3, 3] = -viewmat[:3, :3] @ centre
    return viewmat.astype(np.float32)


def orbit_cameras(
    azimuths_deg: list[float],
    elevations_deg: list[float],
    *,
    size: int = VIEW_SIZE,
    radius: float = RADIUS,
) -> Cameras:
    """Cameras on a sphere around the origin that all look at it.

    Args:
        azimuths_deg: degrees from +x towards +y, one per camera.
        elevations_deg: degrees above the horizontal plane, one per camera; below 90 in size.
        size: width and height in pixels; the field of view stays the rig's 49.13 degrees.
        radius: distance from the origin in world units.
    """
    viewmats = np.stack(
        [
            _look_at_origin(az, el, radius)
            for az, el in zip(azimuths_deg, elevations_deg, strict=True)
        ]
    )
    focal = FOCAL_AT_256 * size / 256
    K = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]], np.float32)
    return Cameras(viewmats, np.repeat(K[None], len(viewmats), axis=0), size, size)


def rig_cameras(size: int = VIEW_SIZE) -> Cameras:
    """The 16 cameras of the rig; camera 0 has the azimuth of the photo, not its elevation."""
    azimuths = [i * 360.0 / VIEW_COUNT for i in range(VIEW_COUNT)]
    return orbit_cameras(azimuths, [ELEVATION_DEG] * VIEW_COUNT, size=size)


def photo_camera(elevation_deg: float, size: int = VIEW_SIZE) -> Cameras:
    """The one camera that is taken for the photo's where no engine found it: azimuth 0, the photo's
    elevation, distance and field of view of the rig."""
    return orbit_cameras([0.0], [elevation_deg], size=size)


def underside_cameras(size: int = VIEW_SIZE) -> Cameras:
    """Six cameras that look up at what no camera of the rig sees: five around, one from below."""
    azimuths = [i * 72.0 for i in range(5)] + [0.0]
    return orbit_cameras(azimuths, [-25.0] * 5 + [-85.0], size=size)


def turntable_cameras(frames: int, size: int = VIEW_SIZE) -> Cameras:
    """One full turn at the height of the rig, from the photo's side on.

    The last camera is one step before the first, so that a film of them loops without a stop.

    Args:
        frames: number of cameras, at least 1.
        size: width and height in pixels.
    """
    azimuths = [i * 360.0 / frames for i in range(frames)]
    return orbit_cameras(azimuths, [ELEVATION_DEG] * frames, size=size)


def thumbnail_camera(size: int = VIEW_SIZE) -> Cameras:
    """The one camera of a project's picture: the photo's side, turned enough to show depth."""
    return orbit_cameras([THUMBNAIL_AZIMUTH_DEG], [THUMBNAIL_ELEVATION_DEG], size=size)


def held_out_cameras(size: int = VIEW_SIZE) -> Cameras:
    """Eight cameras between those of the rig and at other elevations.

    Nobody is fitted to them: they show a model from elsewhere, and benches score with them where
    the truth is known. The product's own scores come from `HELD_OUT_VIEWS` of the rig.
    """
    azimuths = [i * 45.0 + 11.25 for i in range(8)]
    return orbit_cameras(azimuths, [30.0, 15.0, 30.0, 45.0] * 2, size=size)


def surround_cameras(count: int, *, size: int = VIEW_SIZE, radius: float = RADIUS) -> Cameras:
    """Cameras all around the origin, evenly spread over the sphere (Fibonacci lattice)."""
    i = np.arange(count)
    elevations = np.rad2deg(np.arcsin(1 - (2 * i + 1) / count))
    azimuths = 180 * (1 + 5**0.5) * i % 360
    return orbit_cameras(list(azimuths), list(elevations), size=size, radius=radius)
