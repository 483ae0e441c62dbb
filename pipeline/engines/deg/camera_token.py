"""What the flow network says of the photo's camera, and the object turned so that it faces it.

It does not know pictures: the photo's own intrinsics are found in `photo_crop`.

A token is (dx, dy, dz, k, w) in the object's own world, z up: d points from the origin to the
camera, k is 1 / distance and 0 for an orthographic one, w is half the width of the image plane at
the origin. The camera looks at the origin, up is +z, the picture is square. Objects were turned for
training by the multiple of 90 degrees that brought the camera within 45 degrees of +x, so a raw
model faces its photo only roughly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.errors import ModelFailed
from pipeline.geometry.cameras import orbit_cameras
from pipeline.geometry.core import FAINT
from pipeline.geometry.frames import rotate_model
from pipeline.rig import FOCAL_AT_256, RADIUS
from pipeline.types import Cameras, FloatArray, SplatModel

#: A camera with a smaller k is orthographic: a pinhole so far away, world units.
_LEAST_K = 1e-3
_FAR = 1000.0

#: What a token is believed with, a tenth wider than training had it. Fields of view of 10 to 70
#: degrees around a whole bounding sphere are k of .10 to .66 with w of .5 (unit radius) to 1.06;
#: an orthographic camera is predicted as a k around 0.
_TRAINED_K = (-0.07, 0.73)
_TRAINED_W = (0.45, 1.2)
#: A direction is a unit vector; a shorter one says nothing.
_TRAINED_LENGTH = (0.7, 1.4)
_LEAST_LENGTH = 0.1

#: Half a side of the box that holds an object, world units.
_HALF_BOX = 0.5


@dataclass(frozen=True)
class ObjectCamera:
    """A camera that looks at the origin, z up, no roll.

    Attributes:
        azimuth_rad: from +x towards +y.
        elevation_rad: above the horizontal plane.
        distance: from the origin, world units.
        half_width: of the image plane at the origin, world units, before the photo was cropped.
    """

    azimuth_rad: float
    elevation_rad: float
    distance: float
    half_width: float

    @classmethod
    def from_token(cls, token: npt.NDArray[np.floating]) -> ObjectCamera:
        """Decode a token [5], in the object's own world.

        Raises:
            ModelFailed: a number is not finite.
        """
        exact = token.astype(np.float64)
        if not np.isfinite(exact).all():
            raise ModelFailed(
                "The flow network gave a camera that is not finite. Use the precision bf16 or "
                "fp32, and verify its weights."
            )
        length = float(np.linalg.norm(exact[:3]))
        # What points nowhere points to +x, where objects were turned to for training.
        x, y, z = exact[:3] / length if length > 0 else (1.0, 0.0, 0.0)
        k, half_width = float(exact[3]), float(exact[4])
        return cls(
            azimuth_rad=math.atan2(y, x),
            elevation_rad=math.asin(max(-1.0, min(1.0, z))),
            distance=_FAR if k < _LEAST_K else 1 / k,
            half_width=half_width,
        )

    @property
    def fov_rad(self) -> float:
        """Field of view of the picture before it was cropped."""
        return 2 * math.atan(self.half_width / self.distance)

    @property
    def focal(self) -> float:
        """Focal length in widths of the picture before it was cropped."""
        return 0.5 * self.distance / self.half_width

    def turned(self, angle_rad: float) -> ObjectCamera:
        """Turned with the world about z."""
        return replace(self, azimuth_rad=self.azimuth_rad + angle_rad)

    def scaled(self, scale: float) -> ObjectCamera:
        """Scaled with the world about the origin."""
        return replace(self, distance=self.distance * scale, half_width=self.half_width * scale)

    def with_intrinsics(self, focal: float, cx: float, cy: float, size: int) -> Cameras:
        """This one camera with a focal length and a principal point in pixels of a square
        picture."""
        cameras = orbit_cameras(
            [math.degrees(self.azimuth_rad)],
            [math.degrees(self.elevation_rad)],
            size=size,
            radius=self.distance,
        )
        K = np.array([[[focal, 0, cx], [0, focal, cy], [0, 0, 1]]], np.float32)
        return Cameras(cameras.viewmats, K, size, size)


def in_trained_range(token: npt.NDArray[np.floating]) -> bool:
    """Whether all of a token [5] may be believed; else its direction alone."""
    length, k, w = float(np.linalg.norm(token[:3])), float(token[3]), float(token[4])
    return (
        _TRAINED_LENGTH[0] <= length <= _TRAINED_LENGTH[1]
        and _TRAINED_K[0] <= k <= _TRAINED_K[1]
        and _TRAINED_W[0] <= w <= _TRAINED_W[1]
    )


def has_direction(token: npt.NDArray[np.floating]) -> bool:
    """Whether a token [5] says from which side the photo was taken."""
    return float(np.linalg.norm(token[:3])) >= _LEAST_LENGTH


def believed_camera(token: npt.NDArray[np.floating]) -> ObjectCamera:
    """As much of a token [5] as may be believed; for the rest the rig's distance and field of
    view. Raises ModelFailed where a number is not finite."""
    camera = ObjectCamera.from_token(token)
    if in_trained_range(token):
        return camera
    return replace(camera, distance=RADIUS, half_width=RADIUS * 128 / FOCAL_AT_256)


def turn_model(model: SplatModel, angle_rad: float) -> SplatModel:
    """The model turned about z; positive angles turn +x towards +y."""
    c, s = math.cos(angle_rad), math.sin(angle_rad)
    R: FloatArray = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)
    return rotate_model(model, R)


def scale_into_box(model: SplatModel) -> tuple[SplatModel, float]:
    """The model scaled about the origin until what can be seen of it lies in [-0.5, 0.5]^3.

    A turn of 45 degrees makes a box wider by up to sqrt 2, and the network may place Gaussians
    beyond the box. Splats that nobody sees decide nothing.

    Returns:
        the model, and the scale: 1 where it already fits.
    """
    visible = model.opacities >= FAINT
    means = model.means[visible] if visible.any() else model.means
    reach = float(np.abs(means).max(initial=0.0))
    if reach <= _HALF_BOX:
        return model, 1.0
    scale = _HALF_BOX / reach
    scaled = replace(
        model,
        means=model.means * np.float32(scale),
        log_scales=model.log_scales + np.float32(math.log(scale)),
    )
    return scaled, scale
