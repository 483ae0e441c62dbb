"""What a project can do: generate, refine, export, and say how it stands.

They translate between HTTP and the store's jobs; nothing is computed here.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from deployments.jobs.job_errors import IdempotencyMismatch
from deployments.jobs.rows import JobKind
from pipeline.errors import NotFound, NotGeneratedYet
from serve_app.http.dependencies import AppServices, ClientUrls, Id
from serve_app.http.openapi import ID_ERRORS, JOB_ERRORS, problems
from serve_app.http.problems import BadRequest, BodyTooSlow, TooLarge, TooManyAtOnce
from serve_app.http.schemas.job_answers import ExportJobAnswer, GenerateJobAnswer, RefineJobAnswer
from serve_app.http.schemas.project_answers import StatusAnswer
from serve_app.http.schemas.request_bodies import ExportQuery, GenerateBody, RefineBody
from serve_app.http.schemas.result_answers import (
    ExportAnswer,
    GenerateAnswer,
    RefineAnswer,
    ResultAnswer,
)
from serve_app.http.waiting import Asking, Posting, accepted_as, check_webhook, job_answer

router = APIRouter(prefix="/api/v1", tags=["projects"])

_BODY_ERRORS = (BadRequest, BodyTooSlow, TooLarge, TooManyAtOnce)
_POST_ERRORS = (*ID_ERRORS, *JOB_ERRORS, *_BODY_ERRORS, IdempotencyMismatch)


@router.post(
    "/generate/{project_id}",
    response_model=GenerateAnswer,
    responses={**accepted_as(GenerateJobAnswer), **problems(*_POST_ERRORS)},
)
async def generate(
    caller: Posting, project_id: Id, body: GenerateBody | None = None
) -> ResultAnswer | JSONResponse:
    """Make 16 views, their depth and a splat model, from the photo on or from a later stage."""
    return await caller.run(JobKind.GENERATE, project_id, body or GenerateBody())


@router.post(
    "/refine/{project_id}",
    response_model=RefineAnswer,
    responses={**accepted_as(RefineJobAnswer), **problems(*_POST_ERRORS, NotGeneratedYet)},
)
async def refine(
    caller: Posting, project_id: Id, body: RefineBody | None = None
) -> ResultAnswer | JSONResponse:
    """Refine the current model until the gain is below 1% or the iterations are used up."""
    return await caller.run(JobKind.REFINE, project_id, body or RefineBody())


@router.get(
    "/export/{project_id}",
    response_model=ExportAnswer,
    responses={
        **accepted_as(ExportJobAnswer),
        **problems(*ID_ERRORS, *JOB_ERRORS, NotGeneratedYet),
    },
)
async def export(
    caller: Asking, project_id: Id, query: Annotated[ExportQuery, Query()]
) -> ResultAnswer | JSONResponse:
    """Convert the current model. Asking again answers with the stored file."""
    options = query.options().of_the_file()
    check_webhook(caller.services, query.webhook_url)
    detail = await caller.services.store.records.project_detail(project_id)
    if detail.current_model is None:
        raise NotGeneratedYet("There is no model to export yet: generate one first.")
    version = detail.project.current_version if query.version is None else query.version
    model = detail.model(version)
    if model is None:
        raise NotFound(
            f"The project has no model version {version}; it has "
            f"{', '.join(str(row.version) for row in detail.models)}."
        )
    for row in detail.exports:
        if row.model_version == model.version and row.options == options:
            return ExportAnswer.of(row, caller.urls)
    return await caller.run(JobKind.EXPORT, project_id, query)


@router.get("/status/{project_id}", response_model=StatusAnswer, responses=problems(*ID_ERRORS))
async def get_status(services: AppServices, urls: ClientUrls, project_id: Id) -> Response:
    """Everything known about a project, read in one snapshot."""

    async def answer() -> bytes:
        detail = await services.store.records.project_detail(project_id)
        job = await job_answer(services, urls, detail.job) if detail.job else None
        return StatusAnswer.of(detail, job, urls).model_dump_json().encode()

    # Links in the answer begin with the address by which the client came.
    key = ("status", project_id, urls.base)
    return Response(await services.reads.call(key, answer), media_type="application/json")
