"""A refinement round on small flawed photographs: what it trusts, what it keeps, how it repeats.

Scores are of eight cameras that nobody was fitted to, against the object itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
import pytest
import torch

from pipeline import native
from pipeline.control import Control, Progress
from pipeline.errors import Cancelled, InvalidInput, ModelFailed
from pipeline.geometry.cameras import (
    held_out_cameras,
    orbit_cameras,
    photo_camera,
    rig_cameras,
    underside_cameras,
)
from pipeline.imaging.psnr import psnr
from pipeline.requests import Improvement, RefineRequest
from pipeline.splats.judge import depth_error
from pipeline.splats.render import render_model
from pipeline.splats.training import (
    DefaultStrategy,
    FitPlan,
    FixedCount,
    PhotometricObjective,
    PolishSettings,
    RefinementObjective,
    Targets,
    fit,
    improve_model,
    polish,
    splats_from_views,
)
from pipeline.splats.training.polish import plan_of_round
from pipeline.splats.training.round_targets import RoundTargets, weigh_round
from pipeline.types import (
    Cameras,
    DepthMaps,
    FloatArray,
    PhotoRegistration,
    SplatModel,
    UInt8Array,
    ViewSet,
)
from tests.oracles.bare_rounds import BareRound
from tests.oracles.objects import photograph, printed_box, torus

SIZE = 64
BAD = (3, 9)
PARAMETERS = ("means", "quats", "log_scales", "logit_opacities", "sh")


@lru_cache(maxsize=4)
def photographs(kind: str = "rig") -> tuple[ViewSet, DepthMaps]:
    cameras = {
        "rig": rig_cameras(SIZE),
        "truth": held_out_cameras(SIZE),
        "photo": photo_camera(10.0, SIZE),
        "below": underside_cameras(SIZE),
    }[kind]
    return photograph(torus(), cameras)


@lru_cache(maxsize=1)
def start() -> SplatModel:
    """A coarse model: a short fit to blurred views."""
    views, depths = photographs()
    soft = replace(views, images=np.stack([cv2.GaussianBlur(x, (0, 0), 1) for x in views.images]))
    plan, strategy = FitPlan(600, 30), DefaultStrategy()
    first = splats_from_views(soft, depths, count=strategy.start_count(plan), seed=0)
    objective = PhotometricObjective(Targets.of_views(soft))
    return fit(first, objective, plan, strategy, Control()).model


def recolored(views: ViewSet, gains: FloatArray) -> UInt8Array:
    """Images whose object has other colours, gains [V, 3]; the white around it stays."""
    images, alphas = views.images / 255, (views.alphas / 255)[..., None]
    colors = (images - (1 - alphas)) * gains[:, None, None] + 1 - alphas
    return np.round(255 * colors.clip(0, 1)).astype(np.uint8)


@lru_cache(maxsize=1)
def flawed() -> ViewSet:
    """Gains of +-12 %, tints, and two views that show something else."""
    views, _ = photographs()
    rng = np.random.default_rng(0)
    gains = 1 + rng.uniform(-0.12, 0.12, (16, 1)) + rng.uniform(-0.04, 0.04, (16, 3))
    images = recolored(views, gains)
    images[BAD[0]] = photograph(printed_box(), rig_cameras(SIZE))[0].images[12]
    images[BAD[1]] = images[BAD[1]][:, ::-1]
    return replace(views, images=images)


def request(**changes: object) -> RefineRequest:
    views, depths = photographs()
    none = views.images[:0]
    wanted = RefineRequest(start(), views, none, (), 0.01, 40, 1, depths)
    return replace(wanted, **changes)


def improved(settings: PolishSettings | None = None, **changes: object) -> Improvement:
    return improve_model(request(**changes), Control(), settings)


WHOLE = BareRound(exposures=True, weights=True, geometry=True)


def trained(**changes: object) -> RefinementObjective:
    """What a round has learnt beside the model."""
    wanted = request(**changes)
    objective = WHOLE.objective(wanted)
    fit(wanted.model, objective, plan_of_round(wanted), FixedCount(), Control())
    return objective


def maps_of(objective: RefinementObjective) -> FloatArray:
    """Exposures of the rig's views, [16, 3, 4]."""
    maps: FloatArray = objective.exposures.maps.detach()[:16].numpy()
    return maps


def score(model: SplatModel, views: ViewSet) -> float:
    drawn = render_model(model, views.cameras).images
    wanted = (views.images / 255).astype(np.float32)
    return float(np.mean([psnr(a, b) for a, b in zip(drawn, wanted, strict=True)]))


def truth() -> ViewSet:
    return photographs("truth")[0]


def difference(a: SplatModel, b: SplatModel, cameras: Cameras) -> float:
    """Mean absolute difference of their pictures."""
    pair = [render_model(model, cameras).images for model in (a, b)]
    return float(np.abs(pair[0] - pair[1]).mean())


def assert_same(a: SplatModel, b: SplatModel) -> None:
    for name in PARAMETERS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def assert_equal(a: Improvement, b: Improvement) -> None:
    assert_same(a.model, b.model)
    for name in ("view_weights", "enhanced_weights"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


# -- what it is for ------------------------------------------------------------------------------


def test_flawed_targets_make_it_better_and_each_part_helps() -> None:
    full = improved(originals=flawed(), iterations=120)
    found = score(full.model, truth())
    assert found > score(start(), truth()) + 2
    wanted = request(originals=flawed(), iterations=120)
    assert_same(WHOLE.improve(wanted), full.model)
    for part in ("weights", "exposures", "geometry"):
        other = replace(WHOLE, **{part: False}).improve(wanted)
        assert found > score(other, truth()) + 0.02, part
    assert full.view_weights[list(BAD)].max() < 0.1
    assert np.delete(full.view_weights, BAD).min() > 0.4


def test_the_mean_exposure_is_the_identity() -> None:
    for originals in (photographs()[0], flawed()):
        mean = maps_of(trained(originals=originals)).mean(axis=0)
        np.testing.assert_allclose(mean, np.eye(3, 4), atol=1e-5)


def test_a_gain_that_all_targets_share_is_the_models_and_no_further() -> None:
    views, _ = photographs()
    darker = replace(views, images=recolored(views, np.full((16, 3), 0.85)))
    model = improved(originals=darker, iterations=100).model

    def darkness(images: FloatArray) -> float:
        return float(1 - images.mean())

    drawn = darkness(render_model(model, views.cameras).images)
    began = darkness(render_model(start(), views.cameras).images)
    assert began + 0.002 < drawn < 1.02 * darkness(darker.images / 255)
    assert score(model, darker) > score(start(), darker) + 1


def test_a_hallucinated_view_does_not_shift_the_colours_of_the_others() -> None:
    """Its exposure would be wild, and the gauge shares what it has over all."""
    views, _ = photographs()
    images = views.images.copy()
    images[list(BAD)] = 255 - images[list(BAD)]
    inverted = replace(views, images=images)
    assert improved(originals=inverted).view_weights[list(BAD)].max() < 0.01
    good = np.delete(maps_of(trained(originals=inverted)), BAD, axis=0)
    assert np.abs(good.mean(axis=0) - np.eye(3, 4)).max() < 0.025


# -- the photo and the auxiliary views -----------------------------------------------------------


def test_a_mark_that_only_the_photo_shows_is_learnt() -> None:
    views, _ = photographs()
    photo, _ = photographs("photo")
    images = photo.images.copy()
    images[0, 40:48, 28:36] = (250, 20, 20)
    marked = replace(photo, images=images)
    without, with_photo = (
        improved(originals=replace(views, photos=p), iterations=80).model for p in (None, marked)
    )
    assert score(with_photo, marked) > score(without, marked) + 0.4  # measured: .50


def test_a_photo_in_other_colours_leaves_the_model_in_those_of_the_views() -> None:
    views, _ = photographs()
    photo, _ = photographs("photo")
    tinted = replace(photo, images=recolored(photo, np.array([[0.8, 0.95, 1.0]])))
    model = improved(originals=replace(views, photos=tinted), iterations=80).model
    assert score(model, truth()) > score(start(), truth()) + 1
    assert score(model, truth()) > score(improved(iterations=80).model, truth()) - 1


@pytest.mark.parametrize("size", [SIZE, 2 * SIZE])
def test_a_photo_without_trust_changes_nothing(size: int) -> None:
    views, _ = photographs()
    foreign = ViewSet(
        np.full((1, size, size, 3), 40, np.uint8),
        np.full((1, size, size), 255, np.uint8),
        photo_camera(10.0, size),
        "given",
    )
    unsure = PhotoRegistration(0, True, 0.0, 0.0, 10.0, 0.0, 1.1, 0.3, 0.4)
    distrusted = replace(views, photos=foreign, registrations=(unsure,))
    found, plain = improved(originals=distrusted, iterations=8), improved(iterations=8)
    assert_same(found.model, plain.model)


def test_auxiliary_views_are_targets() -> None:
    views, _ = photographs()
    below, _ = photographs("below")
    with_below = improved(originals=replace(views, auxiliary=below), iterations=80)
    without = improved(iterations=80)
    assert score(with_below.model, below) > score(without.model, below) + 0.3
    assert len(with_below.view_weights) == 16


# -- enhanced targets ----------------------------------------------------------------------------


def test_enhanced_targets_of_a_view_that_nobody_believes_are_not_believed() -> None:
    """They are cut to the outline of their original, and that one is of something else."""
    views = flawed()
    which = (3, 5)
    found = improved(
        originals=views, enhanced=photographs()[0].images[list(which)], enhanced_views=which
    )
    assert found.enhanced_weights[0] < 0.1


def test_an_enhancement_that_shows_something_else_is_not_believed() -> None:
    views, _ = photographs()
    enhanced = views.images.copy()
    enhanced[4] = enhanced[11][::-1]
    found = improved(enhanced=enhanced, enhanced_views=tuple(range(16)))
    assert found.enhanced_weights[4] < 0.15
    assert np.delete(found.enhanced_weights, 4).min() > 0.4


def test_nothing_enhanced_is_fine() -> None:
    found = improved()
    assert found.enhanced_weights.shape == (0,)
    assert found.parameters["steps"] == 40


def test_originals_that_nobody_believes_leave_the_model_nearly_alone() -> None:
    views, _ = photographs()
    noise = np.random.default_rng(0).integers(0, 256, views.images.shape, dtype=np.uint8)
    found = improved(originals=replace(views, images=noise))
    assert found.view_weights.max() < 0.05
    assert score(found.model, truth()) > score(start(), truth()) - 1.5


# -- depth and anchor ----------------------------------------------------------------------------


def test_scale_and_shift_of_the_disparity_do_not_matter() -> None:
    _, depths = photographs()
    known = depths.depth > 0
    disparity = np.where(known, 1 / np.where(known, depths.depth, 1), 0)
    other = np.where(known, 1 / (3.0 * disparity + 0.7), 0).astype(np.float32)
    heavy = PolishSettings(disparity_weight=1.0)
    plain, moved, none = (
        improved(heavy, depths=d, iterations=20).model
        for d in (depths, replace(depths, depth=other), None)
    )
    cameras = truth().cameras
    assert difference(plain, moved, cameras) < 0.3 * difference(plain, none, cameras)


def test_depth_of_another_shape_is_followed_where_the_weight_lets_it() -> None:
    """So the guard on depth has something to guard against; depth inside out pulls nothing."""
    views, depths = photographs()
    ramp = np.broadcast_to(np.linspace(1.2, 1.8, SIZE, dtype=np.float32), depths.depth.shape)
    bent = replace(depths, depth=np.where(depths.depth > 0, ramp, 0).astype(np.float32))
    # Across: a ramp from top to bottom would be the torus inside out.
    heavy = PolishSettings(disparity_weight=20.0)

    def error(d: DepthMaps | None) -> float:
        model = improved(heavy, depths=d, iterations=60).model
        drawn = render_model(model, views.cameras, with_depth=True).median_depth
        assert drawn is not None
        return float(depth_error(drawn, depths.depth).mean())

    right, wrong = error(depths), error(bent)
    assert wrong > 1.05 * right + 0.0005

    d = torch.linspace(1.0, 2.0, 400).view(20, 20).requires_grad_()
    loss = polish._disparity_loss(d, d.detach(), torch.ones(20, 20))
    torch.autograd.backward([loss])
    assert d.grad is not None and float(d.grad.abs().max()) == 0


def test_the_side_that_no_target_shows_changes_less() -> None:
    front = [0, 1, 15]
    views, depths = photographs()
    some = DepthMaps(depths.depth[front], depths.confidence[front], depths.engine)
    behind = orbit_cameras([180.0], [-30.0], size=SIZE)
    found = improved(originals=views.select(front), depths=some).model
    assert difference(found, start(), behind) < difference(
        found, start(), views.cameras.select(front)
    )


def test_the_anchor_holds_the_model_back() -> None:
    free, held = (
        improved(PolishSettings(anchor_weight=weight), originals=flawed()).model
        for weight in (0.0, 20.0)
    )
    cameras = truth().cameras
    assert difference(held, start(), cameras) < 0.8 * difference(free, start(), cameras)


# -- the loss and the draw -----------------------------------------------------------------------


def test_the_gradient_of_a_pixel_is_in_proportion_to_its_confidence() -> None:
    generator = torch.Generator().manual_seed(0)
    image, target = (torch.rand(1, 16, 16, 3, generator=generator) for _ in range(2))
    confidence = torch.rand(16, 16, 1, generator=generator)
    confidence[:4] = 0
    image.requires_grad_()

    def gradient(weights: torch.Tensor, monkey: pytest.MonkeyPatch) -> torch.Tensor:
        monkey.setattr(polish, "photometric_loss", lambda a, b: (a - b).abs().mean((1, 2, 3)))
        image.grad = None
        torch.autograd.backward([polish._weighted_loss(image, target, weights)])
        assert image.grad is not None
        return image.grad.clone()

    with pytest.MonkeyPatch.context() as monkey:
        full = gradient(torch.ones_like(confidence), monkey)
        torch.testing.assert_close(gradient(confidence, monkey), confidence * full)
    # With SSIM nothing is left at confidence 0 either.
    image.grad = None
    torch.autograd.backward([polish._weighted_loss(image, target, confidence)])
    assert image.grad is not None and (image.grad[:, :4] == 0).all()


def draws(weights: FloatArray, *, photo: bool, enhanced: int, count: int = 4000) -> FloatArray:
    """How often each target is drawn, shares."""
    views, _ = photographs()
    originals = replace(views, photos=photographs("photo")[0] if photo else None)
    wanted = request(
        originals=originals,
        enhanced=views.images[:enhanced],
        enhanced_views=tuple(range(enhanced)),
    )
    targets = RoundTargets.of(wanted, torch.device("cpu"))
    found = render_model(wanted.model, targets.cameras, with_depth=True)
    weighed = replace(weigh_round(targets, found), views=weights)
    objective = RefinementObjective(targets, weighed, found, PolishSettings())
    batches = objective.batches(1, torch.Generator().manual_seed(0))
    drawn = [next(batches).views[0] for _ in range(count)]
    return np.bincount(drawn, minlength=len(targets)) / count


def test_believed_targets_are_drawn_alike_and_the_others_never() -> None:
    weights = np.ones(16 + 1 + 4, np.float32)
    weights[[3, 9]] = 0.01
    weights[18] = 0.0
    share = draws(weights, photo=True, enhanced=4)
    assert (share[[3, 9, 18]] == 0).all()
    assert share[[17, 19, 20]] == pytest.approx([0.1] * 3, abs=0.02)
    assert share[16] == pytest.approx(0.7 * 0.15, abs=0.02)
    rig = np.delete(share[:16], [3, 9])
    assert rig == pytest.approx([0.7 * 0.85 / 14] * 14, abs=0.015)


def test_what_nobody_believes_is_drawn_only_where_nothing_else_is_there() -> None:
    nothing = np.zeros(16, np.float32)
    assert draws(nothing, photo=False, enhanced=0) == pytest.approx([1 / 16] * 16, abs=0.02)
    photo = np.append(nothing, np.float32(1))
    assert draws(photo, photo=True, enhanced=0, count=50)[16] == 1
    enhanced = np.append(nothing, np.ones(2, np.float32))
    assert draws(enhanced, photo=False, enhanced=2, count=50)[16:].sum() == 1


# -- how it runs ---------------------------------------------------------------------------------


@pytest.fixture
def restore_threads() -> Iterator[None]:
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield
    native.set_threads(native.default_threads())
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


def test_it_repeats_bit_by_bit_for_any_number_of_threads(restore_threads: None) -> None:
    found = []
    for threads in (1, 1, 3):
        native.set_threads(threads)
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        found.append(improved(originals=flawed(), iterations=15))
    assert_equal(found[0], found[1])
    assert_equal(found[0], found[2])


def test_the_learning_rate_scales_the_change() -> None:
    def change(rate: float) -> float:
        moved = improved(learning_rate=rate, iterations=8).model
        return float(np.abs(moved.sh - start().sh).mean())

    assert 8 < change(1e-3) / change(1e-4) < 12


def test_nan_in_the_targets_is_refused() -> None:
    views, _ = photographs()
    images = views.images.astype(np.float32)
    images[2, 30, 30] = np.nan
    with pytest.raises(InvalidInput, match="NaN"):
        improved(originals=replace(views, images=images))


def test_a_model_with_harmonics_is_improved_and_keeps_them() -> None:
    """Imported ones have them; a round trains all their bands."""
    bands = 0.05 * np.random.default_rng(0).standard_normal((len(start()), 8, 3))
    sh = np.concatenate([start().sh, bands.astype(np.float32)], axis=1)
    model = replace(start(), sh=sh)
    found = improved(model=model).model
    assert found.sh.shape == sh.shape and not (found.sh[:, 1:] == sh[:, 1:]).all()
    assert score(found, truth()) > score(model, truth()) + 1


def test_a_round_that_diverges_says_so() -> None:
    with pytest.raises(ModelFailed, match="diverged"):
        improved(learning_rate=1e38, iterations=10)


@pytest.mark.parametrize("reports", [1, 2, 6])
def test_stop_ends_it_at_the_next_step(reports: int) -> None:
    stop, seen = threading.Event(), []

    def watch(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == reports:
            stop.set()

    with pytest.raises(Cancelled):
        improve_model(request(), Control(stop, watch))
    assert len(seen) == reports


def test_progress_rises_from_0_to_1() -> None:
    seen: list[Progress] = []
    improve_model(request(iterations=5), Control(report_to=seen.append))
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0 and fractions[-1] == pytest.approx(1)
