"""Errors as HTTP answers: RFC 9457 problem documents.

It maps `pipeline.errors` to status codes, totally, and knows no route.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from deployments.jobs import job_errors
from deployments.jobs.rows import Job
from pipeline import errors
from pipeline.errors import GlimpseError

__all__ = ["JobFailed", "Problem", "install", "problem_response", "status_of"]

log = logging.getLogger("ray.serve")

MEDIA_TYPE = "application/problem+json"

#: Status and title by class; a subclass without an entry has its base's.
_ANSWERS: dict[type[GlimpseError], tuple[int, str]] = {
    errors.GlimpseError: (500, "Internal error"),
    errors.InvalidInput: (422, "Invalid request"),
    errors.InvalidImage: (422, "The image cannot be used"),
    errors.InvalidOption: (422, "Invalid option"),
    errors.InvalidModelFile: (422, "The model file cannot be used"),
    job_errors.IdempotencyMismatch: (422, "Idempotency-Key used with another request"),
    errors.NotFound: (404, "Not found"),
    errors.Conflict: (409, "The project is in another state"),
    errors.NotGeneratedYet: (409, "Nothing has been generated yet"),
    job_errors.ProjectBusy: (409, "Another job is running on the project"),
    errors.Cancelled: (409, "The job was cancelled"),
    job_errors.StaleAttempt: (409, "The job was taken over"),
    errors.Unavailable: (503, "Try again later"),
    job_errors.TooBusy: (503, "Too many jobs are waiting"),
    errors.OutOfMemory: (503, "Out of memory"),
    errors.ModelFailed: (500, "The job failed"),
}

_RETRY_AFTER_S = 5


class Problem(Exception):
    """An HTTP-only problem, of no interest to the pipeline: too large, wrong media type."""

    def __init__(self, status: int, code: str, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.title, self.detail = status, code, title, detail


class JobFailed(Exception):
    """A request waited for a job that failed or was cancelled."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.id)
        self.job = job


def status_of(error: type[GlimpseError]) -> tuple[int, str]:
    """Status and title of an error class."""
    return next(_ANSWERS[base] for base in error.__mro__ if base in _ANSWERS)


def _class_of_code(code: str) -> type[GlimpseError]:
    """The error class whose stable code stands in a failed job."""
    pending: list[type[GlimpseError]] = [GlimpseError]
    while pending:
        candidate = pending.pop()
        if candidate.code == code:
            return candidate
        pending.extend(candidate.__subclasses__())
    return GlimpseError


def problem_response(
    request: Request,
    *,
    status: int,
    code: str,
    title: str,
    detail: str,
    retryable: bool = False,
    more: Mapping[str, Any] | None = None,
) -> JSONResponse:
    """A problem document as the answer to `request`."""
    body = {
        "type": f"urn:glimpse3d:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": request.url.path,
        "code": code,
        "retryable": retryable,
        "request_id": getattr(request.state, "request_id", ""),
        **(more or {}),
    }
    headers = {"Retry-After": str(_RETRY_AFTER_S)} if status == 503 else None
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


async def _on_glimpse_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, GlimpseError)
    status, title = status_of(type(error))
    if status >= 500:
        log.error("%s %s: %s", request.method, request.url.path, error)
    more = {"job_id": error.job_id} if isinstance(error, job_errors.ProjectBusy) else None
    return problem_response(
        request,
        status=status,
        code=error.code,
        title=title,
        detail=error.detail,
        retryable=error.retryable,
        more=more,
    )


async def _on_job_failed(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, JobFailed)
    job = error.job
    if job.error is None:
        status, title = status_of(errors.Cancelled)
        return problem_response(
            request,
            status=status,
            code=errors.Cancelled.code,
            title=title,
            detail="The job was cancelled.",
            more={"job_id": job.id, "stage": job.stage},
        )
    status, title = status_of(_class_of_code(job.error.code))
    return problem_response(
        request,
        status=status,
        code=job.error.code,
        title=title,
        detail=job.error.detail,
        retryable=job.error.retryable,
        more={"job_id": job.id, "stage": job.error.stage},
    )


async def _on_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return problem_response(
        request, status=error.status, code=error.code, title=error.title, detail=error.detail
    )


async def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    """FastAPI's own validation: the first fault in one sentence, all of them in `errors`."""
    assert isinstance(error, RequestValidationError)
    faults = [
        {
            "field": ".".join(str(part) for part in e["loc"][1:]) or str(e["loc"][0]),
            "fault": e["msg"],
        }
        for e in error.errors()
    ]
    return problem_response(
        request,
        status=422,
        code=errors.InvalidOption.code,
        title=status_of(errors.InvalidOption)[1],
        detail=f"{faults[0]['field']}: {faults[0]['fault']}",
        more={"errors": faults},
    )


_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    answer = problem_response(
        request,
        status=error.status_code,
        code=_HTTP_CODES.get(error.status_code, "http_error"),
        title=str(error.detail),
        detail=str(error.detail),
    )
    answer.headers.update(error.headers or {})
    return answer


async def _on_anything_else(request: Request, error: Exception) -> JSONResponse:
    """A fault of ours: logged with its trace, told without it."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem_response(
        request,
        status=500,
        code=GlimpseError.code,
        title="Internal error",
        detail="Something went wrong on our side; the log names it by request_id.",
    )


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem document."""
    app.add_exception_handler(GlimpseError, _on_glimpse_error)
    app.add_exception_handler(JobFailed, _on_job_failed)
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_anything_else)
