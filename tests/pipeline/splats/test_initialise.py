"""First splats: on the surface, of even density, closed where nothing looked."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from scipy.spatial import cKDTree

from pipeline.control import Control, Progress
from pipeline.errors import Cancelled, InvalidInput, ModelFailed
from pipeline.geometry.cameras import rig_cameras
from pipeline.splats.training import splats_from_views
from pipeline.types import SH_C0, DepthMaps, ViewSet
from tests.oracles.objects import bumpy_sphere, photograph, printed_box, torus


@lru_cache(maxsize=1)
def views_and_depths() -> tuple[ViewSet, DepthMaps]:
    return photograph(torus(), rig_cameras(96))


def without_depth(depths: DepthMaps) -> DepthMaps:
    return DepthMaps(np.zeros_like(depths.depth), np.zeros_like(depths.confidence), "none")


def test_splats_of_depth_lie_on_the_surface_with_its_colours() -> None:
    views, depths = views_and_depths()
    model = splats_from_views(views, depths, count=3000, seed=0)
    assert len(model) == 3000
    distance, nearest = cKDTree(torus().vertices).query(model.means)
    # A pixel is 5e-3 wide on the object; cells average over about 8e-3. The unseen underside
    # is filled with hull, which is farther away.
    seen = distance < 5e-3
    assert seen.mean() > 0.8
    colors = 0.5 + SH_C0 * model.sh[:, 0]
    assert np.abs(colors - torus().colors[nearest])[seen].mean() < 0.08


def test_splats_have_even_density_and_flat_discs_along_the_surface() -> None:
    views, depths = views_and_depths()
    model = splats_from_views(views, depths, count=3000, seed=0)
    spacing = cKDTree(model.means).query(model.means, k=2)[0][:, 1]
    assert np.percentile(spacing, 95) < 4 * np.percentile(spacing, 5)
    assert (model.scales[:, 2] < 0.5 * model.scales[:, 0]).all()
    # The disc's axis is the third column of its rotation matrix.
    w, x, y, z = model.quats.T
    axis = np.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], -1)
    vertices = torus().vertices
    distance, nearest = cKDTree(vertices).query(model.means)
    lean = np.deg2rad(35.0)
    turn = np.array([[1, 0, 0], [0, np.cos(lean), -np.sin(lean)], [0, np.sin(lean), np.cos(lean)]])
    p = vertices[nearest] @ turn
    ring = p * [1, 1, 0]
    ring = 0.30 * ring / np.linalg.norm(ring, axis=1, keepdims=True)
    normal = (p - ring) / 0.13 @ turn.T
    aligned = np.abs((axis * normal).sum(-1))[distance < 5e-3]
    assert np.median(aligned) > 0.97


def test_same_seed_gives_the_same_splats_and_another_seed_does_not() -> None:
    views, depths = views_and_depths()
    first, second, third = (
        splats_from_views(views, depths, count=450, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.means, second.means)
    assert not np.array_equal(first.means, third.means)


def test_fewer_splats_come_back_when_the_views_show_less() -> None:
    views, depths = photograph(torus(), rig_cameras(32))
    model = splats_from_views(views, depths, count=10**6, seed=0)
    assert 1000 < len(model) < 16 * 32 * 32


def test_without_confident_depth_the_silhouettes_are_enough() -> None:
    views, depths = views_and_depths()
    model = splats_from_views(views, without_depth(depths), count=3000, seed=0)
    distance = cKDTree(torus().vertices).query(model.means)[0]
    # The hull encloses the object and fills the hole of the torus from below.
    assert np.median(distance) < 0.03
    assert np.abs(model.means).max() < 0.5


def test_what_no_view_shows_is_closed() -> None:
    views, depths = photograph(bumpy_sphere(), rig_cameras(96))
    model = splats_from_views(views, depths, count=3000, seed=0)
    # The rig looks down at 30 degrees and never sees the pole below, at z = -0.38.
    axis = model.means[np.linalg.norm(model.means[:, :2], axis=1) < 0.1]
    assert (axis[:, 2] < -0.2).sum() > 10
    assert axis[:, 2].min() > -0.4  # and the cone that silhouettes leave below is cut off


def test_nothing_begins_below_a_flat_bottom() -> None:
    views, depths = photograph(printed_box(), rig_cameras(64))
    model = splats_from_views(views, depths, count=2000, seed=0)
    bottom = printed_box().vertices[:, 2].min()
    assert model.means[:, 2].min() > bottom - 2e-3
    inside = np.abs(model.means[:, :2]).max(1) < 0.2
    assert (model.means[inside, 2] < bottom + 0.06).sum() > 20  # and it is closed


def test_rims_begin_in_the_colour_of_the_object_not_paler() -> None:
    dark = replace(torus(), colors=np.full_like(torus().colors, 0.1))
    views, depths = photograph(dark, rig_cameras(48))
    model = splats_from_views(views, depths, count=2000, seed=0)
    assert (0.5 + SH_C0 * model.sh[:, 0]).max() < 0.13


def test_placing_reports_as_it_goes_on_and_stops_where_it_reports() -> None:
    views, depths = views_and_depths()
    seen: list[Progress] = []
    splats_from_views(views, depths, count=500, seed=0, control=Control(report_to=seen.append))
    fractions = [progress.fraction for progress in seen]
    assert fractions[0] == 0 and fractions[-1] == 1 and fractions == sorted(fractions)
    for given in (depths, without_depth(depths)):
        for reports in range(1, len(seen)):
            stop = threading.Event()
            left = iter(range(reports - 1, -1, -1))

            def watch(_: Progress, stop: threading.Event = stop, left: object = left) -> None:
                if next(left) == 0:  # type: ignore[call-overload]
                    stop.set()

            with pytest.raises(Cancelled):
                splats_from_views(views, given, count=500, seed=0, control=Control(stop, watch))


def test_nothing_to_see_is_a_clear_failure() -> None:
    views, depths = views_and_depths()
    empty = replace(views, alphas=np.zeros_like(views.alphas))
    with pytest.raises(ModelFailed, match="No object could be placed"):
        splats_from_views(empty, without_depth(depths), count=100, seed=0)


def test_depth_of_another_size_is_refused() -> None:
    views, depths = views_and_depths()
    wrong = DepthMaps(depths.depth[:, ::2], depths.confidence[:, ::2], "oracle")
    with pytest.raises(InvalidInput, match="shape of the views"):
        splats_from_views(views, wrong, count=100, seed=0)
    with pytest.raises(InvalidInput, match="count"):
        splats_from_views(views, depths, count=0, seed=0)
