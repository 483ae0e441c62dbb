"""Streaming answers as a client sees them, piece by piece: httpx's own ASGI transport waits for
the end of an answer before it shows the beginning."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

TIMEOUT_S = 20


@dataclass(frozen=True)
class Told:
    """One event."""

    id: str
    kind: str
    data: dict[str, Any]


@dataclass
class Stream:
    """An answer under way.

    Attributes:
        reading: while it is clear, the client takes nothing: what the service sends waits.
        comments: those that came before the last event that was taken.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    retry: int | None = None
    comments: int = 0
    reading: asyncio.Event = field(default_factory=asyncio.Event)
    request: asyncio.Task[None] | None = None
    _gone: asyncio.Event = field(default_factory=asyncio.Event)
    _started: asyncio.Event = field(default_factory=asyncio.Event)
    _pieces: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    _buffer: bytes = b""
    _asked: bool = False
    body: bytes = b""

    async def receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        await self.reading.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            self._started.set()
            return
        self.body += message.get("body", b"")
        self._pieces.put_nowait(message.get("body", b""))
        if not message.get("more_body"):
            self._pieces.put_nowait(None)

    async def block(self) -> str | None:
        """The next block between empty lines; None at the end."""
        while b"\n\n" not in self._buffer:
            # Not `wait_for`: that of Python 3.11 may lose a cancellation.
            async with asyncio.timeout(TIMEOUT_S):
                piece = await self._pieces.get()
            if piece is None:
                return None
            self._buffer += piece
        block, _, self._buffer = self._buffer.partition(b"\n\n")
        return block.decode()

    async def next(self) -> Told | None:
        """The next event; None at the end."""
        while (block := await self.block()) is not None:
            if block.startswith(":"):
                self.comments += 1
                continue
            fields = dict(line.split(": ", 1) for line in block.split("\n"))
            if "retry" in fields:
                assert self.retry is None, "once"
                self.retry = int(fields["retry"])
            if "data" in fields:
                return Told(fields.get("id", ""), fields["event"], json.loads(fields["data"]))
        return None

    async def until(self, **wanted: Any) -> list[Told]:
        """Events up to the one whose data has these values."""
        told = []
        while (event := await self.next()) is not None:
            told.append(event)
            if all(event.data.get(name) == value for name, value in wanted.items()):
                return told
        raise AssertionError(f"no event with {wanted}, but {told}")

    async def rest(self) -> list[Told]:
        """All events to the end."""
        told = []
        while (event := await self.next()) is not None:
            told.append(event)
        return told

    async def ended(self) -> None:
        """The service has nothing to do with the answer any more."""
        assert self.request is not None
        await asyncio.wait({self.request})

    def leave(self) -> None:
        """The client goes away."""
        self._gone.set()


@asynccontextmanager
async def streaming(
    app: Any,
    url: str,
    last_event_id: str | None = None,
    *,
    reading: bool = True,
    client: str = "127.0.0.1",
) -> AsyncIterator[Stream]:
    """A GET under way; leaving the context is the client going away, and waits for the end."""
    path, _, query = url.partition("?")
    stream = Stream()
    headers = [(b"host", b"test")]
    if last_event_id is not None:
        headers.append((b"last-event-id", last_event_id.encode()))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "client": (client, 1),
        "server": ("test", 80),
    }
    if reading:
        stream.reading.set()
    request = stream.request = asyncio.create_task(app(scope, stream.receive, stream.send))
    started = asyncio.create_task(stream._started.wait())
    try:
        if reading:
            await asyncio.wait({request, started}, timeout=TIMEOUT_S, return_when="FIRST_COMPLETED")
        yield stream
    finally:
        started.cancel()
        stream.leave()
        await asyncio.wait_for(request, TIMEOUT_S)
