"""What steps cost inside the database: rows that stay in place, and tables nobody walks through."""

from __future__ import annotations

import asyncpg
import pytest

from deployments.jobs.store import Store

from .rows import LEASE_S, claimed, project, submit

_JOBS = 5
_BEATS = 40


@pytest.fixture
def store_kind() -> str:
    """Statistics of the server; not the contract."""
    return "postgres"


@pytest.fixture
async def session(clean_dsn: str):
    """A session whose counts can be read at once."""
    connection = await asyncpg.connect(clean_dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def counts(session: asyncpg.Connection, table: str) -> asyncpg.Record:
    await session.execute("select pg_stat_force_next_flush()")
    row = await session.fetchrow(
        "select n_tup_upd, n_tup_hot_upd, seq_tup_read from pg_stat_user_tables where relname = $1",
        table,
    )
    assert row is not None
    return row


async def fill(session: asyncpg.Connection, ended: int) -> None:
    """Full pages: projects with one job each that ended long ago."""
    await session.execute(
        """
        insert into projects (id, original_path, processed_path, background_engine)
        select 'old-' || n, 'o', 'p', 'grabcut' from generate_series(1, $1::integer) n
        """,
        ended,
    )
    await session.execute(
        """
        insert into jobs (project_id, kind, state, fingerprint, result, finished_at, client)
        select 'old-' || n, 'generate', 'succeeded', 'f', '{}', clock_timestamp(), n % 50
          from generate_series(1, $1::integer) n
        """,
        ended,
    )
    await session.execute("analyze projects, jobs")


async def test_a_heartbeat_writes_to_no_index(store: Store, session: asyncpg.Connection) -> None:
    leases = [
        await claimed(store.records, await project(store.records, f"p{n}")) for n in range(_JOBS)
    ]
    for lease in leases:
        await store.records.heartbeat(
            lease.job.id, lease.fence, lease_s=LEASE_S, stage="views", progress=0.0
        )
    await fill(session, 300)  # the pages of the rows that are to change
    before = {table: await counts(session, table) for table in ("jobs", "projects")}
    for beat in range(_BEATS):
        for lease in leases:
            await session.fetchval(
                "select heartbeat_v1($1, $2, $3, 'views', $4, 'rendering')",
                lease.job.id,
                lease.fence,
                LEASE_S,
                beat / _BEATS,
            )
    for table, was in before.items():
        now = await counts(session, table)
        updates = now["n_tup_upd"] - was["n_tup_upd"]
        in_place = now["n_tup_hot_upd"] - was["n_tup_hot_upd"]
        assert updates >= _JOBS * (_BEATS - 1)
        assert in_place == updates


async def test_claims_and_heartbeats_walk_through_no_table(
    store: Store, session: asyncpg.Connection
) -> None:
    await fill(session, 3000)
    for n in range(3):
        await submit(store.records, await project(store.records, f"p{n}"), client=f"client-{n}")
    before = {table: await counts(session, table) for table in ("jobs", "projects", "job_events")}
    claim = await session.fetchval("select claim_job_v1('w', $1)", LEASE_S)
    assert claim is not None
    await session.fetchval("select claim_job_v1('w', 0.001)")
    await session.fetchval("select pg_sleep(0.01)")
    assert await session.fetchval("select claim_job_v1('w', $1)", LEASE_S) is not None
    for table, was in before.items():
        walked = (await counts(session, table))["seq_tup_read"] - was["seq_tup_read"]
        assert walked == 0, table


async def test_messages_that_are_not_due_are_not_looked_at(
    store: Store, session: asyncpg.Connection
) -> None:
    await fill(session, 300)
    await session.execute(
        "insert into webhooks (job_id, url, next_at) "
        "select id, 'https://example.org', clock_timestamp() + interval '1 hour' from jobs"
    )
    await session.execute("analyze webhooks")

    async def read() -> int:
        await session.execute("select pg_stat_force_next_flush()")
        number: int = await session.fetchval(
            "select i.idx_tup_read + t.seq_tup_read from pg_stat_user_indexes i "
            "join pg_stat_user_tables t using (relid) where i.indexrelname = 'webhooks_due'"
        )
        return number

    before = await read()
    assert await session.fetchval("select claim_webhook_v1(60)") is None
    assert await read() == before
