"""A receiver of webhooks on loopback, a resolver that lies, and a message to send."""

import asyncio
import base64
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from deployments.jobs.outbox import WebhookRules, WebhookSender
from deployments.jobs.rows import Job, JobKind, JobState, Webhook

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
PUBLIC = WebhookRules(SECRET)
LOOPBACK = WebhookRules(SECRET, allowed_networks=("127.0.0.0/8", "::1/128"))

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
JOB = Job(
    id="job-1",
    project_id="project-1",
    kind=JobKind.GENERATE,
    state=JobState.SUCCEEDED,
    options={"preset": "draft"},
    stage="previews",
    step="",
    progress=1.0,
    attempt=2,
    max_attempts=3,
    fence=2,
    cancel_requested=False,
    timings={"views": 1.5},
    memory={},
    expected={},
    error=None,
    last_error=None,
    result={"model_path": "secret/path.ply"},
    queue_position=None,
    ordinal=1,
    number=7,
    created_at=AT,
    step_started_at=AT,
    started_at=AT,
    finished_at=AT,
    read_at=AT,
)


@dataclass
class Receiver:
    """Answers every request with the next of `answers` (the last one for ever).

    An answer is a status, whole bytes, or None for a receiver that never answers.
    """

    answers: list[int | bytes | None]
    tls: ssl.SSLContext | None = None
    port: int = 0
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
            body = await reader.readexactly(int(headers["content-length"]))
            self.requests.append((first, headers, body))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer is None:
                await reader.read()
            elif isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                writer.write(f"HTTP/1.1 {answer} X\r\ncontent-length: 0\r\n\r\n".encode())
                await writer.drain()
        writer.close()


@asynccontextmanager
async def receiving(*answers: int | bytes | None, tls=None) -> AsyncIterator[Receiver]:
    receiver = Receiver(list(answers), tls)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        await server.wait_closed()


@contextmanager
def resolver(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> Iterator[list[str]]:
    """The system's resolver, which answers a name differently each time; the names asked for."""
    asked: list[str] = []

    async def getaddrinfo(self, host, port, **_):
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in found]

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
        yield asked


def to(url: str, job: Job = JOB) -> Webhook:
    return Webhook(job, url, 1, datetime.now(UTC))


async def deliver(url: str, rules: WebhookRules = LOOPBACK, tls=None, job: Job = JOB) -> None:
    async with WebhookSender(rules, tls) as sender:
        await sender.deliver(to(url, job))
