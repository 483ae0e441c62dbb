"""Errors as HTTP answers: RFC 9457 problem documents.

It maps `pipeline.errors` to status codes, totally, and knows no route.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match

from deployments.jobs import job_errors
from deployments.jobs.rows import Job
from pipeline import errors
from pipeline.errors import GlimpseError

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


class Fault(BaseModel):
    """One field of a request that cannot be used, and why."""

    field: str
    fault: str


class Problem(BaseModel):
    """Why a request was refused or failed (RFC 9457).

    `code` is stable; with `retryable` the same request may succeed later. `job_id` names the job
    that failed, was cancelled or is in the way, `stage` where it was; `errors` has every fault of
    a request whose fields cannot be used.
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    retryable: bool
    request_id: str
    # Only where they mean something.
    job_id: str = ""
    stage: str = ""
    errors: list[Fault] = []


class HttpError(Exception):
    """An HTTP-only error, of no interest to the pipeline."""

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]


class BadRequest(HttpError):
    """A body that is no JSON text or no form at all; raised by FastAPI, never here."""

    status, code, title = 400, "http_error", "The body cannot be read"


class BadSignature(HttpError):
    """A link to a file that has expired or was changed."""

    status, code, title = 403, "bad_signature", "The link is not valid"


class TooLarge(HttpError):
    """A body above the limit."""

    status, code, title = 413, "too_large", "The file is too large"

    def __init__(self, max_file_bytes: int) -> None:
        super().__init__(f"The file is larger than {max_file_bytes / 1024 / 1024:.0f} MB.")


class UnsupportedMediaType(HttpError):
    """An upload that is no form."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class JobFailed(Exception):
    """A request waited for a job that failed or was cancelled."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.id)
        self.job = job


def status_of(error: type[GlimpseError]) -> tuple[int, str]:
    """Status and title of an error class."""
    return next(_ANSWERS[base] for base in error.__mro__ if base in _ANSWERS)


@cache
def _classes_by_code() -> dict[str, type[GlimpseError]]:
    """Every error class by the stable code that stands in a failed job."""
    kinds: list[type[GlimpseError]] = [GlimpseError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    return {kind.code: kind for kind in reversed(kinds)}


def problem_response(
    request: Request, status: int, code: str, title: str, detail: str, **more: Any
) -> JSONResponse:
    """A problem document as the answer to `request`; `more` are other fields of `Problem`."""
    problem = Problem(
        type=f"urn:glimpse3d:problem:{code}",
        title=title,
        status=status,
        detail=detail,
        instance=request.url.path,
        code=code,
        **{
            "retryable": False,
            "request_id": getattr(request.state, "request_id", ""),
            **more,
        },
    )
    headers = {"Retry-After": str(_RETRY_AFTER_S)} if status == 503 else None
    return JSONResponse(
        problem.model_dump(exclude_unset=True), status, headers, media_type=MEDIA_TYPE
    )


async def _on_glimpse_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, GlimpseError)
    status, title = status_of(type(error))
    if status >= 500:
        log.error("%s %s: %s", request.method, request.url.path, error)
    more = {"job_id": error.job_id} if isinstance(error, job_errors.ProjectBusy) else {}
    return problem_response(
        request, status, error.code, title, error.detail, retryable=error.retryable, **more
    )


async def _on_job_failed(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, JobFailed)
    job, cause = error.job, error.job.error
    if cause is None:
        status, title = status_of(errors.Cancelled)
        code, detail, retryable, stage = (
            errors.Cancelled.code,
            "The job was cancelled.",
            False,
            job.stage,
        )
    else:
        status, title = status_of(_classes_by_code().get(cause.code, GlimpseError))
        code, detail, retryable, stage = cause.code, cause.detail, cause.retryable, cause.stage
    return problem_response(
        request, status, code, title, detail, retryable=retryable, job_id=job.id, stage=stage
    )


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HttpError)
    return problem_response(request, error.status, error.code, error.title, str(error))


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
    _, title = status_of(errors.InvalidOption)
    detail = f"{faults[0]['field']}: {faults[0]['fault']}"
    return problem_response(request, 422, errors.InvalidOption.code, title, detail, errors=faults)


_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """What Starlette and FastAPI raise: no such path or method, a body that cannot be read."""
    assert isinstance(error, HTTPException)
    status, detail = error.status_code, str(error.detail)
    code = _HTTP_CODES.get(status, BadRequest.code)
    answer = problem_response(request, status, code, detail, detail)
    answer.headers.update(error.headers or {})
    if status == 405 and "Allow" in answer.headers:
        # Starlette names the methods of the first route with this path, and there may be more.
        answer.headers["Allow"] = ", ".join(_methods(request))
    return answer


def _methods(request: Request) -> Iterator[str]:
    """What the path of a request can be asked with."""
    for method in ("GET", "HEAD", "POST", "DELETE"):
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            yield method


async def _on_anything_else(request: Request, error: Exception) -> JSONResponse:
    """A fault of ours: logged with its trace, answered without it."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    status, title = status_of(GlimpseError)
    detail = "Something went wrong on our side; the log names it by request_id."
    return problem_response(request, status, GlimpseError.code, title, detail)


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem document."""
    app.add_exception_handler(GlimpseError, _on_glimpse_error)
    app.add_exception_handler(JobFailed, _on_job_failed)
    app.add_exception_handler(HttpError, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_anything_else)
