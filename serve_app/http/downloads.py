"""Files and pages on their way to clients: how many, and how many bytes of them, are out at once.

Behind Serve a client that reads slowly does not slow the sender: what the client has not taken
lies in a proxy's memory. So a file counts, whole, until its client has it. It knows no route.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from fastapi.responses import HTMLResponse, Response
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from serve_app.http.budgets import taken_soon
from serve_app.http.dependencies import Budgets, Services
from serve_app.http.stored_file import StoredFile


class _Counted(Response):
    """An answer that stays in the budgets of downloads until its client has taken it, or is gone.

    Attributes:
        _client: who asked for it.
    """

    _budgets: Budgets
    _client: str
    _patience_s: float

    def count(self, services: Services, client: str) -> None:
        """In whose name, and in which budgets."""
        self._budgets, self._client = services.budgets, client
        self._patience_s = services.limits.download_wait_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, or the parts of it that were asked for.

        Raises:
            TooManyAtOnce: there was no room for it for a while; nothing has been sent.
        """
        with ExitStack() as held:

            async def counted(message: Message) -> None:
                if message["type"] == "http.response.start" and scope["method"] != "HEAD":
                    size = int(Headers(raw=message["headers"]).get("content-length", "0"))
                    await self._hold(held, size)
                await send(message)

            await super().__call__(scope, receive, counted)
            await taken_by_client(receive)

    async def _hold(self, held: ExitStack, size: int) -> None:
        # The number first: those that wait for bytes are counted as well.
        held.enter_context(self._budgets.downloads.taken(self._client))
        held.enter_context(
            await taken_soon(self._budgets.download_bytes, self._client, size, self._patience_s)
        )


class CountedFile(_Counted, StoredFile):
    """A file."""

    def __init__(self, path: Any, services: Services, client: str, **options: Any) -> None:
        super().__init__(path, **options)
        self.count(services, client)


class CountedPage(_Counted, HTMLResponse):
    """A page."""

    def __init__(self, html: str, services: Services, client: str, **options: Any) -> None:
        super().__init__(html, **options)
        self.count(services, client)


async def taken_by_client(receive: Receive) -> None:
    """Wait until the answer that was sent whole has left the server, or nobody wants it."""
    # ASGI says so in both cases: after a complete answer `receive` tells of a disconnection.
    while (await receive())["type"] != "http.disconnect":
        continue
