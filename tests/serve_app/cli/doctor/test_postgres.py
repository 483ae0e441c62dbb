"""`glimpse3d doctor` on PostgreSQL and a directory, and what does not depend on the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from deployments.jobs.rows import Bucket
from serve_app.cli.doctor import cycles
from serve_app.cli.doctor import postgres_checks as postgres
from serve_app.cli.doctor.checks import run_steps
from serve_app.cli.doctor.postgres_checks import PostgresRound, check_disk
from serve_app.cli.supabase_command import setup_sql
from serve_app.settings import Environment
from serve_app.stores import EmbeddedPostgres, StoreSettings
from tests.serve_app.cli.doctor.conftest import Examined
from tests.serve_app.stores.fixtures import on_server

Examine = Callable[[], Examined]


def run_sql(dsn: str, sql: str) -> None:
    on_server(dsn, lambda connection: connection.execute(sql))


@pytest.fixture
def database(fresh_dsn: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A migrated database of the test's own that the environment names."""
    monkeypatch.setenv("DATABASE_URL", fresh_dsn)
    return fresh_dsn


def test_whole_database(database: str, examine: Examine, empty_place: Path) -> None:
    examined = examine()
    assert examined.exit_code == 0, examined.text
    assert examined.store == "postgres"
    assert [*examined.checks] == [
        *("environment", "database", "version", "migrations", "tables", "functions", "rows"),
        "directory",
        *(f"files in {bucket}" for bucket in Bucket),
        *("disk", "clock", "weights"),
    ]
    assert examined.with_status("failed") | examined.with_status("skipped") == set()
    assert [*empty_place.iterdir()] == []

    async def count(connection: asyncpg.Connection) -> object:
        query = "select (select count(*) from projects) + (select count(*) from deletions)"
        return await connection.fetchval(query)

    assert on_server(database, count) == 0


def test_roles_of_another_database_do_not_matter(
    database: str, supabase_dsn: str, examine: Examine
) -> None:
    """Roles belong to the whole server: here they came after the migrations."""
    del supabase_dsn
    run_sql(database, "revoke all on all tables in schema public from service_role")
    assert examine().exit_code == 0


def test_files_of_a_service_stay(database: str, examine: Examine, empty_place: Path) -> None:
    del database
    kept = empty_place / "data" / "files" / Bucket.DEPTH / "p1" / "depth.png"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"depth")
    assert examine().exit_code == 0
    files = [path for path in (empty_place / "data").rglob("*") if path.is_file()]
    assert files == [kept]


@pytest.mark.slow
def test_empty_directory_and_no_variables(examine: Examine, empty_place: Path) -> None:
    examined = examine()
    assert examined.exit_code == 0, examined.text
    assert "no database yet" in examined.checks["database"]["found"]
    assert examined.checks["rows"]["status"] == "ok"
    assert [*empty_place.iterdir()] == []


def _runs(data_dir: Path) -> bool:
    return EmbeddedPostgres(data_dir / "postgres").running


@pytest.mark.slow
def test_embedded_server(
    examine: Examine, embedded_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSET_DIR", str(embedded_dir))
    settings = StoreSettings(data_dir=embedded_dir)
    settings.prepare()
    # The service of this process uses it: it runs on.
    assert "server runs" in examine().checks["database"]["found"]
    assert _runs(embedded_dir)
    settings.stop()
    assert not _runs(embedded_dir)
    examined = examine()
    assert examined.exit_code == 0, examined.text
    assert "server starts" in examined.checks["database"]["found"]
    assert not _runs(embedded_dir)


def test_nobody_answers(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hemmelig-ord@127.0.0.1:1/d")
    examined = examine()
    assert examined.exit_code == 1
    assert "cannot be reached" in examined.cross("database")
    assert examined.with_status("failed") == {"database"}
    assert examined.checks["files in depth-maps"]["status"] == "ok"
    assert "hemmelig" not in examined.text


@pytest.mark.parametrize("url", ["mysql://h/d", "nonsense", "postgresql://u:p@h:port/d"])
def test_no_url(examine: Examine, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    assert "postgresql://user:password@host:port/database" in examine().cross("environment")


def test_a_key_without_its_url(
    database: str, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    del database
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", "sb_secret_1")
    examined = examine()
    assert "SUPABASE_URL" in examined.remark("environment")
    assert examined.exit_code == 0


def test_not_migrated(postgres_dsn: str, examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    run_sql(postgres_dsn, "create database test_doctor_empty")
    empty = postgres_dsn.replace("@/postgres?", "@/test_doctor_empty?")
    monkeypatch.setenv("DATABASE_URL", empty)
    examined = examine()
    assert "glimpse3d serve" in examined.cross("migrations")
    assert examined.with_status("failed") == {"migrations"}

    async def tables(connection: asyncpg.Connection) -> object:
        return await connection.fetchval(
            "select count(*) from pg_class where relnamespace = 'public'::regnamespace"
        )

    assert on_server(empty, tables) == 0


def test_older_migrations(database: str, examine: Examine) -> None:
    run_sql(
        database,
        "create or replace function public.schema_version_v1() returns text language sql "
        "as $$ select '20200101000000' $$",
    )
    assert "20200101000000" in examine().cross("migrations")


def test_damaged_schema(database: str, examine: Examine) -> None:
    run_sql(database, "drop table contact_sheets; drop function queue_v1")
    examined = examine()
    assert "missing: contact_sheets" in examined.cross("tables")
    assert "missing: queue_v1" in examined.cross("functions")
    assert "glimpse3d supabase sql | psql" in examined.cross("functions")
    run_sql(database, setup_sql())
    assert examine().exit_code == 0


def test_old_server(database: str, examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    del database
    monkeypatch.setattr(postgres, "_OLDEST", 990000)
    examined = examine()
    assert "PostgreSQL 99" in examined.cross("version")
    assert examined.checks["rows"]["status"] == "skipped"


def test_no_place_for_files(
    database: str, examine: Examine, empty_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del database
    (empty_place / "file").touch()
    monkeypatch.setenv("ASSET_DIR", str(empty_place / "file" / "data"))
    examined = examine()
    assert "ASSET_DIR" in examined.cross("directory")
    assert examined.checks["files in depth-maps"]["status"] == "skipped"


def test_directory_of_another_user(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: EmbeddedPostgres) -> str:
        raise PermissionError(13, "Permission denied", "data/postgres/users.lock")

    monkeypatch.setattr(EmbeddedPostgres, "start", start)
    assert "users.lock: Permission denied" in examine().cross("database")


def test_damaged_signing_key(database: str, examine: Examine, empty_place: Path) -> None:
    del database
    (empty_place / "data").mkdir()
    (empty_place / "data" / "signing.key").write_text("short")
    assert "delete it" in examine().cross("directory").lower()


def test_disk() -> None:
    assert check_disk(6 * 10**9).status == "ok"
    assert check_disk(4 * 10**9).status == "warning"


def test_a_variable_that_cannot_be_read(
    examine: Examine, printed: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_PORT", "many")
    examined = examine()
    assert examined.exit_code == 1
    assert examined.store is None
    assert "API_PORT" in examined.cross("environment")
    assert printed().startswith("✗ environment: API_PORT")
    monkeypatch.delenv("API_PORT")
    monkeypatch.setenv("ENGINE_OPTIONS", "{")
    assert "engine_options" in examine().cross("environment")


def test_env_file(examine: Examine, empty_place: Path) -> None:
    (empty_place / ".env").write_text("SUPABASE_URL=abcd\n")
    examined = examine()
    assert examined.store == "supabase"
    assert "abcd" in examined.cross("environment")


async def test_mistakes_of_a_check_come_out(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    del database

    def mistaken(*_: object) -> None:
        raise KeyError("now")

    monkeypatch.setattr(cycles, "check_clock", mistaken)
    async with PostgresRound.steps_of(Environment()) as steps:
        with pytest.raises(KeyError):
            async for _ in run_steps(steps):
                pass
