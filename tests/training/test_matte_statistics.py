"""What the statistics of mattes say about mattes whose errors are known."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from training.prior.matte_statistics import FRAME, OBJECT, PHOTO, compare, compose, framed

Plane = npt.NDArray[np.float32]


def ball(radius: float, side: int = FRAME) -> Plane:
    """A disc in the middle, its edge one pixel wide."""
    place = np.arange(side) + 0.5 - side / 2
    distance = np.hypot(place[:, None], place[None, :])
    return np.clip(radius - distance + 0.5, 0, 1).astype(np.float32)


def test_the_truth_has_no_errors() -> None:
    errors = compare(ball(50), ball(50))
    assert errors.overlap == 1
    assert errors.shift == errors.wobble == errors.haze == errors.lost_deep == 0
    assert errors.kept_below == errors.kept_else == errors.lost_length == 0


@pytest.mark.parametrize("larger", [-1.5, -0.5, 0.5, 1.5])
def test_an_outline_that_is_moved_is_measured(larger: float) -> None:
    errors = compare(ball(50 + larger), ball(50))
    assert errors.shift == pytest.approx(larger, abs=0.2)
    assert errors.wobble < 0.15


def test_faults_are_told_apart() -> None:
    true = ball(50)
    true[40:90, 60:68] = 0  # a slot is a hole
    filled = compare(ball(50), true)
    assert filled.filled > 0.9
    assert filled.lost_deep == 0
    bitten = ball(50)
    bitten[:40] = bitten[:, :40] = 0
    lost = compare(bitten, ball(50))
    assert lost.lost_deep > 0.1
    assert lost.lost_length == pytest.approx(0.26, abs=0.03)
    hazy = compare(np.maximum(ball(50), 0.2 * ball(60)), ball(50))
    assert hazy.haze == pytest.approx(0.2, abs=0.03)
    assert hazy.shift == pytest.approx(0, abs=0.15)


def test_a_composed_photo_has_the_object_where_its_alpha_says() -> None:
    render = np.zeros((256, 256, 4), np.uint8)
    render[..., 0] = 255
    render[..., 3] = np.round(255 * ball(90, 256))
    for seed in range(3):
        photo, true = compose(render, np.random.default_rng(seed))
        assert photo.shape == (PHOTO, PHOTO, 3) and photo.dtype == np.uint8
        assert true.min() >= 0 and true.max() <= 1
        red = photo[true > 0.99].mean(0)
        assert red[0] > red[1] + 60 and red[0] > red[2] + 60
        small = framed(true, true)
        assert small.shape == (FRAME, FRAME)
        rows = np.flatnonzero((small >= 0.5).any(1))
        assert abs(rows[-1] - rows[0] + 1 - OBJECT) <= 1
        middle = cv2.moments(small)
        assert middle["m10"] / middle["m00"] == pytest.approx(FRAME / 2 - 0.5, abs=0.6)
