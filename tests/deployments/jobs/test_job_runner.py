"""One attempt of one job on a real store with fake models."""

import asyncio
import hashlib
import subprocess
import sys

import numpy as np
import pytest

from deployments.jobs import runner
from deployments.jobs.job_errors import StaleAttempt
from deployments.jobs.rows import Bucket, Heartbeat, JobKind, JobState, ProjectStatus
from deployments.jobs.runner import JobRunner
from deployments.jobs.stage_progress import StageProgress
from deployments.jobs.store import Store
from pipeline.errors import ModelFailed, ReplicaDied, Unavailable
from pipeline.formats.ply import read_ply
from pipeline.options import ExportOptions
from serve_app.cli.demo import _stage_fraction
from tests.deployments.jobs.attempts import PROJECT, SETTINGS, generated, lease_of, new_project, run
from tests.fakes import FakeModels

pytestmark = pytest.mark.usefixtures("small_pictures")


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
    assert set(detail.job.timings) == {
        "views",
        "depth",
        "photos",
        "splats",
        "previews-v0",
        "contact-sheet",
    }
    assert detail.job.result is not None
    assert detail.job.result["engines"]["views"] == "fake-views"
    first, second = detail.job.result["notes"]
    assert first == "A fake." and "LPIPS was not measured" in second


async def test_every_stage_keeps_the_hashes_of_its_files_and_the_peak_memory(store: Store):
    async def of_splats(span_s: float) -> dict[str, int]:
        assert 0 <= span_s < 60
        return {"": 123, " GPU": 45}

    async def of_vision(span_s: float) -> dict[str, int]:
        raise ReplicaDied("gone")

    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    meters = {"Splats": of_splats, "Vision": of_vision}

    async def devices() -> dict[str, str]:
        return {"splats": "NVIDIA H200, bf16", "views": "cpu"}

    await JobRunner(store, FakeModels().ports(), SETTINGS, meters, devices=devices).run(lease)
    commits = {c.stage: c for c in await store.records.committed(lease.job.id)}
    assert [stage for stage, c in commits.items() if "environment" in c.detail] == ["views"]
    where = commits["views"].detail["environment"]
    assert where["packages"]["numpy"] == np.__version__
    assert where["devices"] == {"splats": "NVIDIA H200, bf16", "views": "cpu"}
    names = {
        "views": {f"views/{i:02d}.png" for i in range(16)} | {"views/geometry.npz"},
        "photos": {"views/registered.npz"},
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
        await run(store, FakeModels(qualities=[0.4, 0.6, 0.5, 0.6]), lease)
    again = await store.records.claim_job("test", 30)
    assert again is not None
    models = FakeModels()
    await run(store, models, again)
    assert len(models.fits) == 1
    job = (await store.records.project_detail(PROJECT)).job
    assert job is not None
    assert job.result is not None
    ranking = job.result["ranking"]
    assert [c["view_agreement"] for c in ranking] == [0.6, 0.5, 0.4]
    assert [c["chosen"] for c in ranking] == [True, False, False]
    assert models.fits[0].seed == ranking[0]["seed"]
    assert "candidates" in job.timings


async def test_a_failure_names_stage_and_cause_and_keeps_what_was_committed(store: Store):
    await new_project(store)
    models = FakeModels(fail_at="splats", failure=ModelFailed.openly("the fit diverged"))
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
    assert (job.error.code, job.error.detail) == (ModelFailed.code, ModelFailed.closed_sentence)


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
    assert models.calls[:3] == ["depth", "photos", "splats"], "the views were committed"
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


async def test_a_driver_that_cannot_begin_is_not_the_idle_one_that_is_called_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    async def unmounted(_self: object) -> None:
        raise Unavailable("the folder is gone")

    monkeypatch.setattr(type(store.blobs), "ping", unmounted)
    monkeypatch.setattr(runner, "_NOT_NEXT_S", 60.0)
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    call = asyncio.create_task(run(store, FakeModels(), lease))
    async with asyncio.timeout(20):
        while (await store.records.get_job(lease.job.id)).state is not JobState.QUEUED:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert not call.done()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    job = await store.records.get_job(lease.job.id)
    assert (job.state, job.attempt) == (JobState.QUEUED, 0)


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
    options = ExportOptions("obj", optimize=True, face_limit=900, version=0)
    assert models.exports == [options]
    (row,) = (await store.records.project_detail(PROJECT)).exports
    assert (row.format, row.optimize, row.model_version) == ("obj", True, 0)
    assert row.file_path.startswith(f"{PROJECT}/models/")
    assert row.file_path.endswith("/final.obj.zip")
    data = await store.blobs.get(Bucket.MODELS, row.file_path)
    assert (data, row.file_size_bytes) == (b"obj of 20 splats", 16)
    assert row.options == options.of_the_file()
    assert (row.contents, row.saved, row.notes) == ({"splats": 20}, {"bytes": 7}, ("A fake file.",))

    # What a format ignores does not reach the exporter: equal files have equal rows.
    await run(store, models, await lease_of(store, JobKind.EXPORT, format="ply", face_limit=900))
    assert models.exports[-1] == ExportOptions("ply", version=0)


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


@pytest.mark.parametrize(
    ("kind", "spans"),
    [
        (
            JobKind.GENERATE,
            {
                "views": (0.0, 0.1),
                "depth": (0.1, 0.12),
                "photos": (0.12, 0.16),
                "splats": (0.16, 0.75),
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
