"""The job resource: look at it, stop it; and the queue it may wait in.

It reads and writes committed state only, so any ingress replica serves any job.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from serve_app.http.dependencies import Services
from serve_app.http.schemas import JobAnswer, QueueAnswer
from serve_app.http.waiting import accepted, job_answer

__all__ = ["router"]

router = APIRouter(prefix="/api/v1", tags=["jobs"])


@router.get("/jobs/{job_id}", response_model=JobAnswer)
async def get_job(
    request: Request, job_id: str, wait: Annotated[float, Query(ge=0, le=60)] = 0.0
) -> JobAnswer:
    """The job; with `wait`, as soon as it has ended or after so many seconds."""
    records = Services.of(request).store.records
    job = await (records.wait_for_job(job_id, wait) if wait else records.get_job(job_id))
    return await job_answer(request, job)


@router.post("/jobs/{job_id}/cancel", status_code=202, response_model=JobAnswer)
async def cancel_job(request: Request, job_id: str) -> JSONResponse:
    """Ask a job to stop; harmless when it has ended."""
    job = await Services.of(request).store.records.cancel_job(job_id)
    return await accepted(request, job)


@router.get("/queue", response_model=QueueAnswer)
async def queue(request: Request) -> QueueAnswer:
    """How many jobs wait and run."""
    return QueueAnswer.of(await Services.of(request).store.records.queue())
