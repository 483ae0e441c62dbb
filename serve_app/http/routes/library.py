"""The projects there are: list them, look at one, take one away.

It reads and writes committed state only; running jobs are asked to stop through their rows.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from pipeline.errors import GlimpseError, InvalidOption, NotFound, Unavailable
from serve_app.http.dependencies import AppServices, ClientUrls, ClientWord, Id
from serve_app.http.openapi import ID_ERRORS, Responses, problems
from serve_app.http.problems import TooManyAtOnce
from serve_app.http.removal import remove_project
from serve_app.http.schemas.project_answers import (
    DeletionAnswer,
    ProjectPageAnswer,
    ProjectResource,
)
from serve_app.http.schemas.request_bodies import ProjectsQuery

log = logging.getLogger("ray.serve")

router = APIRouter(prefix="/api/v1/projects", tags=["projects"])

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR = re.compile(rb"([0-9]{1,16})\.([!-~]{1,100})")


def write_cursor(after: tuple[datetime, str]) -> str:
    """A position in the list as one opaque word of a URL."""
    created_at, project_id = after
    micros = (created_at - _EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(f"{micros}.{project_id}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """What `write_cursor` wrote. Raises InvalidOption for anything else."""
    try:
        padded = cursor.encode() + b"=" * (-len(cursor) % 4)
        match = _CURSOR.fullmatch(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, UnicodeEncodeError):
        match = None
    if match is None:
        raise InvalidOption("cursor: take it from next_cursor of the page before, unchanged.")
    return _EPOCH + timedelta(microseconds=int(match[1])), match[2].decode()


@router.get(
    "",
    response_model=ProjectPageAnswer,
    responses=problems(InvalidOption, Unavailable, GlimpseError),
)
async def list_projects(
    services: AppServices, urls: ClientUrls, query: Annotated[ProjectsQuery, Query()]
) -> ProjectPageAnswer:
    """Projects, newest first, page by page."""
    after = None if query.cursor is None else read_cursor(query.cursor)
    page = await services.store.records.list_projects(
        status=query.status, after=after, limit=query.limit
    )
    return ProjectPageAnswer(
        projects=[ProjectResource.of(project, urls) for project in page.projects],
        next_cursor=None if page.next_after is None else write_cursor(page.next_after),
    )


@router.get("/{project_id}", response_model=ProjectResource, responses=problems(*ID_ERRORS))
async def get_project(services: AppServices, urls: ClientUrls, project_id: Id) -> ProjectResource:
    """How a project stands, and where the rest of it is told."""
    return ProjectResource.of(await services.store.records.get_project(project_id), urls)


_DELETED: Responses = {
    202: {"model": DeletionAnswer, "description": "The rest goes on in the background."},
    204: {"description": "Rows and files are gone."},
    **problems(*ID_ERRORS),
}


@router.delete("/{project_id}", status_code=204, response_class=Response, responses=_DELETED)
async def delete_project(services: AppServices, client: ClientWord, project_id: Id) -> Response:
    """Stop what runs, then remove the project with every row and every file."""
    records = services.store.records
    job = await records.delete_project(project_id)
    try:
        if job is not None:
            # Gone already: another replica was faster. With too many that wait nobody waits here:
            # the rest goes on in the background.
            with suppress(NotFound, TooManyAtOnce), services.budgets.waiting.taken(client):
                await records.wait_for_job(job.id, services.limits.delete_wait_s)
        if await remove_project(services.store, project_id):
            return Response(status_code=204)
        detail = "Its job has not stopped yet; the service removes the rest in the background."
    except Unavailable as away:
        # It is marked, so it will go; only this answer comes too early to say that it has gone.
        log.warning("project %s is not removed yet: %s", project_id, away)
        detail = f"The service removes the rest in the background: {away.public}"
    body = DeletionAnswer(project_id=project_id, detail=detail)
    return JSONResponse(body.model_dump(), status_code=202)
