"""The judge of models: each flaw makes its own number worse, and the quality lower."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import native
from pipeline.errors import InvalidInput
from pipeline.geometry.cameras import orbit_cameras, rig_cameras
from pipeline.imaging.psnr import psnr
from pipeline.requests import References
from pipeline.splats.floaters import floater_share, floating
from pipeline.splats.judge import (
    depth_error,
    exposure_gains,
    judge_model,
    rig_consistency,
)
from pipeline.splats.render import Rendering, render_model
from pipeline.splats.scores import view_agreement
from pipeline.types import SH_C0, Cameras, FloatArray, Scores, SplatModel, UInt8Array, ViewSet
from tests.oracles.shells import shell

SIZE, COUNT = 128, 12_000
VIEWS = (5, 11)


@cache
def good() -> SplatModel:
    """Opaque discs on a torus, with a pattern."""
    model = shell("torus", COUNT)
    return replace(model, log_scales=model.log_scales + np.float32(np.log(1.3)))


def to_bytes(values: FloatArray) -> UInt8Array:
    return np.round(255 * values).astype(np.uint8)


def own_camera() -> Cameras:
    """The photo's: farther away than the rig, with a longer focal length."""
    camera = orbit_cameras([0.0], [10.0], size=SIZE, radius=2.1)
    return replace(camera, intrinsics=camera.intrinsics * np.float32([1.4, 1.4, 1])[:, None])


@cache
def truth() -> tuple[Rendering, Cameras, Rendering, Cameras]:
    """What the good model shows to the references' cameras and to the photo's."""
    cameras, eye = rig_cameras(SIZE).select(list(VIEWS)), own_camera()
    return (
        render_model(good(), cameras, with_depth=True),
        cameras,
        render_model(good(), eye),
        eye,
    )


@cache
def references() -> References:
    """Pictures of the good model; their depth is known up to scale and shift of its inverse."""
    seen, cameras, front, eye = truth()
    assert seen.median_depth is not None
    depth = seen.median_depth
    disparity = 3 / np.maximum(depth, 1e-6) + 0.4
    photo = ViewSet(to_bytes(front.images), to_bytes(front.alphas), eye, "photo")
    return References(
        images=to_bytes(seen.images),
        cameras=cameras,
        views=VIEWS,
        alphas=to_bytes(seen.alphas),
        depth=np.where(depth > 0, 1 / disparity, 0).astype(np.float32),
        photos=photo,
    )


class MeanDifference:
    """Stands for LPIPS: ten times the mean absolute difference of each pair."""

    def distance(self, images: FloatArray, wanted: FloatArray) -> npt.NDArray[np.float64]:
        return 10 * np.abs(images - wanted).mean(axis=(1, 2, 3), dtype=np.float64)


@cache
def best() -> Scores:
    return judge_model(good(), references(), MeanDifference())


# -- flaws ---------------------------------------------------------------------------------------


def blurred(strength: float) -> SplatModel:
    return replace(good(), log_scales=good().log_scales + np.float32(np.log(1 + strength)))


def shifted(strength: float) -> SplatModel:
    offset = np.array([0.0, 0.0, 0.03 * strength], np.float32)
    return replace(good(), means=good().means + offset)


def tinted(strength: float) -> SplatModel:
    sh = good().sh.copy()
    sh[:, 0] += 0.1 * strength / SH_C0 * np.array([1, 0, -1], np.float32)
    return replace(good(), sh=sh)


def holed(strength: float) -> SplatModel:
    """Without a ball of the ring that camera 5 looks through."""
    away = np.linalg.norm(good().means - np.array([-0.2, 0.3, 0.1]), axis=1)
    return good().select(away > 0.15 * strength**0.5)


def strewn(strength: float) -> SplatModel:
    """Some of the splats float in a shell around the object, grown."""
    rng = np.random.default_rng(0)
    count = int(40 * strength)
    moved = rng.choice(COUNT, count, replace=False)
    d = rng.normal(size=(count, 3))
    d *= rng.uniform(0.47, 0.6, (count, 1)) / np.linalg.norm(d, axis=1, keepdims=True)
    means, log_scales = good().means.copy(), good().log_scales.copy()
    means[moved], log_scales[moved] = d, np.log(0.012)
    return replace(good(), means=means, log_scales=log_scales)


def sheen(strength: float) -> SplatModel:
    """Each splat's colour depends on the direction, at random: spherical harmonics of degree 1."""
    rng = np.random.default_rng(0)
    directional = 0.25 * strength * rng.standard_normal((COUNT, 3, 3)).astype(np.float32)
    return replace(good(), sh=np.concatenate([good().sh, directional], axis=1))


def squashed(strength: float) -> SplatModel:
    factor = np.array([1 - 0.25 * strength, 1, 1], np.float32)
    return replace(good(), means=good().means * factor)


#: A flaw, what it must make lower, what it must make higher, and what it must leave as it is.
FLAWS: dict[
    str, tuple[Callable[[float], SplatModel], tuple[str, ...], tuple[str, ...], tuple[str, ...]]
] = {
    "blur": (blurred, ("psnr", "ssim", "photo_psnr"), ("lpips", "photo_lpips"), ("floaters",)),
    "shift": (
        shifted,
        ("psnr", "ssim", "silhouette_iou", "low_pass_psnr", "photo_psnr"),
        ("lpips",),
        ("floaters",),
    ),
    "tint": (tinted, ("psnr", "low_pass_psnr", "photo_psnr"), ("lpips",), ("silhouette_iou",)),
    "hole": (holed, ("psnr", "ssim", "low_pass_psnr"), ("depth_error", "lpips"), ("floaters",)),
    "floaters": (strewn, ("psnr", "ssim", "silhouette_iou"), ("floaters", "consistency"), ()),
    "sheen": (sheen, ("psnr", "ssim"), ("consistency",), ("silhouette_iou", "floaters")),
    "squash": (squashed, ("psnr", "silhouette_iou"), ("depth_error",), ("floaters",)),
}


def number(scores: Scores, name: str) -> float:
    value = scores.extra[name] if name in scores.extra else getattr(scores, name)
    assert isinstance(value, float)
    return value


@pytest.mark.parametrize("name", FLAWS)
def test_a_flaw_makes_its_numbers_worse_and_the_quality_lower(name: str) -> None:
    make, lower, higher, same = FLAWS[name]
    flawed, worse = (judge_model(make(s), references(), MeanDifference()) for s in (0.5, 1.0))
    assert best().view_agreement > flawed.view_agreement > worse.view_agreement
    assert best().expected_likeness is not None and worse.expected_likeness is not None
    assert best().expected_likeness > worse.expected_likeness
    for measure in lower:
        values = [number(s, measure) for s in (best(), flawed, worse)]
        assert values[0] > values[1] > values[2], (measure, values)
    for measure in higher:
        values = [number(s, measure) for s in (best(), flawed, worse)]
        assert values[0] < values[1] < values[2], (measure, values)
    for measure in same:
        assert number(worse, measure) == pytest.approx(number(best(), measure), abs=2e-3), measure


def test_the_model_of_the_pictures_is_nearly_perfect() -> None:
    scores = best()
    assert scores.psnr > 55  # eight bits
    assert scores.ssim > 0.999
    assert scores.silhouette_iou == 1
    assert scores.floaters == 0
    assert scores.consistency is not None and scores.consistency < 0.5
    assert scores.extra["low_pass_psnr"] > 70
    assert scores.extra["depth_error"] < 1e-5
    assert scores.extra["photo_psnr"] > 55
    assert scores.view_agreement > 0.96


def test_inconsistent_colours_are_seen_without_any_reference_of_them() -> None:
    """The references are what this very model shows: only its own views contradict each other."""
    model = sheen(2.0)
    cameras = references().cameras
    own = References(to_bytes(render_model(model, cameras).images), cameras, VIEWS)
    scores, calm = judge_model(model, own, None), replace(own, images=references().images)
    assert scores.psnr > 55
    assert scores.consistency is not None and best().consistency is not None
    assert scores.consistency > 1.5 * best().consistency
    assert scores.view_agreement < judge_model(good(), calm, None).view_agreement


# -- what is measured ----------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_renders() -> None:
    model = shifted(0.3)
    scores = judge_model(model, references(), MeanDifference())
    drawn = render_model(model, references().cameras)
    wanted = (references().images / 255).astype(np.float32)
    distances = MeanDifference().distance(drawn.images, wanted)
    alphas = references().alphas
    assert alphas is not None
    inside, outline = drawn.alphas >= 0.5, alphas >= 128
    overlaps = (inside & outline).sum((1, 2)) / (inside | outline).sum((1, 2))
    assert [view.view for view in scores.views] == list(VIEWS)
    for i, view in enumerate(scores.views):
        assert view.psnr == psnr(drawn.images[i], wanted[i])
        assert view.lpips == pytest.approx(distances[i])
        assert view.silhouette_iou == pytest.approx(overlaps[i])
    assert scores.psnr == pytest.approx(np.mean([view.psnr for view in scores.views]))
    assert scores.ssim == pytest.approx(np.mean([view.ssim for view in scores.views]))
    assert scores.lpips == pytest.approx(distances.mean())
    assert scores.silhouette_iou == pytest.approx(overlaps.mean())
    assert scores.consistency == rig_consistency(model, SIZE)
    assert scores.view_agreement == view_agreement(
        scores.psnr,
        scores.ssim,
        scores.lpips,
        scores.silhouette_iou,
        scores.consistency,
        scores.floaters,
    )
    photo = references().photos
    assert photo is not None
    front = render_model(model, photo.cameras).images
    face = (photo.images / 255).astype(np.float32)
    assert scores.extra["photo_psnr"] == psnr(front[0], face[0])
    assert scores.extra["photo_lpips"] == MeanDifference().distance(front, face)[0]


def test_a_photo_keeps_its_number_where_one_before_it_was_left_out() -> None:
    photo = references().photos
    assert photo is not None
    two = ViewSet(
        np.repeat(photo.images, 2, axis=0),
        np.repeat(photo.alphas, 2, axis=0),
        Cameras.joined([photo.cameras, photo.cameras]),
        "photo",
    )
    numbered = replace(references(), photos=two, photo_numbers=(0, 2))
    assert [one.photo for one in judge_model(good(), numbered, None).photos] == [0, 2]
    assert [one.photo for one in best().photos] == [0]


def test_what_the_references_lack_is_left_out() -> None:
    bare = References(references().images, references().cameras)
    scores = judge_model(good(), bare, None)
    assert scores.lpips is None and scores.silhouette_iou is None
    assert set(scores.extra) == {"low_pass_psnr"}
    assert [view.view for view in scores.views] == [0, 1]
    assert all(v.lpips is None and v.silhouette_iou is None for v in scores.views)
    assert scores.psnr == best().psnr and scores.consistency == best().consistency
    without_lpips = judge_model(good(), references(), None)
    assert set(without_lpips.extra) == {"low_pass_psnr", "depth_error", "photo_psnr"}
    unknown = replace(references(), depth=np.zeros((2, SIZE, SIZE), np.float32))
    assert "depth_error" not in judge_model(good(), unknown, None).extra


def test_a_model_that_shows_nothing_is_judged_badly() -> None:
    nothing = good().select(np.zeros(COUNT, bool))
    faint = replace(good(), logit_opacities=np.full(COUNT, -9, np.float32))
    for model in (nothing, faint):
        scores = judge_model(model, references(), MeanDifference())
        assert scores.consistency is None
        assert scores.silhouette_iou == 0 and scores.floaters == 0
        assert "depth_error" not in scores.extra
        assert scores.view_agreement < 0.5


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(ValueError, match="shapes must match"):
        judge_model(good(), replace(references(), images=references().images[:1]), None)
    broken = replace(good(), means=np.full_like(good().means, np.nan))
    with pytest.raises(InvalidInput):
        judge_model(broken, references(), None)


@pytest.fixture
def restore_threads() -> Iterator[None]:
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield
    native.set_threads(native.default_threads())
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


def test_scores_do_not_depend_on_the_number_of_threads(restore_threads: None) -> None:
    found = []
    for threads in (1, 2, 3):
        native.set_threads(threads)
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        found.append(judge_model(sheen(1.0), references(), MeanDifference()))
        assert torch.get_num_threads() == threads
    assert found[0] == found[1] == found[2]


# -- guards --------------------------------------------------------------------------------------


def with_pictures(change: Callable[[FloatArray, FloatArray], FloatArray]) -> References:
    """References whose object's colours (times alpha) were changed; the ground stays white."""
    seen = truth()[0]
    ground = 1 - seen.alphas[..., None]
    images = change(seen.images - ground, seen.alphas[..., None]) + ground
    return replace(references(), images=to_bytes(images.clip(0, 1)))


def test_low_passed_scores_forgive_exposure_drift_and_lost_detail() -> None:
    darker = with_pictures(lambda o, a: o * np.array([0.85, 0.9, 0.88], np.float32))
    scores = judge_model(good(), darker, None)
    assert scores.psnr < 32, "the scores themselves are raw"
    assert scores.extra["low_pass_psnr"] > 50
    rng = np.random.default_rng(0)
    grain = 0.1 * rng.standard_normal((2, SIZE, SIZE, 1)).astype(np.float32)
    grainy = judge_model(good(), with_pictures(lambda o, a: o + grain * a), None)
    assert grainy.psnr < 30
    assert grainy.extra["low_pass_psnr"] > 40


def test_low_passed_scores_do_not_forgive_too_much_drift() -> None:
    dark = judge_model(good(), with_pictures(lambda o, a: 0.5 * o), None)
    assert dark.extra["low_pass_psnr"] < 25


def test_gains_are_found_in_spite_of_what_disagrees() -> None:
    rng = np.random.default_rng(0)
    objects = rng.uniform(0.1, 0.8, (2, 50, 60, 3)).astype(np.float32)
    gains = np.array([[0.9, 1.1, 1.0], [1.2, 0.85, 1.05]], np.float32)
    wanted = objects * gains[:, None, None]
    wanted[:, :15] = rng.uniform(0, 1, (2, 15, 60, 3))
    np.testing.assert_allclose(exposure_gains(objects, wanted), gains, atol=0.02)
    np.testing.assert_allclose(exposure_gains(objects, 3 * wanted), 1.25)
    np.testing.assert_allclose(exposure_gains(objects, 0 * wanted), 0.8)
    np.testing.assert_array_equal(exposure_gains(0 * objects, wanted), 1)


def test_a_gain_is_the_best_of_all_by_brute_force() -> None:
    rng = np.random.default_rng(1)
    objects = rng.uniform(0.05, 0.9, (1, 20, 20, 3)).astype(np.float32)
    wanted = (objects + 0.1 * rng.standard_normal(objects.shape)).clip(0, 1).astype(np.float32)
    candidates = np.linspace(0.8, 1.25, 901)
    for channel in range(3):
        ours, theirs = objects[0, ..., channel], wanted[0, ..., channel]
        errors = [np.abs(g * ours - theirs).sum() for g in candidates]
        found = float(exposure_gains(objects, wanted)[0, channel])
        assert np.abs(found * ours - theirs).sum() <= min(errors) + 1e-3


def relief(seed: int) -> FloatArray:
    """Depth of one view, float32 [1, 40, 40], with a rim where it is unknown."""
    rng = np.random.default_rng(seed)
    waves = cv2.GaussianBlur(rng.standard_normal((40, 40)), (0, 0), 4)
    depth = (1.5 + waves / np.abs(waves).max() * 0.4)[None].astype(np.float32)
    depth[:, :4] = 0
    return depth


@settings(deadline=None, max_examples=50)
@given(st.floats(0.05, 20), st.floats(0, 5), st.integers(0, 3))
def test_depth_error_does_not_see_scale_and_shift_of_disparity(
    scale: float, shift: float, seed: int
) -> None:
    depth = relief(seed)
    known = depth > 0
    other = np.where(known, 1 / (scale / np.where(known, depth, 1) + shift), 0)
    assert depth_error(depth, other.astype(np.float32))[0] == pytest.approx(0, abs=1e-3)


def test_depth_error_grows_with_the_difference() -> None:
    depth = relief(0)
    known = depth > 0
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.standard_normal((40, 40)), (0, 0), 2).astype(np.float32)
    errors = [
        float(depth_error(np.where(known, depth + s * noise, 0), depth)[0])
        for s in (0.0, 0.02, 0.1, 0.3)
    ]
    assert errors == sorted(errors) and errors[0] == 0 and errors[-1] > 0.1
    inverted = np.where(known, 3 - depth, 0).astype(np.float32)
    assert depth_error(inverted, depth)[0] > 1.5
    assert 0.5 < depth_error(relief(1), depth)[0] < 1.7
    wall = np.where(known, 2, 0).astype(np.float32)
    assert depth_error(wall, depth)[0] == pytest.approx(1)


def test_depth_error_is_unknown_where_little_is_known() -> None:
    depth = relief(0)
    wall = np.where(depth > 0, 2, 0).astype(np.float32)
    few = depth.copy()
    few[:, 5:] = 0
    both = depth_error(np.concatenate([depth] * 3), np.concatenate([wall, few, depth]))
    assert np.isnan(both[:2]).all() and both[2] == 0
    with pytest.raises(ValueError, match="one shape"):
        depth_error(depth, depth[:, 1:])


# -- floaters ------------------------------------------------------------------------------------


def test_floaters_are_those_that_were_strewn() -> None:
    model = strewn(1.0)
    moved = (model.means != good().means).any(axis=1)
    np.testing.assert_array_equal(floating(model), moved)
    opacities = model.opacities.astype(np.float64)
    assert floater_share(model) == pytest.approx(opacities[moved].sum() / opacities.sum())
    assert not floating(good()).any() and floater_share(good()) == 0


def test_faint_and_large_splats_do_not_float() -> None:
    model = strewn(1.0)
    moved = (model.means != good().means).any(axis=1)
    faint = replace(model, logit_opacities=np.where(moved, -4, 2).astype(np.float32))
    assert not floating(faint).any()
    log_scales = model.log_scales.copy()
    log_scales[moved] = np.log(0.3)
    assert not floating(replace(model, log_scales=log_scales)).any()


def test_faint_splats_are_no_company() -> None:
    """A floater in a cloud that nobody sees still floats."""
    count = 200
    cloud = good().select(np.arange(count))
    rng = np.random.default_rng(0)
    means = np.array([0.0, 0.0, 0.7]) + 0.005 * rng.standard_normal((count, 3))
    logits = np.full(count, -6, np.float32)
    logits[0] = 2
    model = replace(
        good(),
        means=np.concatenate([good().means, means]).astype(np.float32),
        quats=np.concatenate([good().quats, cloud.quats]),
        log_scales=np.concatenate([good().log_scales, cloud.log_scales]),
        logit_opacities=np.concatenate([good().logit_opacities, logits]),
        sh=np.concatenate([good().sh, cloud.sh]),
    )
    np.testing.assert_array_equal(np.flatnonzero(floating(model)), [COUNT])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_models_of_hardly_any_splats_have_no_floaters(count: int) -> None:
    model = good().select(np.arange(count))
    assert floating(model).shape == (count,)
    assert not floating(model).any()
    assert floater_share(model) == 0
