"""Photos with the cameras that were found of them, as targets of a fit.

It does not know how a camera is found, nor what the targets are used for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from pipeline.engines.deg.deg_canvas import PreparedPhoto
from pipeline.engines.deg.deg_decoder import GeneratedModel
from pipeline.imaging.rounding import to_bytes
from pipeline.registration.pose import Pose
from pipeline.registration.verdict import COLOR, IOU, left_out
from pipeline.requests import RegisteredPhotos
from pipeline.types import Cameras, FloatArray, PhotoRegistration, SplatModel, UInt8Array, ViewSet

#: The least trust of a photo that is used, as elsewhere.
_LEAST_TRUST = 0.1
#: Side of the pictures whose colours are compared, pixels.
_COMPARED = 256

#: Images on white and opacities of a model: float32 [V, H, W, 3] and [V, H, W], 0..1.
Draw = Callable[[SplatModel, Cameras], tuple[FloatArray, FloatArray]]


def on_white(photo: PreparedPhoto) -> UInt8Array:
    """The prepared photo, uint8 [S, S, 3], on white in place of black."""
    white = photo.rgb.astype(np.int32) + (255 - photo.alpha.astype(np.int32))[..., None]
    return to_bytes(white.astype(np.float32))


def found_photos(
    made: GeneratedModel, prepared: Sequence[PreparedPhoto], engine: str, draw: Draw
) -> RegisteredPhotos | None:
    """The photos whose cameras were found, and a registration for each that was given; None where
    the first one's was not: then all are to be sought by somebody else."""
    if not made.cameras or made.cameras[0].cameras is None:
        return None
    found: list[PhotoRegistration] = []
    used: list[tuple[UInt8Array, UInt8Array, Cameras]] = []
    for number, (camera, photo) in enumerate(zip(made.cameras, prepared, strict=True)):
        if camera.cameras is None:
            found.append(left_out(number, f"Photo {number} was left out. {camera.reason}"))
            continue
        picture = on_white(photo)
        overlap = camera.outline_iou or 0.0
        error = _color_error(made.model, camera.cameras, picture, photo.alpha, draw)
        found.append(_registration(number, camera.cameras, overlap, error))
        used.append((picture, photo.alpha, camera.cameras))
    pictures, alphas, cameras = zip(*used, strict=True)
    photos = ViewSet(np.stack(pictures), np.stack(alphas), Cameras.joined(cameras), engine)
    return RegisteredPhotos(photos, tuple(found))


def _registration(
    number: int, camera: Cameras, overlap: float, color_error: float
) -> PhotoRegistration:
    pose = Pose.of_camera(camera)
    shape, color = _ramp(overlap, *IOU), _ramp(color_error, *COLOR)
    return PhotoRegistration(
        photo=number,
        accepted=True,
        trust=round(max(shape * color, _LEAST_TRUST), 4),
        azimuth_deg=round(pose.azimuth_deg, 3) % 360,
        elevation_deg=round(pose.elevation_deg, 3),
        roll_deg=round(pose.roll_deg, 3),
        focal=round(pose.focal, 5),
        outline_iou=round(overlap, 4),
        color_error=round(color_error, 4),
    )


def _ramp(value: float, nothing: float, all_: float) -> float:
    return float(np.clip((value - nothing) / (all_ - nothing), 0, 1))


def _color_error(
    model: SplatModel, camera: Cameras, picture: UInt8Array, alpha: UInt8Array, draw: Draw
) -> float:
    """Mean absolute difference of the colours inside both outlines, 0..1."""
    size = min(_COMPARED, camera.width)
    images, alphas = draw(model, camera.resized(size, size))

    def small(pixels: UInt8Array) -> FloatArray:
        shrunk = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
        part: FloatArray = shrunk.astype(np.float32) / np.float32(255)
        return part

    both = (small(alpha) > 0.5) & (alphas[0] > 0.5)
    if not both.any():
        return 1.0
    return float(np.abs(images[0] - small(picture))[both].mean())
