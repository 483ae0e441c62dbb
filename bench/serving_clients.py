"""Clients that poll and listen, in a process of their own, and how late its own loop was.

`python -m bench.serving_clients` reads its `Load` as JSON from standard input and writes what it
saw to standard output.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

__all__ = ["Load", "Seen", "clients"]

#: How often the loop looks at the clock to see how late it is.
_TICK_S = 0.01


@dataclass(frozen=True)
class Load:
    """What the clients do.

    Attributes:
        projects: they are shared out among pollers and streams.
        pollers: clients that ask for a status, each on a connection of its own.
        period_s: of one poller.
        streams: open streams of server-sent events.
        seconds: how long.
    """

    url: str
    projects: tuple[str, ...]
    pollers: int
    period_s: float
    streams: int
    seconds: float


@dataclass
class Seen:
    """What came of it.

    Attributes:
        polls: time of the wall clock when it was sent, and seconds, of every status.
        lags: seconds by which the loop was late, every 10 ms.
        events: number of events of all streams.
        reopened: streams that ended and were opened again; they end after `max_stream_s`.
        errors: what went wrong, in words.
    """

    polls: list[tuple[float, float]] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    events: int = 0
    reopened: int = 0
    errors: list[str] = field(default_factory=list)


@contextmanager
def clients(load: Load) -> Iterator[subprocess.Popen[str]]:
    """The clients at work; `Seen(**json.loads(...))` of what the process prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.serving_clients"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(asdict(load)))
        process.stdin.close()
        process.stdin = None  # or `communicate` would close it once more
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


async def _run(load: Load) -> Seen:
    seen = Seen()
    end = time.monotonic() + load.seconds
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(
        base_url=load.url, limits=limits, timeout=60, trust_env=False
    ) as http:
        projects = load.projects
        tasks = [
            asyncio.create_task(_poll(http, projects[i % len(projects)], load, end, seen))
            for i in range(load.pollers)
        ]
        listeners = [
            asyncio.create_task(_listen(http, projects[i % len(projects)], seen))
            for i in range(load.streams)
        ]
        await asyncio.gather(_watch_loop(end, seen), *tasks)
        for listener in listeners:
            listener.cancel()
        await asyncio.gather(*listeners, return_exceptions=True)
    return seen


async def _poll(http: httpx.AsyncClient, project: str, load: Load, end: float, seen: Seen) -> None:
    due = time.monotonic() + random.uniform(0, load.period_s)
    while due < end:
        await asyncio.sleep(max(due - time.monotonic(), 0))
        if time.monotonic() >= end:
            return  # answers were slower than the period: what was not sent is not made up for
        sent_at, sent = time.time(), time.perf_counter()
        try:
            answer = await http.get(f"/api/v1/status/{project}")
            if answer.status_code != 200:
                seen.errors.append(f"status answered {answer.status_code}")
        except httpx.HTTPError as error:
            seen.errors.append(f"status: {error!r}")
        seen.polls.append((sent_at, time.perf_counter() - sent))
        due += load.period_s


async def _listen(http: httpx.AsyncClient, project: str, seen: Seen) -> None:
    last_id = ""
    while True:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        url = f"/api/v1/status/{project}/events"
        try:
            async with http.stream("GET", url, headers=headers) as answer:
                answer.raise_for_status()
                async for line in answer.aiter_lines():
                    if line.startswith("id:"):
                        seen.events, last_id = seen.events + 1, line[3:].strip()
            seen.reopened += 1
        except httpx.HTTPError as error:
            seen.errors.append(f"stream: {error!r}")
            await asyncio.sleep(1)


async def _watch_loop(end: float, seen: Seen) -> None:
    while (now := time.monotonic()) < end:
        await asyncio.sleep(_TICK_S)
        seen.lags.append(max(time.monotonic() - now - _TICK_S, 0.0))


def main() -> None:
    told: dict[str, Any] = json.load(sys.stdin)
    told["projects"] = tuple(told["projects"])
    print(json.dumps(asdict(asyncio.run(_run(Load(**told))))))


if __name__ == "__main__":
    main()
