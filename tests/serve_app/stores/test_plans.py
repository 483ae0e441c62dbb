"""What steps cost inside the database: rows that stay in place, and tables nobody walks through."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import asyncpg
import pytest

from serve_app.stores import PostgresRecords
from serve_app.stores.postgres import open_pool

from .rows import LEASE_S, claimed, project, submit

_JOBS = 5
_BEATS = 40

#: A row that an index names is never updated in place. Of the others a few are not either: a
#: page is full for as long as somebody's snapshot, autovacuum's for one, keeps old rows in it.
_IN_PLACE_SHARE = 0.9


@pytest.fixture
def store_kind() -> str:
    """Statistics of the server; not the contract."""
    return "postgres"


@pytest.fixture
async def session(clean_dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """One connection, which knows its own counts at once; those of others come when they like."""
    async with open_pool(clean_dsn, size=1) as pool:
        yield pool


@pytest.fixture
def records(session: asyncpg.Pool) -> PostgresRecords:
    return PostgresRecords(session)


async def updates(session: asyncpg.Pool, table: str) -> tuple[int, int]:
    """Of rows, so far, and how many of them touched no index."""
    await session.execute("select pg_stat_force_next_flush()")
    row = await session.fetchrow(
        "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relname = $1", table
    )
    assert row is not None
    return row[0], row[1]


async def fill(session: asyncpg.Pool, ended: int) -> None:
    """Full pages: projects with one job each that ended long ago."""
    await session.execute(
        """
        insert into projects (id) select 'old-' || n from generate_series(1, $1::integer) n
        """,
        ended,
    )
    await session.execute(
        """
        insert into project_photos (
            id, project_id, state, position, original_path, processed_path, background_engine)
        select 'old-' || n, 'old-' || n, 'listed', 0, 'o', 'p', 'grabcut'
          from generate_series(1, $1::integer) n
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
    await session.execute("analyze projects, project_photos, jobs")


async def test_a_heartbeat_writes_to_no_index(
    records: PostgresRecords, session: asyncpg.Pool
) -> None:
    leases = [await claimed(records, await project(records, f"p{n}")) for n in range(_JOBS)]

    async def beat(progress: float) -> None:
        for lease in leases:
            await records.heartbeat(
                lease.job.id, lease.fence, lease_s=LEASE_S, stage="views", progress=progress
            )

    await beat(0.0)  # a stage begins, which is another status of the project
    await fill(session, 300)  # the pages of the rows that are to change
    before = {table: await updates(session, table) for table in ("jobs", "projects")}
    for number in range(1, _BEATS):
        await beat(number / _BEATS)
    for table, (all_before, in_place_before) in before.items():
        all_now, in_place_now = await updates(session, table)
        assert all_now - all_before >= _JOBS * (_BEATS - 1)
        changed, in_place = all_now - all_before, in_place_now - in_place_before
        assert in_place >= _IN_PLACE_SHARE * changed, (table, in_place, changed)


async def test_claims_walk_through_no_table(
    records: PostgresRecords, session: asyncpg.Pool
) -> None:
    await fill(session, 3000)
    for n in range(3):
        await submit(records, await project(records, f"p{n}"), client=f"client-{n}")
    async with session.acquire() as connection, connection.transaction():
        claim = "select claim_job_v1('w', $1, 4)"
        for lease_s in (LEASE_S, 0.001):
            assert await connection.fetchval(claim, lease_s) is not None
        await connection.execute("select pg_sleep(0.01)")
        again = await connection.fetchval(claim, LEASE_S)
        assert again is not None
        assert json.loads(again)["fence"] == 2, "the one whose lease has expired"
        walked = await connection.fetch(
            "select relname, seq_tup_read from pg_stat_xact_user_tables where seq_tup_read > 0"
        )
        assert [tuple(row) for row in walked] == []


async def test_messages_that_are_not_due_are_not_looked_at(session: asyncpg.Pool) -> None:
    await fill(session, 300)
    await session.execute(
        "insert into webhooks (job_id, url, next_at) "
        "select id, 'https://example.org', clock_timestamp() + interval '1 hour' from jobs"
    )
    await session.execute("analyze webhooks")
    async with session.acquire() as connection, connection.transaction():
        assert await connection.fetchval("select claim_webhook_v1(60)") is None
        read = await connection.fetchrow(
            "select seq_tup_read, idx_tup_fetch from pg_stat_xact_user_tables "
            "where relname = 'webhooks'"
        )
        assert read is not None
        assert tuple(read) == (0, 0)
