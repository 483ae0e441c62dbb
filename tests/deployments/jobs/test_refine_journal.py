"""What a refinement's attempt keeps and finds again, on a real store with fake models."""

import io

import numpy as np
import pytest
from PIL import Image

from deployments.jobs.attempt import Attempt
from deployments.jobs.commits import IterationRow
from deployments.jobs.documents import read_scores, scores_document
from deployments.jobs.refine_journal import StoreRefineJournal
from deployments.jobs.rows import Bucket, JobKind, Lease
from deployments.jobs.store import Store
from pipeline.control import ignore_progress
from pipeline.errors import ReplicaDied
from pipeline.journals import IterationOutcome
from pipeline.options import GenerateOptions
from pipeline.types import Scores, ViewScore
from tests.deployments.jobs.attempts import PROJECT, generated, lease_of, run
from tests.fakes import FakeModels, some_model, some_views

pytestmark = pytest.mark.usefixtures("small_pictures")


async def test_refine_adds_a_version_per_accepted_iteration(store: Store):
    await generated(store)
    lease = await lease_of(store, JobKind.REFINE, num_iterations=3)
    await run(store, FakeModels(qualities=[0.5, 0.6, 0.55, 0.7]), lease)
    detail = await store.records.project_detail(PROJECT)
    assert [m.version for m in detail.models] == [0, 1, 2]
    assert [(i.iteration_number, i.accepted, i.model_version) for i in detail.iterations] == [
        (0, True, 0),
        (1, True, 1),
        (2, False, None),
        (3, True, 2),
    ]
    assert detail.job is not None
    assert detail.job.result is not None
    assert detail.job.result["stop_reason"] == "max_iterations"
    assert await store.blobs.get(Bucket.ENHANCED, f"{PROJECT}/enhanced/1/00.png")


async def test_a_stored_model_that_is_damaged_is_not_the_callers_fault(store: Store):
    await generated(store)
    (row,) = (await store.records.project_detail(PROJECT)).models
    whole = await store.blobs.get(Bucket.MODELS, row.model_path)
    await store.blobs.put(Bucket.MODELS, row.model_path, whole[:-7], "application/octet-stream")
    lease = await lease_of(store, JobKind.REFINE, num_iterations=1)
    await run(store, FakeModels(), lease)
    job = await store.records.get_job(lease.job.id)
    assert job.error is not None
    assert job.error.code == "model_failed"
    assert "stored model is damaged" in job.error.detail


async def journal_of(store: Store, lease: Lease) -> StoreRefineJournal:
    """What an attempt that begins now would have."""
    return StoreRefineJournal(await Attempt.begin(store, lease))


def some_outcome(iteration: int, *, accepted: bool) -> IterationOutcome:
    rng = np.random.default_rng(iteration)
    pictures = [rng.integers(0, 255, (2, 8, 8, 3), np.uint8) for _ in range(3)]
    views = (ViewScore(5, 20.1, 0.7, None, 0.8), ViewScore(11, float("inf"), 0.7, 0.1, None))
    extra = {"photo_psnr": 1 / 3, "none": float("inf")}
    return IterationOutcome(
        iteration=iteration,
        accepted=accepted,
        scores=Scores(20.05, 0.7, None, 0.1 + 0.2, 0.8, 0.01, None, views, extra),
        model=some_model(7, seed=iteration) if accepted and iteration else None,
        enhance_engine="fake-enhancer",
        strength=0.375,
        learning_rate=0.01,
        seconds=1.5,
        enhanced=pictures[0],
        before=pictures[1],
        after=pictures[2],
        enhanced_views=(9, 4),
        enhanced_weights=(0.125, 1.0),
        view_weights={0: 0.3333, 15: 1.0},
        parameters={"steps": 120, "rates": {"means": 1e-5}},
        guards=() if accepted else ("photo_psnr: 21 became 19.",),
        note="a note",
    )


async def test_iterations_come_back_as_they_were_for_the_next_attempt(store: Store):
    await generated(store)
    lease = await lease_of(store, JobKind.REFINE)
    journal = await journal_of(store, lease)
    saved = [some_outcome(0, accepted=True), some_outcome(1, accepted=True)]
    saved.append(some_outcome(2, accepted=False))
    for outcome in saved:
        await journal.save_iteration(outcome)
    found = await (await journal_of(store, lease)).load_iterations()
    for before, after in zip(saved, found, strict=True):
        for name in (
            "iteration", "accepted", "scores", "strength", "learning_rate", "seconds", "note",
            "enhance_engine", "enhanced_views", "enhanced_weights", "view_weights", "parameters",
            "guards",
        ):  # fmt: skip
            assert getattr(after, name) == getattr(before, name), name
    assert [outcome.model is not None for outcome in found] == [False, True, False]
    np.testing.assert_array_equal(found[1].model.means, saved[1].model.means)

    rows = (await store.records.committed(lease.job.id))[1].enhanced
    start = f"{PROJECT}/enhanced/1/09"
    assert (rows[0].image_path, rows[0].before_path, rows[0].after_path, rows[0].weight) == (
        f"{start}.png", f"{start}.before.png", f"{start}.after.png", 0.125,
    )  # fmt: skip
    for path, pictures in (
        (rows[1].image_path, saved[1].enhanced),
        (rows[1].before_path, saved[1].before),
        (rows[1].after_path, saved[1].after),
    ):
        data = await store.blobs.get(Bucket.ENHANCED, path)
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pictures[1])


async def test_a_row_without_a_scores_document_has_the_scores_of_its_columns(store: Store):
    row = IterationRow(1, True, 1, "unsharp", 0.5, 0.01, 2.0, 0.6, 20.0, 0.7, None)
    assert read_scores(row) == Scores(20.0, 0.7, None, 0.6)
    assert scores_document(Scores(20.0, 0.7, None, 0.6))["views"] == []


async def test_a_resumed_refinement_ends_like_one_that_was_not_interrupted(store: Store):
    qualities = [0.5, 0.6, 0.55, 0.7, 0.69]

    def said(result: dict | None) -> dict:
        assert result is not None
        metrics = [{**m, "seconds": 0} for m in result["metrics"]]
        return {**result, "metrics": metrics, "model_path": "", "model_version": 0}

    await generated(store)
    await run(store, FakeModels(qualities=qualities), await lease_of(store, JobKind.REFINE, **FOUR))
    whole = (await store.records.project_detail(PROJECT)).job
    await run(store, FakeModels(), await lease_of(store, JobKind.GENERATE))

    class Dying(FakeModels):
        async def improve(self, request, report=ignore_progress):
            if len(self.refinements) == 2:
                raise ReplicaDied("gone")
            return await super().improve(request, report)

    await run(store, Dying(qualities=qualities), await lease_of(store, JobKind.REFINE, **FOUR))
    again = await store.records.claim_job("test", 30)
    assert again is not None
    models = FakeModels(qualities=qualities[3:])
    await run(store, models, again)
    assert models.calls.count("improve") == 2, "two iterations were committed"
    resumed = (await store.records.project_detail(PROJECT)).job
    assert whole is not None
    assert resumed is not None
    assert said(resumed.result) == said(whole.result)


FOUR = {"num_iterations": 4}


async def test_a_refinement_sees_the_views_and_depths_of_the_generation(store: Store):
    await generated(store)
    journal = await journal_of(store, await lease_of(store, JobKind.REFINE))
    views, depths = await journal.generated_views(), await journal.generated_depths()
    np.testing.assert_array_equal(views.images, some_views().images)
    np.testing.assert_array_equal(depths.depth, some_views().surface_depth)
    assert depths.engine == "fake-depth"
    assert views.photos is not None
    pixels = GenerateOptions(seed=1).photo_pixels  # as large as the fit has looked at it
    assert views.photos.images.shape == (1, pixels, pixels, 3)
