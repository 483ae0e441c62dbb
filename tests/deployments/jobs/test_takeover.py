"""How an attempt ends that does not end by itself: handed over, short of memory, refused."""

import asyncio
import dataclasses
import random
from typing import Any

import pytest

from deployments.jobs import fenced_commit, peak_memory, runner
from deployments.jobs.peak_memory import PeakMemory
from deployments.jobs.rows import Bucket, Heartbeat, JobKind, JobState
from deployments.jobs.runner import JobRunner
from deployments.jobs.store import Store
from pipeline.errors import OutOfMemory, ReplicaDied, TimedOut, Unavailable
from tests.deployments.jobs.attempts import (
    PROJECT,
    SETTINGS,
    generated,
    lease_of,
    new_project,
    run,
)
from tests.fakes import FakeModels

pytestmark = pytest.mark.usefixtures("small_pictures")


async def files_of(store: Store) -> dict[Bucket, set[str]]:
    return {b: set(await store.blobs.list_prefix(b, f"{PROJECT}/")) for b in Bucket}


async def unnamed_files(store: Store) -> set[str]:
    """Files that no row names; the project must be at rest."""
    named = await store.records.referenced_paths(PROJECT)
    assert named is not None
    files = await files_of(store)
    return {path for bucket, paths in files.items() for path in paths - named.get(bucket, set())}


async def test_a_drained_driver_hands_its_job_over_without_losing_an_attempt(store: Store):
    await new_project(store)
    models, is_draining = FakeModels(hold_at="splats"), False
    lease = await lease_of(store, JobKind.GENERATE)
    draining = JobRunner(store, models.ports(), SETTINGS, draining=lambda: is_draining)
    task = asyncio.create_task(draining.run(lease))
    await models.holding.wait()
    is_draining = True
    await task
    assert models.cancelled == ["splats"]
    job = await store.records.get_job(lease.job.id)
    assert (job.state, job.attempt) == (JobState.QUEUED, 0)

    other = await store.records.claim_job("other", 30)
    assert other is not None
    again = FakeModels()
    await run(store, again, other)
    assert "views" not in again.calls, "what was committed is not computed again"
    job = await store.records.get_job(lease.job.id)
    assert (job.state, job.attempt, job.fence) == (JobState.SUCCEEDED, 1, 2)


async def test_a_refused_attempt_takes_its_files_back(store: Store, monkeypatch):
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    await store.records.release_job(lease.job.id, lease.fence)
    newer = await store.records.claim_job("other", 30)
    assert newer is not None
    before = await files_of(store)

    async def owned(*_args, **_kwargs):
        return Heartbeat(owned=True, cancel_requested=False)

    # It was asleep, and does not know yet that its lease is gone.
    with monkeypatch.context() as asleep:
        asleep.setattr(type(store.records), "heartbeat", owned)
        await run(store, FakeModels(), lease)
    assert await files_of(store) == before
    await run(store, FakeModels(), newer)
    assert await unnamed_files(store) == set()


async def test_an_attempt_that_fails_after_an_upload_takes_its_files_back(
    store: Store, monkeypatch
):
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    put = type(store.blobs).put

    async def one_breaks(self, bucket, path, data, content_type):
        if path.endswith("07.npy"):
            raise ReplicaDied("gone in the middle")
        await put(self, bucket, path, data, content_type)

    with monkeypatch.context() as broken:
        broken.setattr(type(store.blobs), "put", one_breaks)
        await run(store, FakeModels(), lease)
    assert (await files_of(store))[Bucket.DEPTH] == set()
    assert len((await files_of(store))[Bucket.VIEWS]) == 17, "the stage before was committed"


async def test_a_cancelled_attempt_takes_back_what_it_was_uploading(store: Store, monkeypatch):
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    put, uploading = type(store.blobs).put, asyncio.Event()

    async def slow(self, bucket, path, data, content_type):
        uploading.set()
        await asyncio.sleep(0.2)
        await put(self, bucket, path, data, content_type)

    with monkeypatch.context() as patient:
        patient.setattr(type(store.blobs), "put", slow)
        task = asyncio.create_task(run(store, FakeModels(), lease))
        await uploading.wait()
        await store.records.cancel_job(lease.job.id)
        await task
    assert (await store.records.get_job(lease.job.id)).state is JobState.CANCELLED
    assert await unnamed_files(store) == set()


async def test_memory_that_ran_out_is_asked_for_once_more_and_less(store: Store, monkeypatch):
    monkeypatch.setattr(runner, "_PAUSES_S", ())
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE, num_gaussians=3000)
    await run(store, FakeModels(fail_at="splats", failure=OutOfMemory("full")), lease)
    job = await store.records.get_job(lease.job.id)
    assert job.last_error is not None
    assert (job.state, job.last_error.code) == (JobState.QUEUED, "out_of_memory")

    again = await store.records.claim_job("test", 30)
    assert again is not None
    models = FakeModels()
    await run(store, models, again)
    assert [fit.num_gaussians for fit in models.fits] == [1500]
    result = (await store.records.get_job(lease.job.id)).result
    assert result is not None
    assert any("at most 1,500 splats" in note for note in result["notes"])


async def test_memory_that_runs_out_twice_is_a_clear_failure(store: Store, monkeypatch):
    monkeypatch.setattr(runner, "_PAUSES_S", ())
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    full = FakeModels(fail_at="splats", failure=OutOfMemory("full"))
    await run(store, full, lease)
    again = await store.records.claim_job("test", 30)
    assert again is not None
    await run(store, full, again)
    job = await store.records.get_job(lease.job.id)
    assert job.error is not None
    assert (job.state, job.attempt, job.error.code) == (JobState.FAILED, 2, "out_of_memory")
    assert job.error.stage == "splats"


async def test_work_that_ends_cancelled_without_being_stopped_costs_an_attempt(store: Store):
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    failure: Any = asyncio.CancelledError()
    await run(store, FakeModels(fail_at="splats", failure=failure), lease)
    job = await store.records.get_job(lease.job.id)
    assert job.last_error is not None
    assert (job.state, job.attempt) == (JobState.QUEUED, 1)
    assert (job.last_error.code, job.last_error.stage) == ("replica_died", "splats")


async def test_a_driver_that_is_stopped_gives_its_job_back_uncounted(store: Store):
    await new_project(store)
    models = FakeModels(hold_at="splats")
    lease = await lease_of(store, JobKind.GENERATE)
    task = asyncio.create_task(run(store, models, lease))
    await models.holding.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    job = await store.records.get_job(lease.job.id)
    assert (job.state, job.attempt) == (JobState.QUEUED, 0)


async def test_files_that_cannot_be_stored_here_cost_no_attempt(store: Store, monkeypatch):
    async def unmounted(_blobs):
        raise Unavailable.openly("The folder is not there.")

    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    models = FakeModels()
    with monkeypatch.context() as broken:
        broken.setattr(type(store.blobs), "ping", unmounted)
        broken.setattr(runner, "_NOT_NEXT_S", 0.0)
        await run(store, models, lease)
    job = await store.records.get_job(lease.job.id)
    assert job.last_error is not None
    assert (job.state, job.attempt, models.calls) == (JobState.QUEUED, 0, [])
    assert job.last_error.detail == "The folder is not there."


async def test_why_an_attempt_ended_is_told_to_a_store_that_was_away(store: Store, monkeypatch):
    release, refused = type(store.records).release_job, []

    async def away_at_first(self, *args, **kwargs):
        if len(refused) < 3:
            refused.append(args)
            raise Unavailable("away")
        return await release(self, *args, **kwargs)

    monkeypatch.setattr(type(store.records), "release_job", away_at_first)
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    await run(store, FakeModels(fail_at="splats", failure=ReplicaDied.openly("gone")), lease)
    job = await store.records.get_job(lease.job.id)
    assert job.last_error is not None
    assert (len(refused), job.last_error.detail) == (3, "gone")


@pytest.mark.parametrize("error", [TimedOut("hung"), Unavailable("no weights")])
async def test_what_takes_time_to_recover_is_waited_for(store: Store, error):
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    await run(store, FakeModels(fail_at="views", failure=error), lease)
    assert (await store.records.get_job(lease.job.id)).state is JobState.QUEUED
    assert await store.records.claim_job("test", 30) is None, "not at once"


async def test_rows_are_brought_again_to_a_store_that_was_away(store: Store, monkeypatch):
    monkeypatch.setattr(fenced_commit, "_ASK_AGAIN_AFTER_S", 0.01)
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    commit, refused = type(store.records).commit_stage, []

    async def flaky(self, job_id, fence, stage):
        if len(refused) < 3:
            refused.append(stage.stage)
            raise Unavailable("away")
        await commit(self, job_id, fence, stage)

    monkeypatch.setattr(type(store.records), "commit_stage", flaky)
    models = FakeModels()
    await run(store, models, lease)
    job = await store.records.get_job(lease.job.id)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 1)
    assert models.calls.count("views") == 1


async def test_a_store_that_stays_away_gives_the_job_back(store: Store, monkeypatch):
    monkeypatch.setattr(fenced_commit, "_ASK_AGAIN_AFTER_S", 0.01)
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)

    async def away(*_args):
        raise Unavailable("away")

    with monkeypatch.context() as broken:
        broken.setattr(type(store.records), "commit_stage", away)
        impatient = dataclasses.replace(SETTINGS, patience_s=0.05)
        await JobRunner(store, FakeModels().ports(), impatient).run(lease)
    job = await store.records.get_job(lease.job.id)
    assert (job.state, job.attempt) == (JobState.QUEUED, 1)
    # Nobody knows whether the commit came through: files are the janitor's.
    assert len((await files_of(store))[Bucket.VIEWS]) == 17


async def test_a_project_deleted_under_its_job_ends_the_attempt_quietly(store: Store):
    await generated(store)
    models = FakeModels(hold_at="splats")
    lease = await lease_of(store, JobKind.GENERATE, seed=2)
    task = asyncio.create_task(run(store, models, lease))
    await models.holding.wait()
    assert await store.records.delete_project(PROJECT) is not None
    await task
    assert models.cancelled == ["splats"]
    assert await store.records.purge_project(PROJECT)


async def test_the_memory_of_a_span_forgets_what_was_before(monkeypatch):
    marks = iter([900, 100, 300, 200])
    memory = PeakMemory({"": lambda: next(marks)})
    memory.mark()
    await asyncio.sleep(0.02)
    assert memory.peaks(0.01) == {"": 100}
    memory.mark()
    assert memory.peaks(60) == {"": 900}


def test_marks_without_end_are_few_and_say_the_same(monkeypatch):
    now, generator = 0.0, random.Random(1)
    monkeypatch.setattr(peak_memory.time, "monotonic", lambda: now)
    newest = 0
    memory = PeakMemory({"": lambda: newest})
    plain: list[tuple[float, int]] = []
    for step in range(50_000):
        now, newest = float(step), generator.randrange(10**9)
        memory.mark()
        plain.append((now, newest))
    for span_s in (0.0, 1.0, 10.0, 1000.0, 30_000.0, 80_000.0):
        newest = 0
        expected = max(peak for at, peak in plain if at >= now - span_s)
        assert memory.peaks(span_s)[""] == expected
    assert len(memory) < 100
    for step in range(50_000, 60_000):
        now, newest = float(step), 2 * 10**9 - step
        memory.mark()
    assert len(memory) <= peak_memory._MOST_MARKS


def test_the_kernels_mark_starts_anew_with_every_reading():
    memory = PeakMemory()
    memory.mark()
    block = b"x" * 80_000_000
    with_block = memory.peaks(0)[""]
    del block
    memory.mark()
    assert with_block - memory.peaks(0)[""] > 60_000_000
