"""Where a photo was taken from, in numbers that can be sought, and the camera they stand for.

It does not know images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.rig import FOCAL_AT_256, RADIUS
from pipeline.types import Cameras

Vector = npt.NDArray[np.float64]

#: `Pose.size` of the rig's cameras.
RIG_SIZE = FOCAL_AT_256 / 256 / RADIUS

#: One step of each number of `Pose.vector`: what changes a picture about alike.
STEPS = np.array([10.0, 10.0, 10.0, 0.3, 0.1, 0.05, 0.05, 0.3])


@dataclass(frozen=True)
class Pose:
    """A camera whose axis goes through the origin, and where it has the origin in its picture.

    Attributes:
        azimuth_deg, elevation_deg: of the camera.
        roll_deg: of the picture around the axis, counter-clockwise.
        distance: from the origin, world units.
        size: focal length by distance: widths of the picture for a world unit at the origin.
        right, down: of the origin from the middle of the picture, widths.
        thickness: by which the surface is stretched along the axis of the first photo before it is
            seen: what one photo tells least of, and one from the side shows.
        axis_deg: elevation of that axis, whose azimuth is 0; it is given, not sought.
    """

    azimuth_deg: float
    elevation_deg: float
    roll_deg: float = 0.0
    distance: float = RADIUS
    size: float = RIG_SIZE
    right: float = 0.0
    down: float = 0.0
    thickness: float = 1.0
    axis_deg: float = 0.0

    @property
    def focal(self) -> float:
        """In widths of the picture."""
        return self.size * self.distance

    def vector(self) -> Vector:
        """The numbers in units of `STEPS`: azimuth, elevation, roll, ln distance, ln size, right,
        down, ln thickness."""
        angles = (self.azimuth_deg, self.elevation_deg, self.roll_deg)
        logs = (np.log(self.distance), np.log(self.size), np.log(self.thickness))
        vector: Vector = np.array([*angles, *logs[:2], self.right, self.down, logs[2]]) / STEPS
        return vector

    def at(self, vector: Vector) -> Pose:
        """The pose with the numbers of a vector; elevations end at the poles."""
        azimuth, elevation, roll, distance, size, right, down, thickness = (
            float(v) for v in vector * STEPS
        )
        return replace(
            self,
            azimuth_deg=azimuth % 360,
            elevation_deg=min(max(elevation, -89.9), 89.9),
            roll_deg=roll,
            distance=float(np.exp(distance)),
            size=float(np.exp(size)),
            right=right,
            down=down,
            thickness=float(np.exp(thickness)),
        )

    @classmethod
    def of_camera(cls, cameras: Cameras, view: int = 0) -> Pose:
        """Of a camera whose axis goes through the origin (others: the nearest such)."""
        x, y, z = (float(v) for v in cameras.centres[view])
        distance = float(np.sqrt(x * x + y * y + z * z))
        pose = cls(
            float(np.rad2deg(np.arctan2(y, x))) % 360, float(np.rad2deg(np.arcsin(z / distance)))
        )
        turn = cameras.viewmats[view, :3, :3] @ _axes(pose).T
        roll = float(np.rad2deg(np.arctan2(turn[0, 1], turn[0, 0])))
        K, width = cameras.intrinsics[view], cameras.width
        return replace(
            pose,
            roll_deg=roll,
            distance=distance,
            size=float(K[0, 0]) / width / distance,
            right=float(K[0, 2]) / width - 0.5,
            down=float(K[1, 2]) / width - 0.5,
        )


def _axes(pose: Pose) -> Vector:
    """World to camera, [3, 3], without the roll."""
    az = np.deg2rad(pose.azimuth_deg)
    forward = -direction(pose.azimuth_deg, pose.elevation_deg)
    right = np.array([-np.sin(az), np.cos(az), 0.0])
    return np.stack([right, np.cross(forward, right), forward])


def direction(azimuth_deg: float, elevation_deg: float) -> Vector:
    """From the origin to a camera, a unit vector [3]."""
    az, el = np.deg2rad(azimuth_deg), np.deg2rad(elevation_deg)
    return np.array([np.cos(el) * np.cos(az), np.cos(el) * np.sin(az), np.sin(el)])


def cameras_of(poses: Sequence[Pose], width: int) -> Cameras:
    """The cameras, with square pictures of `width` pixels. Those of poses with a thickness stretch
    the world, so that they are for drawing alone."""
    viewmats, intrinsics = np.tile(np.eye(4), (len(poses), 1, 1)), np.zeros((len(poses), 3, 3))
    for i, pose in enumerate(poses):
        roll = np.deg2rad(pose.roll_deg)
        # Image axes point right and down: this turns what is seen counter-clockwise.
        turn = np.array(
            [[np.cos(roll), np.sin(roll), 0], [-np.sin(roll), np.cos(roll), 0], [0, 0, 1]]
        )
        axis = direction(0.0, pose.axis_deg)
        stretched = np.eye(3) + (pose.thickness - 1) * np.outer(axis, axis)
        viewmats[i, :3, :3] = turn @ _axes(pose) @ stretched
        viewmats[i, 2, 3] = pose.distance
        focal = pose.focal * width
        intrinsics[i, 0] = focal, 0, width * (0.5 + pose.right)
        intrinsics[i, 1] = 0, focal, width * (0.5 + pose.down)
        intrinsics[i, 2, 2] = 1
    return Cameras(viewmats.astype(np.float32), intrinsics.astype(np.float32), width, width)
