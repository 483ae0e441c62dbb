"""Fixtures with a real store, for this folder and for everybody who needs one.

One embedded server per session, with one database per kind of store that is emptied before each
test; a test that spoils its database gets a copy of the migrated template. `store_kind` says which
kind the others are of:

    postgres    PostgreSQL and a directory
    supabase    the same server behind `tests.gateway`, which speaks Supabase's protocols
    project     a real Supabase project, when SUPABASE_TEST_URL and SUPABASE_TEST_KEY (its secret
                key) are set. Tests delete everything in it. Those that look into the database
                need SUPABASE_TEST_DATABASE_URL, too.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TypeVar

import asyncpg
import httpx
import pytest
from postgrest.types import ReturnMethod
from supabase import AsyncClientOptions, create_async_client

from deployments.jobs.rows import Bucket
from deployments.jobs.store import Store
from serve_app.stores import EmbeddedPostgres, StoreSettings, SupabaseSettings, migrate
from tests.gateway import Gateway, KeyRules, prepare

__all__ = [
    "STORE_KINDS",
    "clean_dsn",
    "delete_everything",
    "embedded_dir",
    "empty_dsn",
    "empty_dsns",
    "fresh_dsn",
    "fresh_supabase_dsn",
    "gateway",
    "on_server",
    "postgres_dsn",
    "postgres_server",
    "quiet_gateway",
    "server_directory",
    "shared_dsn",
    "store",
    "store_kind",
    "store_settings",
    "supabase_dsn",
]

#: Of the contract suite.
STORE_KINDS = [
    "postgres",
    "supabase",
    *(["project"] if os.environ.get("SUPABASE_TEST_URL") else []),
]

T = TypeVar("T")

_TEMPLATE = "glimpse3d_template"
_PROJECT_TEMPLATE = "glimpse3d_project_template"
_names = (f"test_{number}" for number in count(1))


@contextmanager
def server_directory() -> Iterator[Path]:
    """A temporary directory for an embedded server, outside of pytest's.

    Under root the server runs as another user, who must pass through the parents; every pytest
    that starts, in another terminal, closes the folder of pytest's temporary directories again.
    """
    directory = Path(tempfile.mkdtemp(prefix="glimpse3d-test-"))
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def embedded_dir() -> Iterator[Path]:
    """A `data_dir` for tests that start an embedded server of their own; they stop it."""
    with server_directory() as directory:
        yield directory


def on_server(dsn: str, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    """Run `work` on a connection, on a loop of its own: usable from any fixture and test."""

    async def connected() -> T:
        connection = await asyncpg.connect(dsn)
        try:
            return await work(connection)
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, connected()).result()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """The session's server, running."""
    with server_directory() as directory, EmbeddedPostgres(directory / "server") as server:
        # Its rows need not survive a power cut, and the disk is the slowest part of these tests.
        on_server(server.dsn, _trust_the_power)
        yield server


@pytest.fixture(scope="session")
def postgres_dsn(postgres_server: EmbeddedPostgres) -> str:
    """The session's server, with a migrated template in it; nobody writes to this database."""
    dsn = postgres_server.dsn
    on_server(dsn, lambda connection: connection.execute(f"create database {_TEMPLATE}"))
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, migrate(_database(dsn, _TEMPLATE))).result()
    return dsn


@pytest.fixture
def fresh_dsn(postgres_dsn: str) -> str:
    """A migrated database of the test's own, which it may spoil; it goes with the server."""
    return _copy_template(postgres_dsn, next(_names))


@pytest.fixture
def empty_dsns(postgres_dsn: str) -> Callable[[], str]:
    """Makes databases of the test's own without anything in them."""
    return lambda: _copy_template(postgres_dsn, next(_names), "template0")


@pytest.fixture
def empty_dsn(empty_dsns: Callable[[], str]) -> str:
    """One of them."""
    return empty_dsns()


@pytest.fixture(scope="session")
def shared_dsn(postgres_dsn: str) -> str:
    return _copy_template(postgres_dsn, "test_shared")


@pytest.fixture(scope="session")
def supabase_dsn(postgres_dsn: str) -> str:
    """A database as a Supabase project has it, with our migrations; the gateway serves it."""
    _create_project(postgres_dsn, _PROJECT_TEMPLATE)
    return _copy_template(postgres_dsn, "test_project", _PROJECT_TEMPLATE)


@pytest.fixture
def fresh_supabase_dsn(supabase_dsn: str, postgres_dsn: str) -> str:
    """The same for one test, which may spoil it."""
    del supabase_dsn
    return _copy_template(postgres_dsn, next(_names), _PROJECT_TEMPLATE)


@pytest.fixture(scope="session")
def gateway(supabase_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The session's stand-in for a Supabase project; it may have rows and files in it."""
    with Gateway.running(supabase_dsn, tmp_path_factory.mktemp("buckets")) as running:
        yield running


@pytest.fixture
def quiet_gateway(gateway: Gateway, supabase_dsn: str, tmp_path: Path) -> Iterator[Gateway]:
    """The gateway without rows, files, faults or requests of other tests."""
    on_server(supabase_dsn, _empty)
    gateway.use(supabase_dsn, tmp_path / "buckets")
    gateway.requests.clear()
    yield gateway
    gateway.faults.clear()
    gateway.rule_keys(KeyRules())


@pytest.fixture
def store_kind() -> str:
    """Which store the fixtures below are of; a module or a folder may say another."""
    return "postgres"


@pytest.fixture
def clean_dsn(store_kind: str, request: pytest.FixtureRequest) -> str:
    """The store's database, migrated and without rows; much faster than a fresh one."""
    if store_kind == "supabase":
        return request.getfixturevalue("quiet_gateway").dsn
    if store_kind == "project":
        dsn = os.environ.get("SUPABASE_TEST_DATABASE_URL")
        return dsn or pytest.skip("SUPABASE_TEST_DATABASE_URL is not set")
    dsn = request.getfixturevalue("shared_dsn")
    on_server(dsn, _empty)
    return dsn


@pytest.fixture
def store_settings(
    store_kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> StoreSettings | SupabaseSettings:
    """Settings of an empty store, ready for `open`; picklable, so replicas may have them."""
    if store_kind == "supabase":
        quiet = request.getfixturevalue("quiet_gateway")
        return SupabaseSettings(quiet.url, quiet.keys.secret).prepare()
    if store_kind == "project":
        url, key = os.environ["SUPABASE_TEST_URL"], os.environ["SUPABASE_TEST_KEY"]
        settings = SupabaseSettings(url, key).prepare()
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, delete_everything(settings)).result()
        return settings
    dsn = request.getfixturevalue("clean_dsn")
    return StoreSettings(data_dir=tmp_path / "data", database_url=dsn)


@pytest.fixture
async def store(store_settings: StoreSettings | SupabaseSettings) -> AsyncIterator[Store]:
    """An empty store, open."""
    async with store_settings.open() as opened:
        yield opened


async def _trust_the_power(connection: asyncpg.Connection) -> None:
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        await connection.execute(f"alter system set {setting} = off")
    await connection.execute("select pg_reload_conf()")


async def _empty(connection: asyncpg.Connection) -> None:
    """No rows, no files, and no other sessions."""
    await connection.execute(
        "select pg_terminate_backend(pid, 1000) from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid()"
    )
    await connection.execute("delete from projects; delete from deletions")
    await connection.execute("delete from file_store")
    if await connection.fetchval("select to_regclass('storage.objects')"):
        # Nobody may delete there, as on the platform.
        await connection.execute("truncate storage.objects")


async def delete_everything(settings: SupabaseSettings) -> None:
    """Empty a project by what its secret key may do, whoever left what there.

    Not by the service's own steps: those spare jobs that run, rows whose lease is not over, and
    files of projects that have no row.
    """
    async with httpx.AsyncClient(timeout=60) as http:
        client = await create_async_client(
            settings.url, settings.key, AsyncClientOptions(httpx_client=http)
        )
        # All other rows hang on projects.
        for table, key in (("projects", "id"), ("deletions", "project_id")):
            rows = client.table(table).delete(returning=ReturnMethod.minimal)
            await rows.not_.is_(key, "null").execute()
        for bucket in Bucket:
            files = client.storage.from_(bucket)
            # Each page that is listed goes, so the first one is always the next.
            while objects := (await files.list_v2({"limit": 1000})).objects:
                if not await files.remove([item.name for item in objects]):
                    raise RuntimeError(f"files of {bucket} cannot be deleted")


def _create_project(dsn: str, name: str) -> None:
    """A database with what Supabase puts into a new project, and our migrations."""
    on_server(dsn, lambda connection: connection.execute(f"create database {name}"))
    on_server(_database(dsn, name), prepare)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, migrate(_database(dsn, name))).result()
    on_server(_database(dsn, name), _hand_over)


async def _hand_over(connection: asyncpg.Connection) -> None:
    """Give what the migrations made to a role like the platform's: no superuser.

    Steps run with their owner's rights; a superuser's would hide what they lack.
    """
    await connection.execute("create role project_owner nologin nosuperuser bypassrls")
    await connection.execute("grant usage on schema storage to project_owner")
    await connection.execute("grant all on all tables in schema storage to project_owner")
    rows = await connection.fetch(
        """
        select format('alter %s public.%I owner to project_owner',
                      case relkind when 'v' then 'view' else 'table' end, relname) as statement
          from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'v')
        union all
        select format('alter function %s owner to project_owner', oid::regprocedure)
          from pg_proc where pronamespace = 'public'::regnamespace
        """
    )
    for row in rows:
        await connection.execute(row["statement"])


def _copy_template(dsn: str, name: str, template: str = _TEMPLATE) -> str:
    on_server(
        dsn, lambda connection: connection.execute(f"create database {name} template {template}")
    )
    return _database(dsn, name)


def _database(dsn: str, name: str) -> str:
    return dsn.replace("@/postgres?", f"@/{name}?")
