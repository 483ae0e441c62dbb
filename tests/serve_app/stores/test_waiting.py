"""Waiting for jobs on PostgreSQL: what it costs, and that it works where notices do not come."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import cast

import pytest

from deployments.jobs.rows import JobState, Lease
from deployments.jobs.store import Store
from pipeline.errors import NotFound, Unavailable
from serve_app.http.dependencies import BlobUrls, Services
from serve_app.http.waiting import job_answer
from serve_app.stores import PostgresRecords, postgres
from serve_app.stores.migrations import newest_version
from serve_app.stores.postgres import _Changes, open_pool
from tests.fakes import Pooler

from .rows import LEASE_S, claimed, project, sql, submit

#: Nobody waits so long: what ends earlier was woken.
NEVER_S = 1000.0
LIMIT_S = 20.0


@pytest.fixture
def store_kind() -> str:
    """Not the contract: what only this store has."""
    return "postgres"


@pytest.fixture
async def records(store: Store) -> PostgresRecords:
    assert isinstance(store.records, PostgresRecords)
    return store.records


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Statements by function."""
    count: Counter[str] = Counter()
    call = PostgresRecords.call

    async def counted(self: PostgresRecords, function: str, **arguments: object) -> object:
        count[function] += 1
        return await call(self, function, **arguments)

    monkeypatch.setattr(PostgresRecords, "call", counted)
    return count


async def come_to_rest(records: PostgresRecords) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not records._changes.listening:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)


async def advance(records: PostgresRecords, lease: Lease, percent: int) -> None:
    await records.heartbeat(
        lease.job.id, lease.fence, lease_s=LEASE_S, stage="views", progress=percent / 100
    )


async def test_waiting_costs_no_statement_per_percent_and_waiter(
    records: PostgresRecords, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresRecords, "announced_poll_s", NEVER_S)
    await come_to_rest(records)
    watched = await claimed(records, await project(records, "watched"))
    others = [(await submit(records, await project(records, f"p{n}"))).id for n in range(25)]
    names = [watched.job.id] * 25 + others
    waiters = [asyncio.create_task(records.wait_for_job(name, NEVER_S)) for name in names]
    await asyncio.sleep(0.05)
    calls.clear()
    for percent in range(100):
        await advance(records, watched, percent)
    await asyncio.sleep(0.05)
    del calls["heartbeat_v1"]
    assert calls.total() == 0, calls

    await records.finish_job(watched.job.id, watched.fence, state=JobState.SUCCEEDED)
    async with asyncio.timeout(LIMIT_S):
        ended = await asyncio.gather(*waiters[:25])
    assert {job.state for job in ended} == {JobState.SUCCEEDED}
    assert calls["ended_jobs_v1"] <= 2, "one statement for all, perhaps another for the last ones"
    for name in others:
        await records.cancel_job(name)
    async with asyncio.timeout(LIMIT_S):
        states = {job.state for job in await asyncio.gather(*waiters[25:])}
    assert states == {JobState.CANCELLED}
    assert calls["get_job_v1"] == 0


async def test_those_who_poll_ask_together(
    clean_dsn: str, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresRecords, "poll_s", 0.2)
    async with open_pool(clean_dsn) as pool:
        records = PostgresRecords(pool)
        jobs = [(await submit(records, await project(records, f"p{n}"))).id for n in range(50)]
        calls.clear()
        await asyncio.gather(*(records.wait_for_job(name, 1.0) for name in jobs))
        asked = calls["ended_jobs_v1"]
        assert calls["get_job_v1"] == 50, "each reads its job once, when its time is up"
        assert asked <= 2 * (1 + 5 + 1), "50 of them in some six looks"


async def test_each_waiter_hears_of_its_own_job(records: PostgresRecords) -> None:
    first = await submit(records, await project(records, "first"))
    second = await submit(records, await project(records, "second"))
    names = [first.id, "nobody", second.id, "\0", "\ud800", "\u0661"]
    waiters = [asyncio.create_task(records.wait_for_job(name, NEVER_S)) for name in names]
    await asyncio.sleep(0.05)
    waiters[0].cancel()
    await records.cancel_job(second.id)
    async with asyncio.timeout(LIMIT_S):
        answers = await asyncio.gather(*waiters, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert isinstance(answers[1], NotFound)
    assert not isinstance(answers[2], BaseException)
    assert (answers[2].id, answers[2].state) == (second.id, JobState.CANCELLED)
    for answer in answers[3:]:
        assert isinstance(answer, Exception), "what is no id of a job hinders nobody"


async def test_who_waits_for_a_job_that_is_deleted_hears_so(records: PostgresRecords) -> None:
    job = await submit(records, await project(records))
    waiter = asyncio.create_task(records.wait_for_job(job.id, NEVER_S))
    await asyncio.sleep(0.05)
    await records.delete_project(job.project_id)
    await records.purge_project(job.project_id)
    async with asyncio.timeout(LIMIT_S):
        (answer,) = await asyncio.gather(waiter, return_exceptions=True)
    assert isinstance(answer, NotFound) or answer.state is JobState.CANCELLED


# --- notices that do not come ------------------------------------------------------------------


async def test_behind_a_transaction_pooler_waiting_polls(
    clean_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresRecords, "poll_s", 0.02)
    monkeypatch.setattr(PostgresRecords, "announced_poll_s", NEVER_S)
    monkeypatch.setattr(_Changes, "probe_s", 0.05)
    pooler = Pooler(clean_dsn)
    async with pooler.running() as url, open_pool(url) as pool, PostgresRecords(pool) as records:
        lease = await claimed(records, await project(records))
        async with asyncio.timeout(LIMIT_S):
            while not pooler.swallowed:  # the listener listens, and hears nothing
                await advance(records, lease, 1)
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        waiter = asyncio.create_task(records.wait_for_job(lease.job.id, NEVER_S))
        await asyncio.sleep(0.05)
        await records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)
        async with asyncio.timeout(LIMIT_S):
            assert (await waiter).state is JobState.SUCCEEDED


async def test_a_listener_that_goes_deaf_is_noticed(
    clean_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresRecords, "poll_s", 0.02)
    monkeypatch.setattr(PostgresRecords, "announced_poll_s", NEVER_S)
    monkeypatch.setattr(_Changes, "probe_s", 0.05)
    monkeypatch.setattr(_Changes, "probe_every_s", 0.1)
    pooler = Pooler(clean_dsn, deaf=False)
    async with pooler.running() as url, open_pool(url) as pool, PostgresRecords(pool) as records:
        await come_to_rest(records)
        lease = await claimed(records, await project(records))
        waiter = asyncio.create_task(records.wait_for_job(lease.job.id, NEVER_S))
        pooler.deaf = True
        await asyncio.sleep(0.05)
        await records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)
        async with asyncio.timeout(LIMIT_S):
            assert (await waiter).state is JobState.SUCCEEDED
        pooler.deaf = False
        await come_to_rest(records)


async def test_a_busy_pool_is_not_taken_for_a_pooler(
    clean_dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(postgres, "_CONNECT_TIMEOUT_S", 0.2)
    async with open_pool(clean_dsn, size=2) as pool:
        async with pool.acquire(), PostgresRecords(pool) as records:
            async with asyncio.timeout(LIMIT_S):
                while "polls until the listener is back" not in caplog.text:
                    await asyncio.sleep(0.01)
                await records.ping()  # the listener does not keep the connection to itself
            assert not records._changes.listening
        async with PostgresRecords(pool) as records:
            await come_to_rest(records)
    assert "pooler" not in caplog.text


# --- answers -------------------------------------------------------------------------------------


async def test_a_job_is_read_by_the_clock_that_wrote_it(
    records: PostgresRecords, clean_dsn: str
) -> None:
    lease = await claimed(records, await project(records))
    await advance(records, lease, 50)
    await sql(clean_dsn, "update jobs set started_at = started_at - interval '100 seconds'")
    job = await records.get_job(lease.job.id)
    assert job.started_at is not None
    assert job.read_at.tzinfo is UTC
    assert 100 <= (job.read_at - job.started_at).total_seconds() < 200
    assert job == await records.get_job(job.id), "when it was read is not what it is"


async def test_what_is_left_does_not_depend_on_the_clock_of_this_process(
    store: Store, records: PostgresRecords, clean_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(2001, 1, 1, tzinfo=UTC)

    lease = await claimed(records, await project(records))
    await advance(records, lease, 50)
    await sql(clean_dsn, "update jobs set started_at = started_at - interval '100 seconds'")
    job = await records.get_job(lease.job.id)
    monkeypatch.setattr("serve_app.http.waiting.datetime", Wrong, raising=False)
    urls = BlobUrls(store.blobs, "")
    left_s = (await job_answer(cast(Services, None), urls, job)).eta_s
    assert left_s is not None
    assert 100 <= left_s < 200


@pytest.mark.parametrize("answer", ["'7'", "'{}'", "'[1]'", "null", "'{\"id\": 3}'"])
async def test_an_answer_that_cannot_be_read_names_function_and_schema(
    fresh_dsn: str, answer: str
) -> None:
    async with open_pool(fresh_dsn) as pool:
        records = PostgresRecords(pool)
        name = await project(records)
        for function, parameters in (
            ("get_job_v1", "p_job_id text"),
            ("get_project_v1", "p_project_id text"),
            (
                "finish_upload_v1",
                "p_project_id text, p_idempotency_key text default null, "
                "p_fingerprint text default '', p_client text default ''",
            ),
            ("queue_v1", ""),
            ("referenced_paths_v1", "p_project_id text"),
        ):
            await pool.execute(
                f"create or replace function {function}({parameters}) returns jsonb "
                f"language sql as $$ select {answer}::jsonb $$"
            )
        for function, asking in (
            ("get_job_v1", records.get_job("j")),
            ("get_project_v1", records.get_project(name)),
            ("finish_upload_v1", records.finish_upload(name)),
            ("queue_v1", records.queue()),
        ):
            with pytest.raises(Unavailable, match=f"{function}.*{newest_version()}") as caught:
                await asking
            assert "/" not in caught.value.detail
        if answer not in ("null", "'{}'"):  # which mean something
            with pytest.raises(Unavailable, match="referenced_paths_v1"):
                await records.referenced_paths(name)
