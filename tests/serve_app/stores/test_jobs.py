"""Contract of the jobs: queue, lease, fence, cancel, waiting."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from deployments.jobs.job_errors import StaleAttempt, TooBusy
from deployments.jobs.rows import JobError, JobKind, JobState, NewJob, ProjectStatus
from deployments.jobs.store import Store
from pipeline.errors import InvalidInput, NotFound
from serve_app.stores import StoreSettings, SupabaseSettings

from .rows import (
    LEASE_S,
    SPLATS,
    VIEWS,
    claim,
    claimed,
    expire,
    generated,
    project,
    sql,
    submit,
)

ERROR = JobError("model_failed", "The engine returned nonsense.", "depth", False)


async def test_job_goes_from_queued_through_running_to_succeeded(store: Store) -> None:
    records = store.records
    name = await project(records)
    queued = await submit(records, name)
    assert (queued.state, queued.attempt, queued.fence) == (JobState.QUEUED, 0, 0)
    assert queued.queue_position == 1
    assert queued.options == {"preset": "draft"}
    assert (await records.get_project(name)).current_step == "queued"

    lease = await claim(records)
    assert lease.job.id == queued.id
    assert (lease.job.state, lease.job.attempt, lease.fence) == (JobState.RUNNING, 1, 1)
    assert lease.job.queue_position is None
    assert lease.job.started_at is not None

    beat = await records.heartbeat(
        queued.id, lease.fence, lease_s=LEASE_S, stage="depth", progress=0.5
    )
    assert (beat.owned, beat.cancel_requested) == (True, False)
    await records.commit_stage(queued.id, lease.fence, VIEWS)

    ended = await records.finish_job(
        queued.id, lease.fence, state=JobState.SUCCEEDED, result={"views": 16}
    )
    assert ended.state.ended
    assert (ended.progress, ended.result, ended.error) == (1.0, {"views": 16}, None)
    assert ended.timings == {"views": 2.5}
    assert ended.finished_at is not None
    assert ended == await records.get_job(queued.id)
    assert await records.claim_job("w", LEASE_S) is None


@pytest.mark.parametrize(
    ("kind", "stage", "status"),
    [
        (JobKind.GENERATE, "", ProjectStatus.MULTIVIEW_GENERATING),
        (JobKind.GENERATE, "views", ProjectStatus.MULTIVIEW_GENERATING),
        (JobKind.GENERATE, "depth", ProjectStatus.DEPTH_ESTIMATING),
        (JobKind.GENERATE, "splats", ProjectStatus.RECONSTRUCTING),
        (JobKind.GENERATE, "previews", ProjectStatus.RECONSTRUCTING),
        (JobKind.GENERATE, "contact-sheet", ProjectStatus.RECONSTRUCTING),
        (JobKind.REFINE, "previews", ProjectStatus.REFINING),
        (JobKind.REFINE, "enhance", ProjectStatus.ENHANCING),
        (JobKind.REFINE, "refine", ProjectStatus.REFINING),
        (JobKind.REFINE, "score", ProjectStatus.REFINING),
        (JobKind.REFINE, "iteration-2", ProjectStatus.REFINING),
        (JobKind.EXPORT, "export", ProjectStatus.EXPORTING),
    ],
)
async def test_heartbeat_shows_the_stage_on_the_project(
    store: Store, kind: JobKind, stage: str, status: ProjectStatus
) -> None:
    name = await generated(store.records)
    lease = await claimed(store.records, name, kind)
    await store.records.heartbeat(
        lease.job.id, lease.fence, lease_s=LEASE_S, stage=stage, progress=0.25
    )
    shown = await store.records.get_project(name)
    assert (shown.status, shown.current_step) == (status, stage or "starting")
    assert shown.progress_percentage == 25.0


@pytest.mark.parametrize(
    ("state", "error", "status"),
    [
        (JobState.SUCCEEDED, None, ProjectStatus.COMPLETED),
        (JobState.FAILED, ERROR, ProjectStatus.FAILED),
        (JobState.CANCELLED, None, ProjectStatus.CANCELLED),
    ],
)
async def test_end_of_a_job_shows_on_the_project_which_takes_another(
    store: Store, state: JobState, error: JobError | None, status: ProjectStatus
) -> None:
    name = await generated(store.records)
    lease = await claimed(store.records, name)
    ended = await store.records.finish_job(lease.job.id, lease.fence, state=state, error=error)
    assert ended.error == error
    shown = await store.records.get_project(name)
    assert (shown.status, shown.error) == (status, error.detail if error else None)

    await submit(store.records, name, JobKind.REFINE)
    assert (await store.records.get_project(name)).error is None


async def test_progress_never_falls_and_stays_in_range(store: Store) -> None:
    lease = await claimed(store.records, await project(store.records))
    for told, shown in [(0.5, 0.5), (0.25, 0.5), (7.0, 1.0), (float("nan"), 1.0)]:
        await store.records.heartbeat(
            lease.job.id, lease.fence, lease_s=LEASE_S, stage="views", progress=told
        )
        assert (await store.records.get_job(lease.job.id)).progress == shown


async def test_stale_attempt_cannot_write(store: Store) -> None:
    records = store.records
    old = await claimed(records, await project(records))
    await expire(records, old)
    new = await claim(records)
    assert new.job.id == old.job.id
    assert new.fence == old.fence + 1

    beat = await records.heartbeat(
        old.job.id, old.fence, lease_s=LEASE_S, stage="splats", progress=0.9
    )
    assert not beat.owned
    with pytest.raises(StaleAttempt):
        await records.commit_stage(old.job.id, old.fence, VIEWS)
    with pytest.raises(StaleAttempt):
        await records.finish_job(old.job.id, old.fence, state=JobState.SUCCEEDED)
    with pytest.raises(StaleAttempt):
        await records.release_job(old.job.id, old.fence)

    job = await records.get_job(old.job.id)
    assert (job.state, job.stage, job.fence) == (JobState.RUNNING, "", new.fence)
    assert await records.committed(old.job.id) == ()


async def test_attempt_that_lost_its_lease_may_go_on_until_it_is_claimed(store: Store) -> None:
    lease = await claimed(store.records, await project(store.records))
    await expire(store.records, lease)
    await store.records.commit_stage(lease.job.id, lease.fence, VIEWS)
    beat = await store.records.heartbeat(
        lease.job.id, lease.fence, lease_s=LEASE_S, stage="depth", progress=0.5
    )
    assert beat.owned
    assert await store.records.claim_job("other", LEASE_S) is None


async def test_claimed_again_job_resumes_after_what_was_committed(store: Store) -> None:
    records = store.records
    old = await claimed(records, await project(records))
    await records.commit_stage(old.job.id, old.fence, VIEWS)
    await expire(records, old, stage="depth")
    new = await claim(records)
    assert (new.job.attempt, new.job.stage) == (2, ""), "its driver has not said anything yet"
    assert await records.committed(new.job.id) == (VIEWS,)
    await records.commit_stage(new.job.id, new.fence, SPLATS)
    assert await records.committed(new.job.id) == (VIEWS, SPLATS)


async def test_job_without_attempts_left_fails(store: Store) -> None:
    records = store.records
    name = await project(records)
    job = await submit(records, name, max_attempts=2)
    for _ in range(2):
        await expire(records, await claim(records), stage="depth")
    assert await records.claim_job("w", LEASE_S) is None
    failed = await records.get_job(job.id)
    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert (failed.error.code, failed.error.stage) == ("attempts_exhausted", "depth")
    assert (await records.get_project(name)).status is ProjectStatus.FAILED


async def test_job_whose_last_attempt_was_silent_fails_with_the_cause_of_one_before(
    store: Store,
) -> None:
    records = store.records
    job = await submit(records, await project(records), max_attempts=2)
    lease = await claim(records)
    await records.release_job(job.id, lease.fence, ERROR)
    await expire(records, await claim(records), stage="depth")
    assert await records.claim_job("w", LEASE_S) is None
    failed = (await records.get_job(job.id)).error
    assert failed is not None
    assert failed.code == "attempts_exhausted"
    assert failed.detail.endswith(f"in stage depth. One before it had ended so: {ERROR.detail}")


async def test_claimers_never_share_a_job(
    store: Store, store_settings: StoreSettings | SupabaseSettings
) -> None:
    """100 jobs and 8 claimers in processes of their own, as far as the store can tell."""
    records = store.records
    for number in range(100):
        await submit(records, await project(records, f"p{number}"), client=f"c{number % 5}")

    async def work(worker: str) -> list[str]:
        taken = []
        async with store_settings.open() as own:
            while (lease := await own.records.claim_job(worker, LEASE_S)) is not None:
                taken.append(lease.job.id)
        return taken

    taken = await asyncio.gather(*(work(f"w{number}") for number in range(8)))
    counts = Counter(job for jobs in taken for job in jobs)
    assert len(counts) == 100
    assert set(counts.values()) == {1}
    assert await records.claim_job("w", LEASE_S) is None


async def test_the_clock_of_a_client_decides_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leases are the server's: a worker whose clock is a day off neither loses nor steals one."""
    records = store.records
    lease = await claimed(records, await project(records))
    now = time.time
    for shift_s in (-86400.0, 86400.0):
        monkeypatch.setattr(time, "time", lambda shift_s=shift_s: now() + shift_s)
        assert await records.claim_job("late", LEASE_S) is None
        beat = await records.heartbeat(
            lease.job.id, lease.fence, lease_s=LEASE_S, stage="views", progress=0.5
        )
        assert beat.owned
    job = await records.get_job(lease.job.id)
    assert job.started_at is not None
    assert abs(job.started_at.timestamp() - now()) < 60
    await expire(records, lease)
    assert (await claim(records)).fence == lease.fence + 1


async def test_queue_is_first_in_first_out(store: Store) -> None:
    records = store.records
    jobs = [await submit(records, await project(records, f"p{number}")) for number in range(3)]
    assert [job.queue_position for job in jobs] == [1, 2, 3]
    assert (await claim(records)).job.id == jobs[0].id
    assert (await records.get_job(jobs[2].id)).queue_position == 2


async def test_unknown_ids_are_not_found(store: Store) -> None:
    records = store.records
    for refused in (
        records.get_project("none"),
        records.project_detail("none"),
        records.get_job("none"),
        records.committed("none"),
        records.cancel_job("none"),
        records.release_job("none", 1),
        records.commit_stage("none", 1, VIEWS),
        records.finish_job("none", 1, state=JobState.SUCCEEDED),
        records.wait_for_job("none", 1.0),
        submit(records, "none"),
    ):
        with pytest.raises(NotFound):
            await refused
    gone = await records.heartbeat("none", 1, lease_s=LEASE_S, stage="views", progress=0)
    assert not gone.owned


async def test_cancelling_a_queued_job_ends_it(store: Store) -> None:
    name = await project(store.records)
    job = await submit(store.records, name)
    cancelled = await store.records.cancel_job(job.id)
    assert (cancelled.state, cancelled.finished_at is None) == (JobState.CANCELLED, False)
    assert await store.records.cancel_job(job.id) == cancelled
    assert await store.records.claim_job("w", LEASE_S) is None
    assert (await store.records.get_project(name)).status is ProjectStatus.CANCELLED


async def test_cancelling_a_running_job_reaches_it_by_heartbeat(store: Store) -> None:
    records = store.records
    lease = await claimed(records, await project(records))
    for _ in range(2):
        asked = await records.cancel_job(lease.job.id)
        assert (asked.state, asked.cancel_requested) == (JobState.RUNNING, True)
    beat = await records.heartbeat(
        lease.job.id, lease.fence, lease_s=LEASE_S, stage="views", progress=0.1
    )
    assert (beat.owned, beat.cancel_requested) == (True, True)
    await records.finish_job(lease.job.id, lease.fence, state=JobState.CANCELLED)
    after = await records.cancel_job(lease.job.id)
    assert after.state is JobState.CANCELLED


async def test_cancel_after_success_changes_nothing(store: Store) -> None:
    lease = await claimed(store.records, await project(store.records))
    ended = await store.records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)
    assert await store.records.cancel_job(lease.job.id) == ended


async def test_job_nobody_works_on_is_cancelled_at_once(store: Store) -> None:
    lease = await claimed(store.records, await project(store.records))
    await expire(store.records, lease)
    assert (await store.records.cancel_job(lease.job.id)).state is JobState.CANCELLED


async def test_cancelled_job_with_expired_lease_is_not_claimed(store: Store) -> None:
    lease = await claimed(store.records, await project(store.records))
    await store.records.cancel_job(lease.job.id)
    await expire(store.records, lease)
    assert await store.records.claim_job("w", LEASE_S) is None
    assert (await store.records.get_job(lease.job.id)).state is JobState.CANCELLED


async def test_a_drained_attempt_does_not_count(store: Store) -> None:
    records = store.records
    job = await submit(records, await project(records), max_attempts=1)
    for fence in (1, 2, 3):
        lease = await claim(records)
        assert (lease.job.attempt, lease.fence) == (1, fence)
        released = await records.release_job(job.id, lease.fence)
        assert (released.state, released.attempt) == (JobState.QUEUED, 0)
    await expire(records, await claim(records))
    assert await records.claim_job("w", LEASE_S) is None
    assert (await records.get_job(job.id)).state is JobState.FAILED


async def test_a_failed_attempt_counts_and_the_last_one_fails_the_job(store: Store) -> None:
    records = store.records
    job = await submit(records, await project(records), max_attempts=2)
    for attempt in (1, 2):
        lease = await claim(records)
        assert lease.job.attempt == attempt
        released = await records.release_job(job.id, lease.fence, ERROR)
    assert released.state is JobState.FAILED
    assert released.error == ERROR
    assert (await records.get_project(job.project_id)).status is ProjectStatus.FAILED


NO_DRIVER = JobError("unavailable", "The driver is not running.", "", True)


async def test_a_release_may_be_repeated_until_the_next_claim(store: Store) -> None:
    records = store.records
    lease = await claimed(records, await project(records))
    job_id = lease.job.id
    released = await records.release_job(job_id, lease.fence, ERROR)
    assert await records.release_job(job_id, lease.fence, ERROR) == released
    await claim(records)
    with pytest.raises(StaleAttempt):
        await records.release_job(job_id, lease.fence, ERROR)


async def waiting_s(dsn: str, job_id: str) -> float:
    """For how long nobody may claim the job; then nobody waits any more."""
    question = "extract(epoch from not_before - clock_timestamp())::float8"
    (row,) = await sql(dsn, f"select {question} as left_s from jobs where id = $1", job_id)
    await sql(dsn, "update jobs set not_before = null where id = $1", job_id)
    return row["left_s"] or 0.0


async def test_a_job_that_no_driver_begins_waits_longer_each_time_and_keeps_its_attempts(
    store: Store, clean_dsn: str
) -> None:
    records = store.records
    job = await submit(records, await project(records), max_attempts=2)
    waited = []
    for _ in range(20):
        lease = await claim(records)
        released = await records.release_job(job.id, lease.fence, NO_DRIVER)
        assert (released.state, released.attempt) == (JobState.QUEUED, 0)
        assert released.last_error == NO_DRIVER
        waited.append(await waiting_s(clean_dsn, job.id))
    expected = [min(0.5 * 2**n, 60) for n in range(20)]
    assert all(e - 0.5 < w <= e for w, e in zip(waited, expected, strict=True)), waited
    # Not for ever: a job that no driver ever begins ends with its cause.
    for _ in range(2):
        lease = await claim(records)
        released = await records.release_job(job.id, lease.fence, NO_DRIVER)
    assert (released.state, released.error) == (JobState.FAILED, NO_DRIVER)


async def test_false_starts_are_forgotten_when_a_stage_begins(store: Store, clean_dsn: str) -> None:
    records = store.records
    job = await submit(records, await project(records), max_attempts=2)
    for _ in range(5):
        await records.release_job(job.id, (await claim(records)).fence, NO_DRIVER)
        before = await waiting_s(clean_dsn, job.id)
    lease = await claim(records)
    for stage in ("start", "views"):
        await records.heartbeat(job.id, lease.fence, lease_s=LEASE_S, stage=stage, progress=0.1)
    released = await records.release_job(job.id, lease.fence, NO_DRIVER)
    assert released.attempt == 1, "a stage had begun: a driver that dies in it costs an attempt"
    await records.release_job(job.id, (await claim(records)).fence, NO_DRIVER)
    assert await waiting_s(clean_dsn, job.id) < before / 4


async def test_a_lease_that_expires_before_a_stage_costs_no_attempt(store: Store) -> None:
    records = store.records
    job = await submit(records, await project(records), max_attempts=1)
    for _ in range(20):
        lease = await claim(records)
        assert lease.job.attempt == 1
        await expire(records, lease, stage="")
    await expire(records, await claim(records), stage="")
    assert await records.claim_job("w", LEASE_S) is None
    assert (await records.get_job(job.id)).state is JobState.FAILED, "but not for ever"


async def test_a_full_queue_refuses_new_jobs_but_knows_old_keys(store: Store) -> None:
    records = store.records
    first = NewJob(await project(records), JobKind.GENERATE, {}, "f", "key", max_queued=1)
    known = await records.submit_job(first)
    again = await records.submit_job(first)
    assert (again.job.id, again.created) == (known.job.id, False)
    other = await project(records, "other")
    with pytest.raises(TooBusy):
        await records.submit_job(NewJob(other, JobKind.GENERATE, {}, "g", max_queued=1))


async def test_releasing_a_job_that_was_to_be_cancelled_cancels_it(store: Store) -> None:
    lease = await claimed(store.records, await project(store.records))
    await store.records.cancel_job(lease.job.id)
    await store.records.release_job(lease.job.id, lease.fence)
    assert (await store.records.get_job(lease.job.id)).state is JobState.CANCELLED


async def test_finish_is_repeated_by_an_attempt_that_did_not_hear_the_answer(store: Store) -> None:
    lease = await claimed(store.records, await project(store.records))
    ended = await store.records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)
    again = await store.records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)
    assert again == ended
    with pytest.raises(StaleAttempt):
        await store.records.finish_job(
            lease.job.id, lease.fence, state=JobState.FAILED, error=ERROR
        )


async def test_finish_takes_final_states_only(store: Store) -> None:
    lease = await claimed(store.records, await project(store.records))
    with pytest.raises(InvalidInput):
        await store.records.finish_job(lease.job.id, lease.fence, state=JobState.QUEUED)
    with pytest.raises(InvalidInput):
        await store.records.finish_job(lease.job.id, lease.fence, state=JobState.FAILED)


async def test_lease_must_be_a_positive_time(store: Store) -> None:
    with pytest.raises(InvalidInput):
        await store.records.claim_job("w", 0.0)


async def test_waiter_hears_of_the_end(store: Store) -> None:
    lease = await claimed(store.records, await project(store.records))
    waiters = [
        asyncio.create_task(store.records.wait_for_job(lease.job.id, 60.0)) for _ in range(3)
    ]
    await asyncio.sleep(0.05)
    await store.records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)
    for waiter in waiters:
        assert (await waiter).state is JobState.SUCCEEDED


async def test_waiter_gets_the_job_as_it_is_when_time_is_up(store: Store) -> None:
    lease = await claimed(store.records, await project(store.records))
    assert (await store.records.wait_for_job(lease.job.id, 0.01)).state is JobState.RUNNING
    assert (await store.records.wait_for_job(lease.job.id, 0.0)).state is JobState.RUNNING


async def test_ping_answers_when_migrations_are_current(store: Store) -> None:
    await store.records.ping()
