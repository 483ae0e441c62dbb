"""Errors as HTTP answers: RFC 9457 problem documents.

It maps `pipeline.errors` to status codes, totally, and knows no route.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match

from deployments.jobs import job_errors
from deployments.jobs.rows import Job, JobError
from pipeline import errors
from pipeline.errors import GlimpseError

log = logging.getLogger("ray.serve")

MEDIA_TYPE = "application/problem+json"


class Refusal(GlimpseError):
    """Root of the errors of HTTP alone: they are about the request itself."""

    for_clients = True


class BadRequest(Refusal):
    """A body that is no JSON text or no form at all; raised by FastAPI, never here."""

    code = "http_error"


class BadSignature(Refusal):
    """A link to a file that has expired or was changed."""

    code = "bad_signature"


class TooLarge(Refusal):
    """A body above the limit."""

    code = "too_large"

    def __init__(self, max_bytes: int, what: str = "file") -> None:
        mib = max_bytes / 1024 / 1024
        limit = f"{mib:.0f} MB" if mib >= 1 else f"{max_bytes / 1024:.0f} KB"
        super().__init__(f"The {what} is larger than {limit}.")


class UrlTooLong(Refusal):
    """A path and query above the limit."""

    code = "url_too_long"


class HeadersTooLarge(Refusal):
    """More, or longer, headers than any client of ours needs."""

    code = "headers_too_large"


class BodyTooSlow(Refusal):
    """A body that did not arrive in time."""

    code = "body_too_slow"
    retryable = True


class UnknownHost(Refusal):
    """A `Host` by which the service is not called: a page may have pointed its name at us."""

    code = "unknown_host"


class ForeignOrigin(Refusal):
    """A page of another site asks to change something."""

    code = "foreign_origin"


class RangeNotSatisfiable(Refusal):
    """A `Range` that begins behind the end of the file."""

    code = "range_not_satisfiable"


class Changed(Refusal):
    """What `If-Match` names is not what there is any more."""

    code = "changed"


class TooManyAtOnce(Refusal):
    """A budget of this process is used up (`serve_app.http.budgets`)."""

    code = "too_many_at_once"
    retryable = True


class UnsupportedMediaType(Refusal):
    """An upload that is no form."""

    code = "unsupported_media_type"


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
    BadRequest: (400, "The body cannot be read"),
    BadSignature: (403, "The link is not valid"),
    ForeignOrigin: (403, "Not for pages of other sites"),
    RangeNotSatisfiable: (416, "The file has no such bytes"),
    UnknownHost: (421, "Not the name of this service"),
    Changed: (412, "It has been changed meanwhile"),
    BodyTooSlow: (408, "The body came too slowly"),
    TooLarge: (413, "The body is too large"),
    UrlTooLong: (414, "The URL is too long"),
    HeadersTooLarge: (431, "The headers are too large"),
    TooManyAtOnce: (503, "Too many requests at once"),
    UnsupportedMediaType: (415, "Unsupported media type"),
}

_RETRY_AFTER_S = 5

#: Of a request with more faults only so many are told, and of texts that a client sent only so
#: many characters: an answer must not grow with what was wrong.
MAX_FAULTS = 20
_MAX_FIELD, _MAX_FAULT, _MAX_DETAIL = 200, 500, 2000


class Fault(BaseModel):
    """One field of a request that cannot be used, and why."""

    field: str
    fault: str


class Problem(BaseModel):
    """Why a request was refused or failed (RFC 9457).

    `code` is stable; with `retryable` the same request may succeed later. `job_id` names the job
    that failed, was cancelled or is in the way, `stage` where it was; `errors` has the first faults
    of a request whose fields cannot be used, `error_count` says how many there are.
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
    error_count: int = 0


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


def _problem(
    request: Request, status: int, code: str, title: str, detail: str, **more: Any
) -> JSONResponse:
    """A problem document as the answer to `request`; `more` are other fields of `Problem`."""
    problem = Problem(
        type=f"urn:glimpse3d:problem:{code}",
        title=title,
        status=status,
        detail=_shortened(detail, _MAX_DETAIL),
        instance=_shortened(request.url.path, _MAX_DETAIL),
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


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def error_response(request: Request, error: GlimpseError) -> JSONResponse:
    """The problem document of an error: what it says to clients, and nothing of its cause."""
    status, title = status_of(type(error))
    more = {"job_id": error.job_id} if isinstance(error, job_errors.ProjectBusy) else {}
    return _problem(
        request, status, error.code, title, error.public, retryable=error.retryable, **more
    )


async def _on_glimpse_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, GlimpseError)
    answer = error_response(request, error)
    if answer.status_code >= 500:
        request_id = getattr(request.state, "request_id", "")
        # That somebody asks for too much is no fault of ours.
        level = logging.WARNING if isinstance(error, TooManyAtOnce) else logging.ERROR
        log.log(level, "%s %s [%s]: %s", request.method, request.url.path, request_id, error)
    return answer


async def _on_job_failed(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, JobFailed)
    job = error.job
    cancelled = JobError(errors.Cancelled.code, "The job was cancelled.", job.stage, False)
    cause = job.error or cancelled
    status, title = status_of(_classes_by_code().get(cause.code, GlimpseError))
    more = {"retryable": cause.retryable, "job_id": job.id, "stage": cause.stage}
    return _problem(request, status, cause.code, title, cause.detail, **more)


async def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    """FastAPI's own validation: the first fault in one sentence, the first ones in `errors`."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    faults = [
        {
            "field": _shortened(_field(e), _MAX_FIELD),
            "fault": _shortened(_fault(e, request), _MAX_FAULT),
        }
        for e in found[:MAX_FAULTS]
    ]
    _, title = status_of(errors.InvalidOption)
    detail = f"{faults[0]['field']}: {faults[0]['fault']}"
    more = {"errors": faults, "error_count": len(found)}
    return _problem(request, 422, errors.InvalidOption.code, title, detail, **more)


def _field(found: Mapping[str, Any]) -> str:
    """Where a fault is, without pydantic's own word for a number with limits."""
    named = [part for part in map(str, found["loc"]) if not part.startswith("constrained-")]
    return ".".join(named[1:]) or named[0]


def _fault(found: Mapping[str, Any], request: Request) -> str:
    """One fault in words that say what to do, where the validator's do not."""
    missing = found["loc"] == ("body", "file") and found["type"] == "missing"
    if missing or "Expected UploadFile" in found["msg"]:
        return "Send a file: a part that has a filename, as `curl -F file=@photo.jpg` makes one."
    if found["loc"] == ("body",) and found["type"] in _NO_OBJECT:
        if "json" not in request.headers.get("content-type", ""):
            return "The body is read as JSON only with `Content-Type: application/json`."
        return "The body must be a JSON object."
    return str(found["msg"]).removeprefix("Value error, ")


#: What pydantic says of a body that is no object at all.
_NO_OBJECT = ("model_attributes_type", "model_type", "dict_type")

_HTTP_CODES = {404: errors.NotFound.code, 405: "method_not_allowed", 413: TooLarge.code}


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """What Starlette and FastAPI raise: no such path or method, a body that cannot be read."""
    assert isinstance(error, HTTPException)
    status, detail = error.status_code, str(error.detail)
    if status == 404 and (place := _without_slash(request)):
        detail = f"This is at {place}, without a slash at the end."
        moved = _problem(request, 307, "moved", "Without a slash at the end", detail)
        moved.headers["Location"] = place
        return moved
    code = _HTTP_CODES.get(status, BadRequest.code)
    answer = _problem(request, status, code, detail, detail)
    answer.headers.update(error.headers or {})
    if status == 405 and "Allow" in answer.headers:
        # Starlette names the methods of the first route with this path, and there may be more.
        answer.headers["Allow"] = ", ".join(_methods(request))
    return answer


def _without_slash(request: Request) -> str:
    """Path and query of what a request would have meant without slashes at its end, if anything."""
    path = request.scope["path"].rstrip("/")
    scope = {**request.scope, "path": path}
    if not path or path == request.scope["path"]:
        return ""
    if all(route.matches(scope)[0] is Match.NONE for route in request.app.routes):
        return ""
    return str(request.url.replace(scheme="", netloc="", path=path))


def _methods(request: Request) -> Iterator[str]:
    """What the path of a request can be asked with."""
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            yield method


async def _on_anything_else(request: Request, error: Exception) -> JSONResponse:
    """A fault of ours: logged with its trace, answered without it."""
    request_id = getattr(request.state, "request_id", "")
    log.error("%s %s [%s] failed", request.method, request.url.path, request_id, exc_info=error)
    status, title = status_of(GlimpseError)
    detail = "Something went wrong on our side; the log names it by request_id."
    return _problem(request, status, GlimpseError.code, title, detail)


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem document."""
    app.add_exception_handler(GlimpseError, _on_glimpse_error)
    app.add_exception_handler(JobFailed, _on_job_failed)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_anything_else)
