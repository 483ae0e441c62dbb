"""Server-sent events of a job and of a project: what was committed, as soon as it is.

A stream that was cut off goes on behind `Last-Event-ID`, at any replica.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response

from serve_app.http.dependencies import Services
from serve_app.http.event_stream import EventStream, JobFeed, ProjectFeed

__all__ = ["router"]

router = APIRouter(prefix="/api/v1", tags=["events"])

Wired = Annotated[Services, Depends(Services.wired)]


def _last_event_id(
    header: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
    query: Annotated[str | None, Query(alias="last_event_id")] = None,
) -> str | None:
    """The header is newer: a browser that comes again repeats the query of the first time."""
    return header or query


LastEventId = Annotated[str | None, Depends(_last_event_id)]

_OVER: dict[int | str, dict[str, Any]] = {
    204: {"description": "The job has ended and there is nothing more to tell: do not come again."}
}


@router.get("/jobs/{job_id}/events", response_class=EventStream, responses=_OVER)
async def job_events(services: Wired, job_id: str, last_event_id: LastEventId) -> Response:
    """The events of a job, from its first one on, until it has ended."""
    records = services.store.records
    job = await records.get_job(job_id)
    feed = JobFeed(records, services.shared, job)
    after = feed.place(last_event_id)
    if job.state.ended and not await feed.read(after):
        # The standard's way to tell an EventSource not to connect again.
        return Response(status_code=204)
    return EventStream.of(feed, after, services.limits)


@router.get("/status/{project_id}/events", response_class=EventStream)
async def project_events(services: Wired, project_id: str, last_event_id: LastEventId) -> Response:
    """The events of all jobs of a project, past and future, until it is deleted."""
    records = services.store.records
    await records.get_project(project_id)
    feed = ProjectFeed(records, services.shared, project_id)
    return EventStream.of(feed, feed.place(last_event_id), services.limits)
