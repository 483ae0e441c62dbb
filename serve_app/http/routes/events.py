"""Server-sent events of a job and of a project: what was committed, as soon as it is.

A stream that was cut off goes on behind `Last-Event-ID`, at any replica.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic.json_schema import SkipJsonSchema

from pipeline.errors import InvalidOption
from serve_app.http.dependencies import AppServices
from serve_app.http.event_stream import EventStream, JobFeed, ProjectFeed
from serve_app.http.openapi import ID_ERRORS, headers, problems

__all__ = ["router"]

_STREAM: dict[str, Any] = {
    "description": "Events as the HTML standard defines them, each with an `id` to go on behind.",
    "headers": headers("Cache-Control"),
}

router = APIRouter(
    prefix="/api/v1",
    tags=["events"],
    responses={200: _STREAM, **problems(*ID_ERRORS, InvalidOption)},
)


def _last_event_id(
    header: Annotated[
        str | SkipJsonSchema[None],
        Header(alias="Last-Event-ID", description="The `id` of the last event that came."),
    ] = None,
    query: Annotated[
        str | SkipJsonSchema[None],
        Query(alias="last_event_id", description="The same, where no header can be sent."),
    ] = None,
) -> str | None:
    """The header is newer: a browser that comes again repeats the query of the first time."""
    return header or query


LastEventId = Annotated[str | None, Depends(_last_event_id)]


@router.get(
    "/jobs/{job_id}/events",
    status_code=200,
    response_class=EventStream,
    responses={
        204: {"description": "The job has ended and there is nothing more: do not come again."}
    },
)
async def stream_job_events(
    services: AppServices, job_id: str, last_event_id: LastEventId
) -> Response:
    """The events of a job, from its first one on, until it has ended."""
    records = services.store.records
    job = await records.get_job(job_id)
    feed = JobFeed(records, services.reads, job)
    after = feed.position(last_event_id)
    if job.state.ended and not await feed.read(after):
        # The standard's way to tell an EventSource not to connect again.
        return Response(status_code=204)
    return EventStream(feed, after, services.limits)


@router.get("/status/{project_id}/events", status_code=200, response_class=EventStream)
async def stream_project_events(
    services: AppServices, project_id: str, last_event_id: LastEventId
) -> Response:
    """The events of all jobs of a project, past and future, until it is deleted."""
    records = services.store.records
    await records.get_project(project_id)
    feed = ProjectFeed(records, services.reads, project_id)
    return EventStream(feed, feed.position(last_event_id), services.limits)
