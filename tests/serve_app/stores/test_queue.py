"""Contract of the queue: turns of clients, delays, forecasts, and what a job tells of itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from deployments.jobs.commits import StageCommit
from deployments.jobs.rows import EventKind, Job, JobError, JobKind, JobState, Lease, Queue
from deployments.jobs.store import Records, Store
from pipeline.errors import InvalidInput, NotFound
from serve_app.stores import PostgresRecords

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

ERROR = JobError("model_failed", "The engine returned nonsense.", "depth", True)


async def queued(records: Records, clients: str) -> list[Job]:
    """One job of a project of its own for each letter, in this order."""
    return [
        await submit(records, await project(records, f"p{number}-{client}"), client=client)
        for number, client in enumerate(clients)
    ]


async def finish(records: Records, lease: Lease) -> None:
    await records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)


def client_of(lease: Lease) -> str:
    return lease.job.project_id[-1]


async def positions(records: Records, jobs: list[Job]) -> list[str]:
    """Ids of those that are queued, by `queue_position`."""
    found = [await records.get_job(job.id) for job in jobs]
    waiting = [job for job in found if job.queue_position is not None]
    assert sorted(job.queue_position or 0 for job in waiting) == list(range(1, len(waiting) + 1))
    return [job.id for job in sorted(waiting, key=lambda job: job.queue_position or 0)]


async def beat(records: Records, lease: Lease, progress: float, step: str = "") -> None:
    await records.heartbeat(
        lease.job.id, lease.fence, lease_s=LEASE_S, stage="views", progress=progress, step=step
    )


async def test_clients_take_turns_at_one_slot(store: Store) -> None:
    await queued(store.records, "AAAAABB")
    served = ""
    for _ in range(7):
        lease = await claim(store.records)
        served += client_of(lease)
        await finish(store.records, lease)
    assert served == "ABABAAA"


@pytest.mark.parametrize(
    ("clients", "order"),
    [("AAAAABB", "ABABAAA"), ("AABBBC", "ABCABB"), ("ABCABC", "ABCABC"), ("BAAB", "BABA")],
)
async def test_clients_share_many_slots_and_the_position_foretells_the_claims(
    store: Store, clients: str, order: str
) -> None:
    jobs = await queued(store.records, clients)
    foretold = await positions(store.records, jobs)
    leases = [await claim(store.records) for _ in jobs]
    assert "".join(map(client_of, leases)) == order
    assert [lease.job.id for lease in leases] == foretold


async def test_position_foretells_the_claims_beside_running_and_begun_jobs(store: Store) -> None:
    records = store.records
    jobs = await queued(records, "AAB")
    for lease in [await claim(records) for _ in range(2)]:
        await records.release_job(lease.job.id, lease.fence)
    await claim(records)  # the begun one of A runs, that of B waits
    jobs += await queued_more(records, "ABBCC")
    foretold = await positions(records, jobs)
    leases = [await claim(records) for _ in foretold]
    assert [lease.job.id for lease in leases] == foretold
    assert "".join(map(client_of, leases)) == "BCAB" + "CAB"


async def queued_more(records: Records, clients: str) -> list[Job]:
    return [
        await submit(records, await project(records, f"q{number}-{client}"), client=client)
        for number, client in enumerate(clients)
    ]


async def test_running_jobs_count_for_their_client(store: Store) -> None:
    records = store.records
    await queued(records, "AAAA")
    for _ in range(2):
        await claim(records)
    await queued_more(records, "BB")
    assert "".join([client_of(await claim(records)) for _ in range(4)]) == "BBAA"


async def test_client_that_was_served_the_longest_time_ago_is_next(store: Store) -> None:
    records = store.records
    await queued(records, "BAC")
    for _ in range(3):
        await finish(records, await claim(records))
    await queued_more(records, "CAABD")
    assert "".join([client_of(await claim(records)) for _ in range(5)]) == "DBACA"


async def test_begun_jobs_go_first_and_abandoned_ones_before_them(store: Store) -> None:
    records = store.records
    first, second, third = await queued(records, "ABC")
    abandoned, begun = await claim(records), await claim(records)
    assert (abandoned.job.id, begun.job.id) == (first.id, second.id)
    await records.release_job(begun.job.id, begun.fence)
    await expire(records, abandoned)
    assert await positions(records, [first, second, third]) == [second.id, third.id]
    order = [(await claim(records)).job.id for _ in range(3)]
    assert order == [first.id, second.id, third.id]


async def test_no_more_jobs_hold_leases_than_are_to_run(store: Store) -> None:
    records = store.records
    await queued(records, "ABCD")
    taken = await asyncio.gather(*(records.claim_job(f"w{n}", LEASE_S, 2) for n in range(8)))
    first, second = [lease for lease in taken if lease is not None]
    assert await records.claim_job("w", LEASE_S, 2) is None
    await expire(records, first)
    again = await records.claim_job("w", LEASE_S, 2)
    assert again is not None
    assert again.job.id == first.job.id, "an expired lease leaves room, and goes first"
    await finish(records, second)
    assert await records.claim_job("w", LEASE_S, 2) is not None
    assert await records.claim_job("w", LEASE_S, 2) is None
    assert await records.claim_job("w", LEASE_S) is not None, "without a limit"
    with pytest.raises(InvalidInput):
        await records.claim_job("w", LEASE_S, 0)


async def test_jobs_that_only_have_to_end_wait_for_no_room(store: Store) -> None:
    records = store.records
    leases = []
    for name, attempts in [("again", 3), ("cancelled", 3), ("hopeless", 1), ("runs", 3)]:
        await submit(records, await project(records, name), max_attempts=attempts)
        leases.append(await claim(records))
    await queued(records, "A")
    await records.cancel_job(leases[1].job.id)
    for lease in leases[:3]:
        await expire(records, lease)
    assert await records.claim_job("w", LEASE_S, 1) is None
    found = [await records.get_job(lease.job.id) for lease in leases]
    states = [job.state for job in found]
    running = JobState.RUNNING
    assert states == [running, JobState.CANCELLED, JobState.FAILED, running]
    room = await records.claim_job("w", LEASE_S, 2)
    assert room is not None
    assert room.job.id == leases[0].job.id


async def test_job_given_back_with_a_delay_waits_it_out(store: Store, clean_dsn: str) -> None:
    records = store.records
    first, second = await queued(records, "AA")
    lease = await claim(records)
    given = await records.release_job(first.id, lease.fence, ERROR, delay_s=60.0)
    assert (given.state, given.queue_position, given.attempt) == (JobState.QUEUED, 1, 1)
    assert (given.last_error, given.error) == (ERROR, None)
    told = (await records.job_events(given.id))[-1].data
    assert (told["state"], told["error"]["code"]) == ("queued", ERROR.code)
    assert (await claim(records)).job.id == second.id
    assert await records.claim_job("w", LEASE_S) is None

    await sql(clean_dsn, "update jobs set not_before = clock_timestamp() where id = $1", first.id)
    again = await claim(records)
    assert again.job.last_error == ERROR, "it stays until there is a newer one"
    await records.release_job(first.id, again.fence)
    assert (await claim(records)).job.last_error == ERROR


async def test_delay_is_a_time(store: Store) -> None:
    lease = await claimed(store.records, await project(store.records))
    for wrong in (-1.0, float("nan"), 1e9):
        with pytest.raises(InvalidInput):
            await store.records.release_job(lease.job.id, lease.fence, delay_s=wrong)


async def test_last_attempt_that_is_given_back_fails_with_its_error(store: Store) -> None:
    records = store.records
    job = await submit(records, await project(records), max_attempts=1)
    failed = await records.release_job(job.id, (await claim(records)).fence, ERROR, delay_s=5.0)
    assert (failed.state, failed.error, failed.last_error) == (JobState.FAILED, ERROR, ERROR)


async def test_many_claimers_share_many_clients(store: Store) -> None:
    records = store.records
    await queued(records, "ABCD" * 8)

    async def work(worker: str) -> list[str]:
        taken = []
        while (lease := await records.claim_job(worker, LEASE_S)) is not None:
            taken.append(lease.job.id)
        return taken

    taken = await asyncio.gather(*(work(f"w{number}") for number in range(8)))
    counts = Counter(job for jobs in taken for job in jobs)
    assert (len(counts), set(counts.values())) == (32, {1})


async def test_queue_is_counted_by_kind(store: Store) -> None:
    records = store.records
    assert await records.queue() == Queue({}, {})
    await claimed(records, await generated(records, "done"), JobKind.REFINE)
    await queued(records, "AB")
    await submit(records, await generated_unclaimed(records), JobKind.EXPORT)
    assert await records.queue() == Queue(
        {JobKind.GENERATE: 2, JobKind.EXPORT: 1}, {JobKind.REFINE: 1}
    )


async def generated_unclaimed(records: Records) -> str:
    """A generated project beside waiting jobs of others."""
    name = await project(records, "other")
    job = await submit(records, name)
    held = []
    while (lease := await claim(records)).job.id != job.id:
        held.append(lease)
    await records.commit_stage(job.id, lease.fence, SPLATS)
    await finish(records, lease)
    for other in held:
        await records.release_job(other.job.id, other.fence)
    return name


async def test_progress_never_falls_over_attempts(store: Store) -> None:
    records = store.records
    lease = await claimed(records, await project(records))
    await beat(records, lease, 0.6)
    given = await records.release_job(lease.job.id, lease.fence, ERROR)
    assert given.progress == 0.6
    lease = await claim(records)
    assert lease.job.progress == 0.6
    await beat(records, lease, 0.1)
    job = await records.get_job(lease.job.id)
    assert (job.progress, job.attempt) == (0.6, 2)


async def test_step_is_shown_while_the_stage_says_it(store: Store) -> None:
    records = store.records
    lease = await claimed(records, await project(records))
    assert lease.job.step == ""
    assert lease.job.step_started_at is not None
    await beat(records, lease, 0.1, "view 3 of 16")
    first = await records.get_job(lease.job.id)
    assert first.step == "view 3 of 16"
    await beat(records, lease, 0.1, "x" * 300)
    second = await records.get_job(lease.job.id)
    assert (second.step, second.step_started_at) == ("x" * 200, first.step_started_at)

    await records.commit_stage(lease.job.id, lease.fence, VIEWS)
    third = await records.get_job(lease.job.id)
    assert third.step_started_at is not None
    assert second.step_started_at is not None
    assert third.step_started_at > second.step_started_at
    ended = await records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)
    assert (ended.step, ended.stage) == ("", "views")


async def test_progress_is_told_by_the_percent(store: Store) -> None:
    records = store.records
    lease = await claimed(records, await project(records))
    for progress in (0.28, 0.285, 0.289, 0.29, 0.2999, 0.2, 0.31, 0.31):
        await beat(records, lease, progress, f"at {progress}")
    await records.heartbeat(lease.job.id, lease.fence, lease_s=LEASE_S, stage="depth", progress=0.5)
    await records.heartbeat(
        lease.job.id, lease.fence, lease_s=LEASE_S, stage="depth", progress=0.505
    )
    _, _, *told = await records.job_events(lease.job.id)
    assert [(event.kind, event.data["progress"]) for event in told] == [
        (EventKind.STAGE, 0.28),
        (EventKind.PROGRESS, 0.29),
        (EventKind.PROGRESS, 0.31),
        (EventKind.STAGE, 0.5),
    ]
    assert told[1].data == {"stage": "views", "step": "at 0.29", "progress": 0.29, "attempt": 1}
    assert told[3].data == {"stage": "depth", "progress": 0.5, "attempt": 1}


async def test_events_have_no_gaps_under_heartbeats_at_once(store: Store) -> None:
    records = store.records
    lease = await claimed(records, await project(records))
    await asyncio.gather(*(beat(records, lease, number / 20) for number in range(20)))
    events = await records.job_events(lease.job.id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    shown = [event.data["progress"] for event in events]
    assert shown == sorted(shown)
    assert {event.job_number for event in events} == {lease.job.number}
    assert await records.job_events(lease.job.id, after=events[-2].seq) == events[-1:]
    assert await records.job_events(lease.job.id, after=1, limit=2) == events[1:3]


async def test_events_of_a_project_are_those_of_its_jobs_in_order(store: Store) -> None:
    records = store.records
    name = await generated(records)
    await generated(records, "another")
    refine = await claimed(records, name, JobKind.REFINE)
    await beat(records, refine, 0.5)
    events = await records.project_events(name)
    generate, *_ = await records.project_jobs(name)
    assert events == (
        *await records.job_events(generate.job.id),
        *await records.job_events(refine.job.id),
    )
    places = [(event.job_number, event.seq) for event in events]
    assert places == sorted(places)
    for number, place in enumerate(places):
        assert await records.project_events(name, after=place) == events[number + 1 :]
    assert await records.project_events(name, limit=3) == events[:3]


async def test_events_of_nobody_are_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.records.job_events("none")
    with pytest.raises(NotFound):
        await store.records.project_events("none")
    name = await project(store.records)
    assert await store.records.project_events(name) == ()
    with pytest.raises(InvalidInput):
        await store.records.project_events(name, limit=0)


async def test_watchers_of_a_job_and_of_its_project_are_woken(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = store.records
    monkeypatch.setattr(type(records), "announced_poll_s", 1000.0, raising=False)
    lease = await claimed(records, await project(records))
    await asyncio.sleep(0.05)  # the listener listens
    with (
        records.watch_job(lease.job.id) as job_changed,
        records.watch_project(lease.job.project_id) as project_changed,
        records.watch_project("another") as another_changed,
    ):
        idle = asyncio.ensure_future(another_changed(1000.0))
        waiting = asyncio.gather(job_changed(1000.0), project_changed(1000.0))
        await asyncio.sleep(0.01)
        await beat(records, lease, 0.5)
        await asyncio.wait_for(waiting, 10.0)
        if isinstance(records, PostgresRecords):  # others poll, and return for nothing
            assert not idle.done()
        idle.cancel()


async def test_expected_seconds_are_those_of_similar_jobs(store: Store, clean_dsn: str) -> None:
    records = store.records

    async def run(name: str, shape: str, stages: dict[str, float], state: JobState) -> None:
        job = await submit(records, await project(records, name), shape=shape)
        lease = await claim(records)
        assert lease.job.id == job.id
        for stage, seconds in stages.items():
            await records.commit_stage(job.id, lease.fence, StageCommit(stage, seconds))
        ended = await records.finish_job(job.id, lease.fence, state=state)
        assert ended.expected == {}

    done = JobState.SUCCEEDED
    await run("a", "draft", {"views": 2.0, "iteration-1": 4.0, "iteration-12": 8.0}, done)
    await run("b", "draft", {"views": 4.0, "previews-v0": 1.0}, done)
    await run("c", "draft", {"views": 100.0}, JobState.CANCELLED)
    await run("d", "high", {"views": 50.0}, done)
    job = await submit(records, await project(records, "e"), shape="draft")
    assert job.expected == {"views": 3.0, "iteration": 6.0, "previews": 0.5}
    assert (await claim(records)).job.expected == job.expected
    other = await submit(records, await project(records, "f"), shape="none")
    assert other.expected == {}

    # Only the newest twenty count.
    await sql(
        clean_dsn,
        """
        with more as (
            insert into jobs (project_id, kind, state, fingerprint, shape, result, finished_at)
            select 'a', 'generate', 'succeeded', 'f', 'draft', '{}', clock_timestamp()
              from generate_series(1, 20) returning id)
        insert into job_stages (job_id, stage, ordinal, seconds, fence)
        select id, 'views', 1, 7, 1 from more
        """,
    )
    assert (await records.get_job(job.id)).expected == {"views": 7.0}


async def test_memory_is_shown_by_stage_and_process(store: Store) -> None:
    lease = await claimed(store.records, await project(store.records))
    details: dict[str, dict[str, Any]] = {
        "models": {"peak_memory_bytes": 5, "replica_peak_memory_bytes": {"Depth": 7}},
        "alone": {"peak_memory_bytes": 6},
        "odd": {"peak_memory_bytes": "much", "replica_peak_memory_bytes": 3},
        "none": {},
    }
    for stage, detail in details.items():
        commit = replace(StageCommit(stage, 1.0), detail=detail)
        await store.records.commit_stage(lease.job.id, lease.fence, commit)
    assert (await store.records.get_job(lease.job.id)).memory == {
        "models": {"Driver": 5, "Depth": 7},
        "alone": {"Driver": 6},
    }


async def test_jobs_are_numbered_over_all_projects(store: Store) -> None:
    numbers = [job.number for job in await queued(store.records, "ABC")]
    assert numbers == sorted(set(numbers))
