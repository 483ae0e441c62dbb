"""The checks of PostgreSQL and a directory: the store without Supabase.

Nothing is migrated here, and a directory that is not there yet is not made: what would be in it is
tried in a temporary one.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from deployments.jobs.rows import Bucket
from pipeline.errors import GlimpseError, Unavailable
from serve_app.cli.doctor import cycles, schema_checks
from serve_app.cli.doctor.checks import Finding, Round, Step, failed, ok, warning
from serve_app.settings import Environment
from serve_app.stores import EmbeddedPostgres, FileBlobs, migrate
from serve_app.stores.file_blobs import load_signing_key
from serve_app.stores.postgres import PostgresRecords, open_pool, translated
from serve_app.stores.server_programs import passable_folder

_LEAST_FREE_BYTES = 5 * 10**9
_OLDEST = 150000
_MIGRATE = "Start `glimpse3d serve`: it migrates at its start."
_SERVER = "Start the server that DATABASE_URL names, or correct the URL."
_EMBEDDED = "Read server.log in ASSET_DIR/postgres, or name another server in DATABASE_URL."
_RESTORE = 'Run `glimpse3d supabase sql | psql "$DATABASE_URL"`; no row is changed.'
_RESTORE_EMBEDDED = "Restore ASSET_DIR/postgres from a copy."
_WRITABLE = "Set ASSET_DIR to a directory that this user may write to."


class PostgresRound(Round):
    """Of a server, our own or another, and of a directory."""

    def __init__(self, env: Environment, stack: AsyncExitStack) -> None:
        super().__init__(env, stack)
        self._data_dir = env.asset_dir.resolve()
        self._url = env.database_url
        self._records: PostgresRecords | None = None
        self._blobs: FileBlobs | None = None
        self._number = 0

    def steps(self) -> Sequence[Step]:
        environment, inspected, directory = ("environment",), ("migrations",), ("directory",)
        files = (
            Step(f"files in {bucket}", partial(self._files, bucket), directory, _WRITABLE, None)
            for bucket in Bucket
        )
        server = _SERVER if self._url else _EMBEDDED
        restore = _RESTORE if self._url else _RESTORE_EMBEDDED
        return (
            Step("environment", self._environment),
            Step("database", self._database, environment, server, limit_s=120.0),
            Step("version", self._version, ("database",)),
            Step("migrations", self._migrations, ("version",), _MIGRATE),
            Step("tables", lambda: schema_checks.check_tables(self._inspected, restore), inspected),
            Step(
                "functions",
                lambda: schema_checks.check_functions(self._inspected, restore),
                inspected,
            ),
            Step("rows", self._rows, inspected, "Look at the server's log.", None),
            Step("directory", self._directory, environment, _WRITABLE),
            *files,
            Step("disk", self._disk, environment),
            Step(
                "clock", lambda: cycles.check_clock(self._inspected["now"], *self._asked), inspected
            ),
        )

    def _environment(self) -> Finding:
        server = "the embedded server"
        if self._url:
            try:
                parts = urlsplit(self._url)
                server = (
                    f"PostgreSQL at {parts.hostname or 'a socket'}:{parts.port or 5432}{parts.path}"
                )
            except ValueError:
                parts = urlsplit("")
            if parts.scheme not in ("postgresql", "postgres"):
                return failed(
                    "DATABASE_URL is no URL of a PostgreSQL server",
                    "Set DATABASE_URL to postgresql://user:password@host:port/database.",
                )
        if self._env.supabase_service_role_key or self._env.supabase_anon_key:
            return warning(
                f"{server}, although a key of Supabase is set",
                "Set SUPABASE_URL to use the project, or unset its keys.",
            )
        return ok(f"{server}, files in {self._data_dir}")

    async def _database(self) -> Finding:
        state = "reachable"
        if not self._url:
            try:
                state = await self._start()
            except OSError as error:  # of another user's directory
                return failed(f"{error.filename}: {error.strerror}", _WRITABLE)
        pool = await self._stack.enter_async_context(open_pool(self._url, size=1))
        self._records = PostgresRecords(pool)
        with translated():
            query = "select current_setting('server_version_num')::integer"
            self._number = int(await pool.fetchval(query))
            return await cycles.check_latency(state, partial(pool.fetchval, "select 1"))

    async def _start(self) -> str:
        """Start the embedded server, or join it where it runs; a new one in a temporary folder."""
        directory, state = self._data_dir / "postgres", "the embedded server starts"
        is_new = not (directory / "pgdata" / "PG_VERSION").exists()
        if is_new:
            folder = self._stack.enter_context(passable_folder("glimpse3d-doctor-"))
            directory = folder / "postgres"
            state = "the embedded server can be started; it has no database yet"
        server = EmbeddedPostgres(directory)
        if server.running:
            state = "the embedded server runs"
        # Registered first: a start that was cancelled goes on in its thread.
        self._stack.push_async_callback(asyncio.to_thread, server.close)
        self._url = await asyncio.to_thread(server.start)
        if is_new:
            await migrate(self._url)
        return state

    def _version(self) -> Finding:
        version = f"PostgreSQL {self._number // 10000}.{self._number % 10000}"
        if self._number < _OLDEST:
            return failed(version, f"Use PostgreSQL {_OLDEST // 10000} or newer.")
        return ok(version)

    async def _migrations(self) -> Finding:
        assert self._records is not None
        try:
            version = str(await self._records.call("schema_version_v1"))
            found = schema_checks.check_version(version, _MIGRATE)
            before = time.time()
            self._inspected = await self._records.call("inspect_v1")
            self._asked = before, time.time()
        except Unavailable as error:
            return failed(error.detail, _MIGRATE)
        return found

    async def _rows(self) -> Finding:
        assert self._records is not None
        return await cycles.check_rows(self._records)

    def _directory(self) -> Finding:
        """Files can be written where they are to be; the key of links can be read."""
        root, state = self._data_dir / "files", f"{self._data_dir} can be written to"
        try:
            if (self._data_dir / "signing.key").exists():
                load_signing_key(self._data_dir / "signing.key")
            if not root.is_dir():
                folder = tempfile.mkdtemp(prefix=".glimpse3d-doctor-", dir=_existing(root))
                self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
                root, state = Path(folder), f"{self._data_dir} can be made"
            self._blobs = FileBlobs(root, secrets.token_bytes(32))
        except OSError as error:
            return failed(f"{error.filename}: {error.strerror}", _WRITABLE)
        except Unavailable as error:
            return failed(error.detail, _WRITABLE)
        except GlimpseError as error:
            return failed(error.detail, f"Delete {self._data_dir / 'signing.key'}.")
        return ok(state)

    async def _files(self, bucket: Bucket) -> Finding:
        assert self._blobs is not None
        return await cycles.check_files(self._blobs, self._blobs, bucket)

    def _disk(self) -> Finding:
        return check_disk(shutil.disk_usage(_existing(self._data_dir)).free)


def check_disk(free_bytes: int) -> Finding:
    """Whether there is room for models."""
    found = f"{free_bytes / 1e9:.1f} GB are free"
    if free_bytes < _LEAST_FREE_BYTES:
        return warning(found, "Make room, set ASSET_DIR to a larger disk, or set PROJECT_TTL_S.")
    return ok(found)


def _existing(path: Path) -> Path:
    """The path, or its nearest parent that is there."""
    return next(parent for parent in (path, *path.parents) if parent.exists())
