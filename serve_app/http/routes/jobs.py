"""The job resource: look at it, stop it; and the queue it may wait in.

It reads and writes committed state only, so any ingress replica serves any job.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from pipeline.errors import GlimpseError, InvalidOption, Unavailable
from serve_app.http.dependencies import AppServices, ClientUrls, ClientWord, Id
from serve_app.http.openapi import ID_ERRORS, headers, problems
from serve_app.http.problems import TooManyAtOnce
from serve_app.http.schemas.job_answers import JobAnswer, QueueAnswer
from serve_app.http.waiting import accepted, job_answer

router = APIRouter(prefix="/api/v1", tags=["jobs"])


@router.get(
    "/jobs/{job_id}",
    response_model=JobAnswer,
    responses=problems(*ID_ERRORS, InvalidOption, TooManyAtOnce),
)
async def get_job(
    services: AppServices,
    urls: ClientUrls,
    client: ClientWord,
    job_id: Id,
    wait: Annotated[float, Query(ge=0, le=60)] = 0.0,
) -> JobAnswer:
    """The job; with `wait`, as soon as it has ended or after so many seconds."""
    records = services.store.records
    if wait:
        with services.budgets.waiting.taken(client):
            job = await records.wait_for_job(job_id, wait)
    else:
        job = await records.get_job(job_id)
    return await job_answer(services, urls, job)


@router.post(
    "/jobs/{job_id}/cancel",
    status_code=202,
    response_model=JobAnswer,
    responses={202: {"headers": headers("Location", "Retry-After")}, **problems(*ID_ERRORS)},
)
async def cancel_job(services: AppServices, urls: ClientUrls, job_id: Id) -> JSONResponse:
    """Ask a job to stop; harmless when it has ended."""
    return await accepted(services, urls, await services.store.records.cancel_job(job_id))


@router.get("/queue", response_model=QueueAnswer, responses=problems(Unavailable, GlimpseError))
async def get_queue(services: AppServices) -> QueueAnswer:
    """How many jobs wait and run."""
    queue = await services.store.records.queue()
    return QueueAnswer.of(queue, services.limits.max_running_jobs)
