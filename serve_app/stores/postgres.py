"""The records port on any PostgreSQL >= 15, through asyncpg.

It does not know what the SQL functions do (`supabase/migrations`) nor where the server came from
(`serve_app.stores.embedded`).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, ClassVar
from uuid import uuid4

import asyncpg

from deployments.jobs.store import Changed
from pipeline.errors import GlimpseError, InvalidInput, Unavailable
from serve_app.stores.migrations import apply_migrations
from serve_app.stores.records import CallRecords, error_for_sqlstate

_log = logging.getLogger(__name__)

#: Where notices come with a word of ours, to see whether any do.
_PROBE = "glimpse3d_probe"
#: `add_job_event_v1`, `end_job_v1` and `purge_project_v1` notify with ids of jobs and projects.
_CHANNELS = ("glimpse3d_jobs", "glimpse3d_projects", "glimpse3d_ended", _PROBE)
_CONNECT_TIMEOUT_S = 10.0
_CALL_TIMEOUT_S = 30.0
#: Statements are not prepared by name: the server may be a transaction pooler.
_CONNECTION: dict[str, Any] = {
    "timeout": _CONNECT_TIMEOUT_S,
    "statement_cache_size": 0,
    "server_settings": {"application_name": "glimpse3d"},  # its name in `pg_stat_activity`
}


@contextmanager
def translated() -> Iterator[None]:
    """Raise errors of our tree for all that asyncpg, the socket and the clock raise."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise _from_postgres(error) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        # The pool is closing, or the connection went away between two messages: asyncpg then
        # complains of its own state ("cannot switch to state 11").
        gone = "The connection to the database is gone"
        raise Unavailable(f"{gone}: {error}", public=f"{gone}.") from error
    except TimeoutError as error:
        raise Unavailable.openly("The database did not answer in time.") from error
    except OSError as error:
        away = "The database cannot be reached"
        raise Unavailable(f"{away}: {error}", public=f"{away}.") from error


def _from_postgres(error: asyncpg.PostgresError) -> GlimpseError:
    message = error.args[0] if error.args else type(error).__name__
    return error_for_sqlstate(error.sqlstate or "XX000", str(message), getattr(error, "detail", ""))


async def _keep_session(connection: asyncpg.Connection) -> None:
    """Replace the pool's reset, a round trip per call: we never change a session's state."""


@asynccontextmanager
async def open_pool(
    dsn: str, *, size: int = 5, connect: bool = True
) -> AsyncIterator[asyncpg.Pool]:
    """A pool for `PostgresRecords`; raises `Unavailable` at once when nobody answers.

    Args:
        dsn: a `postgresql://` URL; a socket directory goes into `?host=`.
        size: the most connections at once. Behind a transaction pooler waiting polls.
        connect: false: the first call connects, and raises when nobody answers.
    """
    with translated():
        pool = await asyncpg.create_pool(
            dsn,
            min_size=0,  # no floor: asyncpg logs a traceback per try to restore it
            max_size=size,
            command_timeout=_CALL_TIMEOUT_S,
            reset=_keep_session,
            **_CONNECTION,
        )
    try:
        if connect:
            with translated():
                async with pool.acquire(timeout=_CONNECT_TIMEOUT_S):
                    pass
        yield pool
    finally:
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await pool.close()
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pool.terminate()


async def migrate(dsn: str) -> tuple[str, ...]:
    """Bring a database to the newest schema; the versions applied, none when it was current.

    Raises:
        Unavailable: nobody answers.
        GlimpseError: a migration was edited after the database had it.
    """
    with translated():
        connection = await asyncpg.connect(dsn, **_CONNECTION)
        try:
            return await apply_migrations(connection)
        finally:
            await connection.close(timeout=_CONNECT_TIMEOUT_S)


class PostgresRecords(CallRecords):
    """`deployments.jobs.store.Records` on a pool of connections.

    Use it as an asynchronous context manager, inside the pool's: entering it starts the listener
    that wakes `wait_for_job`; without it waiting polls.
    """

    #: How often a waiter looks although it listens: a notice may be lost with a connection.
    announced_poll_s: ClassVar[float] = 5.0

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._changes = _Changes(pool)

    async def __aenter__(self) -> PostgresRecords:
        self._listener = asyncio.create_task(self._changes.listen(), name="glimpse3d-job-changes")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.cancel()
        await asyncio.gather(self._listener, return_exceptions=True)

    @property
    def looks_every_s(self) -> float:
        """Seldom while changes are announced."""
        return self.announced_poll_s if self._changes.listening else self.poll_s

    async def call(self, function: str, **arguments: Any) -> Any:
        """One statement, one connection for as long as it takes."""
        names = ", ".join(f"{name} => ${i}" for i, name in enumerate(arguments, start=1))
        values = [_argument(value) for value in arguments.values()]
        # `to_jsonb` lets one decoder serve functions that return text, numbers and documents.
        query = f"select to_jsonb(public.{function}({names}))"
        with translated():
            async with self._pool.acquire(timeout=_CONNECT_TIMEOUT_S) as connection:
                answer = await connection.fetchval(query, *values)
        return None if answer is None else json.loads(answer)

    @contextmanager
    def _watched(self, channel: str, name: str) -> Iterator[Changed]:
        """By notice while the listener listens, else by polling."""
        with self._changes.watch(channel, name) as event:

            async def changed(left_s: float) -> None:
                try:
                    async with asyncio.timeout(min(left_s, self.looks_every_s)):
                        await event.wait()
                except TimeoutError:
                    return
                # The caller reads after this, so a notice from now on leads to one more read.
                event.clear()

            yield changed


def _argument(value: Any) -> Any:
    if not isinstance(value, dict | list):
        return value
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        takes = "The records take plain JSON values"
        raise InvalidInput(f"{takes}: {error}", public=f"{takes}.") from error


class _Changes:
    """Holds one connection that listens, and wakes who watches a job or a project.

    The connection may go away at any time: then it is opened again, and all watchers are woken
    once, for a notice may have been lost between. Whether notices come at all is tried by one of
    our own: a transaction pooler takes LISTEN and passes nothing on, and a connection may be dead
    without a word.
    """

    #: A notice of our own is back by then, or it is taken for lost.
    probe_s: ClassVar[float] = 5.0
    #: How often one is sent.
    probe_every_s: ClassVar[float] = 30.0

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._watchers: dict[tuple[str, str], set[asyncio.Event]] = {}
        self.listening = False

    @contextmanager
    def watch(self, channel: str, name: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the channel has a notice with this name."""
        event = asyncio.Event()
        events = self._watchers.setdefault((channel, name), set())
        events.add(event)
        try:
            yield event
        finally:
            events.discard(event)
            if not events:
                del self._watchers[channel, name]

    async def listen(self) -> None:
        """For ever."""
        while True:
            pause_s = 1.0
            try:
                with translated():
                    heard = await self._listen_until_lost()
                if not heard:
                    _log.warning(
                        "waiting for jobs polls: the database's notices do not come through, as "
                        "behind a transaction pooler; name the database itself, or a session pooler"
                    )
                    pause_s = self.probe_every_s
            except GlimpseError as error:
                _log.warning("waiting for jobs polls until the listener is back: %s", error.detail)
            await asyncio.sleep(pause_s)

    async def _listen_until_lost(self) -> bool:
        """Until the connection is lost (True), or brings no notices (False)."""
        lost = asyncio.Event()

        def ended(_connection: object) -> None:
            lost.set()
            self._wake_all()  # the probe, too

        async with self._pool.acquire(timeout=_CONNECT_TIMEOUT_S) as connection:
            connection.add_termination_listener(ended)
            try:
                for channel in _CHANNELS:
                    await connection.add_listener(channel, self._notice)
                while not lost.is_set():
                    if not await self._hears():
                        return False
                    if not self.listening:
                        self.listening = True
                        self._wake_all()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self.probe_every_s):
                            await lost.wait()
                return True
            finally:
                self.listening = False
                self._wake_all()
                # The pool has taken a lost connection back already.
                with suppress(asyncpg.InterfaceError):
                    connection.remove_termination_listener(ended)
                    for channel in _CHANNELS:
                        await connection.remove_listener(channel, self._notice)

    async def _hears(self) -> bool:
        """Whether a notice from another connection comes to the one that listens.

        Raises Unavailable where that could not be tried and is not known from before.
        """
        word = uuid4().hex
        with self.watch(_PROBE, word) as heard:
            try:
                # The same connection would hear itself, even through a pooler.
                async with self._pool.acquire(timeout=_CONNECT_TIMEOUT_S) as other:
                    await other.execute("select pg_notify($1, $2)", _PROBE, word)
            except TimeoutError:
                if self.listening:
                    return True  # all are at work: nothing was tried
                # Ours is let go too, and taken again in a moment.
                raise Unavailable.openly("No second connection was free to try it.") from None
            try:
                async with asyncio.timeout(self.probe_s):
                    await heard.wait()
            except TimeoutError:
                return False
            return True

    def _notice(self, _connection: Any, _pid: int, channel: str, payload: object) -> None:
        for event in self._watchers.get((channel, str(payload)), ()):
            event.set()

    def _wake_all(self) -> None:
        for events in self._watchers.values():
            for event in events:
                event.set()
