"""Splats that nobody sees are found, and leaving them out changes no picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.control import Control
from pipeline.errors import Cancelled
from pipeline.geometry.cameras import held_out_cameras, surround_cameras
from pipeline.geometry.neighbours import neighbour_distance
from pipeline.geometry.unit_frame import CAMERA_RADIUS, UnitFrame
from pipeline.imaging.psnr import psnr
from pipeline.splats.render import render_model
from pipeline.splats.visible import peak_contributions, prune_invisible
from pipeline.types import SplatModel
from tests.fakes import some_model
from tests.oracles import torch_rasterizer
from tests.oracles.shells import shell


def filled_shell(hidden: int = 3000) -> SplatModel:
    """An opaque shell; its last `hidden` splats lie inside, where nobody sees them."""
    outside, inside = shell("sphere", 20_000), shell("sphere", hidden, seed=1)
    outside = replace(outside, log_scales=outside.log_scales + np.float32(0.6))  # no gaps
    inside = replace(inside, means=0.5 * inside.means)
    both = SplatModel(
        *(np.concatenate([getattr(outside, n), getattr(inside, n)]) for n in vars(outside))
    )
    return replace(both, logit_opacities=np.full(len(both), 6.0, np.float32))


def test_hidden_splats_go_and_no_picture_changes() -> None:
    model = filled_shell()
    seen = prune_invisible(model).model
    assert 20_000 * 0.99 < len(seen) <= 20_050  # nearly all of the shell, nearly none inside
    cameras = held_out_cameras()
    before, after = render_model(model, cameras).images, render_model(seen, cameras).images
    assert psnr(before, after) >= 50


def test_contributions_are_those_of_the_slow_rasteriser() -> None:
    """A splat's contribution is the sum of its weights: with one colour channel per splat, the
    picture shows them one by one."""
    model = some_model(12, seed=3)
    unit = UnitFrame.of(model).to_unit(model)
    cameras = surround_cameras(16, size=192, radius=CAMERA_RADIUS)
    splats = [
        torch.from_numpy(np.array(a, np.float64))
        for a in (unit.means, unit.quats, unit.scales, unit.opacities)
    ]
    most = np.zeros(12)
    for viewmat, K in zip(cameras.viewmats, cameras.intrinsics, strict=True):
        image, _, _ = torch_rasterizer.draw(
            *splats,
            torch.eye(12, dtype=torch.float64),
            torch.from_numpy(viewmat.astype(np.float64)),
            torch.from_numpy(K.astype(np.float64)),
            192,
            192,
        )
        most = np.maximum(most, image.sum(dim=(0, 1)).numpy())
    found = peak_contributions(unit, Control())
    assert most.min() < 0.7 * most.max()
    np.testing.assert_allclose(found, most, rtol=2e-3, atol=1e-2)


def test_a_model_of_which_nothing_is_seen_stays() -> None:
    model = replace(some_model(5), logit_opacities=np.full(5, -9.0, np.float32))
    assert len(prune_invisible(model).model) == 5
    empty = model.select(np.zeros(5, bool))
    assert len(prune_invisible(empty).model) == 0


def test_size_and_place_do_not_matter() -> None:
    model = filled_shell(500)
    away = replace(
        model,
        means=(100 * model.means + np.float32(5000)).astype(np.float32),
        log_scales=model.log_scales + np.float32(np.log(100)),
    )
    assert len(prune_invisible(away).model) == pytest.approx(
        len(prune_invisible(model).model), abs=20
    )


def test_a_stop_is_heard() -> None:
    control = Control()
    control.stop.set()
    with pytest.raises(Cancelled):
        prune_invisible(some_model(), control)


def test_the_unit_frame_undoes_itself() -> None:
    model = replace(some_model(200), means=some_model(200).means * 7 + np.float32(3))
    frame = UnitFrame.of(model)
    unit = frame.to_unit(model)
    assert np.linalg.norm(unit.means, axis=1).max() <= 1.01
    np.testing.assert_allclose(frame.to_world(unit.means), model.means, atol=1e-5)
    np.testing.assert_allclose(unit.scales * frame.radius, model.scales, rtol=1e-5)


def test_neighbour_distances_on_a_lattice() -> None:
    lattice = np.stack(np.meshgrid(*[np.arange(5.0)] * 3), -1).reshape(-1, 3).astype(np.float32)
    distance = neighbour_distance(lattice, count=6)
    centre = int(np.flatnonzero((lattice == 2).all(axis=1))[0])
    assert distance[centre] == pytest.approx(1.0)
    assert distance.min() == pytest.approx(1.0)
    assert distance.max() > 1.0  # corners have three neighbours at distance 1
    assert neighbour_distance(lattice[:1]).tolist() == [0.0]


def _with_strays(kind: str) -> tuple[SplatModel, int]:
    """An opaque sphere, and strays of one kind behind its last splat; the sphere's count."""
    model = shell("sphere", 5000)
    model = replace(model, log_scales=model.log_scales + np.float32(0.6))
    rng = np.random.default_rng(3)
    share, distance, opacity, size = {
        "a few far": (0.002, 1e3, 3.0, 1.0),
        "a few at 1e7": (0.002, 1e7, 3.0, 1.0),
        "some near": (0.02, 30.0, 3.0, 1.0),
        "many far": (0.04, 1e5, 3.0, 1.0),
        "faint": (0.01, 100.0, -6.0, 1.0),
        "many faint": (0.3, 100.0, -6.0, 1.0),
        "huge": (0.0002, 0.0, 3.0, 1e4),
        "at the end of float32": (0.002, 3e38, 3.0, 1.0),
        "over three decades": (0.02, 0.0, 3.0, 1.0),
    }[kind]
    count = max(3, round(share * len(model)))
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    away = 10 ** rng.uniform(0, 3, (count, 1)) if kind == "over three decades" else distance
    strays = model.select(np.arange(count))
    strays = replace(
        strays,
        means=np.clip(away * directions, -3.4e38, 3.4e38).astype(np.float32),
        log_scales=strays.log_scales + np.float32(np.log(size)),
        logit_opacities=np.full(count, opacity, np.float32),
    )
    both = SplatModel(
        *(np.concatenate([getattr(model, n), getattr(strays, n)]) for n in vars(model))
    )
    return both, len(model)


@pytest.mark.parametrize(
    ("kind", "scale", "offset"),
    [
        ("a few far", 1.0, 0.0),
        ("a few far", 1e-4, 0.0),
        ("a few far", 50.0, 4000.0),
        ("a few at 1e7", 1.0, 0.0),
        ("some near", 1.0, 0.0),
        ("many far", 1.0, 0.0),
        ("faint", 1.0, 0.0),
        ("many faint", 1e-4, 0.0),
        ("huge", 50.0, 4000.0),
        ("at the end of float32", 1.0, 0.0),
        ("over three decades", 1.0, 0.0),
    ],
)
def test_strays_do_not_cost_the_object(kind: str, scale: float, offset: float) -> None:
    model, count = _with_strays(kind)
    alone = model.select(np.arange(count))
    visible = peak_contributions(UnitFrame.of(alone).to_unit(alone), Control()) >= 0.1
    moved = replace(
        model,
        means=np.clip(model.means.astype(np.float64) * scale + offset, -3.4e38, 3.4e38).astype(
            np.float32
        ),
        log_scales=model.log_scales + np.float32(np.log(scale)),
    )
    pruned = prune_invisible(moved)
    places = {tuple(row) for row in pruned.model.means}
    stays = np.array([tuple(row) in places for row in moved.means[:count]])
    assert stays[visible].mean() >= 0.97
    strays_left = len(pruned.model) - int(stays.sum())
    if kind in ("a few far", "a few at 1e7", "many far", "at the end of float32"):
        assert strays_left == 0
        assert f"{len(model) - count:,} of {len(model):,} splats" in pruned.notes[0]
    elif kind in ("faint", "many faint"):
        assert strays_left == 0
    elif kind == "huge":
        assert strays_left == 0
        assert "cover the object: 3 of" in pruned.notes[0]


@pytest.mark.parametrize("kind", ["two far apart", "under a dome"])
def test_an_object_that_is_tiny_beside_the_whole_stays(kind: str) -> None:
    """Two thousand splats on two pixels: which of them are seen, such views cannot tell."""
    model = shell("sphere", 2000)
    other = model.select(np.arange(800 if kind == "under a dome" else 2000))
    far = np.float32(100) * other.means
    if kind == "two far apart":
        far = other.means + np.float32([100, 0, 0])
    else:
        other = replace(other, log_scales=other.log_scales + np.float32(np.log(100)))
    other = replace(other, means=far)
    both = SplatModel(
        *(np.concatenate([getattr(model, n), getattr(other, n)]) for n in vars(model))
    )
    pruned = prune_invisible(both)
    near = np.linalg.norm(pruned.model.means, axis=1) < 1
    assert near.sum() >= 0.99 * len(model)
    assert any("tiny beside the whole model" in note for note in pruned.notes)


def test_scenery_far_away_stays() -> None:
    """One splat in five stands 100 radii away: no strays, whatever is done with them."""
    model = shell("sphere", 2000)
    count = len(model) // 4
    far = model.select(np.arange(count))
    far = replace(far, means=far.means + np.float32(40))
    both = SplatModel(*(np.concatenate([getattr(model, n), getattr(far, n)]) for n in vars(model)))
    pruned = prune_invisible(both)
    assert (pruned.model.means[:, 0] > 20).sum() == count
    assert any("Kept without knowing" in note for note in pruned.notes)
