"""Spoiled cut-outs: what stays of a clean one, and how far the outline may go."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from training.prior.mattes import LEAST_OVERLAP, spoil

Plane = npt.NDArray[np.float32]
SIDE = 128


def _drawn(draw: str) -> Plane:
    """An outline drawn four times as large and shrunk, so that its edge is soft by a pixel."""
    big = np.zeros((4 * SIDE, 4 * SIDE), np.uint8)
    if draw == "ball":
        cv2.circle(big, (256, 256), 190, 255, -1)
    elif draw == "mug":
        cv2.rectangle(big, (90, 100), (320, 420), 255, -1)
        cv2.ellipse(big, (320, 260), (70, 70), 0, -90, 90, 255, 28)
    elif draw == "chair":
        cv2.rectangle(big, (130, 150), (380, 270), 255, -1)
        for x, top in ((130, 60), (150, 260), (340, 260), (366, 260)):
            cv2.rectangle(big, (x, top), (x + 14, 450), 255, -1)
    elif draw == "plate":
        cv2.ellipse(big, (256, 256), (200, 18), 0, 0, 360, 255, -1)
    elif draw == "speck":
        cv2.circle(big, (256, 256), 5, 255, -1)
    elif draw == "full":
        big[:] = 255
    else:
        raise AssertionError(draw)
    small = cv2.resize(big, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / np.float32(255)


OUTLINES = ("ball", "mug", "chair", "plate", "speck", "full")


def _colours(alpha: Plane) -> npt.NDArray[np.float32]:
    """Orange with a dark band; black where nothing is, as a renderer leaves it."""
    rgb = np.zeros((*alpha.shape, 3), np.float32)
    rgb[alpha > 0] = (0.9, 0.5, 0.2)
    rgb[60:68][alpha[60:68] > 0] = (0.2, 0.2, 0.3)
    return rgb


def _overlap(a: Plane, b: Plane) -> float:
    first, second = a >= 0.5, b >= 0.5
    return float((first & second).sum() / (first | second).sum())


@pytest.mark.parametrize("outline", OUTLINES)
def test_a_spoiled_object_is_a_picture_of_the_same_object(outline: str) -> None:
    alpha = _drawn(outline)
    rgb = _colours(alpha)
    for seed in range(40):
        colours, matte = spoil(rgb, alpha, np.random.default_rng(seed))
        assert colours.shape == rgb.shape and colours.dtype == np.float32
        assert matte.shape == alpha.shape and matte.dtype == np.float32
        for values in (colours, matte):
            assert np.isfinite(values).all()
            assert values.min() >= 0 and values.max() <= 1
        assert _overlap(matte, alpha) >= LEAST_OVERLAP


def test_only_the_generator_decides_and_the_inputs_stay() -> None:
    alpha = _drawn("mug")
    rgb = _colours(alpha)
    before = rgb.copy(), alpha.copy()
    first = spoil(rgb, alpha, np.random.default_rng(3))
    again = spoil(rgb, alpha, np.random.default_rng(3))
    other = spoil(rgb, alpha, np.random.default_rng(4))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[1] != other[1]).any() and (first[0] != other[0]).any()
    np.testing.assert_array_equal(rgb, before[0])
    np.testing.assert_array_equal(alpha, before[1])


def test_what_is_outside_the_object_does_not_matter() -> None:
    """A renderer may leave anything where alpha is 0."""
    alpha = _drawn("ball")
    rgb = _colours(alpha)
    loud = rgb.copy()
    loud[alpha == 0] = (0, 1, 0)
    for seed in range(10):
        plain = spoil(rgb, alpha, np.random.default_rng(seed))
        same = spoil(loud, alpha, np.random.default_rng(seed))
        np.testing.assert_array_equal(plain[0], same[0])
        np.testing.assert_array_equal(plain[1], same[1])


def test_no_object_comes_back_as_it_was() -> None:
    alpha = np.full((SIDE, SIDE), 0.4, np.float32)
    rgb = np.full((SIDE, SIDE, 3), 0.5, np.float32)
    colours, matte = spoil(rgb, alpha, np.random.default_rng(0))
    np.testing.assert_array_equal(colours, rgb)
    np.testing.assert_array_equal(matte, alpha)


def test_outlines_err_as_often_and_as_far_as_a_remover_makes_them() -> None:
    overlaps = np.array(
        [
            _overlap(spoil(_colours(a), a, np.random.default_rng(seed))[1], a)
            for a in (_drawn("ball"), _drawn("mug"))
            for seed in range(150)
        ]
    )
    low, middle, high = np.quantile(overlaps, [0.05, 0.5, 0.9])
    assert 0.80 <= low <= 0.97
    assert 0.95 <= middle <= 0.995
    assert high >= 0.985
    assert 0.2 <= (overlaps > 0.985).mean() <= 0.7, "a third and more stays nearly clean"


def test_thin_legs_and_holes_are_lost_in_some_samples_only() -> None:
    chair, mug = _drawn("chair"), _drawn("mug")
    hole = np.zeros((SIDE, SIDE), bool)
    hole[60:70, 83:90] = True  # inside the handle
    legs = chair >= 0.5
    legs[:70] = False
    lost, filled = [], []
    for seed in range(150):
        _, matte = spoil(_colours(chair), chair, np.random.default_rng(seed))
        lost.append((matte[legs] < 0.5).mean() > 0.3)
        _, matte = spoil(_colours(mug), mug, np.random.default_rng(seed))
        filled.append((matte[hole] >= 0.5).mean() > 0.5)
    assert 0 < np.mean(lost) < 0.5
    assert 0 < np.mean(filled) < 0.5


@pytest.mark.parametrize("side", [56, 112, 256])
def test_other_sizes(side: int) -> None:
    alpha = cv2.resize(_drawn("mug"), (side, side), interpolation=cv2.INTER_AREA)
    colours, matte = spoil(_colours(alpha), alpha, np.random.default_rng(1))
    assert colours.shape == (side, side, 3) and matte.shape == (side, side)
