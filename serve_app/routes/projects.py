"""The five documented endpoints.

They translate between HTTP and the store's jobs; nothing is computed here but the upload's
background removal, which is a call to a model.
"""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Query, Request, UploadFile
from fastapi.responses import JSONResponse

from deployments.paths import original_path, processed_path
from deployments.store import Bucket, ExportRow, JobKind, ProjectDetail
from pipeline.errors import NotGeneratedYet
from pipeline.formats import find_format
from pipeline.intake import prepare_upload
from serve_app.jobs import run_job
from serve_app.problems import Problem
from serve_app.schemas import (
    ExportAnswer,
    ExportedAnswer,
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
)
from serve_app.services import Services

__all__ = ["router"]

router = APIRouter(prefix="/api/v1", tags=["projects"])


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Wired = Annotated[Services, Depends(_services)]


def _url(request: Request, services: Services, bucket: Bucket, path: str) -> str:
    """Absolute URL of a blob, as the client sees this service."""
    url = services.store.blobs.url(bucket, path)
    if not url.startswith("/"):
        return url
    return (services.public_url or str(request.base_url)).rstrip("/") + url


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
    prepared = await prepare_upload(data, services.background, remove_background=remove_bg)
    project_id = str(uuid.uuid4())
    original, processed = original_path(project_id), processed_path(project_id)
    blobs = services.store.blobs
    try:
        await asyncio.gather(
            blobs.put(Bucket.UPLOADS, original, prepared.original_png, "image/png"),
            blobs.put(Bucket.PROCESSED, processed, prepared.processed_png, "image/png"),
        )
        await services.store.records.create_project(
            project_id,
            original_path=original,
            processed_path=processed,
            background_engine=prepared.engine,
        )
    except BaseException:
        # A project without a row would be bytes nobody can find: leave nothing behind.
        await asyncio.shield(
            asyncio.gather(
                blobs.delete_prefix(Bucket.UPLOADS, f"{project_id}/"),
                blobs.delete_prefix(Bucket.PROCESSED, f"{project_id}/"),
                return_exceptions=True,
            )
        )
        raise
    return UploadAnswer(
        project_id=project_id,
        original_url=_url(request, services, Bucket.UPLOADS, original),
        processed_url=_url(request, services, Bucket.PROCESSED, processed),
        background_engine=prepared.engine,
    )


_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"model": JobAnswer, "description": "The job goes on; ask for it at `Location`."}
}


@router.post("/generate/{project_id}", response_model=GenerateAnswer, responses=_ACCEPTED)
async def generate(
    request: Request, services: Wired, project_id: str, body: GenerateBody | None = None
) -> GenerateAnswer | JSONResponse:
    """Make 16 views, their depth and the first splat model."""
    body = body or GenerateBody()
    job = await run_job(
        request,
        services,
        kind=JobKind.GENERATE,
        project_id=project_id,
        options=body.options().to_json(),
        body=body.model_dump(),
    )
    if isinstance(job, JSONResponse):
        return job
    result = dict(job.result or {})
    path = result.pop("model_path")
    return GenerateAnswer(
        job_id=job.id,
        model_url=_url(request, services, Bucket.MODELS, path),
        timings=dict(job.timings),
        **result,
    )


@router.post("/refine/{project_id}", response_model=RefineAnswer, responses=_ACCEPTED)
async def refine(
    request: Request, services: Wired, project_id: str, body: RefineBody | None = None
) -> RefineAnswer | JSONResponse:
    """Refine the newest model until the gain is below 1% or the iterations are used up."""
    body = body or RefineBody()
    job = await run_job(
        request,
        services,
        kind=JobKind.REFINE,
        project_id=project_id,
        options=body.options().to_json(),
        body=body.model_dump(),
    )
    if isinstance(job, JSONResponse):
        return job
    result = dict(job.result or {})
    path = result.pop("model_path")
    return RefineAnswer(
        job_id=job.id,
        final_model_url=_url(request, services, Bucket.MODELS, path),
        timings=dict(job.timings),
        **result,
    )


@router.get("/export/{project_id}", response_model=ExportAnswer, responses=_ACCEPTED)
async def export(
    request: Request,
    services: Wired,
    project_id: str,
    format: Annotated[str, Query()] = "ply",
    optimize: Annotated[bool, Query()] = False,
) -> ExportAnswer | JSONResponse:
    """Convert the newest model. Asking again answers with the stored file."""
    chosen = find_format(format)
    detail = await services.store.records.project_detail(project_id)
    model = detail.newest_model
    if model is None:
        raise NotGeneratedYet("There is no model to export yet: generate one first.")
    for row in detail.exports:
        if (row.model_version, row.format, row.optimize) == (model.version, chosen.name, optimize):
            return _export_answer(request, services, row)
    options = {"format": chosen.name, "optimize": optimize}
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
    return _export_answer(request, services, ExportRow(**(job.result or {})))


def _export_answer(request: Request, services: Services, row: ExportRow) -> ExportAnswer:
    return ExportAnswer(
        download_url=_url(request, services, Bucket.MODELS, row.file_path),
        format=row.format,
        file_size_mb=round(row.file_size_bytes / 1e6, 3),
        model_version=row.model_version,
    )


@router.get("/status/{project_id}", response_model=StatusAnswer)
async def status(request: Request, services: Wired, project_id: str) -> StatusAnswer:
    """Everything known about a project, read in one snapshot."""
    detail = await services.store.records.project_detail(project_id)
    return _status_answer(request, services, detail)


def _status_answer(request: Request, services: Services, detail: ProjectDetail) -> StatusAnswer:
    def url(bucket: Bucket, path: str) -> str:
        return _url(request, services, bucket, path)

    project = detail.project
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
        models=[ModelAnswer.of(r, url(Bucket.MODELS, r.model_path)) for r in detail.models],
        exports=[ExportedAnswer.of(r, url(Bucket.MODELS, r.file_path)) for r in detail.exports],
        view_urls=[url(Bucket.VIEWS, row.image_path) for row in detail.views],
        depth_urls=[url(Bucket.DEPTH, row.heat_map_path) for row in detail.depths],
        job=JobAnswer.of(detail.job, now=datetime.now(UTC)) if detail.job else None,
    )
