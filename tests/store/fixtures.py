"""Fixtures with a real store, for this folder and for everybody who needs one.

One embedded server per session, with one database that is emptied before each test; a test that
spoils its database gets a copy of the migrated template.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TypeVar

import asyncpg
import pytest

from deployments.store import Store
from serve_app.stores import EmbeddedPostgres, StoreSettings, migrate

__all__ = [
    "clean_dsn",
    "embedded_dir",
    "fresh_dsn",
    "on_server",
    "postgres_dsn",
    "postgres_server",
    "server_directory",
    "shared_dsn",
    "store",
    "store_settings",
]

T = TypeVar("T")

_TEMPLATE = "glimpse3d_template"
_names = (f"test_{number}" for number in count(1))


@contextmanager
def server_directory() -> Iterator[Path]:
    """A temporary directory for an embedded server, outside of pytest's.

    Under root the server runs as another user, who must pass through the parents; every pytest
    that starts, in another terminal, closes the folder of pytest's temporary directories again.
    """
    directory = Path(tempfile.mkdtemp(prefix="glimpse3d-test-"))
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


@pytest.fixture(scope="session")
def shared_dsn(postgres_dsn: str) -> str:
    return _copy_template(postgres_dsn, "test_shared")


@pytest.fixture
def clean_dsn(shared_dsn: str) -> str:
    """A migrated database without rows and without other sessions; much faster than a fresh one."""

    async def clean(connection: asyncpg.Connection) -> None:
        await connection.execute(
            "select pg_terminate_backend(pid, 1000) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )
        await connection.execute("delete from projects; delete from deletions")

    on_server(shared_dsn, clean)
    return shared_dsn


@pytest.fixture
def store_settings(clean_dsn: str, tmp_path: Path) -> StoreSettings:
    """Settings of an empty store, ready for `open`; picklable, so replicas may have them."""
    return StoreSettings(data_dir=tmp_path / "data", database_url=clean_dsn)


@pytest.fixture(params=["postgres"])
async def store(
    request: pytest.FixtureRequest, store_settings: StoreSettings
) -> AsyncIterator[Store]:
    """An empty store, open; every implementation is a parameter."""
    assert request.param == "postgres"
    async with store_settings.open() as opened:
        yield opened


def _copy_template(dsn: str, name: str) -> str:
    on_server(
        dsn, lambda connection: connection.execute(f"create database {name} template {_TEMPLATE}")
    )
    return _database(dsn, name)


def _database(dsn: str, name: str) -> str:
    return dsn.replace("@/postgres?", f"@/{name}?")
