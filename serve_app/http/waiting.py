"""Requests that are jobs: submit, wait as the client prefers, answer 200 or 202.

It knows RFC 7240 `Prefer`, `Idempotency-Key` and the store's jobs; not what a job computes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from fastapi import Request
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse

from deployments.jobs.rows import Job, JobKind, JobState, NewJob
from pipeline.errors import InvalidOption
from serve_app.http.dependencies import Services
from serve_app.http.problems import JobFailed
from serve_app.http.schemas import JobAnswer

__all__ = [
    "JobRequest",
    "Preference",
    "accepted",
    "check_webhook",
    "client_of",
    "fingerprint",
    "idempotency_key",
    "job_answer",
    "parse_prefer",
    "run_job",
]

_RETRY_AFTER_S = 2
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True)
class Preference:
    """What the client said in `Prefer`. `wait_s` None: as long as the server allows."""

    respond_async: bool = False
    wait_s: float | None = None


@dataclass(frozen=True)
class JobRequest:
    """What a client asks for.

    Attributes:
        options: what the job row keeps (a drawn seed included).
        body: what the client sent; only it decides whether two requests are the same.
        shape, webhook_url: of `NewJob`.
    """

    kind: JobKind
    project_id: str
    options: Mapping[str, Any]
    body: Mapping[str, Any]
    shape: str
    webhook_url: str | None = None


def parse_prefer(header: str) -> Preference:
    """Read `respond-async` and `wait=N`; other preferences are ignored, as the RFC asks."""
    respond_async, wait_s = False, None
    for part in re.split(r"[,;]", header):
        name, _, value = part.strip().partition("=")
        if name.lower() == "respond-async":
            respond_async = True
        elif name.lower() == "wait" and value.strip('" ').isdecimal():
            wait_s = float(value.strip('" '))
    return Preference(respond_async, wait_s)


def fingerprint(kind: JobKind, project_id: str, body: Mapping[str, Any]) -> str:
    """Digest of a request, equal for equal requests: the key order does not matter."""
    text = json.dumps([kind.value, project_id, body], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def client_of(request: Request) -> str:
    """Who asks, as a word that tells clients apart and names nobody."""
    header = Services.of(request).client_header
    told = request.headers.get(header) if header else None
    name = told or (request.client.host if request.client else "")
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def check_webhook(services: Services, url: str | None) -> None:
    """Refuse a URL that we would not call, with InvalidOption."""
    if url is None:
        return
    if services.webhooks is None:
        raise InvalidOption("webhook_url: this service is not configured to send webhooks.")
    services.webhooks.egress.check_url(url)


async def run_job(request: Request, services: Services, wanted: JobRequest) -> Job | JSONResponse:
    """Submit a job; the ended job, or the 202 answer when it is not waited for any longer.

    Raises:
        JobFailed: the job failed or was cancelled while the client waited.
    """
    check_webhook(services, wanted.webhook_url)
    preference = parse_prefer(request.headers.get("prefer", ""))
    limit_s = services.limits.max_wait_s
    if preference.wait_s is not None:
        preference = replace(preference, wait_s=min(preference.wait_s, limit_s))
    records = services.store.records
    submitted = await records.submit_job(
        NewJob(
            project_id=wanted.project_id,
            kind=wanted.kind,
            options=wanted.options,
            fingerprint=fingerprint(wanted.kind, wanted.project_id, wanted.body),
            idempotency_key=idempotency_key(request),
            max_queued=services.limits.max_queued_jobs,
            client=client_of(request),
            shape=wanted.shape,
            webhook_url=wanted.webhook_url,
        )
    )
    job = submitted.job
    if not preference.respond_async:
        wait_s = limit_s if preference.wait_s is None else preference.wait_s
        job = await records.wait_for_job(job.id, wait_s)
    if not job.state.ended:
        return await accepted(request, job, preference)
    if job.state is not JobState.SUCCEEDED:
        raise JobFailed(job)
    return job


async def job_answer(request: Request, job: Job) -> JobAnswer:
    """The job resource. Only for a job that waits behind others the store is asked once more."""
    services = Services.of(request)
    waits = job.state is JobState.QUEUED and job.expected and (job.queue_position or 1) > 1
    queue = await services.store.records.queue() if waits else None
    return JobAnswer.of(job, services.url_maker(request), now=datetime.now(UTC), queue=queue)


async def accepted(
    request: Request, job: Job, preference: Preference | None = None
) -> JSONResponse:
    """202 with the job resource, where it is and when to ask again."""
    headers = {"Location": f"/api/v1/jobs/{job.id}", "Retry-After": str(_RETRY_AFTER_S)}
    if preference is not None and preference.respond_async:
        headers["Preference-Applied"] = "respond-async"
    elif preference is not None and preference.wait_s is not None:
        headers["Preference-Applied"] = f"wait={preference.wait_s:.0f}"
    body = jsonable_encoder(await job_answer(request, job))
    return JSONResponse(body, status_code=202, headers=headers)


def idempotency_key(request: Request) -> str | None:
    """The key of a POST, checked; only a POST has one."""
    key = request.headers.get("idempotency-key")
    if key is None or request.method != "POST":
        return None
    if not _KEY.fullmatch(key):
        raise InvalidOption("Idempotency-Key must be 1 to 255 visible ASCII characters.")
    return key
