"""What is given a height has it, and stands on the ground."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import InvalidInput
from pipeline.geometry.cameras import held_out_cameras
from pipeline.geometry.ellipsoids import ellipsoid_axes
from pipeline.geometry.true_size import Box, Placement
from pipeline.splats.render import render_model
from pipeline.types import SplatModel
from tests.fakes import some_model
from tests.oracles.shells import RADIUS, shell, together


def test_the_axes_of_splats_are_those_of_their_rotations() -> None:
    from scipy.spatial.transform import Rotation

    model = some_model(50)
    turns = Rotation.from_quat(model.quats[:, [1, 2, 3, 0]]).as_matrix()
    wanted = (turns * model.scales[:, None, :]).transpose(0, 2, 1)
    np.testing.assert_allclose(ellipsoid_axes(model), wanted, atol=1e-6)


def test_points_are_made_as_high_as_asked_and_stand_in_the_middle() -> None:
    points = np.array([[1, 5, -2], [3, 9, 2], [2, 6, 0]], np.float32)
    placed = Placement.of_height(Box.of_points(points), 0.5).points(points)
    np.testing.assert_allclose(placed.min(axis=0), [-0.125, -0.25, 0], atol=1e-6)
    np.testing.assert_allclose(placed.max(axis=0), [0.125, 0.25, 0.5], atol=1e-6)
    printed = Placement.of_longest_side(Box.of_points(points), 100).points(points)
    np.testing.assert_allclose(np.ptp(printed, axis=0), [50, 100, 100], atol=1e-4)


def test_what_is_flat_has_no_height() -> None:
    flat = np.array([[0, 0, 1], [1, 0, 1], [0, 1, 1]], np.float32)
    with pytest.raises(InvalidInput, match="no height"):
        Placement.of_height(Box.of_points(flat), 1.0)
    none = SplatModel(*(getattr(some_model(3), n)[:0] for n in vars(some_model(3))))
    with pytest.raises(InvalidInput, match="no splats"):
        Box.of_splats(none)


def test_the_box_of_splats_is_that_of_what_they_hide() -> None:
    ball = shell("sphere", 5000)
    stray = replace(some_model(1), means=np.array([[0, 0, 40]], np.float32))
    faint = replace(
        shell("sphere", 500),
        means=2 * shell("sphere", 500).means,
        logit_opacities=np.full(500, -2.0, np.float32),
    )
    box = Box.of_splats(together(ball, faint, replace(stray, sh=stray.sh[:, :1])))
    np.testing.assert_allclose(box.low, -RADIUS, atol=0.01)
    np.testing.assert_allclose(box.high, RADIUS, atol=0.01)


def test_a_placed_model_looks_as_it_did_from_a_camera_placed_with_it() -> None:
    ball = shell("sphere", 3000)
    placement = Placement.of_height(Box.of_splats(ball), 0.16)
    placed = placement.model(ball)
    assert Box.of_splats(placed).low[2] == pytest.approx(0, abs=1e-4)
    assert Box.of_splats(placed).high[2] == pytest.approx(0.16, abs=1e-4)
    cameras = held_out_cameras()
    viewmats = cameras.viewmats.astype(np.float64)
    # x = R w + t is s times as far from a camera that looks at s (w - o): R p + s (t + R o).
    offset = viewmats[:, :3, 3] + viewmats[:, :3, :3] @ placement.origin
    viewmats[:, :3, 3] = placement.scale * offset
    moved = replace(cameras, viewmats=viewmats.astype(np.float32))
    before, after = render_model(ball, cameras), render_model(placed, moved)
    assert np.abs(before.images - after.images).mean() < 2e-3
