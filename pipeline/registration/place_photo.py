"""Finds where a photo was taken from: a coarse search over poses, then least squares, to fine.

It compares with a rough surface and does not know whether the photo is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.control import UNATTENDED, Control
from pipeline.registration.pose import STEPS, Pose, Vector, direction
from pipeline.registration.resemblance import (
    COLOR_WEIGHT,
    COVERED,
    Compared,
    Shown,
    blurred,
    compare,
    compare_detail,
    drawn,
    fitted_in,
    gains_between,
    inside_colors,
    shown,
)
from pipeline.registration.sketch import Pictures, Sketch
from pipeline.types import Cutout, FloatArray

#: Width in pixels and blur of the search, and of the levels of the fit.
SEARCH = (48, 1.5)
LEVELS = ((48, 1.5), (96, 1.2))
#: Poses of the search that are fitted lie so far apart, degrees.
APART_DEG = 18.0
#: Poses further apart than this look at different sides.
OTHER_SIDE_DEG = 35.0
#: Rounds of the fit, at most, and where it ends: change of all numbers in `STEPS`; of the first
#: level, whose poses are only compared, and of the others.
COARSE, FINE = (5, 0.02), (7, 4e-3)
#: Expected deviations of the numbers of a pose from where they begin, in `STEPS`: a photo is held
#: nearly level, and its distance is seen least of all.
LOOSE = np.array([9.0, 9.0, 0.6, 0.7, 3.0, 3.0, 3.0, 0.01])
#: What a pose costs beside `Compared.cost` whose angles are off by what `loose` says.
UNEXPECTED = 0.015
#: The same in the fit, as a share of all pixels.
TIED = 4e-4
#: Steps of the numeric derivatives, in `STEPS`.
PROBE = 0.06
#: Differences above this (0..1) count less and less: what the surface has wrong.
ROBUST = 0.15
#: Where a photo that is looked for shows a side that is known: the detail of both correlates at
#: least so much, their colours differ by no more than this, so much of what they share is known,
#: and so much of the outlines overlaps. Patterns that go round an object pass with less.
SAME_DETAIL, SAME_COLOR, SAME_SHARE, SAME_OUTLINE = 0.84, 0.03, 0.55, 0.88
#: The differences of neighbouring pixels are alike: so many of them are one observation.
CORRELATED = 2000.0


@dataclass(frozen=True)
class Placed:
    """The best pose that was found.

    Attributes:
        compared: at the finest level.
        recognised: it shows what is known of the surface there, in its detail.
        rivalled: so it does from another side.
        errors: float64 [8], expected errors of `Pose.vector`, in degrees, shares and widths.
    """

    pose: Pose
    compared: Compared
    errors: Vector
    recognised: bool = False
    rivalled: bool = False

    @property
    def azimuth_error_deg(self) -> float:
        return float(self.errors[0])

    @property
    def elevation_error_deg(self) -> float:
        return float(self.errors[1])

    @property
    def scale_error(self) -> float:
        return float(self.errors[4])


def place_photo(
    cutout: Cutout,
    sketch: Sketch,
    starts: Sequence[Pose],
    *,
    expected: Pose | None = None,
    loose: Vector = LOOSE,
    tries: int = 5,
    recognise: bool = False,
    control: Control = UNATTENDED,
) -> Placed:
    """The pose from which the surface looks most like the cut-out.

    Args:
        starts: poses to try; their size and place in the picture do not matter.
        tries: how many of the starts are followed further.
        expected: where its angles are expected to be; None: where they begin.
        loose: how far the numbers may be from where they begin or are expected, in `STEPS`.
        recognise: a pose from which the photo shows what is known comes before all others, however
            well the outline fits these.

    Raises:
        Cancelled: `control` asked for it.
    """
    coarse = shown(cutout, *SEARCH)
    poses = fitted_in(coarse, sketch, starts)
    control.check()
    pictures = drawn(sketch, poses, coarse.width)
    costs = [
        compare(coarse, pictures, i).cost + _surprise(pose, expected, loose)
        for i, pose in enumerate(poses)
    ]
    control.step(0.4, "placing a photo")
    found = []
    chosen = _apart(poses, costs, tries)
    for i, pose in enumerate(chosen):
        found.append(_fit(coarse, sketch, pose, _centre(pose, expected), loose, COARSE))
        control.step(0.4 + 0.4 * (i + 1) / len(chosen), "placing a photo")
    ends = [pose for pose, _ in found]
    costs = [_cost_at(coarse, sketch, pose) + _surprise(pose, expected, loose) for pose in ends]
    alike = [False] * len(ends)
    if recognise:
        fine = shown(cutout, *LEVELS[-1])
        seen = [compare_detail(fine, drawn(sketch, [pose], fine.width), 0) for pose in ends]
        alike = [is_recognised(compared) for compared in seen]
        if any(alike):
            costs = [
                compared.detail_color if like else np.inf
                for compared, like in zip(seen, alike, strict=True)
            ]
    best = int(np.argmin(costs))
    begun, pose = chosen[best], ends[best]
    rivalled = any(
        like and angle_between(end, pose) > OTHER_SIDE_DEG
        for end, like in zip(ends, alike, strict=True)
    )
    errors = np.zeros(len(STEPS))
    for width, blur in LEVELS[1:]:
        photo = shown(cutout, width, blur)
        pose, errors = _fit(photo, sketch, pose, _centre(begun, expected), loose, FINE)
        control.check()
    pictures = drawn(sketch, [pose], photo.width)
    control.step(1.0, "placing a photo")
    compared = compare_detail(photo, pictures, 0)
    return Placed(pose, compared, errors, is_recognised(compared), rivalled)


def is_recognised(compared: Compared) -> bool:
    """Whether a photo shows what is known of the surface, in its detail."""
    return (
        compared.detail >= SAME_DETAIL
        and compared.detail_color <= SAME_COLOR
        and compared.detail_share >= SAME_SHARE
        and compared.iou >= SAME_OUTLINE
    )


def grid(
    azimuths_deg: Sequence[float], elevations_deg: Sequence[float], **others: float
) -> list[Pose]:
    """Every azimuth at every elevation."""
    return [Pose(az, el, **others) for el in elevations_deg for az in azimuths_deg]


def _centre(start: Pose, expected: Pose | None) -> Vector:
    """Around which numbers a fit is tied: angles around those that are expected."""
    centre = start.vector()
    if expected is not None:
        centre[:3] = expected.vector()[:3]
    return centre


def _surprise(pose: Pose, expected: Pose | None, loose: Vector) -> float:
    """What angles cost that are not the expected ones."""
    if expected is None:
        return 0.0
    off = pose.vector()[:3] - expected.vector()[:3]
    off[0] = _wrapped(off[0])
    return UNEXPECTED * float(((off / loose[:3]) ** 2).sum())


def _cost_at(photo: Shown, sketch: Sketch, pose: Pose) -> float:
    return compare(photo, drawn(sketch, [pose], photo.width), 0).cost


def _apart(poses: Sequence[Pose], costs: Sequence[float], count: int) -> list[Pose]:
    """The best of them that do not look from nearly the same direction."""
    chosen: list[Pose] = []
    for i in np.argsort(costs, kind="stable"):
        if all(angle_between(poses[i], other) > APART_DEG for other in chosen):
            chosen.append(poses[i])
        if len(chosen) == count:
            break
    return chosen


def angle_between(one: Pose, other: Pose) -> float:
    """Between the directions they look from, degrees."""
    ways = [direction(pose.azimuth_deg, pose.elevation_deg) for pose in (one, other)]
    return float(np.rad2deg(np.arccos(np.clip(ways[0] @ ways[1], -1, 1))))


def _fit(
    photo: Shown,
    sketch: Sketch,
    start: Pose,
    centre: Vector,
    loose: Vector,
    until: tuple[int, float],
) -> tuple[Pose, Vector]:
    """Least squares (Levenberg and Marquardt) with numeric derivatives and robust weights.

    Returns:
        The pose and the expected errors of its numbers.
    """
    here = start.vector()
    here[0] = centre[0] + _wrapped(here[0] - centre[0])
    damping, (rounds, at_rest) = 1e-2, until
    residuals, weights = _residuals(photo, drawn(sketch, [start.at(here)], photo.width))
    value = _total(residuals[0], weights, (here - centre) / loose)
    hessian = np.eye(len(here))
    for _ in range(rounds):
        probes = [start.at(here + PROBE * sign * axis) for axis in np.eye(8) for sign in (1, -1)]
        moved, _ = _residuals(photo, drawn(sketch, probes, photo.width), weights)
        jacobian = (moved[::2] - moved[1::2]) / (2 * PROBE)
        hessian = (jacobian * weights) @ jacobian.T + np.diag(_tied(weights) / loose**2)
        slope = jacobian @ (weights * residuals[0]) + _tied(weights) * (here - centre) / loose**2
        for _ in range(4):
            step = -np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), slope)
            step *= min(1.0, 1.5 / max(float(np.abs(step).max()), 1e-9))
            pose = start.at(here + step)
            tried, _ = _residuals(photo, drawn(sketch, [pose], photo.width), weights)
            then = _total(tried[0], weights, (here + step - centre) / loose)
            if then < value:
                break
            damping *= 6
        else:
            break
        here, residuals, damping = here + step, tried, max(damping / 6, 1e-4)
        _, weights = _residuals(photo, drawn(sketch, [pose], photo.width))
        value = _total(residuals[0], weights, (here - centre) / loose)
        if float(np.abs(step).max()) < at_rest:
            break
    spread = float((weights * residuals[0] ** 2).sum() / max(float(weights.sum()), 1e-9))
    covariance = np.linalg.inv(hessian) * spread * CORRELATED
    return start.at(here), np.sqrt(np.maximum(np.diag(covariance), 0.0)) * STEPS


def _wrapped(steps: float) -> float:
    turn = 360.0 / STEPS[0]
    return float((steps + turn / 2) % turn - turn / 2)


def _tied(weights: FloatArray) -> float:
    """How many pixels it is worth that a number is where it is expected."""
    return TIED * float(weights.sum())


def _total(residuals: FloatArray, weights: FloatArray, deviations: Vector) -> float:
    tied = _tied(weights) * float((deviations**2).sum())
    return float((weights * residuals.astype(np.float64) ** 2).sum()) + tied


def _residuals(
    photo: Shown, pictures: Pictures, weights: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Differences of coverage and colours, float32 [C, 4 n n], and robust weights of the first."""
    rows = []
    for view in range(len(pictures.coverage)):
        coverage = pictures.coverage[view]
        soft = blurred(coverage, photo.blur)
        colors = inside_colors(pictures.colors[view], coverage, photo.blur)
        both = ((coverage >= COVERED) & (photo.alpha >= COVERED)) * pictures.belief[view]
        gains = gains_between(colors, photo.soft_colors, both)
        # Where the two do not meet, colours say nothing: outlines do.
        inner = np.minimum(soft, photo.soft_alpha) * pictures.belief[view]
        difference = (colors * gains - photo.soft_colors) * inner[..., None]
        rows.append(np.concatenate([(soft - photo.soft_alpha)[..., None], difference], -1).ravel())
    found = np.stack(rows)
    if weights is None:
        weights = 1 / (1 + (found[0] / ROBUST) ** 2)
        kinds = np.array([1.0, *[COLOR_WEIGHT / 3] * 3], np.float32)
        weights = (weights.reshape(-1, 4) * kinds).ravel().astype(np.float32)
    return found.astype(np.float32), weights
