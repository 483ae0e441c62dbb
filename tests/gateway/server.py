"""The gateway's server: keys, faults, the log of requests, and the thread it runs in."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import uvicorn
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from . import rest, resumable, storage
from .faults import Faults, Request
from .keys import ANONYMOUS, Caller, KeyRefused, KeyRules, Keys, Secrets
from .project import Project

__all__ = ["Gateway", "prepare"]

_START_TIMEOUT_S = 30.0


async def prepare(connection: asyncpg.Connection) -> None:
    """Make an empty database a new Supabase project, as superuser.

    The default privileges are those of objects that this connection's role creates later. From
    then on the schemas `auth` and `storage` refuse the DDL that they refuse a project's migrations.
    """
    script = Path(__file__).with_name("supabase.sql").read_text("utf-8")
    async with connection.transaction():
        await connection.execute(script)


class Gateway:
    """A running stand-in for a Supabase project; `running` makes one.

    Attributes:
        url: for the client, as SUPABASE_URL.
        keys: of the project.
        faults: what goes wrong.
        requests: every request that arrived, also those that a fault took; clear it as you like.
    """

    def __init__(self) -> None:
        self.url = ""
        self.faults = Faults(self._cut_all)
        self.requests: list[Request] = []
        self._secrets = Secrets()
        self.keys: Keys = self._secrets.keys
        self._project: Project | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connections: dict[tuple[str, int], asyncio.Transport] = {}
        self._router = Router([*resumable.routes, *storage.routes, *rest.routes])
        self._router.redirect_slashes = False

    def rule_keys(self, rules: KeyRules) -> None:
        """Another API gateway's ways with keys; `quiet_gateway` brings the platform's back."""
        self._secrets.rules = rules

    @property
    def dsn(self) -> str:
        """The database behind the gateway."""
        assert self._project is not None
        return self._project.dsn

    def authenticated_jwt(self, sub: str) -> str:
        """The token of a user who is signed in; goes into Authorization, next to an API key."""
        return self._secrets.sign(
            {"sub": sub, "role": "authenticated", "aud": "authenticated"}, 3600
        )

    def use(self, dsn: str, blob_dir: Path) -> None:
        """Serve another database and folder, with fresh connections; uploads begun are forgotten.

        Not from the gateway's own thread; requests that still run end as errors.
        """
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._switch(dsn, blob_dir), self._loop).result(30)

    async def _switch(self, dsn: str, blob_dir: Path) -> None:
        await self._close()
        self._project = await Project.open(dsn, blob_dir, self._secrets)

    async def _close(self) -> None:
        if self._project is not None:
            for upload in self._project.uploads.values():
                upload.incoming.discard()
            try:
                await asyncio.wait_for(self._project.pool.close(), 5)
            except TimeoutError:
                self._project.pool.terminate()

    # --- the thread ------------------------------------------------------------------------------

    @classmethod
    @contextmanager
    def running(cls, dsn: str, blob_dir: Path) -> Iterator[Gateway]:
        """A gateway on a free port of this machine, in a thread with a loop of its own."""
        gateway = cls()
        listener = socket.create_server(("127.0.0.1", 0))
        # Inherited by connections; asyncio sets it only where the protocol number is given.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        gateway.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(
            uvicorn.Config(
                gateway._serve,
                http=gateway._protocol(),
                ws="none",
                interface="asgi3",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=5,
            )
        )
        started = threading.Event()

        async def serve() -> None:
            gateway._loop = asyncio.get_running_loop()
            try:
                await gateway._switch(dsn, blob_dir)
            finally:
                started.set()
            try:
                await server.serve(sockets=[listener])
            finally:
                await gateway._close()

        thread = threading.Thread(target=lambda: asyncio.run(serve()), name="gateway", daemon=True)
        thread.start()
        try:
            if not started.wait(_START_TIMEOUT_S) or gateway._project is None:
                raise RuntimeError("the gateway does not start")
            yield gateway
        finally:
            gateway.faults.clear()
            server.should_exit = True
            gateway._cut_all()
            thread.join(_START_TIMEOUT_S)
            listener.close()

    def _protocol(self) -> Any:
        """uvicorn's, with a register of connections, so that they can be cut."""
        gateway = self

        class Protocol(HttpToolsProtocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                if gateway.faults.is_down:
                    transport.abort()
                elif self.client is not None:
                    gateway._connections[self.client] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                if self.client is not None:
                    gateway._connections.pop(self.client, None)
                super().connection_lost(exc)

        return Protocol

    def _cut_all(self) -> None:
        def cut() -> None:
            for transport in list(self._connections.values()):
                transport.abort()

        if self._loop is not None and self._loop.is_running():
            self._loop.call_soon_threadsafe(cut)

    async def _cut(self, client: tuple[str, int]) -> None:
        if client in self._connections:
            self._connections[client].abort()
        while client in self._connections:
            await asyncio.sleep(0.001)

    # --- one request -----------------------------------------------------------------------------

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        headers = Headers(scope=scope)
        refused: KeyRefused | None = None
        caller: Caller = ANONYMOUS
        try:
            if not _is_public(method, path):
                caller = self._secrets.caller(headers)
        except KeyRefused as problem:
            refused = problem
        role = "" if refused or caller.error else caller.role
        said = (headers.get(name, "") for name in ("apikey", "authorization", "user-agent"))
        self.requests.append(Request(method, path, scope["query_string"].decode(), role, *said))
        if self.faults.latency_s:
            await asyncio.sleep(self.faults.latency_s)
        fault = self.faults.take(method, path)
        scope["state"] = {"project": self._project, "caller": caller}
        if fault is None or fault.after_work:
            work: ASGIApp = self._router
            if refused is not None:
                work = JSONResponse(refused.body, 401) if refused.body else Response(None, 401)
            with suppress(ClientDisconnect):
                await work(scope, receive, send if fault is None else _swallow)
        if fault is None:
            return
        if fault.status is None:
            await self._cut(scope["client"])
            return
        retry = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
        await JSONResponse(fault.body, fault.status, retry)(scope, receive, send)


async def _swallow(_: Message) -> None:
    """Where a lost answer goes."""


def _is_public(method: str, path: str) -> bool:
    """No key is asked for."""
    signed = method in ("GET", "HEAD") and path.startswith("/storage/v1/object/sign/")
    return (
        signed
        or method == "OPTIONS"
        or path == "/storage/v1/status"
        or path.startswith("/storage/v1/object/public/")
    )
