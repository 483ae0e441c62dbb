"""One attempt of a job on a real store with fake models."""

import asyncio

import pytest

from deployments.driver import DriverSettings, JobRunner
from deployments.store import (
    Bucket,
    Heartbeat,
    JobKind,
    JobState,
    Lease,
    NewJob,
    ProjectStatus,
    Store,
)
from pipeline.errors import ModelFailed, ReplicaDied, StaleAttempt, Unavailable
from pipeline.formats import read_ply
from pipeline.images import encode_png
from tests.fakes import FakeModels, some_cutout

SETTINGS = DriverSettings(lease_s=30, heartbeat_s=0.05)
PROJECT = "project-1"


async def new_project(store: Store) -> None:
    path = f"{PROJECT}/processed.png"
    await store.blobs.put(Bucket.PROCESSED, path, encode_png(some_cutout().rgba), "image/png")
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
    assert set(detail.job.timings) == {"views", "depth", "splats"}
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
    assert models.calls == ["splats", "evaluate"], "views and depth were committed"
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
    newer = await store.records.claim_job("other", 30)
    assert newer is not None
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

    # An attempt that was asleep: it has not heard yet that its lease is gone.
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

    lease = await lease_of(store, JobKind.GENERATE)
    with monkeypatch.context() as disk:
        disk.setattr(type(store.blobs), "put", full)
        await run(store, FakeModels(), lease)
    again = await store.records.claim_job("test", 30)
    assert again is not None
    models = FakeModels()
    await run(store, models, again)
    assert models.calls == ["depth", "splats", "evaluate"], "the views were committed"
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


async def test_export_writes_the_newest_model(store: Store):
    await generated(store)
    await run(
        store, FakeModels(), await lease_of(store, JobKind.EXPORT, format="splat", optimize=False)
    )
    (row,) = (await store.records.project_detail(PROJECT)).exports
    assert (row.format, row.model_version, row.file_size_bytes) == ("splat", 0, 20 * 32)
    assert len(await store.blobs.get(Bucket.MODELS, row.file_path)) == 20 * 32
