"""How much a photo looks like a surface from a pose: outlines first, then colours.

It does not know how poses are sought or what is made of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from pipeline.imaging.framing import picture_on_white
from pipeline.registration.pose import RIG_SIZE, Pose, cameras_of
from pipeline.registration.sketch import Pictures, Sketch
from pipeline.types import Cutout, FloatArray

#: Colour difference (0..1) that is expected where the surface's colour is a guess.
GUESSED = 0.10
#: How much colours count beside outlines.
COLOR_WEIGHT = 2.0
#: Bounds of the gain between a photo and the surface.
GAINS = (0.75, 1.33)
#: Where more than this is covered, colours are compared.
COVERED = 0.5
#: Poses drawn at once.
BATCH = 32
#: Colours that are known to more than this can show whether a photo is of the same side.
BELIEVED = 0.3
#: Pixels around each over which detail is what differs from their mean, and by how much two
#: pictures may be shifted against each other; fewer pixels than these have no detail.
AROUND, SHIFTED, FEWEST = 5.0, 3, 40


@dataclass(frozen=True)
class Shown:
    """A photo, reduced.

    Attributes:
        colors: float32 [n, n, 3], straight, 0..1.
        alpha: float32 [n, n], 0..1.
        blur: standard deviation, pixels, of the blur before anything is compared.
    """

    colors: FloatArray
    alpha: FloatArray
    blur: float

    @property
    def width(self) -> int:
        return len(self.alpha)

    @cached_property
    def soft_alpha(self) -> FloatArray:
        return blurred(self.alpha, self.blur)

    @cached_property
    def soft_colors(self) -> FloatArray:
        return inside_colors(self.colors, self.alpha, self.blur)


def shown(cutout: Cutout, width: int, blur: float) -> Shown:
    """A cut-out at `width` pixels."""
    picture, alpha = picture_on_white(cutout, width)
    covered = (alpha / 255).astype(np.float32)
    over = (picture / 255).astype(np.float32) - (1 - covered)[..., None]
    colors = over / np.maximum(covered, 1e-3)[..., None]
    return Shown(colors.clip(0, 1).astype(np.float32), covered, blur)


def blurred(plane: FloatArray, sigma: float) -> FloatArray:
    """float32 [H, W, ...], Gaussian, nothing beyond the border."""
    soft: FloatArray = cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    return soft


def inside_colors(colors: FloatArray, coverage: FloatArray, sigma: float) -> FloatArray:
    """Colours blurred without those of the ground."""
    weight = np.maximum(blurred(coverage, sigma), 1e-3)[..., None]
    soft: FloatArray = blurred(colors * coverage[..., None], sigma)
    return (soft / weight).astype(np.float32)


@dataclass(frozen=True)
class Compared:
    """A photo beside what the surface shows from one pose.

    Attributes:
        outline: difference of the coverages as a share of the photo's.
        iou: of the outlines, 0..1.
        color: mean absolute difference inside both where colours are known, 0..1, after a gain;
            `GUESSED` where none is.
        known: share of what both cover whose colour is known, 0..1.
        sure_color: as `color`, of what is known rather than guessed alone.
        sure: the share of that, 0..1.
        detail: correlation of the detail inside both where colours are believed, -1..1; 0 where
            there is none. It is only looked for where it is asked for.
        detail_color: as `color`, there.
        detail_share: share of what both cover that is believed, 0..1.
    """

    outline: float
    iou: float
    color: float
    known: float
    sure_color: float = GUESSED
    sure: float = 0.0
    detail: float = 0.0
    detail_color: float = GUESSED
    detail_share: float = 0.0

    @property
    def cost(self) -> float:
        return self.outline + COLOR_WEIGHT * (self.known * self.color + (1 - self.known) * GUESSED)


def drawn(sketch: Sketch, poses: Sequence[Pose], width: int) -> Pictures:
    """The surface from every pose."""
    some = [
        sketch.draw(cameras_of(poses[first : first + BATCH], width))
        for first in range(0, len(poses), BATCH)
    ]
    return Pictures(
        np.concatenate([part.colors for part in some]),
        np.concatenate([part.belief for part in some]),
        np.concatenate([part.coverage for part in some]),
    )


def compare(photo: Shown, pictures: Pictures, view: int) -> Compared:
    coverage = pictures.coverage[view]
    soft = blurred(coverage, photo.blur)
    outline = float(np.abs(soft - photo.soft_alpha).sum() / max(float(photo.alpha.sum()), 1e-6))
    ours, theirs = coverage >= COVERED, photo.alpha >= COVERED
    both = ours & theirs
    iou = float(both.sum() / max(int((ours | theirs).sum()), 1))
    weight = both * pictures.belief[view]
    total = float(weight.sum())
    if total < 4.0:
        return Compared(outline, iou, GUESSED, 0.0)
    colors = inside_colors(pictures.colors[view], coverage, photo.blur)
    gains = gains_between(colors, photo.soft_colors, weight)
    difference = np.abs(colors * gains - photo.soft_colors).mean(-1)
    area = max(float(both.sum()), 1.0)
    sure = both & (pictures.belief[view] >= COVERED)
    return Compared(
        outline,
        iou,
        color=float((difference * weight).sum() / total),
        known=total / area,
        sure_color=float(difference[sure].mean()) if sure.any() else GUESSED,
        sure=float(sure.sum()) / area,
    )


def compare_detail(photo: Shown, pictures: Pictures, view: int) -> Compared:
    """As `compare`, with the detail: whatever has a front and a back of one shape and one colour
    differs there alone."""
    compared, coverage = compare(photo, pictures, view), pictures.coverage[view]
    both = (coverage >= COVERED) & (photo.alpha >= COVERED)
    believed = both & (pictures.belief[view] >= BELIEVED)
    inner = cv2.erode(believed.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    if np.count_nonzero(inner) < FEWEST:
        return compared
    colors = inside_colors(pictures.colors[view], coverage, photo.blur)
    weight = believed.astype(np.float32)
    gains = gains_between(colors, photo.soft_colors, weight)
    difference = np.abs(colors * gains - photo.soft_colors).mean(-1)
    ours, theirs = (_detail(plane, weight) for plane in (colors, photo.soft_colors))
    steps = range(-SHIFTED, SHIFTED + 1)
    shifted = (np.roll(theirs, (down, right), (0, 1)) for down in steps for right in steps)
    return replace(
        compared,
        detail=max(_correlation(ours[inner], moved[inner]) for moved in shifted),
        detail_color=float(difference[believed].mean()),
        detail_share=float(weight.sum()) / max(float(both.sum()), 1.0),
    )


def _detail(colors: FloatArray, weight: FloatArray) -> FloatArray:
    """What differs from the mean around, float32 [n, n, 3]."""
    total = np.maximum(blurred(weight, AROUND), 1e-3)[..., None]
    mean = blurred(colors * weight[..., None], AROUND) / total
    fine: FloatArray = (colors - mean).astype(np.float32)
    return fine


def _correlation(one: FloatArray, other: FloatArray) -> float:
    # What has next to no detail correlates with nothing: 1e-3 of each value squared.
    floor = 1e-6 * one.size
    scale = float((one * one).sum() + floor) * float((other * other).sum() + floor)
    return float((one * other).sum()) / float(np.sqrt(scale))


def gains_between(ours: FloatArray, theirs: FloatArray, weight: FloatArray) -> FloatArray:
    """Gain per channel, float32 [3], that brings the mean of `ours` to that of `theirs`."""
    sums = [(colors * weight[..., None]).sum((0, 1)) for colors in (ours, theirs)]
    gains: FloatArray = (sums[1] / np.maximum(sums[0], 1e-6)).clip(*GAINS).astype(np.float32)
    return gains


def fitted_in(photo: Shown, sketch: Sketch, poses: Sequence[Pose]) -> list[Pose]:
    """The poses with the size and the place at which the outlines have one area and one middle."""
    small = [replace(pose, size=0.75 * RIG_SIZE, right=0.0, down=0.0) for pose in poses]
    coverage = drawn(sketch, small, photo.width).coverage
    wanted = _moments(photo.alpha)
    placed = []
    for pose, plane in zip(small, coverage, strict=True):
        area, right, down = _moments(plane)
        scale = float(np.sqrt(wanted[0] / max(area, 1e-6)))
        placed.append(
            replace(
                pose,
                size=pose.size * scale,
                right=wanted[1] - scale * right,
                down=wanted[2] - scale * down,
            )
        )
    return placed


def _moments(plane: FloatArray) -> tuple[float, float, float]:
    """Area, and the middle from that of the picture, in widths."""
    width, total = len(plane), float(plane.sum())
    places = (np.arange(width) + 0.5) / width - 0.5
    scale = max(total, 1e-6)
    right, down = float(plane.sum(0) @ places) / scale, float(plane.sum(1) @ places) / scale
    return total / width**2, right, down
