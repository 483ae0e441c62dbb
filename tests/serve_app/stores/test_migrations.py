"""The files in `supabase/`: what is written down of them, and where they are found."""

from __future__ import annotations

import asyncio
import re
import tomllib
from pathlib import Path

import asyncpg
import pytest

from bench.schema import FILE, new_database, schema_file
from pipeline.errors import InvalidOption, Unavailable
from serve_app.cli.doctor.schema_checks import promised
from serve_app.stores import migrate, migrations
from serve_app.stores.migrations import demo_policies, migration_files, sql_file

from .fixtures import on_server
from .rows import sql

ROOT = Path(__file__).resolve().parents[3]

#: Puts a new database back to what checkouts before the first release made.
_BEFORE_THE_RELEASE = """
create index jobs_by_lease on jobs (lease_expires_at) where state = 'running';
drop index jobs_one_key_per_client, projects_one_key_per_client, projects_with_a_key,
    jobs_to_forget, webhooks_to_forget;
alter table jobs drop column forgotten_at;
alter table jobs add constraint jobs_idempotency_key_is_unique unique (idempotency_key);
drop function begin_upload_v1, project_document_v1;
create function begin_upload_v1(
    p_project_id text, p_original_path text, p_processed_path text, p_background_engine text)
    returns jsonb language sql as $$ select null::jsonb $$;
drop table project_photos cascade;
alter table jobs drop column photos;
alter table projects drop column photos_revision,
    add column original_path text not null default 'o.png', add column processed_path text
        not null default 'p.png', add column background_engine text not null default 'grabcut';
alter table projects drop column client, drop column current_version;
alter table gaussian_splat_models drop column parent;
alter table projects add constraint projects_idempotency_key_is_unique unique (idempotency_key);
drop function forget_v1, ended_jobs_v1, finish_upload_v1, find_upload_v1;
create function add_project_v1(text, text, text, text, text) returns jsonb
    language sql as $$ select null::jsonb $$;
create function create_project_v1(text, text, text, text) returns jsonb
    language sql as $$ select null::jsonb $$;
create function find_upload_v1(p_idempotency_key text, p_fingerprint text) returns jsonb
    language sql as $$ select null::jsonb $$;
create function finish_upload_v1(
    p_project_id text, p_idempotency_key text default null, p_fingerprint text default '')
    returns jsonb language sql as $$ select null::jsonb $$;
create or replace trigger projects_touch_updated_at before update on projects
    for each row execute function touch_updated_at();
alter table jobs drop column false_starts;
drop function claim_job_v1, finish_webhook_v1;
create function claim_job_v1(p_worker text, p_lease_s double precision) returns jsonb
    language sql as $$ select null::jsonb $$;
create function finish_webhook_v1(
    p_job_id text, p_error text default null, p_retry_in_s double precision default null)
    returns boolean language sql as $$ select false $$;
alter table jobs drop column if exists shown;
create index jobs_to_sweep on jobs (finished_at) where swept_at is null;
alter table job_events drop constraint job_events_kind_is_known;
alter table job_events add constraint job_events_kind_is_known check (
    kind in ('state', 'stage', 'progress', 'commit', 'cancel'));
update glimpse3d_migrations set version = '20261129000001', sha256 = 'of another text';
"""


def test_schema_file_is_what_the_migrations_make() -> None:
    # On a server of its own: roles that other tests make are a whole server's.
    with new_database() as url:
        made = schema_file(url)
    assert made == FILE.read_text(encoding="utf-8"), (
        "supabase/schema.sql is not what the migrations make: run `python -m bench.schema`"
    )


def test_a_database_of_an_unreleased_checkout_is_taken_over(fresh_dsn: str) -> None:
    def migrated_after(sql: str) -> str:
        on_server(fresh_dsn, lambda connection: connection.execute(sql))
        assert asyncio.run(migrate(fresh_dsn)) == tuple(file.version for file in migration_files())
        return schema_file(fresh_dsn)

    # Not the file: roles of other tests, which are the server's, have rights in this database.
    new = migrated_after("delete from glimpse3d_migrations")
    assert migrated_after(_BEFORE_THE_RELEASE) == new


async def test_a_migration_does_not_wait_for_ever_for_a_table(
    fresh_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT_S", 0.1)
    reader = await asyncpg.connect(fresh_dsn)
    try:
        await reader.execute("delete from glimpse3d_migrations")
        async with reader.transaction():
            await reader.fetch("select * from jobs")
            async with asyncio.timeout(20):
                with pytest.raises(Unavailable, match="nothing was changed"):
                    await migrate(fresh_dsn)
        assert await reader.fetch("select * from glimpse3d_migrations") == []
        # Who migrates is waited for, however long it takes.
        async with reader.transaction():
            await reader.execute("select pg_advisory_xact_lock($1)", migrations._ADVISORY_LOCK)
            second = asyncio.create_task(migrate(fresh_dsn))
            await asyncio.sleep(0.3)
        assert await second == tuple(file.version for file in migration_files())
    finally:
        await reader.close()


def test_no_migration_defines_a_function_twice() -> None:
    for file in migration_files():
        made = file.sql.split("create or replace function ")[1:]
        names = [text.split("(", 1)[0] for text in made]
        assert len(names) == len(set(names)), file.name


def test_every_name_of_ours_is_guarded() -> None:
    """The head of the baseline refuses a database where another program has one of them."""
    head = migration_files()[0].sql.partition("$$;")[0]
    named = set(re.findall(r"'(\w+)'", head.partition("select string_agg")[2]))
    missing = (promised().tables | promised().functions) - named
    assert not missing, f"add them to the head of the baseline: {sorted(missing)}"


OTHERS = {
    "table projects": "create table projects (id int)",
    "table webhooks": "create table webhooks (job_id text, state text, next_at timestamptz)",
    "view project_summary": "create view project_summary as select 1 as id",
    "function touch_updated_at": "create function touch_updated_at() returns trigger language "
    "plpgsql as $$begin return new; end$$",
    # Ours would stand beside it, and take its rights away.
    "function get_job_v1": "create function get_job_v1(int) returns int language sql as 'select 1'",
}


@pytest.mark.parametrize("found", OTHERS)
async def test_a_database_with_objects_of_another_program_is_refused(
    empty_dsn: str, found: str
) -> None:
    await sql(empty_dsn, OTHERS[found])
    with pytest.raises(InvalidOption, match=f"another program .*: {found}\\. Nothing was changed"):
        await migrate(empty_dsn)
    await sql(empty_dsn, f"drop {found}")
    assert await migrate(empty_dsn)


async def test_objects_of_an_earlier_checkout_are_recognised(empty_dsn: str) -> None:
    """One that got no further than its first file had tables, and no function of ours yet."""
    tables = migration_files()[0].sql.partition("-- TABLES\n")[2]
    first = re.search(r"^create table .*?^\);$", tables, re.MULTILINE | re.DOTALL)
    assert first is not None
    await sql(empty_dsn, first[0])
    assert await migrate(empty_dsn)
    assert await migrate(empty_dsn) == ()


def test_a_wheel_brings_the_files_along() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packed = [
        (target, path.read_text(encoding="utf-8"))
        for target, patterns in project["tool"]["setuptools"]["data-files"].items()
        for pattern in patterns
        for path in sorted(ROOT.glob(pattern))
    ]
    share = "share/glimpse3d/supabase"
    assert packed == [
        *((f"{share}/migrations", file.sql) for file in migration_files()),
        (f"{share}/policies", demo_policies()),
        *((f"{share}/setup", sql_file(f"setup/{name}.sql")) for name in ("closing", "opening")),
    ]
