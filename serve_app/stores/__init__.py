"""The stores: where rows and files are kept, and how a process gets at them.

It does not know the environment (`serve_app.settings` fills `StoreSettings`) nor who uses a store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.errors import GlimpseError, InvalidOption, Unavailable
from serve_app.stores.embedded import EmbeddedPostgres
from serve_app.stores.file_blobs import FileBlobs, load_signing_key
from serve_app.stores.opened import Pace, ServedStore, Stores
from serve_app.stores.postgres import PostgresRecords, migrate, open_pool
from serve_app.stores.shared_folder import ForeignFolder, SharedFolder
from serve_app.stores.supabase import SupabaseSettings

__all__ = [
    "EmbeddedPostgres",
    "FileBlobs",
    "PostgresRecords",
    "ServedStore",
    "StoreSettings",
    "Stores",
    "SupabaseSettings",
    "migrate",
]

_log = logging.getLogger(__name__)

#: How often the keeper of the embedded server looks whether it still runs.
_LOOK_S = 2.0

#: Servers this process uses, by directory: a plain `StoreSettings` cannot hold a process.
_servers: dict[Path, EmbeddedPostgres] = {}


@dataclass(frozen=True)
class StoreSettings:
    """Which stores to use: plain values, picklable, a `deployments.jobs.store.StoreSource`.

        settings = StoreSettings(data_dir=Path("data")).prepare()
        async with settings.open() as store:
            ...
        settings.stop()

    Attributes:
        data_dir: files, the signing key, and the embedded server's database.
        database_url: any PostgreSQL >= 15. None: the embedded server, which `prepare` starts.
        embedded: set by `prepare`: the URL is of the embedded server, which `open` joins.
        is_keeper: set by `for_keeper`: `open` starts the embedded server when it does not run.
        keep_server: the embedded server outlives the processes that use it, until `stop`.
        files_url: prefix of blob URLs: a path of the service, or an absolute URL.
        url_lifetime_s: how long a blob's URL works at most; at least half of it.
        pool_size: connections of one process; one of them listens for changes of jobs.
    """

    data_dir: Path
    database_url: str | None = field(default=None, repr=False)
    embedded: bool = False
    is_keeper: bool = False
    keep_server: bool = False
    files_url: str = "/files"
    url_lifetime_s: float = 3600.0
    pool_size: int = 5

    #: A request costs less than a millisecond.
    pace = Pace(poll_s=0.05, tidy_s=2.0)

    @property
    def files_dir(self) -> Path:
        """Where the buckets are."""
        return self.data_dir / "files"

    @property
    def is_of_one_node(self) -> bool:
        """The embedded server's socket is a file of this machine."""
        return self.embedded or self.database_url is None

    def for_keeper(self) -> StoreSettings:
        """Of all processes that open the store, one is to be given these."""
        return replace(self, is_keeper=self.embedded)

    def blobs(self, folder: SharedFolder | None = None) -> FileBlobs:
        """The files by themselves, of a folder that nobody compares with a database.

        Args:
            folder: compares it.
        """
        key = load_signing_key(self.data_dir / "signing.key")
        return FileBlobs(
            self.files_dir,
            key,
            self.files_url,
            url_lifetime_s=self.url_lifetime_s,
            confirm=None if folder is None else folder.confirm,
        )

    def prepare(self) -> StoreSettings:
        """Start the embedded server if one is needed and migrate; settings that `open` takes.

        Blocks; call it from a thread of its own inside an event loop. Any number of processes may
        call it, and `open` what it returned: they share the server, which stops when the last of
        them exits, leaves `open` or calls `stop`.

        Raises:
            Unavailable: no server can be started or reached, or `data_dir` is not its folder.
            GlimpseError: the database was migrated by other files.
            InvalidOption: the URL is none.
        """
        if self.database_url is not None:
            _require_url(self.database_url)
        embedded = self.is_of_one_node
        url = self._server().start() if embedded else self.database_url
        assert url is not None
        # On a loop and thread of its own, whatever runs in this one.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, self._migrate(url)).result()
        # Absolute: replicas run in other working directories.
        return replace(self, data_dir=self.data_dir.resolve(), database_url=url, embedded=embedded)

    async def _migrate(self, url: str) -> None:
        await migrate(url)
        async with open_pool(url, size=1) as pool:
            await SharedFolder(self.files_dir, PostgresRecords(pool)).confirm()

    def stop(self) -> None:
        """Give up the embedded server this process prepared; nothing when there is none.

        A server that was to be kept is stopped, whoever uses it.
        """
        server = _servers.pop(self.data_dir.resolve(), None)
        if self.keep_server:
            (server or self._new_server()).stop()
        elif server is not None:
            server.close()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ServedStore]:
        """Migrates nothing, and starts no server unless it is the keeper's.

        The embedded server is held while the context is open: others do not stop it. The keeper
        starts it when the process that prepared it has ended and so stopped it, or when it died.

        Raises:
            ForeignFolder: `data_dir` is not the folder that the database knows.
            Unavailable: `prepare` was not called, another host runs the embedded server, or the
                folder cannot be used.
        """
        if self.database_url is None:
            raise Unavailable("No database is named: call prepare() first.")
        async with (
            self._held_server(),
            # A replica may start while the database is away: `/ready` says so, and jobs wait.
            open_pool(self.database_url, size=self.pool_size, connect=False) as pool,
            PostgresRecords(pool) as records,
        ):
            folder = SharedFolder(self.files_dir, records)
            try:
                await folder.confirm()
            except ForeignFolder:
                raise
            except Unavailable as error:
                _log.warning("the folder is looked at later: %s", error.detail)
            blobs = await asyncio.to_thread(self.blobs, folder)
            yield ServedStore(records, blobs, files=blobs)

    @asynccontextmanager
    async def _held_server(self) -> AsyncIterator[None]:
        if not self.embedded:
            yield
            return
        server = self._new_server()
        if not self.is_keeper:
            await asyncio.to_thread(server.join)
            try:
                yield
            finally:
                await asyncio.to_thread(server.close)
            return
        await asyncio.to_thread(server.start, create=False)
        keeping = asyncio.create_task(_keep(server), name="embedded-server")
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await asyncio.to_thread(server.close)

    def _new_server(self) -> EmbeddedPostgres:
        return EmbeddedPostgres(self.data_dir / "postgres", keep_running=self.keep_server)

    def _server(self) -> EmbeddedPostgres:
        return _servers.setdefault(self.data_dir.resolve(), self._new_server())


async def _keep(server: EmbeddedPostgres) -> None:
    """Start a server again that died, as one does whose disk was full."""
    while True:
        await asyncio.sleep(_LOOK_S)
        try:
            if not await asyncio.to_thread(lambda: server.running):
                _log.warning("the database's server does not run: starting it")
                await asyncio.to_thread(server.start, create=False)
        except GlimpseError as error:
            _log.error("the database's server cannot be started: %s", error.detail)


def _require_url(url: str) -> None:
    """Raise InvalidOption, without the password, when it is no URL of a PostgreSQL server."""
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in ("postgresql", "postgres") and (parts.port or 5432) > 0
    except ValueError:
        is_one = False
    if not is_one:
        raise InvalidOption(
            "DATABASE_URL must be like postgresql://user:password@host:5432/database."
        )
