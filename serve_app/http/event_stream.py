"""Streams of server-sent events (HTML standard, section 9.2) over the store's job events.

A stream reads committed rows and nothing else, so any replica can go on where another one stopped:
the id of an event is the position after it. It does not know routes.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi.responses import Response, StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.types import Receive, Scope, Send

from deployments.jobs.rows import Bucket, EventKind, Job, JobEvent, JobState
from deployments.jobs.store import Changed, Records
from pipeline.errors import InvalidOption, NotFound, Unavailable
from serve_app.http.dependencies import BlobUrls, Limits, Services
from serve_app.http.single_flight import SingleFlight

#: A client whose connection was lost comes again after so long.
RETRY_MS = 2000
#: Events that are read at once.
PAGE = 200
#: How often a store that is away is asked again.
_AWAY_S = 1.0

#: (job_number, seq) of an event; the beginning is before all of them.
Position = tuple[int, int]
BEGINNING: Position = (0, 0)

_ENDED = frozenset(state.value for state in JobState if state.ended)

#: What the ids of events look like, in a job's stream and in a project's.
JOB_EVENT_ID = "[0-9]{1,9}"
PROJECT_EVENT_ID = "([0-9]{1,18})-([0-9]{1,9})"


class Feed(Protocol):
    """The events that a stream sends."""

    def position(self, event_id: str | None) -> Position:
        """Of an event, by its id; the beginning without one. Raises InvalidOption."""

    def event_id(self, event: JobEvent) -> str: ...

    def watch(self) -> AbstractContextManager[Changed]: ...

    async def read(self, after: Position) -> tuple[JobEvent, ...]:
        """At most `PAGE` events after a position, in order. Raises NotFound when it was deleted."""

    def is_over(self, page: tuple[JobEvent, ...]) -> bool:
        """Nothing will ever come after this page, the newest one."""

    def ids(self, event: JobEvent | None) -> dict[str, Any]:
        """Whose event it is: in every event, beside its own data. None: the last, of a deletion."""


@dataclass(frozen=True)
class JobFeed:
    """The events of one job, as it was when the stream began. Ids are `{seq}`."""

    records: Records
    reads: SingleFlight
    job: Job

    def position(self, event_id: str | None) -> Position:
        if not event_id:
            return BEGINNING
        if not re.fullmatch(JOB_EVENT_ID, event_id):
            raise InvalidOption("Last-Event-ID: events of a job have whole numbers as ids.")
        return (self.job.number, int(event_id))

    def event_id(self, event: JobEvent) -> str:
        return str(event.seq)

    def watch(self) -> AbstractContextManager[Changed]:
        return self.records.watch_job(self.job.id)

    async def read(self, after: Position) -> tuple[JobEvent, ...]:
        return await self.reads.call(
            ("events of job", self.job.id, after),
            lambda: self.records.job_events(self.job.id, after=after[1], limit=PAGE),
        )

    def is_over(self, page: tuple[JobEvent, ...]) -> bool:
        # The state counts, too: what follows the last event, by its id, is an empty page.
        return self.job.state.ended or any(_ends_job(event) for event in page)

    def ids(self, event: JobEvent | None) -> dict[str, Any]:
        ids = {"job_id": self.job.id, "project_id": self.job.project_id}
        return ids if event is None else {**ids, "seq": event.seq}


@dataclass(frozen=True)
class ProjectFeed:
    """The events of all jobs of a project, past and future. Ids are `{job_number}-{seq}`."""

    records: Records
    reads: SingleFlight
    project_id: str

    def position(self, event_id: str | None) -> Position:
        if not event_id:
            return BEGINNING
        match = re.fullmatch(PROJECT_EVENT_ID, event_id)
        if match is None:
            raise InvalidOption("Last-Event-ID: events of a project have ids like 12-3.")
        return (int(match[1]), int(match[2]))

    def event_id(self, event: JobEvent) -> str:
        return f"{event.job_number}-{event.seq}"

    def watch(self) -> AbstractContextManager[Changed]:
        return self.records.watch_project(self.project_id)

    async def read(self, after: Position) -> tuple[JobEvent, ...]:
        return await self.reads.call(
            ("events of project", self.project_id, after),
            lambda: self.records.project_events(self.project_id, after=after, limit=PAGE),
        )

    def is_over(self, page: tuple[JobEvent, ...]) -> bool:
        return False  # there may always be another job

    def ids(self, event: JobEvent | None) -> dict[str, Any]:
        if event is None:
            return {"project_id": self.project_id}
        return {
            "job_id": event.job_id,
            "project_id": self.project_id,
            "job_number": event.job_number,
            "seq": event.seq,
        }


async def events(
    feed: Feed, after: Position, limits: Limits, urls: BlobUrls
) -> AsyncGenerator[bytes, None]:
    """The stream as it travels, until the feed is over, deleted, or the stream's time is up.

    A store that is away is waited for: a client sees comments, and then what it would have seen.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + limits.max_stream_s
    yield format_sse_event(retry=RETRY_MS)
    last_sent = clock()
    with feed.watch() as changed:
        while True:
            away = False
            page: tuple[JobEvent, ...] = ()
            try:
                page = await feed.read(after)
            except Unavailable:
                away = True
            except NotFound:
                yield format_sse_event(event="deleted", data_str=json.dumps(feed.ids(None)))
                return
            for event in page:
                yield _format(feed, event, urls)
                after = (event.job_number, event.seq)
                last_sent = clock()
            is_newest = not away and len(page) < PAGE
            left_s = end - clock()
            if left_s <= 0 or (is_newest and feed.is_over(page)):
                return
            if not is_newest and not away:
                continue
            quiet_s = clock() - last_sent
            if away or quiet_s >= limits.keep_alive_s:
                yield KEEPALIVE_COMMENT
                last_sent, quiet_s = clock(), 0.0
            pause_s = min(left_s, limits.keep_alive_s - quiet_s)
            await (asyncio.sleep(min(pause_s, _AWAY_S)) if away else changed(pause_s))


def _format(feed: Feed, event: JobEvent, urls: BlobUrls) -> bytes:
    # Its own data first: what the stream says about every event cannot be taken from it.
    document = {**event.data, **feed.ids(event), "at": event.at.isoformat()}
    if event.kind is EventKind.PREVIEW:
        document["url"] = urls(Bucket.MODELS, document.pop("path"))
    return format_sse_event(
        id=feed.event_id(event), event=event.kind.value, data_str=json.dumps(document)
    )


def _ends_job(event: JobEvent) -> bool:
    return event.kind is EventKind.STATE and event.data.get("state") in _ENDED


class EventStream(StreamingResponse):
    """An answer that ends with its client: the generator is closed as soon as that goes away.

    Starlette leaves a generator that waits to itself where the server speaks ASGI 2.4, and one
    that was suspended between two events to the garbage collector.
    """

    media_type = "text/event-stream"

    def __init__(
        self, feed: Feed, after: Position, services: Services, client: str, urls: BlobUrls
    ) -> None:
        limits = services.limits
        self._events = events(feed, after, limits, urls)
        self._place = services.budgets.streams.taken(client)
        # The generator minds its time itself, unless a client takes nothing.
        self._limit_s = limits.max_stream_s + limits.keep_alive_s
        # No cache and no proxy may hold it back.
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(self._events, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the generator or the client has had enough, or the time is up.

        Raises:
            TooManyAtOnce: before anything is sent.
        """
        if scope["method"] == "HEAD":
            await self._events.aclose()
            await Response(headers=self.headers)(scope, receive, send)
            return
        async with aclosing(self._events):
            with self._place:
                await self._send(receive, send)

    async def _send(self, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(self.listen_for_disconnect(receive))
        sent = asyncio.create_task(self.stream_response(send))
        tasks = (gone, sent)
        try:
            await asyncio.wait(tasks, timeout=self._limit_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            # OSError: the connection broke while something was sent.
            if isinstance(result, Exception) and not isinstance(result, OSError):
                raise result
