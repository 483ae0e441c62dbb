"""One attempt of a job on a real store with fake models."""

import asyncio
import hashlib
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from deployments.jobs import model_pictures as previews
from deployments.jobs import runner
from deployments.jobs.attempt import Attempt
from deployments.jobs.commits import IterationRow, PreviewRow, SheetRow
from deployments.jobs.documents import read_scores, scores_document
from deployments.jobs.job_errors import StaleAttempt
from deployments.jobs.refine_journal import StoreRefineJournal
from deployments.jobs.rows import Bucket, Heartbeat, JobKind, JobState, Lease, NewJob, ProjectStatus
from deployments.jobs.runner import JobRunner, RunnerSettings
from deployments.jobs.stage_progress import StageProgress
from deployments.jobs.store import Store
from pipeline.control import ignore_progress
from pipeline.errors import ModelFailed, ReplicaDied, Unavailable
from pipeline.formats.ply import read_ply
from pipeline.imaging.decoding import encode_png
from pipeline.journals import IterationOutcome
from pipeline.options import ExportOptions
from pipeline.types import Scores, ViewScore
from serve_app.cli.demo import _stage_fraction
from tests.fakes import FakeModels, some_cutout, some_model, some_views

pytestmark = pytest.mark.usefixtures("small_pictures")

SETTINGS = RunnerSettings(lease_s=30, heartbeat_s=0.05)
PROJECT = "project-1"


async def new_project(store: Store) -> None:
    path = f"{PROJECT}/processed.png"
    for bucket in (Bucket.UPLOADS, Bucket.PROCESSED):
        await store.blobs.put(bucket, path, encode_png(some_cutout().rgba), "image/png")
    await store.records.create_project(
        PROJECT, original_path=path, processed_path=path, background_engine="fake-background"
    )


async def lease_of(store: Store, kind: JobKind, **options) -> Lease:
    values = {"seed": 1, **options} if kind is not JobKind.EXPORT else options
    await store.records.submit_job(NewJob(PROJECT, kind, values, fingerprint=kind.value))
    lease = await store.records.claim_job("test", 30)
    assert lease is not None
    return lease


async def run(store: Store, models: FakeModels, lease: Lease) -> None:
    await JobRunner(store, models.ports(), SETTINGS).run(lease)


async def generated(store: Store) -> None:
    await new_project(store)
    await run(store, FakeModels(), await lease_of(store, JobKind.GENERATE))


async def test_generate_leaves_rows_files_and_a_result(store: Store):
    await generated(store)
    detail = await store.records.project_detail(PROJECT)
    assert detail.project.status is ProjectStatus.COMPLETED
    assert len(detail.views) == len(detail.depths) == 16
    assert detail.views[5].azimuth_deg == pytest.approx(112.5)
    assert detail.views[5].elevation_deg == pytest.approx(30)
    assert detail.views[0].image_path == f"{PROJECT}/views/00.png", "the documented name"
    (model,) = detail.models
    assert (model.version, model.origin, model.model_path) == (
        0,
        "generate",
        f"{PROJECT}/models/v0.ply",
    )
    assert len(read_ply(await store.blobs.get(Bucket.MODELS, model.model_path))) == 20
    assert detail.job is not None
    assert detail.job.state is JobState.SUCCEEDED
    assert set(detail.job.timings) == {"views", "depth", "splats", "previews-v0", "contact-sheet"}
    assert detail.job.result is not None
    assert detail.job.result["engines"]["views"] == "fake-views"
    assert detail.job.result["notes"] == ["A fake."]


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


async def test_rows_of_the_release_before_still_decide(store: Store):
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
    assert views.photo is not None
    assert views.photo.images.shape == (1, 32, 32, 3)


async def test_every_stage_keeps_the_hashes_of_its_files_and_the_peak_memory(store: Store):
    async def of_splats(span_s: float) -> dict[str, int]:
        assert 0 <= span_s < 60
        return {"": 123, " GPU": 45}

    async def of_vision(span_s: float) -> dict[str, int]:
        raise ReplicaDied("gone")

    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    meters = {"Splats": of_splats, "Vision": of_vision}
    await JobRunner(store, FakeModels().ports(), SETTINGS, meters).run(lease)
    commits = {c.stage: c for c in await store.records.committed(lease.job.id)}
    assert [stage for stage, c in commits.items() if "environment" in c.detail] == ["views"]
    assert commits["views"].detail["environment"]["packages"]["numpy"] == np.__version__
    names = {
        "views": {f"views/{i:02d}.png" for i in range(16)}
        | {"views/geometry.npz", "views/photo.npz"},
        "splats": {"models/v0.ply"},
        "previews-v0": {"models/v0.png", "models/v0.mp4"},
        "contact-sheet": {"models/contact_sheet.png"},
    }
    for stage, wanted in names.items():
        assert set(commits[stage].detail["hashes"]) == wanted
    data = await store.blobs.get(Bucket.VIEWS, f"{PROJECT}/views/03.png")
    sha256 = commits["views"].detail["hashes"]["views/03.png"]
    assert sha256 == f"sha256:{hashlib.sha256(data).hexdigest()}"
    for commit in commits.values():
        assert commit.detail["peak_memory_bytes"] > 10_000_000
        assert commit.detail["replica_peak_memory_bytes"] == {"Splats": 123, "Splats GPU": 45}

    # Names are those of the first attempt, wherever the files of another one are.
    again = await lease_of(store, JobKind.GENERATE)
    await run(store, FakeModels(), again)
    commits = {c.stage: c for c in await store.records.committed(again.job.id)}
    assert set(commits["views"].detail["hashes"]) == names["views"]
    assert set(commits["splats"].detail["hashes"]) == {"models/v1.ply"}


async def test_candidates_are_ranked_once_and_an_attempt_that_follows_takes_the_best(store: Store):
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE, candidates=3)
    commit = type(store.records).commit_stage

    async def broken(self, job_id, fence, stage):
        if stage.stage == "views":
            raise ReplicaDied("gone")
        await commit(self, job_id, fence, stage)

    with pytest.MonkeyPatch.context() as dying:
        dying.setattr(type(store.records), "commit_stage", broken)
        await run(store, FakeModels(qualities=[0.4, 0.6, 0.5]), lease)
    again = await store.records.claim_job("test", 30)
    assert again is not None
    models = FakeModels()
    await run(store, models, again)
    assert len(models.fits) == 1
    job = (await store.records.project_detail(PROJECT)).job
    assert job is not None
    assert job.result is not None
    ranking = job.result["ranking"]
    assert [c["overall_quality"] for c in ranking] == [0.6, 0.5, 0.4]
    assert [c["chosen"] for c in ranking] == [True, False, False]
    assert models.fits[0].seed == ranking[0]["seed"]
    assert "candidates" in job.timings


async def test_a_failure_names_stage_and_cause_and_keeps_what_was_committed(store: Store):
    await new_project(store)
    models = FakeModels(fail_at="splats", failure=ModelFailed("the fit diverged"))
    await run(store, models, await lease_of(store, JobKind.GENERATE))
    detail = await store.records.project_detail(PROJECT)
    assert detail.job is not None
    assert detail.job.state is JobState.FAILED
    error = detail.job.error
    assert error is not None
    assert (error.code, error.stage, error.detail) == ("model_failed", "splats", "the fit diverged")
    assert len(detail.views) == 16

    await run(store, FakeModels(), await lease_of(store, JobKind.GENERATE))
    assert (await store.records.project_detail(PROJECT)).newest_model is not None


async def test_an_unforeseen_exception_is_a_failed_job_too(store: Store):
    await new_project(store)
    models = FakeModels(fail_at="depth", failure=ZeroDivisionError("oops"))
    await run(store, models, await lease_of(store, JobKind.GENERATE))
    job = (await store.records.project_detail(PROJECT)).job
    assert job is not None
    assert job.error is not None
    assert job.error.detail == "ZeroDivisionError: oops"


async def test_a_dead_model_gives_the_job_back_and_the_next_attempt_goes_on(store: Store):
    await new_project(store)
    dying = FakeModels(fail_at="splats", failure=ReplicaDied("gone"))
    await run(store, dying, await lease_of(store, JobKind.GENERATE))
    lease = await store.records.claim_job("test", 30)
    assert lease is not None, "the job was released"
    assert lease.fence == 2
    models = FakeModels()
    await run(store, models, lease)
    assert models.calls[:2] == ["splats", "evaluate"], "views and depth were committed"
    assert set(models.calls[2:]) == {"render"}, "pictures come last"
    detail = await store.records.project_detail(PROJECT)
    assert detail.job is not None
    assert detail.job.state is JobState.SUCCEEDED
    assert detail.models[0].model_path != f"{PROJECT}/models/v0.ply", "nothing is written twice"


async def test_the_last_attempt_fails_with_the_last_error(store: Store):
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    models = FakeModels(fail_at="views", failure=ReplicaDied("gone"))
    for _ in range(lease.job.max_attempts):
        await run(store, models, lease)
        lease = await store.records.claim_job("test", 30) or lease
    job = await store.records.get_job(lease.job.id)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.code == "replica_died"


async def test_a_cancel_request_stops_the_model_and_ends_the_job(store: Store):
    await new_project(store)
    models = FakeModels(hold_at="depth")
    lease = await lease_of(store, JobKind.GENERATE)
    task = asyncio.create_task(run(store, models, lease))
    await models.holding.wait()
    await store.records.cancel_job(lease.job.id)
    await task
    assert models.cancelled == ["depth"]
    detail = await store.records.project_detail(PROJECT)
    assert detail.job is not None
    assert detail.job.state is JobState.CANCELLED
    assert len(detail.views) == 16, "what was committed stays"


async def test_an_attempt_that_lost_its_lease_stops_and_writes_nothing(store: Store):
    await new_project(store)
    models = FakeModels(hold_at="depth")
    lease = await lease_of(store, JobKind.GENERATE)
    task = asyncio.create_task(run(store, models, lease))
    await models.holding.wait()
    await store.records.release_job(lease.job.id, lease.fence)
    async with asyncio.timeout(10):
        # A heartbeat may hold the row for a moment: a claim passes it by.
        while (newer := await store.records.claim_job("other", 30)) is None:
            await asyncio.sleep(0.01)
    await task
    assert models.cancelled == ["depth"]
    job = await store.records.get_job(lease.job.id)
    assert (job.state, job.fence) == (JobState.RUNNING, newer.fence)


async def test_a_stale_attempt_cannot_commit(store: Store, monkeypatch):
    await new_project(store)
    stale = await lease_of(store, JobKind.GENERATE)
    await store.records.release_job(stale.job.id, stale.fence)
    newer = await store.records.claim_job("other", 30)
    assert newer is not None
    refused = []
    commit = type(store.records).commit_stage

    async def owned(*_args, **_kwargs):
        return Heartbeat(owned=True, cancel_requested=False)

    async def watched(*args):
        try:
            await commit(*args)
        except StaleAttempt:
            refused.append(args[3].stage)
            raise

    # An attempt that was asleep: it does not know yet that its lease is gone.
    with monkeypatch.context() as asleep:
        asleep.setattr(type(store.records), "heartbeat", owned)
        asleep.setattr(type(store.records), "commit_stage", watched)
        await run(store, FakeModels(), stale)
    assert refused == ["views"]
    detail = await store.records.project_detail(PROJECT)
    assert detail.views == ()
    assert detail.job is not None
    assert (detail.job.state, detail.job.fence) == (JobState.RUNNING, newer.fence)
    await run(store, FakeModels(), newer)
    assert len((await store.records.project_detail(PROJECT)).models) == 1


async def test_a_broken_heartbeat_stops_the_work_with_the_attempt(store: Store, monkeypatch):
    await new_project(store)
    models = FakeModels(hold_at="views")
    lease = await lease_of(store, JobKind.GENERATE)

    async def broken(*_args, **_kwargs):
        await models.holding.wait()
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(type(store.records), "heartbeat", broken)
        await run(store, models, lease)
    assert models.cancelled == ["views"], "no work goes on without a lease"
    job = await store.records.get_job(lease.job.id)
    assert (job.state, job.error.code if job.error else "") == (JobState.FAILED, "model_failed")


async def test_a_full_disk_names_itself_and_another_attempt_goes_on(store: Store, monkeypatch):
    await new_project(store)
    put = type(store.blobs).put

    async def full(self, bucket, *args):
        if bucket is Bucket.DEPTH:
            raise Unavailable("The disk is full.")
        await put(self, bucket, *args)

    monkeypatch.setattr(runner, "_PAUSES_S", ())
    lease = await lease_of(store, JobKind.GENERATE)
    with monkeypatch.context() as disk:
        disk.setattr(type(store.blobs), "put", full)
        await run(store, FakeModels(), lease)
    again = await store.records.claim_job("test", 30)
    assert again is not None
    models = FakeModels()
    await run(store, models, again)
    assert models.calls[:3] == ["depth", "splats", "evaluate"], "the views were committed"
    assert (await store.records.get_job(lease.job.id)).state is JobState.SUCCEEDED


async def test_a_store_that_is_away_for_a_moment_costs_nothing(store: Store, monkeypatch):
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    finish, answers = type(store.records).finish_job, [Unavailable("away"), Unavailable("away")]

    async def flaky(*args, **kwargs):
        if answers:
            raise answers.pop()
        return await finish(*args, **kwargs)

    monkeypatch.setattr(type(store.records), "finish_job", flaky)
    await run(store, FakeModels(), lease)
    assert (await store.records.get_job(lease.job.id)).state is JobState.SUCCEEDED


async def test_a_stopped_driver_hands_its_job_over_at_once(store: Store):
    await new_project(store)
    models = FakeModels(hold_at="views")
    lease = await lease_of(store, JobKind.GENERATE)
    task = asyncio.create_task(run(store, models, lease))
    await models.holding.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert models.cancelled == ["views"]
    assert await store.records.claim_job("other", 30) is not None


async def test_a_second_generation_is_a_new_version_beside_the_old_files(store: Store):
    await generated(store)
    await run(store, FakeModels(), await lease_of(store, JobKind.GENERATE, seed=2))
    detail = await store.records.project_detail(PROJECT)
    assert [m.version for m in detail.models] == [0, 1]
    assert detail.views[0].image_path != f"{PROJECT}/views/00.png"
    assert await store.blobs.get(Bucket.VIEWS, f"{PROJECT}/views/00.png")


async def test_export_writes_the_newest_model_with_the_options_as_they_count(store: Store):
    await generated(store)
    models = FakeModels()
    lease = await lease_of(store, JobKind.EXPORT, format="obj", optimize=True, face_limit=900)
    await run(store, models, lease)
    options = ExportOptions("obj", optimize=True, face_limit=900)
    assert models.exports == [options]
    (row,) = (await store.records.project_detail(PROJECT)).exports
    assert (row.format, row.optimize, row.model_version) == ("obj", True, 0)
    assert row.file_path.startswith(f"{PROJECT}/models/")
    assert row.file_path.endswith("/final.obj.zip")
    data = await store.blobs.get(Bucket.MODELS, row.file_path)
    assert (data, row.file_size_bytes) == (b"obj of 20 splats", 16)
    assert row.options == options.to_json()
    assert (row.contents, row.saved, row.notes) == ({"splats": 20}, {"bytes": 7}, ("A fake file.",))

    # What a format ignores does not reach the exporter: equal files have equal rows.
    await run(store, models, await lease_of(store, JobKind.EXPORT, format="ply", face_limit=900))
    assert models.exports[-1] == ExportOptions("ply")


async def test_an_export_is_cancelled_in_the_exporter(store: Store):
    await generated(store)
    models = FakeModels(hold_at="export")
    lease = await lease_of(store, JobKind.EXPORT, format="glb")
    task = asyncio.create_task(run(store, models, lease))
    await models.holding.wait()
    await store.records.cancel_job(lease.job.id)
    await task
    assert models.cancelled == ["export"]
    detail = await store.records.project_detail(PROJECT)
    assert detail.exports == ()
    assert detail.job is not None
    assert detail.job.state is JobState.CANCELLED


async def test_every_version_gets_pictures_and_the_project_a_contact_sheet(store: Store):
    await generated(store)
    detail = await store.records.project_detail(PROJECT)
    (first,) = detail.previews
    assert first == PreviewRow(0, f"{PROJECT}/models/v0.png", f"{PROJECT}/models/v0.mp4")
    assert detail.contact_sheet == SheetRow(0, f"{PROJECT}/models/contact_sheet.png")
    thumbnail = await store.blobs.get(Bucket.MODELS, first.thumbnail_path)
    assert Image.open(io.BytesIO(thumbnail)).size == (64, 64)
    assert (await store.blobs.get(Bucket.MODELS, first.turntable_path))[4:8] == b"ftyp"

    await run(
        store,
        FakeModels(qualities=[0.5, 0.6, 0.7]),
        await lease_of(store, JobKind.REFINE, num_iterations=2),
    )
    detail = await store.records.project_detail(PROJECT)
    assert [row.version for row in detail.previews] == [0, 1, 2]
    assert detail.previews[0] == first, "what is there is not made again"
    assert detail.contact_sheet is not None
    assert detail.contact_sheet.model_version == 2
    assert detail.contact_sheet.image_path != f"{PROJECT}/models/contact_sheet.png"
    small, large = [
        np.asarray(Image.open(io.BytesIO(await store.blobs.get(Bucket.MODELS, path))))
        for path in (f"{PROJECT}/models/contact_sheet.png", detail.contact_sheet.image_path)
    ]
    assert small.shape == large.shape, "one row of versions"
    assert small.shape[1] > 1000
    assert (small != large).any()


async def test_a_refinement_without_a_new_version_has_nothing_to_draw(store: Store):
    await generated(store)
    models = FakeModels(qualities=[0.5, 0.4, 0.3])
    before = await store.records.project_detail(PROJECT)
    await run(store, models, await lease_of(store, JobKind.REFINE))
    detail = await store.records.project_detail(PROJECT)
    assert (detail.previews, detail.contact_sheet) == (before.previews, before.contact_sheet)


async def test_a_failure_in_the_pictures_is_named_and_keeps_the_model(store: Store):
    await new_project(store)
    models = FakeModels(fail_at="render", failure=ModelFailed("no light"))
    await run(store, models, await lease_of(store, JobKind.GENERATE))
    detail = await store.records.project_detail(PROJECT)
    assert detail.job is not None
    assert detail.job.error is not None
    assert (detail.job.error.stage, detail.job.error.detail) == ("previews", "no light")
    assert [row.version for row in detail.models] == [0]

    # The next job of the project makes up for it.
    await run(store, FakeModels(), await lease_of(store, JobKind.REFINE))
    detail = await store.records.project_detail(PROJECT)
    assert [row.version for row in detail.previews] == [row.version for row in detail.models]
    assert detail.previews[0].thumbnail_path != f"{PROJECT}/models/v0.png"


async def test_a_model_that_cannot_be_drawn_is_our_fault_not_the_clients(store: Store):
    class Nothing(FakeModels):
        async def reconstruct(self, request, report=ignore_progress):
            return some_model(0)

    await new_project(store)
    await run(store, Nothing(), await lease_of(store, JobKind.GENERATE))
    job = (await store.records.project_detail(PROJECT)).job
    assert job is not None
    assert job.error is not None
    assert (job.error.code, job.error.stage) == ("model_failed", "previews")
    assert job.error.detail.startswith("Version 0 cannot be drawn")


async def test_an_old_version_that_cannot_be_drawn_does_not_fail_later_jobs(
    store: Store, monkeypatch
):
    warnings: list[str] = []
    # Not caplog: Ray, once it runs in this process, keeps its loggers' records to itself.
    monkeypatch.setattr(
        previews.log, "warning", lambda text, *values: warnings.append(text % values)
    )

    class Nothing(FakeModels):
        async def reconstruct(self, request, report=ignore_progress):
            return some_model(0)

    await new_project(store)
    await run(store, Nothing(), await lease_of(store, JobKind.GENERATE))
    await run(store, FakeModels(), await lease_of(store, JobKind.GENERATE))
    detail = await store.records.project_detail(PROJECT)
    assert detail.job is not None
    assert detail.job.state is JobState.SUCCEEDED
    assert [row.version for row in detail.models] == [0, 1]
    assert [row.version for row in detail.previews] == [1]
    assert detail.contact_sheet is not None
    assert any("Version 0 cannot be drawn" in line for line in warnings)


async def test_nothing_that_was_written_is_overwritten(store: Store, monkeypatch):
    put, written = type(store.blobs).put, []

    async def watched(self, bucket, path, *args):
        written.append((bucket, path))
        await put(self, bucket, path, *args)

    monkeypatch.setattr(type(store.blobs), "put", watched)
    await new_project(store)
    for _ in range(2):
        # The first attempt dies after its pictures, before their commit.
        lease = await lease_of(store, JobKind.GENERATE)
        with monkeypatch.context() as dying:
            commit = type(store.records).commit_stage

            async def broken(self, job_id, fence, stage, commit=commit):
                if stage.previews or stage.sheets:
                    raise ReplicaDied("gone")
                await commit(self, job_id, fence, stage)

            dying.setattr(type(store.records), "commit_stage", broken)
            await run(store, FakeModels(), lease)
        again = await store.records.claim_job("test", 30)
        assert again is not None
        await run(store, FakeModels(), again)
        refine = await lease_of(store, JobKind.REFINE, num_iterations=2)
        await run(store, FakeModels(qualities=[0.5, 0.6, 0.7]), refine)
        for _ in range(2):
            await run(store, FakeModels(), await lease_of(store, JobKind.EXPORT, format="glb"))
    assert len((await store.records.project_detail(PROJECT)).previews) == 6
    assert len(written) > 100
    assert len(set(written)) == len(written)


async def test_a_new_attempt_makes_only_the_pictures_that_are_missing(store: Store, monkeypatch):
    await generated(store)
    make, made = previews.make_previews, []

    async def one_of_two(model, *args):
        made.append(model)
        if len(made) == 2:
            raise ReplicaDied("gone")
        return await make(model, *args)

    monkeypatch.setattr(previews, "make_previews", one_of_two)
    lease = await lease_of(store, JobKind.REFINE, num_iterations=2)
    await run(store, FakeModels(qualities=[0.5, 0.6, 0.7]), lease)
    again = await store.records.claim_job("test", 30)
    assert again is not None, "the job was released"
    first = (await store.records.project_detail(PROJECT)).previews
    assert [row.version for row in first] == [0, 1]

    models = FakeModels()
    await run(store, models, again)
    assert set(models.calls) == {"render"}
    detail = await store.records.project_detail(PROJECT)
    assert len(made) == 3
    assert [row.version for row in detail.previews] == [0, 1, 2]
    assert detail.previews[:2] == first
    assert detail.job is not None
    assert detail.job.state is JobState.SUCCEEDED
    assert set(detail.job.timings) >= {"previews-v1", "previews-v2", "contact-sheet"}


async def test_pictures_are_cancelled_between_their_renders(store: Store):
    await new_project(store)
    models = FakeModels(hold_at="render")
    lease = await lease_of(store, JobKind.GENERATE)
    task = asyncio.create_task(run(store, models, lease))
    await models.holding.wait()
    await store.records.cancel_job(lease.job.id)
    await task
    assert models.cancelled == ["render"]
    detail = await store.records.project_detail(PROJECT)
    assert detail.project.status is ProjectStatus.CANCELLED
    assert detail.previews == ()


@pytest.mark.parametrize(
    ("kind", "spans"),
    [
        (
            JobKind.GENERATE,
            {
                "views": (0.0, 0.1),
                "depth": (0.1, 0.12),
                "splats": (0.12, 0.75),
                "previews": (0.75, 0.98),
                "contact-sheet": (0.98, 1.0),
            },
        ),
        (
            JobKind.REFINE,
            {
                "enhance": (0.0, 0.34),
                "refine": (0.34, 0.85),
                "previews": (0.85, 0.98),
                "contact-sheet": (0.98, 1.0),
            },
        ),
    ],
)
async def test_progress_of_a_job_never_falls_and_its_stages_fill_it(
    store, monkeypatch, kind, spans
):
    await (new_project if kind is JobKind.GENERATE else generated)(store)
    seen, enter = {}, StageProgress.enter

    async def watched(self, stage, start, end):
        await enter(self, stage, start, end)
        seen[stage] = tuple(round(x, 6) for x in self._span)

    monkeypatch.setattr(StageProgress, "enter", watched)
    options = {"num_iterations": 1} if kind is JobKind.REFINE else {}
    await run(store, FakeModels(qualities=[0.5, 0.6]), await lease_of(store, kind, **options))
    assert seen == spans
    for stage, (start, end) in spans.items():
        for fraction in (0.0, 0.5, 1.0):
            job = {"progress": start + (end - start) * fraction, "stage": stage, "kind": kind}
            # At its very end an iteration looks like the beginning of the next one.
            if (stage, fraction) != ("refine", 1.0):
                assert _stage_fraction(job, options) == pytest.approx(fraction)


def test_a_driver_and_an_ingress_load_no_engine():
    script = (
        "import sys, deployments.driver, deployments.dispatcher, serve_app.ingress; "
        "print([m for m in ('torch', 'onnxruntime', 'rembg') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"
