"""The job resource: look at it, stop it.

It reads and writes committed state only, so any ingress replica serves any job.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from serve_app.jobs import accepted
from serve_app.schemas import JobAnswer
from serve_app.services import Services

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"])


@router.get("/{job_id}", response_model=JobAnswer)
async def get_job(
    request: Request, job_id: str, wait: Annotated[float, Query(ge=0, le=60)] = 0.0
) -> JobAnswer:
    """The job; with `wait`, as soon as it has ended or after so many seconds."""
    services = Services.of(request)
    records = services.store.records
    job = await (records.wait_for_job(job_id, wait) if wait else records.get_job(job_id))
    return JobAnswer.of(job, services.url_maker(request), now=datetime.now(UTC))


@router.post("/{job_id}/cancel", status_code=202, response_model=JobAnswer)
async def cancel_job(request: Request, job_id: str) -> JSONResponse:
    """Ask a job to stop; harmless when it has ended."""
    job = await Services.of(request).store.records.cancel_job(job_id)
    return accepted(request, job)
