"""The five documented endpoints.

They translate between HTTP and the store's jobs; nothing is computed here but the upload's
background removal, which is a call to a model.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Query, Request, UploadFile
from fastapi.responses import JSONResponse

from deployments.paths import original_path, processed_path
from deployments.store import Bucket, JobKind, ProjectDetail, Store
from pipeline.errors import NotFound, NotGeneratedYet, Unavailable
from pipeline.intake import Upload, prepare_upload
from serve_app.jobs import run_job
from serve_app.problems import Problem
from serve_app.schemas import (
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
    UploadAnswer,
    result_of,
)
from serve_app.services import Services

__all__ = ["router"]

router = APIRouter(prefix="/api/v1", tags=["projects"])


Wired = Annotated[Services, Depends(Services.of)]


def _require_multipart(request: Request) -> None:
    """Runs before the body is parsed."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        raise Problem(
            415,
            "unsupported_media_type",
            "Unsupported media type",
            "Send the photo as multipart/form-data with a part named file.",
        )


@router.post("/upload", response_model=UploadAnswer, dependencies=[Depends(_require_multipart)])
async def upload(
    request: Request,
    services: Wired,
    file: Annotated[UploadFile, File()],
    remove_bg: Annotated[bool, Form()] = True,
) -> UploadAnswer:
    """Check a photo, cut its background out and create a project.

    A photo with transparency keeps it. With `remove_bg=false` the whole photo is the object.
    """
    data = await file.read()
    if len(data) > services.limits.max_upload_bytes:
        limit_mb = services.limits.max_upload_bytes / 1024 / 1024
        raise Problem(
            413, "too_large", "The file is too large", f"The file is larger than {limit_mb:.0f} MB."
        )
    try:
        async with asyncio.timeout(services.limits.upload_timeout_s), services.decoding:
            photo = await prepare_upload(data, services.background, remove_background=remove_bg)
    except TimeoutError:
        raise Unavailable("The photo could not be prepared in time; try again.") from None
    project_id = str(uuid.uuid4())
    # Shielded: a client that goes away must not leave half a project behind.
    await asyncio.shield(asyncio.ensure_future(_keep(services.store, project_id, photo)))
    url = services.url_maker(request)
    return UploadAnswer(
        project_id=project_id,
        original_url=url(Bucket.UPLOADS, original_path(project_id)),
        processed_url=url(Bucket.PROCESSED, processed_path(project_id)),
        background_engine=photo.engine,
    )


async def _keep(store: Store, project_id: str, photo: Upload) -> None:
    """Store both pictures and the project's row, or nothing."""
    original, processed = original_path(project_id), processed_path(project_id)
    puts = await asyncio.gather(
        store.blobs.put(Bucket.UPLOADS, original, photo.original_png, "image/png"),
        store.blobs.put(Bucket.PROCESSED, processed, photo.processed_png, "image/png"),
        return_exceptions=True,
    )
    try:
        for failure in puts:
            if failure is not None:
                raise failure
        await store.records.create_project(
            project_id,
            original_path=original,
            processed_path=processed,
            background_engine=photo.engine,
        )
    except Exception:
        # Pictures without a row would be bytes that nobody can find. A row may be there all the
        # same, when only the answer was lost: then they stay.
        with suppress(Unavailable):
            await _delete_unless_kept(store, project_id)
        raise


async def _delete_unless_kept(store: Store, project_id: str) -> None:
    try:
        await store.records.get_project(project_id)
    except NotFound:
        for bucket in (Bucket.UPLOADS, Bucket.PROCESSED):
            await store.blobs.delete_prefix(bucket, f"{project_id}/")


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
    job = await run_job(
        request,
        services,
        kind=kind,
        project_id=project_id,
        options=body.options().to_json(),
        body=body.model_dump(),
    )
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
    detail = await services.store.records.project_detail(project_id)
    model = detail.newest_model
    if model is None:
        raise NotGeneratedYet("There is no model to export yet: generate one first.")
    url = services.url_maker(request)
    for row in detail.exports:
        if row.model_version == model.version and row.options == options:
            return ExportAnswer.of(row, url)
    job = await run_job(
        request,
        services,
        kind=JobKind.EXPORT,
        project_id=project_id,
        options=options,
        body=options,
    )
    if isinstance(job, JSONResponse):
        return job
    answer = result_of(job, url)
    assert isinstance(answer, ExportAnswer)
    return answer


@router.get("/status/{project_id}", response_model=StatusAnswer)
async def status(request: Request, services: Wired, project_id: str) -> StatusAnswer:
    """Everything known about a project, read in one snapshot."""
    detail = await services.store.records.project_detail(project_id)
    return _status_answer(request, services, detail)


def _status_answer(request: Request, services: Services, detail: ProjectDetail) -> StatusAnswer:
    url = services.url_maker(request)
    project, sheet = detail.project, detail.contact_sheet
    return StatusAnswer(
        project=ProjectAnswer(
            id=project.id,
            status=project.status.value,
            current_step=project.current_step,
            progress_percentage=project.progress_percentage,
            original_url=url(Bucket.UPLOADS, project.original_path),
            processed_url=url(Bucket.PROCESSED, project.processed_path),
            background_engine=project.background_engine,
            error=project.error,
            created_at=project.created_at,
            updated_at=project.updated_at,
        ),
        pipeline_progress=StatusAnswer.progress_of(detail),
        iterations=[IterationAnswer.of(row) for row in detail.iterations],
        models=ModelAnswer.all_of(detail, url),
        exports=[ExportedAnswer.of(r, url(Bucket.MODELS, r.file_path)) for r in detail.exports],
        view_urls=[url(Bucket.VIEWS, row.image_path) for row in detail.views],
        depth_urls=[url(Bucket.DEPTH, row.heat_map_path) for row in detail.depths],
        contact_sheet_url=url(Bucket.MODELS, sheet.image_path) if sheet else None,
        job=JobAnswer.of(detail.job, url, now=datetime.now(UTC)) if detail.job else None,
    )
