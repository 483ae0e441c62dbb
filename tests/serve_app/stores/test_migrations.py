"""The files in `supabase/`: what is written down of them, and where they are found."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path

import asyncpg

from bench.schema import FILE, schema_file
from serve_app.stores import migrate
from serve_app.stores.migrations import demo_policies, migration_files, sql_file

from .fixtures import on_server

ROOT = Path(__file__).resolve().parents[3]

#: Puts a new database back to what checkouts before the first release made.
_BEFORE_THE_RELEASE = """
create index jobs_by_lease on jobs (lease_expires_at) where state = 'running';
update glimpse3d_migrations set version = '20261129000001', sha256 = 'of another text';
"""


def test_schema_file_is_what_the_migrations_make(fresh_dsn: str) -> None:
    assert schema_file(fresh_dsn) == FILE.read_text(encoding="utf-8"), (
        "supabase/schema.sql is not what the migrations make: run `python -m bench.schema`"
    )


def test_a_database_of_an_unreleased_checkout_is_taken_over(fresh_dsn: str) -> None:
    async def put_back(connection: asyncpg.Connection) -> None:
        await connection.execute(_BEFORE_THE_RELEASE)

    on_server(fresh_dsn, put_back)
    assert schema_file(fresh_dsn) != FILE.read_text(encoding="utf-8")
    assert asyncio.run(migrate(fresh_dsn)) == tuple(file.version for file in migration_files())
    assert schema_file(fresh_dsn) == FILE.read_text(encoding="utf-8")


def test_no_migration_defines_a_function_twice() -> None:
    for file in migration_files():
        made = file.sql.split("create or replace function ")[1:]
        names = [text.split("(", 1)[0] for text in made]
        assert len(names) == len(set(names)), file.name


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
        (f"{share}/setup", sql_file("setup/opening.sql")),
    ]
