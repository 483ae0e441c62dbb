"""The intrinsics of a cropped photo: the model's outline brought to cover the photo's.

It does not know who draws the outline: a function that does is handed in.

The camera that the flow network finds belongs to a picture that was not cropped, and the photo was:
around its object, as large as that is. A crop changes a pinhole's focal length and principal point
and nothing else, so both follow exactly from what the outlines' boxes are in the two pictures:
focal' = focal * z and centre' = centre_photo + (principal - centre_model) * z, where z is how much
longer the photo's box is. How wide the whole picture was does not matter.

A box is known to a pixel, and one thin part that the model has and the photo has not moves it. So
zoom and shift are then sought until the outlines overlap most: a pinhole's other crops are the same
picture moved and scaled, so it need not be drawn anew for that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.engines.deg.camera_token import ObjectCamera
from pipeline.registration.verdict import IOU
from pipeline.types import Cameras, FloatArray, UInt8Array

#: Opacity that a model has in the pixels of one camera: float32 [1, H, W], 0..1.
DrawOutline = Callable[[Cameras], FloatArray]

#: The side of the pictures in which outlines are compared, pixels.
OUTLINE_PIXELS = 512

#: What covers more of a pixel than this share of the most that is covered is inside: the same for
#: photo and model, so that neither a soft edge nor a haze of faint splats moves the box, and what
#: is translucent has an outline, too.
_INSIDE = 0.5
#: What covers no pixel more than this is not seen: two steps of 255.
_LEAST_COVER = 2 / 255
#: Pictures that are drawn at most until the boxes agree; two are usual.
_MOST_PICTURES = 8
#: Boxes agree within so many pixels.
_AGREE = 0.5
#: First steps of the search for the best overlap, of the zoom's logarithm and of a shift in sides
#: of the picture, and the zoom's last one.
_FIRST_STEPS, _LAST_STEP = (0.04, 0.02), 0.0003


@dataclass(frozen=True)
class FoundCamera:
    """The camera of a photo, or why there is none.

    Attributes:
        cameras: the one camera, in the model's world, of a picture as large as the photo's alpha.
        outline_iou: of the two outlines from there, 0..1; None where they were not compared.
        reason: a sentence for the user where there is no camera, else empty.
    """

    cameras: Cameras | None
    outline_iou: float | None = None
    reason: str = ""


#: x and y in pixels.
_Place = tuple[float, float]


@dataclass(frozen=True)
class _Pinhole:
    """Focal length and principal point in pixels."""

    focal: float
    cx: float
    cy: float

    def brought(
        self, zoom: float, source: tuple[float, float], to: tuple[float, float]
    ) -> _Pinhole:
        """The one whose picture is larger by `zoom` and has at `to` what was at `source`."""
        return _Pinhole(
            self.focal * zoom,
            to[0] + (self.cx - source[0]) * zoom,
            to[1] + (self.cy - source[1]) * zoom,
        )


@dataclass(frozen=True)
class _Box:
    """Edges in pixels: the first pixel's left edge is 0."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def of(cls, alpha: FloatArray) -> _Box | None:
        """Of what is inside in a picture [H, W]; None where nothing is."""
        inside = alpha > _INSIDE
        columns, rows = np.flatnonzero(inside.any(axis=0)), np.flatnonzero(inside.any(axis=1))
        if not len(columns):
            return None
        return cls(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))

    @property
    def side(self) -> float:
        return max(self.right - self.left, self.bottom - self.top)

    @property
    def centre(self) -> _Place:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def touches_edge(self, size: int) -> bool:
        return min(self.left, self.top) <= 0 or max(self.right, self.bottom) >= size


def find_crop(
    camera: ObjectCamera,
    photo_alpha: UInt8Array,
    draw: DrawOutline,
    *,
    pixels: int = OUTLINE_PIXELS,
) -> FoundCamera:
    """The camera of a cropped photo.

    Args:
        camera: where it stands, in the model's world.
        photo_alpha: uint8 [S, S], the object in the cropped photo.
        draw: the model's opacity as a camera sees it.
        pixels: side of the pictures that are compared; not more than S.

    Returns:
        no camera where the outlines overlap less than a registered photo must, or one of them is
        empty.
    """
    side = len(photo_alpha)
    size = min(pixels, side)
    photo = _share(_shrunk(photo_alpha, size))
    wanted = _Box.of(photo)
    if wanted is None:
        return FoundCamera(None, reason="The photo's camera was not sought: its object is empty.")

    def drawn(pinhole: _Pinhole) -> FloatArray:
        cameras = camera.with_intrinsics(pinhole.focal, pinhole.cx, pinhole.cy, size)
        return _share(draw(cameras)[0])

    aimed = _aim(_Pinhole(camera.focal * size, size / 2, size / 2), wanted, size, drawn)
    if aimed is None:
        return FoundCamera(
            None, reason="The photo's camera was not found: the model cannot be seen from it."
        )
    pinhole, alpha = aimed
    finer = _best_overlap(pinhole, alpha, photo)
    finer_alpha = drawn(finer)
    if _overlap(finer_alpha, photo) > _overlap(alpha, photo):
        pinhole, alpha = finer, finer_alpha
    ours, theirs = alpha > _INSIDE, photo > _INSIDE
    iou = float((ours & theirs).sum() / (ours | theirs).sum())
    if iou < IOU[0]:
        return FoundCamera(
            None,
            iou,
            f"The photo's camera was not found: outlines of photo and model overlap by {iou:.0%} "
            "from where the network believes it.",
        )
    larger = side / size
    cameras = camera.with_intrinsics(
        pinhole.focal * larger, pinhole.cx * larger, pinhole.cy * larger, side
    )
    return FoundCamera(cameras, iou)


def _aim(
    pinhole: _Pinhole, wanted: _Box, size: int, drawn: Callable[[_Pinhole], FloatArray]
) -> tuple[_Pinhole, FloatArray] | None:
    """The pinhole whose picture has its box where it is wanted, and that picture; None where the
    model is not seen."""
    alpha = drawn(pinhole)
    for _ in range(_MOST_PICTURES):
        box = _Box.of(alpha)
        if box is None:
            return None
        if _agree(box, wanted):
            break
        if box.touches_edge(size):
            # Part of it may lie outside: a wider picture first.
            pinhole = _Pinhole(pinhole.focal / 2, size / 2, size / 2)
        else:
            pinhole = pinhole.brought(wanted.side / box.side, box.centre, wanted.centre)
        alpha = drawn(pinhole)
    return None if _Box.of(alpha) is None else (pinhole, alpha)


def _best_overlap(pinhole: _Pinhole, alpha: FloatArray, photo: FloatArray) -> _Pinhole:
    """The pinhole whose picture overlaps most with the photo's, by a search in three numbers: steps
    along each are halved where none is an improvement.

    Args:
        alpha: the picture of `pinhole`, which is scaled and moved.
    """
    size = len(alpha)
    gravity = _gravity(alpha)
    steps = np.array([_FIRST_STEPS[0], *[_FIRST_STEPS[1] * size] * 2])

    def place(values: npt.NDArray[np.float64]) -> tuple[float, _Place]:
        zoom, (x, y) = float(np.exp(values[0])), values[1:].tolist()
        return zoom, (gravity[0] + x, gravity[1] + y)

    def quality(values: npt.NDArray[np.float64]) -> float:
        zoom, to = place(values)
        # Of pixel centres, which cv2 gives whole numbers.
        shift = [to[i] - 0.5 - zoom * (gravity[i] - 0.5) for i in (0, 1)]
        way = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
        return _overlap(cv2.warpAffine(alpha, way, (size, size)), photo)

    # As the boxes say, or as area and centre of gravity do.
    moved = np.subtract(_gravity(photo), gravity)
    starts = [np.zeros(3), np.array([np.log(photo.sum() / alpha.sum()) / 2, *moved])]
    best = max(starts, key=quality)
    found = quality(best)
    while steps[0] > _LAST_STEP:
        tried = [best + sign * step for step in np.diag(steps) for sign in (-1, 1)]
        better = max(tried, key=quality)
        if quality(better) > found:
            best, found = better, quality(better)
        else:
            steps = steps / 2
    zoom, to = place(best)
    return pinhole.brought(zoom, gravity, to)


def _share(alpha: FloatArray) -> FloatArray:
    """How much is covered of the most that is, [H, W]; zeros where nothing is seen."""
    most = float(alpha.max())
    return alpha / np.float32(most) if most > _LEAST_COVER else np.zeros_like(alpha)


def _agree(box: _Box, wanted: _Box) -> bool:
    """Whether the longer sides and the centres agree."""
    apart = np.abs(np.subtract(box.centre, wanted.centre)).max()
    return abs(box.side - wanted.side) <= _AGREE and float(apart) <= _AGREE


def _gravity(alpha: FloatArray) -> _Place:
    """Centre of gravity of a picture [H, W] that is not empty, x and y in pixels."""
    mass: npt.NDArray[np.float64] = alpha.astype(np.float64)
    x, y = np.arange(alpha.shape[1]) + 0.5, np.arange(alpha.shape[0]) + 0.5
    return float(mass.sum(axis=0) @ x / mass.sum()), float(mass.sum(axis=1) @ y / mass.sum())


def _overlap(a: FloatArray, b: FloatArray) -> float:
    """Intersection over union of two soft outlines, 0..1."""
    return float(np.minimum(a, b).sum() / np.maximum(a, b).sum())


def _shrunk(alpha: UInt8Array, size: int) -> FloatArray:
    """float32 [size, size], 0..1."""
    share: FloatArray = np.ascontiguousarray(alpha, np.float32) / np.float32(255)
    if len(alpha) != size:
        share = cv2.resize(share, (size, size), interpolation=cv2.INTER_AREA)
    return share
