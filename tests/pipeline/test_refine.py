import pytest

from pipeline.cameras import HELD_OUT_VIEWS
from pipeline.errors import ModelFailed
from pipeline.options import RefineOptions
from pipeline.refine import StopReason, refine
from tests.fakes import FakeModels, MemoryJournal, some_model, some_views


def options(**changes) -> RefineOptions:
    return RefineOptions(**{"seed": 1, "num_iterations": 5, **changes})


def journal() -> MemoryJournal:
    return MemoryJournal(views=some_views(), model=some_model())


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
    assert kept.iterations[2].scores.overall_quality == 0.4, "a rejected one is recorded, too"
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
