"""Weights of targets: exposures against known colour maps; good, blurred and wrong views.

The model is the object itself and its depth is exact, so every doubt comes from the targets."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from pipeline.geometry.cameras import rig_cameras
from pipeline.geometry.facing import facing_ratio
from pipeline.splats.target_weights import TargetSet, TargetWeights, fit_exposures, weigh_targets
from pipeline.types import FloatArray
from tests.oracles.objects import photograph, printed_box, torus

SIZE = 64
BAD = 4
GOOD = [i for i in range(16) if i != BAD]


@lru_cache(maxsize=4)
def perfect(size: int = SIZE) -> TargetSet:
    """Photographs of the torus as targets, and as what the model shows."""
    views, depths = photograph(torus(), rig_cameras(size))
    images = (views.images / 255).astype(np.float32)
    return TargetSet(images, views.alphas >= 128, images, depths.depth, views.cameras)


def with_view(image: FloatArray, of: TargetSet | None = None) -> TargetSet:
    """The targets with another picture in view `BAD`."""
    targets = perfect() if of is None else of
    images = targets.images.copy()
    images[BAD] = image
    return replace(targets, images=images)


def gained(gains: FloatArray) -> TargetSet:
    """Each target's object in other colours, [T, 3]; the white around it stays."""
    targets = perfect()
    inside = targets.masks[..., None]
    colors = np.clip(targets.images * gains[:, None, None], 0, 1)
    return replace(targets, images=np.where(inside, colors, targets.images).astype(np.float32))


# -- exposures -----------------------------------------------------------------------------------


def colors() -> FloatArray:
    """Random colours of all kinds, [1, 40, 40, 3]."""
    values = np.random.default_rng(0).uniform(0.1, 0.8, (1, 40, 40, 3))
    return values.astype(np.float32)


def test_known_colour_maps_are_recovered_up_to_the_ridge() -> None:
    """Of what a map differs from the identity, the ridge leaves X'X (X'X + n r)^-1."""
    x, everywhere = colors(), np.ones((1, 40, 40), bool)
    wanted = np.array(
        [[0.9, 0.05, 0.0, 0.03], [-0.04, 1.1, 0.02, -0.02], [0.0, 0.06, 0.85, 0.05]], np.float32
    )
    y = x @ wanted[:, :3].T + wanted[:, 3]
    (found,) = fit_exposures(x, y, everywhere)
    flat = np.concatenate([x.reshape(-1, 3), np.ones((1600, 1))], axis=1).astype(float)
    gram = flat.T @ flat / 1600
    shrunk = (wanted - np.eye(3, 4)) @ (gram @ np.linalg.inv(gram + 0.05 * np.eye(4)))
    # The second fit leaves out a fifth of the pixels.
    np.testing.assert_allclose(found, np.eye(3, 4) + shrunk, atol=0.02)
    # The colours themselves are met well within a step of what a person would see.
    error = np.abs(x @ found[:, :3].T + found[:, 3] - y)
    assert error.mean() < 0.02 and error.mean() < 0.7 * np.abs(x - y).mean()


def test_no_change_is_the_identity_and_too_few_pixels_are_left_alone() -> None:
    x = colors()
    mask = np.ones((1, 40, 40), bool)
    np.testing.assert_allclose(fit_exposures(x, x, mask)[0], np.eye(3, 4), atol=1e-6)
    few = np.zeros((1, 40, 40), bool)
    few[0, 0, :30] = True
    np.testing.assert_array_equal(fit_exposures(x, 0.5 * x, few)[0], np.eye(3, 4))


def test_pixels_that_show_something_else_do_not_pull_the_exposure() -> None:
    x, mask = colors(), np.ones((1, 40, 40), bool)
    y = 0.9 * x
    clean = fit_exposures(x, y, mask)[0]
    y[0, :6] = (1.0, 0.0, 0.0)
    spoilt = fit_exposures(x, y, mask)[0]
    rest = x[0, 6:]
    difference = (rest @ (spoilt - clean)[:, :3].T) + (spoilt - clean)[:, 3]
    assert np.abs(difference).mean() < 0.02


# -- views ---------------------------------------------------------------------------------------


def test_perfect_targets_are_believed() -> None:
    assert (weigh_targets(perfect()).views > 0.95).all()


def test_gains_and_tints_are_no_fault() -> None:
    rng = np.random.default_rng(1)
    gains = 1 + rng.uniform(-0.12, 0.12, (16, 1)) + rng.uniform(-0.04, 0.04, (16, 3))
    found = weigh_targets(gained(gains.astype(np.float32)))
    assert found.views.min() > 0.8
    # One alone among perfect ones, where the usual error is no excuse.
    lone = np.ones((16, 3), np.float32)
    lone[BAD] = (0.88, 0.9, 0.86)
    assert weigh_targets(gained(lone)).views[BAD] > 0.8


def another_object() -> FloatArray:
    views, _ = photograph(printed_box(), rig_cameras(SIZE))
    return (views.images[BAD] / 255).astype(np.float32)


@pytest.mark.parametrize("kind", ["another object", "mirrored", "rolled", "of another side"])
def test_a_view_of_something_else_counts_next_to_nothing(kind: str) -> None:
    own = perfect().images[BAD]
    image = {
        "another object": another_object,
        "mirrored": lambda: own[:, ::-1],
        "rolled": lambda: np.roll(own, 6, axis=1),
        "of another side": lambda: perfect().images[(BAD + 5) % 16],
    }[kind]()
    found = weigh_targets(with_view(image)).views
    assert found[BAD] < 0.15
    assert found[GOOD].min() > 0.5


def test_a_blurred_view_is_still_believed() -> None:
    image = cv2.GaussianBlur(perfect().images[BAD], (0, 0), 0.5)
    assert weigh_targets(with_view(image)).views[BAD] > 0.5


def test_a_plain_object_is_not_gated_out() -> None:
    targets = perfect()
    plain = np.full_like(targets.images, 0.995)
    found = weigh_targets(replace(targets, images=plain, renders=plain))
    assert found.views.min() > 0.9
    # With an outline, but without texture.
    grey = np.where(targets.masks[..., None], np.full(3, 0.4, np.float32), np.float32(1))
    found = weigh_targets(replace(targets, images=grey, renders=grey))
    assert found.views.min() > 0.9


def test_a_view_in_which_the_model_is_not_to_be_seen_counts_nothing() -> None:
    targets = perfect()
    depth = targets.depth.copy()
    depth[BAD] = 0
    found = weigh_targets(replace(targets, depth=depth))
    assert found.views[BAD] == 0 and found.views[GOOD].min() > 0.5
    assert (found.pixels[BAD] == 0).all()


# -- pixels --------------------------------------------------------------------------------------


def test_pixels_of_perfect_targets_count_by_how_squarely_they_are_seen() -> None:
    targets = perfect(128)
    found = weigh_targets(targets).pixels
    kernel = np.ones((3, 3), np.uint8)
    for view in (0, 7):
        inner = cv2.erode(targets.masks[view].astype(np.uint8), kernel) > 0
        facing = facing_ratio(targets.depth[view], targets.cameras.select([view]))
        assert (found[view][~inner] == 0).all(), "nothing at the rim and nothing outside"
        assert (found[view] <= facing**2 + 1e-6).all()
        assert np.abs(found[view] - facing**2)[inner].mean() < 0.03
    # The rim is there: the mask is larger than what is looked at.
    assert (targets.masks & (found == 0)).sum() > 100


def test_a_patch_painted_over_in_one_view_has_little_confidence() -> None:
    targets = perfect()
    before = weigh_targets(targets).pixels
    # Where the camera looks squarely: the most confident place of the picture.
    smooth = cv2.blur(before[BAD], (9, 9))
    row, column = np.unravel_index(int(smooth.argmax()), smooth.shape)
    patch = (slice(row - 2, row + 3), slice(column - 2, column + 3))
    image = targets.images[BAD].copy()
    image[patch] = (0.9, 0.05, 0.9)
    found: TargetWeights = weigh_targets(with_view(image))
    middle = (slice(row - 1, row + 2), slice(column - 1, column + 2))
    assert found.pixels[BAD][middle].mean() < 0.3 * before[BAD][middle].mean()
    away: npt.NDArray[np.bool_] = np.ones((SIZE, SIZE), bool)
    away[row - 8 : row + 9, column - 8 : column + 9] = False
    seen = away & (before[BAD] > 0.1)
    assert found.pixels[BAD][seen].mean() > 0.9 * before[BAD][seen].mean()
    # Neighbours that see the place have three other witnesses.
    assert found.pixels[BAD + 1].mean() > 0.9 * before[BAD + 1].mean()
    assert found.views[BAD] > 0.5, "one patch is no other picture"


def test_trust_repeats_bit_by_bit_whatever_opencv_uses() -> None:
    before = cv2.getNumThreads()
    try:
        found = []
        for threads in (1, 3):
            cv2.setNumThreads(threads)
            found.append(weigh_targets(with_view(another_object())))
    finally:
        cv2.setNumThreads(before)
    for name in ("pixels", "views", "exposures"):
        np.testing.assert_array_equal(getattr(found[0], name), getattr(found[1], name))
