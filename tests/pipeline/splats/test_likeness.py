"""The expected likeness: monotone in all it is made of; how much objects change with the side."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry.cameras import photo_camera, rig_cameras
from pipeline.splats.likeness import (
    RULE,
    contradiction,
    detail_of,
    expected_likeness,
    flatness,
    turning,
)
from pipeline.splats.render import render_model
from pipeline.types import FloatArray, ViewSet
from tests.oracles.shells import shell

#: Which way is better, as anybody would say it.
BETTER = {
    "seen_share": 1,
    "engine_confidence": 1,
    "contradiction": -1,
    "turn": -1,
    "flatness": -1,
    "detail": -1,
}

shares = st.floats(0, 1)


def between(name: str, share: float) -> float:
    term = next(term for term in RULE if term.name == name)
    return term.low + share * (term.high - term.low)


def test_every_term_counts_the_way_one_would_say() -> None:
    assert {term.name for term in RULE} <= set(BETTER)
    assert all(np.sign(term.weight) == BETTER[term.name] for term in RULE)
    assert all(term.low < term.high for term in RULE)


@given(st.fixed_dictionaries(dict.fromkeys(BETTER, shares)), st.sampled_from(RULE), shares)
def test_it_is_monotone_in_each_number_and_within_0_and_1(chosen, term, other) -> None:
    evidence = {t.name: between(t.name, chosen[t.name]) for t in RULE}
    worse, better = sorted(
        (evidence[term.name], between(term.name, other)), key=lambda v: BETTER[term.name] * v
    )
    low = expected_likeness(evidence | {term.name: worse})
    high = expected_likeness(evidence | {term.name: better})
    assert low is not None and high is not None
    assert 0 < low <= high < 1
    if abs(better - worse) > 0.01 * (term.high - term.low):
        assert low < high


def test_what_lies_beyond_all_that_was_measured_counts_as_the_end_of_it() -> None:
    best = {t.name: between(t.name, BETTER[t.name] > 0) for t in RULE}
    beyond = {name: value + 99 * BETTER[name] for name, value in best.items()}
    assert expected_likeness(beyond) == pytest.approx(expected_likeness(best))


def test_without_one_of_its_numbers_there_is_none() -> None:
    evidence = {t.name: t.low for t in RULE}
    evidence.pop(RULE[0].name)
    assert expected_likeness(evidence) is None


def rig_of(name: str, turns: int = 0) -> FloatArray:
    """A sphere that is grey, or has a bright side, from the rig."""
    sphere = shell("sphere", 20_000)
    colors = np.full((len(sphere), 3), -0.5, np.float32)
    if name == "two sides":
        colors[sphere.means[:, 0] > 0] = 1.2
    return render_model(replace(sphere, sh=colors[:, None]), rig_cameras(64)).images


def test_what_looks_the_same_from_all_sides_does_not_turn() -> None:
    assert turning(rig_of("grey")) < 0.5 * turning(rig_of("two sides"))
    assert turning(np.ones((16, 64, 64, 3), np.float32)) == pytest.approx(0, abs=1e-5)


def test_a_turned_rig_turns_as_much() -> None:
    images = rig_of("two sides")
    assert turning(np.roll(images, 5, axis=0)) == pytest.approx(turning(images))


def test_a_ball_is_not_flat_and_a_sheet_is() -> None:
    views = np.zeros((24, 32, 32), np.float32)
    views[:, 8:24, 8:24] = 1
    assert flatness(views) == 0
    views[::2] = 0
    assert flatness(views) == pytest.approx(1)


def test_views_that_contradict_each_other_count_where_no_photo_decides() -> None:
    assert contradiction(1.0, 0.2) == 0
    assert contradiction(0.4, 0.5) == pytest.approx(0.3)
    assert contradiction(0.4, 0.9) < contradiction(0.2, 0.9)


def photo(picture: FloatArray) -> ViewSet:
    alpha = np.zeros(picture.shape[:2], np.uint8)
    alpha[32:-32, 32:-32] = 255
    on_white = np.where(alpha[..., None] > 0, picture, 1)
    return ViewSet(
        np.round(255 * on_white).astype(np.uint8)[None], alpha[None], photo_camera(0.0, 192), "a"
    )


def test_blurred_photos_have_less_detail_and_plain_ones_none() -> None:
    noise = np.random.default_rng(0).random((192, 192, 3)).astype(np.float32)
    sharp, soft = detail_of(photo(noise)), detail_of(photo(cv2.GaussianBlur(noise, (0, 0), 4)))
    assert sharp > 2 * soft > 0
    assert detail_of(photo(np.full((192, 192, 3), 0.4, np.float32))) == pytest.approx(0, abs=1e-3)
