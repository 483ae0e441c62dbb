"""The refinement loop on fakes: what it accepts, leaves out, repeats and lets through.

One test runs it on the splat engine itself, with targets that are noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from pipeline.control import Control, Report, ignore_progress
from pipeline.engines.splats.cpu_splats import CpuSplats
from pipeline.errors import (
    Cancelled,
    DeviceLost,
    GlimpseError,
    ModelFailed,
    OutOfMemory,
    ReplicaDied,
    Unavailable,
)
from pipeline.flow.guards import broken_guards
from pipeline.flow.refine import RefineResult, StopReason, refine
from pipeline.geometry.cameras import rig_cameras
from pipeline.options import RefineOptions
from pipeline.requests import (
    EnhancedImages,
    EnhanceSettings,
    FitRequest,
    Improvement,
    References,
    RefineRequest,
    Renders,
)
from pipeline.rig import HELD_OUT_VIEWS
from pipeline.seeds import SEED_LIMIT
from pipeline.splats.likeness import RULE, expected_likeness
from pipeline.types import Cameras, DepthMaps, Scores, SplatModel
from tests.fakes import FakeModels, MemoryJournal, some_model, some_views
from tests.oracles.objects import photograph, torus

SHOWN = tuple(i for i in range(16) if i not in HELD_OUT_VIEWS)


def options(**changes) -> RefineOptions:
    return RefineOptions(**{"seed": 1, "num_iterations": 5, **changes})


def journal() -> MemoryJournal:
    views = some_views()
    assert views.surface_depth is not None
    depths = DepthMaps(views.surface_depth, np.ones_like(views.surface_depth), "fake-depth")
    return MemoryJournal(views=views, depths=depths, model=some_model())


async def run(qualities, **changes):
    models, kept = FakeModels(qualities=qualities), journal()
    return await refine(options(**changes), models.ports(), kept), models, kept


async def test_accepts_while_it_improves_and_stops_below_one_percent():
    result, _, kept = await run([0.50, 0.60, 0.603])
    assert result.stop_reason is StopReason.CONVERGED
    assert result.converged
    assert [o.accepted for o in result.outcomes] == [True, True, True]
    assert kept.saved == ["iteration-0", "iteration-1", "iteration-2"]
    assert result.model is result.outcomes[2].model


async def test_stops_at_the_number_of_iterations_asked_for():
    result, _, _ = await run([0.5, 0.6, 0.7, 0.8], num_iterations=2)
    assert result.stop_reason is StopReason.MAX_ITERATIONS
    assert not result.converged
    assert len(result.outcomes) == 3


async def test_a_worse_candidate_is_rolled_back_and_the_next_starts_from_the_best():
    result, models, kept = await run([0.5, 0.6, 0.4, 0.7], num_iterations=3)
    assert [o.accepted for o in result.outcomes] == [True, True, False, True]
    assert result.outcomes[2].model is None
    assert kept.iterations[2].scores.view_agreement == 0.4, "a rejected one is recorded, too"
    best = result.outcomes[1].model
    assert models.refinements[1].model is best
    assert models.refinements[2].model is best, "the third starts from the first, not the second"


async def test_two_rollbacks_in_a_row_end_it_with_the_model_it_began_with():
    result, _, kept = await run([0.5, 0.4, 0.3])
    assert result.stop_reason is StopReason.REGRESSED
    assert not result.converged
    assert result.model is kept.model
    assert len(result.outcomes) == 3


async def test_the_enhancement_gets_weaker_and_stays_halved_after_a_rollback():
    _, models, _ = await run([0.5, 0.6, 0.4, 0.7, 0.8], num_iterations=4, strength=0.8)
    assert models.strengths == pytest.approx([0.8, 0.6, 0.2, 0.2])
    assert models.strengths == sorted(models.strengths, reverse=True)


async def test_the_same_quality_is_no_progress():
    result, _, _ = await run([0.5, 0.5, 0.5])
    assert [o.accepted for o in result.outcomes] == [True, False, False]


async def test_every_iteration_draws_differently_and_repeatably():
    _, models, _ = await run([0.5, 0.6, 0.7, 0.8], num_iterations=3, seed=40)
    assert [request.seed for request in models.refinements] == [41, 42, 43]
    seeds = [seed for seed, _ in models.noises]
    assert len(set(seeds)) == 3
    assert all(0 <= seed < SEED_LIMIT for seed in seeds)
    assert {views for _, views in models.noises} == {SHOWN}
    _, again, _ = await run([0.5, 0.6, 0.7, 0.8], num_iterations=3, seed=40)
    _, other, _ = await run([0.5, 0.6, 0.7, 0.8], num_iterations=3, seed=41)
    assert again.noises == models.noises
    assert not {seed for seed, _ in other.noises} & set(seeds)


async def test_what_the_enhancer_has_to_say_is_in_the_iteration():
    result, _, _ = await run([0.5, 0.6, 0.4], num_iterations=2, prompt="a cup")
    assert result.outcomes[1].note == "The fake has no use for prompt."
    assert "rolled back. The fake has no use for prompt." in result.outcomes[2].note


async def test_held_out_views_are_neither_targets_nor_enhanced():
    result, models, _ = await run([0.5, 0.6], num_iterations=1)
    (request,) = models.refinements
    shown = [i for i in range(16) if i not in HELD_OUT_VIEWS]
    assert len(request.originals) == len(shown)
    assert result.outcomes[1].enhanced_views == tuple(shown)
    assert {int(image.min()) for image in request.originals.images} == {10 * i for i in shown}


async def test_only_the_chosen_views_are_enhanced():
    result, models, _ = await run([0.5, 0.6], num_iterations=1, views_to_refine=(0, 6, 15))
    assert result.outcomes[1].enhanced_views == (0, 6, 15)
    assert models.refinements[0].enhanced_views == (0, 5, 13), "indices among the shown ones"


async def test_a_second_attempt_goes_on_after_the_last_saved_iteration():
    kept = journal()
    broken = FakeModels(qualities=[0.5, 0.6], fail_at="never")
    broken.fail_at, broken.failure = "enhance", ModelFailed("boom")
    await_first = FakeModels(qualities=[0.5, 0.6])
    await refine(options(num_iterations=1), await_first.ports(), kept)
    with pytest.raises(ModelFailed, match="boom"):
        await refine(options(), broken.ports(), kept)
    models = FakeModels(qualities=[0.9, 0.905])
    result = await refine(options(), models.ports(), kept)
    assert models.calls.count("evaluate") == 2, "iterations 0 and 1 are not scored again"
    assert models.refinements[0].model is kept.iterations[1].model
    assert [o.iteration for o in result.outcomes] == [0, 1, 2, 3]


# -- guards --------------------------------------------------------------------------------------


@dataclass
class Scripted(FakeModels):
    """Fakes whose scores carry scripted guards and whose enhancer fails where it is told to.

    Attributes:
        changes: what replaces the fields of the scores of each evaluation, one after another.
        broken: rig views that cannot be enhanced; a batch with one of them fails as a whole.
        error: what the enhancer raises for them.
        wrong_shape: the enhancer returns larger images instead of raising.
    """

    changes: tuple[dict, ...] = ()
    broken: tuple[int, ...] = ()
    error: Exception = field(default_factory=lambda: ModelFailed("It is cursed."))
    wrong_shape: bool = False
    batches: list[int] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)

    async def evaluate(self, model: SplatModel, references: References) -> Scores:
        at = self.evaluations
        scores = await super().evaluate(model, references)
        return replace(scores, **self.changes[at]) if at < len(self.changes) else scores

    async def render(
        self, model: SplatModel, cameras: Cameras, *, with_depth: bool = False
    ) -> Renders:
        """Every picture carries the index of its camera."""
        renders = await super().render(model, cameras, with_depth=with_depth)
        rig = rig_cameras(cameras.width).viewmats
        for image, viewmat in zip(renders.images, cameras.viewmats, strict=True):
            image[:] = int(np.abs(rig - viewmat).sum((1, 2)).argmin())
        return renders

    async def enhance(
        self,
        renders: Renders,
        settings: EnhanceSettings,
        report: Report = ignore_progress,
    ) -> EnhancedImages:
        self.batches.append(len(renders.images))
        done = await super().enhance(renders, settings, report)
        if set(renders.images[:, 0, 0, 0].tolist()) & set(self.broken):
            if not self.wrong_shape:
                raise self.error
            return replace(done, images=np.repeat(done.images, 2, axis=1))
        return done


async def scripted(num_iterations: int = 1, **changes) -> tuple[RefineResult, Scripted]:
    models = Scripted(**{"qualities": [0.5, 0.6, 0.7], **changes})
    result = await refine(options(num_iterations=num_iterations), models.ports(), journal())
    return result, models


@pytest.mark.parametrize(
    ("name", "before", "after", "kept"),
    [
        ("photo_psnr", 25.0, 24.7, 24.9),
        ("photo_lpips", 0.1, 0.12, 0.109),
        ("low_pass_psnr", 30.0, 29.6, 29.8),
        ("depth_error", 0.1, 0.111, 0.108),
        ("consistency", 0.5, 0.53, 0.52),
        ("expected_likeness", 0.7, 0.64, 0.66),
        ("photo_psnr", 25.0, float("nan"), 30.0),
        ("consistency", 0.5, None, 0.1),
    ],
)
async def test_a_broken_guard_rolls_back_what_is_better(name, before, after, kept):
    def measured(value):
        own = name in ("consistency", "expected_likeness")
        return {name: value} if own else {"extra": {name: value}}

    result, _ = await scripted(changes=(measured(before), measured(after)))
    newest = result.outcomes[1]
    assert newest.scores.view_agreement > result.outcomes[0].scores.view_agreement
    assert not newest.accepted and newest.model is None
    assert len(newest.guards) == 1 and newest.guards[0].startswith(f"{name} (")
    assert "A guard was broken: rolled back." in newest.note
    result, _ = await scripted(changes=(measured(before), measured(kept)))
    assert result.outcomes[1].accepted and result.outcomes[1].guards == ()


@dataclass
class Doubting(FakeModels):
    """Fakes that do not believe so many of the original views, in each round."""

    doubted: tuple[int, ...] = ()

    async def improve(
        self, request: RefineRequest, report: Report = ignore_progress
    ) -> Improvement:
        done = await super().improve(request, report)
        weights = np.ones(len(request.originals), np.float32)
        weights[: self.doubted[len(self.refinements) - 1]] = 0.3
        return replace(done, view_weights=weights)


async def test_where_views_contradict_each_other_it_says_so_and_stops_after_one_round():
    models, kept = Doubting(qualities=[0.5, 0.6], doubted=(5, 5)), journal()
    result = await refine(options(), models.ports(), kept)
    assert result.stop_reason is StopReason.VIEWS_DISAGREE
    assert not result.converged
    assert result.model is kept.model, "better on views that are wrong is not better"
    newest = result.outcomes[1]
    assert len(result.outcomes) == 2 and not newest.accepted and newest.model is None
    assert "Refinement cannot help: 5 of 14 views contradict" in newest.note
    again = await refine(options(), Doubting().ports(), kept)
    assert again.stop_reason is StopReason.VIEWS_DISAGREE, "decided from what was saved"


async def test_a_few_wrong_views_are_sat_out_and_later_rounds_may_doubt_more():
    models = Doubting(qualities=[0.5, 0.6, 0.7], doubted=(4, 6))
    result = await refine(options(num_iterations=2), models.ports(), journal())
    assert result.stop_reason is StopReason.MAX_ITERATIONS
    assert [o.accepted for o in result.outcomes] == [True, True, True]


async def test_what_was_never_measured_is_no_guard():
    result, _ = await scripted(changes=({"extra": {}, "consistency": None}, {"consistency": 9.0}))
    assert result.outcomes[1].accepted


# -- what is enhanced ----------------------------------------------------------------------------


async def test_the_strength_falls_and_its_last_value_repeats():
    _, models, _ = await run([0.3, 0.4, 0.5, 0.6, 0.7, 0.8], num_iterations=5, strength=0.8)
    assert models.strengths == pytest.approx([0.8, 0.6, 0.4, 0.4, 0.4])


async def test_after_a_rollback_the_least_trusted_quarter_is_not_enhanced():
    result, _, _ = await run([0.5, 0.4, 0.6, 0.7], num_iterations=3)
    views = [outcome.enhanced_views for outcome in result.outcomes]
    # The fake trusts later views more; a quarter of 14 is 3.
    assert views[1] == SHOWN
    assert views[2] == SHOWN[3:]
    assert views[3] == SHOWN, "after an accepted one all are looked at again"


@pytest.mark.parametrize("chosen", [(4,), (4, 7), (0, 4, 7, 8)])
async def test_at_least_one_view_is_left(chosen):
    result, _, _ = await run([0.5, 0.4, 0.6], num_iterations=2, views_to_refine=chosen)
    assert len(result.outcomes[2].enhanced_views) == max(1, len(chosen) - len(chosen) // 4)


async def test_the_outcome_holds_what_was_seen_and_used():
    result, models = await scripted()
    newest, request = result.outcomes[1], models.refinements[0]
    assert newest.before is not None and newest.after is not None and newest.enhanced is not None
    assert newest.before[:, 0, 0, 0].tolist() == list(SHOWN)
    assert newest.after.shape == newest.before.shape == newest.enhanced.shape
    assert tuple(newest.view_weights) == SHOWN
    assert newest.view_weights[0] == 0.5 and newest.view_weights[15] == 1.0
    assert newest.enhanced_weights[0] == 0.2 and len(newest.enhanced_weights) == 14
    assert newest.parameters == {"steps": request.iterations}
    assert request.depths is not None and len(request.depths.depth) == 14


@pytest.mark.parametrize("wrong_shape", [False, True])
async def test_views_that_cannot_be_enhanced_are_left_out_and_named(wrong_shape):
    result, models = await scripted(broken=(4, 9), wrong_shape=wrong_shape)
    newest = result.outcomes[1]
    assert newest.accepted
    assert newest.enhanced_views == tuple(i for i in SHOWN if i not in (4, 9))
    assert "View 4 was left out" in newest.note and "View 9 was left out" in newest.note
    assert models.batches == [14] + [1] * 14
    # One by one, each view has the noise that it would have had among the others.
    assert {seed for seed, _ in models.noises} == {models.noises[0][0]}
    assert [views for _, views in models.noises[-2:]] == [(14,), (15,)]
    request = models.refinements[0]
    assert [SHOWN[i] for i in request.enhanced_views] == list(newest.enhanced_views)
    assert request.enhanced[:, 0, 0, 0].tolist() == list(newest.enhanced_views)
    assert newest.before is not None
    assert newest.before[:, 0, 0, 0].tolist() == list(newest.enhanced_views)


async def test_no_view_that_can_be_enhanced_is_a_failure_and_nothing_is_accepted():
    models, kept = Scripted(qualities=[0.5, 0.6], broken=tuple(range(16))), journal()
    with pytest.raises(ModelFailed, match="No view could be enhanced: It is cursed"):
        await refine(options(), models.ports(), kept)
    assert kept.saved == ["iteration-0"] and models.refinements == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: ReplicaDied("gone"),
        lambda: DeviceLost("an illegal memory access"),
        lambda: Cancelled("stop"),
        lambda: Unavailable("later"),
    ],
)
async def test_what_another_attempt_has_to_deal_with_passes_untouched(
    make: Callable[[], GlimpseError],
):
    error = make()
    models = Scripted(qualities=[0.5, 0.6], broken=(0,), error=error)
    with pytest.raises(type(error)) as caught:
        await refine(options(), models.ports(), journal())
    assert caught.value is error
    assert models.batches == [14]


async def test_too_little_memory_for_all_is_tried_view_by_view():
    @dataclass
    class Small(Scripted):
        async def enhance(self, renders, settings, report=ignore_progress):
            if len(renders.images) > 1:
                raise OutOfMemory("too large")
            return await super().enhance(renders, settings, report)

    result = await refine(options(num_iterations=1), Small(qualities=[0.5, 0.6]).ports(), journal())
    assert result.outcomes[1].enhanced_views == SHOWN


# -- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept_iterations", [1, 2, 3])
async def test_a_resumed_run_decides_like_an_uninterrupted_one(kept_iterations):
    qualities = [0.5, 0.6, 0.4, 0.7, 0.703]
    whole, models, kept = await run(qualities)
    second = journal()
    second.iterations = list(kept.iterations[:kept_iterations])
    rest = FakeModels(qualities=qualities[kept_iterations:])
    resumed = await refine(options(), rest.ports(), second)
    assert resumed.stop_reason is whole.stop_reason is StopReason.CONVERGED
    assert rest.strengths == models.strengths[kept_iterations - 1 :]
    assert rest.noises == models.noises[kept_iterations - 1 :]
    for a, b in zip(whole.outcomes, resumed.outcomes, strict=True):
        assert (a.accepted, a.enhanced_views, a.strength) == (
            b.accepted,
            b.enhanced_views,
            b.strength,
        )
    for a, b in zip(models.refinements[kept_iterations - 1 :], rest.refinements, strict=True):
        assert a.seed == b.seed
        np.testing.assert_array_equal(a.model.means, b.model.means)


# -- with the engine -----------------------------------------------------------------------------


async def test_hopeless_targets_leave_the_model_as_it_was():
    size = 64
    views, depths = photograph(torus(), rig_cameras(size))
    good = CpuSplats()

    class Real(FakeModels):
        async def improve(
            self, request: RefineRequest, report: Report = ignore_progress
        ) -> Improvement:
            return good.improve(request, Control(report_to=report))

        async def render(
            self, model: SplatModel, cameras: Cameras, *, with_depth: bool = False
        ) -> Renders:
            return good.render(model, cameras, with_depth=with_depth)

        async def evaluate(self, model: SplatModel, references: References) -> Scores:
            return good.evaluate(model, references)

    noise = np.random.default_rng(0).integers(0, 256, views.images.shape, dtype=np.uint8)
    noise[list(HELD_OUT_VIEWS)] = views.images[list(HELD_OUT_VIEWS)]
    # Outlines are wrong as well: right ones alone would make it better.
    alphas = np.roll(views.alphas, 12, axis=2)
    alphas[list(HELD_OUT_VIEWS)] = views.alphas[list(HELD_OUT_VIEWS)]
    start = fitted(size)
    hopeless = replace(views, images=noise, alphas=alphas)
    kept = MemoryJournal(views=hopeless, depths=depths, model=start)
    wanted = options(num_iterations=4, steps_per_iteration=25)
    result = await refine(wanted, Real().ports(), kept)
    assert result.stop_reason is StopReason.VIEWS_DISAGREE
    assert result.model is start and len(result.outcomes) == 2
    assert max(result.outcomes[1].view_weights.values()) < 0.05


def fitted(size: int) -> SplatModel:
    views, depths = photograph(torus(), rig_cameras(size))
    wanted = FitRequest(views, depths, HELD_OUT_VIEWS, num_gaussians=600, iterations=120, seed=0)
    return CpuSplats().reconstruct(wanted, Control())


def test_a_round_that_makes_detail_sharper_breaks_no_guard_by_that():
    """Sharper sides differ more from each other, as those of objects that are hard to guess do."""
    evidence = {term.name: (term.low + term.high) / 2 for term in RULE}
    sharper = evidence | {"turn": evidence["turn"] + 0.015}  # an unsharp mask of 40 %
    before, after = (
        Scores(25.0, 0.9, None, agreement, expected_likeness=expected_likeness(known))
        for agreement, known in ((0.7, evidence), (0.75, sharper))
    )
    assert after.expected_likeness < before.expected_likeness
    assert broken_guards(before, after) == ()
