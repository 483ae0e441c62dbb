"""Server-sent events of a job and of a project: what was committed, as soon as it is.

A stream that was cut off goes on behind `Last-Event-ID`, at any replica.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from deployments.jobs.rows import EventKind
from pipeline.errors import InvalidOption
from serve_app.http.dependencies import AppServices, ClientUrls, ClientWord, Id
from serve_app.http.event_stream import (
    JOB_EVENT_ID,
    PROJECT_EVENT_ID,
    EventStream,
    Feed,
    JobFeed,
    Position,
    ProjectFeed,
)
from serve_app.http.openapi import ID_ERRORS, headers, problems
from serve_app.http.problems import TooManyAtOnce

_TEXT, _INTEGER, _NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
_DATA = {
    "type": "object",
    "required": ["project_id"],
    "properties": {
        "project_id": _TEXT,
        "job_id": _TEXT,
        "job_number": _INTEGER,
        "seq": _INTEGER,
        "at": {"type": "string", "format": "date-time"},
        "state": {"$ref": "#/components/schemas/JobState"},
        "stage": _TEXT,
        "step": _TEXT,
        "progress": _NUMBER,
        "attempt": _INTEGER,
        "seconds": _NUMBER,
        "url": {"type": "string", "format": "uri"},
        "splat_count": _INTEGER,
        "error": {"anyOf": [{"$ref": "#/components/schemas/JobErrorAnswer"}, {"type": "null"}]},
    },
}
_EVENT = {
    "type": "object",
    "properties": {
        "id": _TEXT,
        "event": {"type": "string", "enum": [*EventKind, "deleted"]},
        "retry": _INTEGER,
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": _DATA,
        },
    },
}

router = APIRouter(
    prefix="/api/v1",
    tags=["events"],
    responses={
        200: {
            "description": "Events, each with an `id` to go on behind.",
            # OpenAPI 3.2's word, which tools of 3.1 pass over.
            "content": {"text/event-stream": {"itemSchema": _EVENT}},
            "headers": headers("Cache-Control"),
        },
        **problems(*ID_ERRORS, InvalidOption, TooManyAtOnce),
    },
)

# The header is newer: a browser that comes again repeats the query of the first time.
_HEADER = Header(alias="Last-Event-ID", description="The `id` of the last event that came.")
_QUERY = Query(alias="last_event_id", description="The same, where no header can be sent.")

# Declared only: the feeds read them.
_JobEventId = Annotated[str, Field(json_schema_extra={"pattern": f"^({JOB_EVENT_ID})?$"})]
_ProjectEventId = Annotated[str, Field(json_schema_extra={"pattern": f"^({PROJECT_EVENT_ID})?$"})]


def _position(feed: Feed, header: str | None, query: str | None) -> Position:
    """Both are checked, whichever counts."""
    in_query, in_header = feed.position(query), feed.position(header)
    return in_header if header else in_query


@router.get(
    "/jobs/{job_id}/events",
    status_code=200,
    response_class=Response,
    responses={
        204: {"description": "The job has ended and there is nothing more: do not come again."}
    },
)
async def stream_job_events(
    services: AppServices,
    urls: ClientUrls,
    client: ClientWord,
    job_id: Id,
    header: Annotated[_JobEventId | SkipJsonSchema[None], _HEADER] = None,
    query: Annotated[_JobEventId | SkipJsonSchema[None], _QUERY] = None,
) -> Response:
    """The events of a job, from its first one on, until it has ended."""
    records = services.store.records
    job = await records.get_job(job_id)
    feed = JobFeed(records, services.reads, job)
    after = _position(feed, header, query)
    if job.state.ended and not await feed.read(after):
        # The standard's way to tell an EventSource not to connect again.
        return Response(status_code=204)
    return EventStream(feed, after, services, client, urls)


@router.get("/status/{project_id}/events", status_code=200, response_class=Response)
async def stream_project_events(
    services: AppServices,
    urls: ClientUrls,
    client: ClientWord,
    project_id: Id,
    header: Annotated[_ProjectEventId | SkipJsonSchema[None], _HEADER] = None,
    query: Annotated[_ProjectEventId | SkipJsonSchema[None], _QUERY] = None,
) -> Response:
    """The events of all jobs of a project, past and future, until it is deleted."""
    records = services.store.records
    await records.get_project(project_id)
    feed = ProjectFeed(records, services.reads, project_id)
    return EventStream(feed, _position(feed, header, query), services, client, urls)
