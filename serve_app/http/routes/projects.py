"""What a project can do: generate, refine, export, and say how it stands.

They translate between HTTP and the store's jobs; nothing is computed here.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from deployments.jobs.rows import Bucket, JobKind, ProjectDetail
from pipeline.errors import NotGeneratedYet
from serve_app.http.dependencies import Services
from serve_app.http.schemas import (
    ExportAnswer,
    ExportedAnswer,
    ExportQuery,
    GenerateAnswer,
    GenerateBody,
    IterationAnswer,
    JobAnswer,
    ModelAnswer,
    ProjectAnswer,
    RefineAnswer,
    RefineBody,
    StatusAnswer,
    result_of,
)
from serve_app.http.waiting import JobRequest, check_webhook, job_answer, run_job

__all__ = ["router"]

router = APIRouter(prefix="/api/v1", tags=["projects"])


Wired = Annotated[Services, Depends(Services.wired)]

_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"model": JobAnswer, "description": "The job goes on; ask for it at `Location`."}
}


@router.post("/generate/{project_id}", response_model=GenerateAnswer, responses=_ACCEPTED)
async def generate(
    request: Request, services: Wired, project_id: str, body: GenerateBody | None = None
) -> GenerateAnswer | JSONResponse:
    """Make 16 views, their depth and the first splat model."""
    body = body or GenerateBody()
    answer: GenerateAnswer | JSONResponse = await _answer(
        request, services, JobKind.GENERATE, project_id, body
    )
    return answer


@router.post("/refine/{project_id}", response_model=RefineAnswer, responses=_ACCEPTED)
async def refine(
    request: Request, services: Wired, project_id: str, body: RefineBody | None = None
) -> RefineAnswer | JSONResponse:
    """Refine the newest model until the gain is below 1% or the iterations are used up."""
    body = body or RefineBody()
    answer: RefineAnswer | JSONResponse = await _answer(
        request, services, JobKind.REFINE, project_id, body
    )
    return answer


async def _answer(
    request: Request,
    services: Services,
    kind: JobKind,
    project_id: str,
    body: GenerateBody | RefineBody,
) -> Any:
    """The answer of a job's result, or 202 when it is not waited for any longer."""
    sent = body.model_dump()
    if body.webhook_url is None:
        # As releases without webhooks had it: their clients may repeat a request to us.
        del sent["webhook_url"]
    wanted = JobRequest(
        kind,
        project_id,
        options=body.options().to_json(),
        body=sent,
        shape=body.shape(),
        webhook_url=body.webhook_url,
    )
    job = await run_job(request, services, wanted)
    return job if isinstance(job, JSONResponse) else result_of(job, services.url_maker(request))


@router.get("/export/{project_id}", response_model=ExportAnswer, responses=_ACCEPTED)
async def export(
    request: Request,
    services: Wired,
    project_id: str,
    query: Annotated[ExportQuery, Query()],
) -> ExportAnswer | JSONResponse:
    """Convert the newest model. Asking again answers with the stored file."""
    options = query.options().to_json()
    check_webhook(services, query.webhook_url)
    detail = await services.store.records.project_detail(project_id)
    model = detail.newest_model
    if model is None:
        raise NotGeneratedYet("There is no model to export yet: generate one first.")
    url = services.url_maker(request)
    for row in detail.exports:
        if row.model_version == model.version and row.options == options:
            return ExportAnswer.of(row, url)
    wanted = JobRequest(
        JobKind.EXPORT,
        project_id,
        options=options,
        body=options,
        shape=query.shape(),
        webhook_url=query.webhook_url,
    )
    job = await run_job(request, services, wanted)
    if isinstance(job, JSONResponse):
        return job
    answer = result_of(job, url)
    assert isinstance(answer, ExportAnswer)
    return answer


@router.get("/status/{project_id}", response_model=StatusAnswer)
async def status(request: Request, services: Wired, project_id: str) -> Response:
    """Everything known about a project, read in one snapshot."""

    async def answer() -> bytes:
        detail = await services.store.records.project_detail(project_id)
        job = await job_answer(request, detail.job) if detail.job else None
        return _status_answer(request, services, detail, job).model_dump_json().encode()

    # Links in the answer begin with the address by which the client came.
    key = ("status", project_id, str(request.base_url))
    return Response(await services.shared.call(key, answer), media_type="application/json")


def _status_answer(
    request: Request, services: Services, detail: ProjectDetail, job: JobAnswer | None
) -> StatusAnswer:
    url = services.url_maker(request)
    sheet = detail.contact_sheet
    return StatusAnswer(
        project=ProjectAnswer.of(detail.project, url),
        pipeline_progress=StatusAnswer.progress_of(detail),
        iterations=[IterationAnswer.of(row) for row in detail.iterations],
        models=ModelAnswer.all_of(detail, url),
        exports=[ExportedAnswer.of(r, url(Bucket.MODELS, r.file_path)) for r in detail.exports],
        view_urls=[url(Bucket.VIEWS, row.image_path) for row in detail.views],
        depth_urls=[url(Bucket.DEPTH, row.heat_map_path) for row in detail.depths],
        contact_sheet_url=url(Bucket.MODELS, sheet.image_path) if sheet else None,
        job=job,
    )
