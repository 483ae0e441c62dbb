from itertools import pairwise

import numpy as np
import pytest

from pipeline.cameras import HELD_OUT_VIEWS
from pipeline.errors import ModelFailed
from pipeline.generate import STAGE_SPANS, generate, held_out_references
from pipeline.options import GenerateOptions
from tests.fakes import FakeModels, MemoryJournal, some_cutout, some_views

OPTIONS = GenerateOptions(seed=7, num_gaussians=600)


async def test_every_stage_is_saved_before_the_next_begins():
    models, journal = FakeModels(), MemoryJournal()
    result = await generate(some_cutout(), OPTIONS, models.ports(), journal)
    assert models.calls == ["views", "depth", "splats", "evaluate"]
    assert journal.stages == ["views", "depth", "splats"]
    assert journal.saved == ["views", "depth", "model"]
    assert len(result.views) == 16
    assert result.scores.lpips is None, "no weights, no number"


async def test_a_second_attempt_goes_on_at_the_first_unsaved_stage():
    journal = MemoryJournal()
    broken = FakeModels(fail_at="splats", failure=ModelFailed("boom"))
    with pytest.raises(ModelFailed, match="boom"):
        await generate(some_cutout(), OPTIONS, broken.ports(), journal)
    assert journal.saved == ["views", "depth"], "what was finished stays"

    models = FakeModels()
    await generate(some_cutout(), OPTIONS, models.ports(), journal)
    assert models.calls == ["splats", "evaluate"]


async def test_the_optimiser_is_told_which_views_are_kept_for_the_scores():
    models = FakeModels()
    await generate(some_cutout(), OPTIONS, models.ports(), MemoryJournal())
    (request,) = models.fits
    assert request.held_out == HELD_OUT_VIEWS
    assert (request.num_gaussians, request.seed) == (600, 7)
    views = some_views()
    references = held_out_references(views)
    for i, held_out in enumerate(HELD_OUT_VIEWS):
        np.testing.assert_array_equal(references.images[i], views.images[held_out])
        np.testing.assert_array_equal(
            references.cameras.viewmats[i], views.cameras.viewmats[held_out]
        )


async def test_an_empty_view_is_a_failure_of_the_engine_not_a_grey_model():
    class Blind(FakeModels):
        async def synthesize_views(self, request, report=None):
            views = some_views()
            views.alphas[3] = 0
            return views

    with pytest.raises(ModelFailed, match="fake-views engine returned an empty view"):
        await generate(some_cutout(), OPTIONS, Blind().ports(), MemoryJournal())


def test_stages_follow_each_other_and_leave_room_for_the_pictures():
    spans = list(STAGE_SPANS.values())
    assert list(STAGE_SPANS) == ["views", "depth", "splats"]
    assert spans[0][0] == 0
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    assert spans[-1][1] < 0.98
