"""What only the PostgreSQL store has: events, migrations, the listener, errors of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from deployments.jobs.commits import StageCommit
from deployments.jobs.job_errors import IdempotencyMismatch, ProjectBusy, StaleAttempt
from deployments.jobs.rows import JobKind, JobState
from deployments.jobs.store import Store
from pipeline.errors import (
    Conflict,
    GlimpseError,
    InvalidInput,
    NotFound,
    NotGeneratedYet,
    Unavailable,
)
from serve_app.stores import EmbeddedPostgres, PostgresRecords, StoreSettings, migrate
from serve_app.stores.migrations import (
    Migration,
    apply_migrations,
    migration_files,
    newest_version,
)
from serve_app.stores.postgres import open_pool
from serve_app.stores.records import error_for_sqlstate

from .rows import (
    LEASE_S,
    PREVIEWS,
    SHEET,
    VIEWS,
    claim,
    claimed,
    expire,
    export,
    generated,
    project,
    submit,
)


@pytest.fixture
def store_kind() -> str:
    """Not the contract: what only this store has."""
    return "postgres"


TABLES = {
    "projects",
    "project_photos",
    "multiview_generation",
    "view_edits",
    "depth_maps",
    "gaussian_splat_models",
    "enhancement_iterations",
    "enhanced_views",
    "refinement_metrics",
    "export_history",
    "model_previews",
    "contact_sheets",
    "jobs",
    "job_events",
    "job_stages",
    "deletions",
    "webhooks",
    "file_store",
}


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def records(store: Store) -> PostgresRecords:
    assert isinstance(store.records, PostgresRecords)
    return store.records


async def test_events_are_numbered_without_gaps(records: PostgresRecords) -> None:
    name = await project(records)
    job = await submit(records, name)
    first = await claim(records)
    await expire(records, first)
    second = await claim(records)
    for _ in range(2):
        await asyncio.gather(
            *(
                records.heartbeat(
                    job.id, second.fence, lease_s=LEASE_S, stage="depth", progress=0.5
                )
                for _ in range(4)
            ),
            records.commit_stage(job.id, second.fence, VIEWS),
        )
    await records.cancel_job(job.id)
    await records.finish_job(job.id, second.fence, state=JobState.CANCELLED)

    events = await records.call("job_events_v1", p_job_id=job.id)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    kinds = [(event["kind"], event["data"].get("state")) for event in events]
    assert kinds[:4] == [
        ("state", "queued"),
        ("state", "running"),
        ("stage", None),
        ("state", "running"),
    ]
    assert sorted(kind for kind, _ in kinds[4:7]) == ["commit", "commit", "stage"]
    assert kinds[7:] == [("cancel", None), ("state", "cancelled")]
    assert events[3]["data"]["attempt"] == 2

    late = await records.call("job_events_v1", p_job_id=job.id, p_after=events[-2]["seq"])
    assert late == events[-1:]


async def test_waiter_is_woken_by_notice_and_not_by_polling(
    records: PostgresRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresRecords, "poll_s", 1000.0)
    monkeypatch.setattr(PostgresRecords, "announced_poll_s", 1000.0)
    lease = await claimed(records, await project(records))
    waiter = asyncio.create_task(records.wait_for_job(lease.job.id, 1000.0))
    await asyncio.sleep(0.05)
    await records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)
    assert (await waiter).state is JobState.SUCCEEDED


async def test_waiter_survives_the_loss_of_the_listener(
    records: PostgresRecords, clean_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresRecords, "poll_s", 0.02)
    lease = await claimed(records, await project(records))
    waiter = asyncio.create_task(records.wait_for_job(lease.job.id, 1000.0))
    await asyncio.sleep(0.05)
    async with connected(clean_dsn) as connection:
        ended = await connection.fetchval(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity "
            "where datname = current_database() and query like 'LISTEN%'"
        )
        assert ended == 1
    await records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)
    assert (await waiter).state is JobState.SUCCEEDED


async def test_waiting_without_a_listener_polls(
    clean_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresRecords, "poll_s", 0.01)
    async with open_pool(clean_dsn) as pool:
        records = PostgresRecords(pool)
        lease = await claimed(records, await project(records))
        waiter = asyncio.create_task(records.wait_for_job(lease.job.id, 1000.0))
        await asyncio.sleep(0.05)
        await records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)
        assert (await waiter).state is JobState.SUCCEEDED


async def test_migrations_apply_once_and_files_run_twice(fresh_dsn: str) -> None:
    assert await migrate(fresh_dsn) == ()
    async with connected(fresh_dsn) as connection:
        for migration in migration_files():
            await connection.execute("set client_min_messages = error")
            await connection.execute(migration.sql)
        await connection.execute("delete from glimpse3d_migrations")
    assert await migrate(fresh_dsn) == tuple(file.version for file in migration_files())


async def test_what_a_commit_leaves_out_has_its_default(records: PostgresRecords) -> None:
    lease = await claimed(records, await project(records))
    splats = {"version": 0, "model_path": "p", "engine": "cpu", "origin": "generate"}
    splats |= {"splat_count": 1, "file_size_bytes": 1}
    iteration = {"iteration_number": 0, "accepted": True, "model_version": 0, "note": ""}
    iteration |= {"enhance_engine": "", "strength": 0.0, "learning_rate": 0.0, "seconds": 1.0}
    iteration |= {"view_agreement": 0.5, "psnr": 20.0, "ssim": 0.5, "lpips": None}
    view = {"iteration_number": 0, "view_index": 3, "image_path": "e", "engine": "unsharp"}
    file = {"model_version": 0, "format": "splat", "optimize": False, "seconds": 1.0}
    file |= {"file_path": "p/models/final.splat", "file_size_bytes": 32}
    for commit in (
        {"stage": "splats", "seconds": 1.0, "models": [splats]},
        {"stage": "export", "seconds": 1.0, "exports": [file]},
        {"stage": "iteration-0", "seconds": 1.0, "iterations": [iteration], "enhanced": [view]},
    ):
        await records.call(
            "commit_stage_v1", p_job_id=lease.job.id, p_fence=lease.fence, p_commit=commit
        )
    generated, exported, refined = await records.committed(lease.job.id)
    assert (generated.models[0].scores, refined.iterations[0].detail) == ({}, {})
    (seen,) = refined.enhanced
    assert (seen.before_path, seen.after_path, seen.weight) == (None, None, None)
    (row,) = exported.exports
    assert (row.file_path, row.options, row.notes) == ("p/models/final.splat", {}, ())


async def test_projects_do_not_show_the_key_of_their_upload(records: PostgresRecords) -> None:
    await project(records, "p")
    document = await records.call("get_project_v1", p_project_id="p")
    assert not {"idempotency_key", "fingerprint"} & set(document)


async def test_pool_closes_at_once_while_the_listener_begins(clean_dsn: str) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    for turns in range(12):
        async with open_pool(clean_dsn) as pool, PostgresRecords(pool):
            for _ in range(turns):
                await asyncio.sleep(0.001)
    assert loop.time() - began < 8.0, "a connection that is not given back is waited for"


async def test_migrating_at_once_applies_each_file_once(postgres_dsn: str) -> None:
    name = "migrate_at_once"
    dsn = postgres_dsn.replace("@/postgres?", f"@/{name}?")
    async with connected(postgres_dsn) as admin:
        await admin.execute(f"create database {name}")
        applied = await asyncio.gather(*(migrate(dsn) for _ in range(4)))
        await admin.execute(f"drop database {name} with (force)")
    assert sorted(len(versions) for versions in applied) == [0, 0, 0, len(migration_files())]


async def test_edited_migration_is_refused(fresh_dsn: str) -> None:
    *rest, last = migration_files()
    edited = (*rest, replace(last, sql=f"{last.sql}\n-- edited"))
    async with connected(fresh_dsn) as connection:
        with pytest.raises(GlimpseError, match="edited"):
            await apply_migrations(connection, edited)


async def test_failing_migration_leaves_nothing(fresh_dsn: str) -> None:
    extra = (
        Migration("29990101000001", "good", "create table left_behind ()"),
        Migration("29990101000002", "bad", "select no_such_function()"),
    )
    async with connected(fresh_dsn) as connection:
        with pytest.raises(asyncpg.UndefinedFunctionError):
            await apply_migrations(connection, migration_files() + extra)
        assert await connection.fetchval("select to_regclass('left_behind')") is None


def test_newest_migration_says_its_version() -> None:
    newest = migration_files()[-1]
    assert newest.version == newest_version()
    assert f"select '{newest.version}'" in newest.sql


def test_missing_migrations_are_explained(tmp_path: Path) -> None:
    with pytest.raises(GlimpseError, match="checkout"):
        migration_files(tmp_path)


async def test_ping_tells_a_database_that_is_behind(fresh_dsn: str) -> None:
    async with open_pool(fresh_dsn) as pool:
        records = PostgresRecords(pool)
        await records.ping()
        await pool.execute(
            "create or replace function schema_version_v1() returns text language sql "
            "as $$ select '20200101000000' $$"
        )
        with pytest.raises(Unavailable, match="migrate"):
            await records.ping()
        await pool.execute("drop function schema_version_v1()")
        with pytest.raises(Unavailable, match="migrations"):
            await records.ping()


async def test_every_table_is_closed_by_row_level_security(clean_dsn: str) -> None:
    async with connected(clean_dsn) as connection:
        rows = await connection.fetch(
            "select relname, relrowsecurity, obj_description(oid) as comment from pg_class "
            "where relnamespace = 'public'::regnamespace and relkind = 'r'"
        )
        assert {row["relname"] for row in rows} == TABLES | {"glimpse3d_migrations"}
        assert all(row["relrowsecurity"] and row["comment"] for row in rows)
        loose = await connection.fetch(
            "select proname from pg_proc where pronamespace = 'public'::regnamespace "
            "and not coalesce(proconfig::text, '') like '%search_path%'"
        )
        assert loose == []


async def test_foreign_keys_have_indexes(clean_dsn: str) -> None:
    async with connected(clean_dsn) as connection:
        bare = await connection.fetch(
            """
            select conrelid::regclass::text as relation, conname from pg_constraint c
             where contype = 'f' and not exists (
                select 1 from pg_index i where i.indrelid = c.conrelid
                   and (i.indkey::smallint[])[0] = c.conkey[1])
            """
        )
        assert bare == []


async def test_views_sum_a_project_up(records: PostgresRecords, clean_dsn: str) -> None:
    name = await generated(records)
    async with connected(clean_dsn) as connection:
        row = await connection.fetchrow("select * from project_summary where id = $1", name)
        assert row is not None
        assert (row["views"], row["depth_maps"], row["model_versions"]) == (2, 2, 1)
        assert (row["newest_version"], row["active_job_id"]) == (0, None)
        assert await connection.fetch("select * from refinement_progress") == []


async def test_deleting_a_project_takes_its_rows_along(
    records: PostgresRecords, clean_dsn: str
) -> None:
    name = await generated(records)
    lease = await claimed(records, name, JobKind.REFINE)
    for commit in (PREVIEWS, SHEET, StageCommit("export", 1.0, exports=(export(0),))):
        await records.commit_stage(lease.job.id, lease.fence, commit)
    async with connected(clean_dsn) as connection:
        await connection.execute("delete from projects where id = $1", name)
        for table in TABLES - {"file_store"}:
            assert await connection.fetchval(f"select count(*) from {table}") == 0


@pytest.mark.parametrize(
    ("sqlstate", "expected"),
    [
        ("GL400", InvalidInput),
        ("GL404", NotFound),
        ("GL409", Conflict),
        ("GL410", StaleAttempt),
        ("GL422", IdempotencyMismatch),
        ("GL423", ProjectBusy),
        ("GL425", NotGeneratedYet),
        ("23505", Conflict),
        ("23514", InvalidInput),
        ("22P02", InvalidInput),
        ("08006", Unavailable),
        ("3D000", Unavailable),
        ("40P01", Unavailable),
        ("42883", Unavailable),
        ("53300", Unavailable),
        ("57P01", Unavailable),
        ("XX000", GlimpseError),
        ("GL999", GlimpseError),
        ("", GlimpseError),
    ],
)
def test_every_sqlstate_has_an_error(sqlstate: str, expected: type[GlimpseError]) -> None:
    assert type(error_for_sqlstate(sqlstate, "because")) is expected


def test_every_state_our_functions_raise_is_mapped() -> None:
    raised = {
        part.split("'", 1)[0]
        for file in migration_files()
        for part in file.sql.split("errcode = '")[1:]
    }
    assert len(raised) == 9
    for sqlstate in raised:
        assert type(error_for_sqlstate(sqlstate, "because")) is not GlimpseError


async def test_nobody_at_the_socket_is_unavailable(tmp_path: Path) -> None:
    nowhere = f"postgresql://postgres@/postgres?host={tmp_path}"
    with pytest.raises(Unavailable):
        await migrate(nowhere)
    with pytest.raises(Unavailable):
        async with open_pool(nowhere):
            pass
    async with StoreSettings(tmp_path, nowhere).open() as store:
        with pytest.raises(Unavailable):
            await store.records.ping()
    with pytest.raises(Unavailable, match="prepare"):
        async with StoreSettings(tmp_path).open():
            pass


async def test_server_that_goes_away_is_unavailable_and_comes_back(embedded_dir: Path) -> None:
    settings = await asyncio.to_thread(StoreSettings(embedded_dir / "data").prepare)
    server = EmbeddedPostgres(embedded_dir / "data" / "postgres")
    try:
        async with settings.open() as store:
            name = await generated(store.records)
            lease = await claimed(store.records, name)
            waiter = asyncio.create_task(store.records.wait_for_job(lease.job.id, 1000.0))
            await asyncio.sleep(0.05)
            await asyncio.to_thread(server.stop)
            with pytest.raises(Unavailable):
                await waiter
            for attempt in (
                store.records.ping(),
                store.records.project_detail(name),
                store.records.claim_job("w", LEASE_S),
                store.records.commit_stage(lease.job.id, lease.fence, StageCommit("x", 0.0)),
            ):
                with pytest.raises(Unavailable):
                    await attempt
            await asyncio.to_thread(server.start)
            assert (await store.records.project_detail(name)).models
    finally:
        await asyncio.to_thread(server.stop)
        settings.stop()


@pytest.mark.parametrize(
    "url", ["postgresql://u:secret@host:port/d", "mysql://u:secret@host/d", "u:secret@host"]
)
def test_a_url_that_is_none_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(GlimpseError, match="DATABASE_URL") as caught:
        StoreSettings(tmp_path, url).prepare()
    assert "secret" not in str(caught.value)
