"""Clients that hold much, through Serve's own proxy: hundreds of connections, and slow readers."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from serve_app.server import RunningService
from tests.cluster.test_service import API, ENDLESS, start, upload

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.faults]

MIB = 1024 * 1024
SIZE = 34 * MIB


class Connection:
    """A GET whose answer is read when the test says so, and no faster."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self._writer = reader, writer

    @classmethod
    async def asking(cls, service: RunningService, path: str) -> "Connection":
        address = urlsplit(service.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=4096)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        return cls(reader, writer)

    async def status(self) -> int:
        line = await asyncio.wait_for(self.reader.readline(), 60)
        return int(line.split()[1])

    async def close(self) -> None:
        self._writer.close()


@pytest.fixture
def running_job(http: httpx.Client) -> Iterator[tuple[str, str]]:
    """A project and the path of its job, which runs for as long as the test does."""
    project = upload(http)
    job = urlsplit(start(http, project, **ENDLESS)).path
    yield project, job
    http.post(f"{job}/cancel")


async def test_600_open_streams_and_waits_leave_health_and_status(service, running_job):
    project, job = running_job
    async with AsyncExitStack() as crowd, httpx.AsyncClient(base_url=service.url) as http:
        paths = [f"{job}/events"] * 300 + [f"{job}?wait=60"] * 300
        connections = await asyncio.gather(*(Connection.asking(service, p) for p in paths))
        for connection in connections:
            crowd.push_async_callback(connection.close)
        # One client has half of 160 streams and of 160 waits.
        statuses = await asyncio.gather(*(c.status() for c in connections[:300]))
        assert (statuses.count(200), statuses.count(503)) == (80, 220)
        waiting = [asyncio.create_task(c.status()) for c in connections[300:]]
        async with asyncio.timeout(60):
            while sum(task.done() for task in waiting) < 220:
                await asyncio.sleep(0.05)
        assert {task.result() for task in waiting if task.done()} == {503}
        for path in ("/health", "/ready", f"{API}/status/{project}", job):
            started = time.perf_counter()
            answer = await http.get(path, timeout=60)
            print(f"{path}: {answer.status_code} after {time.perf_counter() - started:.3f} s")  # noqa: T201
            assert answer.status_code == 200
        for task in waiting:
            task.cancel()


def memory() -> int:
    """Bytes of ingress and proxy."""
    found = 0
    for process in psutil.Process().children(recursive=True):
        title = " ".join(process.cmdline())
        if "ServeReplica:glimpse3d:Ingress" in title or "ProxyActor" in title:
            found += process.memory_info().rss
    return found


def large_file(http: httpx.Client, directory: Path) -> str:
    """The path of a stored file of `SIZE` bytes."""
    project = upload(http)
    (stored,) = directory.rglob(f"{project}/original.png")
    stored.write_bytes(os.urandom(SIZE))
    return (
        urlsplit(http.get(f"{API}/status/{project}").json()["project"]["original_url"])
        ._replace(scheme="", netloc="")
        .geturl()
    )


async def test_slow_readers_of_a_large_file_cost_bounded_memory(service, http, directory):
    path = await asyncio.to_thread(large_file, http, directory)
    await asyncio.to_thread(http.get, path)
    before = await asyncio.to_thread(memory)
    async with AsyncExitStack() as open_connections:
        readers = await asyncio.gather(*(Connection.asking(service, path) for _ in range(64)))
        for connection in readers:
            open_connections.push_async_callback(connection.close)
        statuses = asyncio.gather(*(c.status() for c in readers))
        most, end = 0, time.monotonic() + 15
        while time.monotonic() < end or not statuses.done():
            answered = statuses.result() if statuses.done() else []
            # A refused one has nothing more to read.
            reading = [readers[i] for i, status in enumerate(answered) if status == 200]
            # 10 kB a second each.
            await asyncio.gather(*(c.reader.read(2000) for c in reading), asyncio.sleep(0.2))
            most = max(most, await asyncio.to_thread(memory) - before)
        found = statuses.result()
        print(f"64 readers of {SIZE / MIB:.0f} MiB: {found.count(200)} read, +{most / MIB:.0f} MiB")  # noqa: T201
        assert set(found) == {200, 503}
        assert most < 64 * 4 * MIB, "without a limit it is the size of all of them"
    # What they held is given back.
    answer = await asyncio.to_thread(http.get, path)
    assert (answer.status_code, len(answer.content)) == (200, SIZE)
