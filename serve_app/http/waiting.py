"""Requests that are jobs: submit, wait as the client prefers, answer 200 or 202.

It knows RFC 7240 `Prefer`, `Idempotency-Key` and the store's jobs; not what a job computes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import Depends, Header
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from deployments.jobs.rows import Job, JobKind, JobState, NewJob
from pipeline.errors import InvalidOption
from serve_app.http.dependencies import AppServices, BlobUrls, ClientUrls, ClientWord, Services
from serve_app.http.one_pass import check_one_pass
from serve_app.http.openapi import Responses, headers
from serve_app.http.problems import JobFailed, TooManyAtOnce
from serve_app.http.schemas.job_answers import JobAnswer, job_answer_of
from serve_app.http.schemas.request_bodies import ExportQuery, GenerateBody, RefineBody
from serve_app.http.schemas.result_answers import ResultAnswer, result_of

_RETRY_AFTER_S = 2
_KEY = re.compile(r"[\x21-\x7e]{1,255}")

IdempotencyKey = Annotated[
    # Declared only: `checked_key` checks it, where it is used.
    Annotated[str, Field(json_schema_extra={"pattern": f"^{_KEY.pattern}$"})]
    | SkipJsonSchema[None],
    Header(
        alias="Idempotency-Key",
        description="The same key with the same request of the same client has the first answer; "
        "with another request it is refused.",
    ),
]

Prefer = Annotated[
    str,
    Header(
        alias="Prefer",
        description="RFC 7240: `respond-async` answers 202 at once, `wait=N` after at most N "
        "seconds. Other preferences are ignored.",
    ),
]


@dataclass(frozen=True)
class Preference:
    """What the client said in `Prefer`. `wait_s` None: as long as the server allows."""

    respond_async: bool = False
    wait_s: float | None = None


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


def checked_key(key: str | None) -> str | None:
    """An `Idempotency-Key` that the store takes."""
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidOption("Idempotency-Key must be 1 to 255 visible ASCII characters.")
    return key


def check_webhook(services: Services, url: str | None) -> None:
    """Refuse a URL that we would not call, with InvalidOption."""
    if url is None:
        return
    if services.webhooks is None:
        raise InvalidOption("webhook_url: this service is not configured to send webhooks.")
    services.webhooks.egress.check_url(url)


@dataclass(frozen=True)
class Caller:
    """Who asks for a job, and how long it waits.

    Attributes:
        client: a word that tells clients apart and names nobody.
    """

    services: Services
    urls: BlobUrls
    client: str
    preference: Preference
    idempotency_key: str | None = None

    async def run(
        self, kind: JobKind, project_id: str, asked: GenerateBody | RefineBody | ExportQuery
    ) -> ResultAnswer | JSONResponse:
        """Submit a job; its result, or 202 when it is not waited for any longer.

        Raises:
            InvalidOption: the engines cannot do what is asked for; there is no job.
            JobFailed: the job failed or was cancelled while the client waited.
        """
        limits = self.services.limits
        options = self.services.engines.settled(asked.options())
        self.services.engines.check(options)
        check_webhook(self.services, asked.webhook_url)
        records = self.services.store.records
        await check_one_pass(records, project_id, options)
        submitted = await records.submit_job(
            NewJob(
                project_id=project_id,
                kind=kind,
                # With a seed where none was asked for; the fingerprint is of the request alone.
                options=options.to_json(),
                fingerprint=fingerprint(kind, project_id, asked.model_dump()),
                idempotency_key=checked_key(self.idempotency_key),
                max_queued=limits.max_queued_jobs,
                client=self.client,
                shape=asked.shape(),
                webhook_url=asked.webhook_url,
            )
        )
        job, preference = submitted.job, self.preference
        if preference.wait_s is not None:
            preference = replace(preference, wait_s=min(preference.wait_s, limits.max_wait_s))
        if not preference.respond_async:
            wait_s = limits.max_wait_s if preference.wait_s is None else preference.wait_s
            try:
                with self.services.budgets.waiting.taken(self.client):
                    job = await records.wait_for_job(job.id, wait_s)
            except TooManyAtOnce:
                # The answer is what it would be after a longer wait: 202. None was honoured.
                preference = Preference()
        if not job.state.ended:
            return await accepted(self.services, self.urls, job, preference)
        if job.state is not JobState.SUCCEEDED:
            raise JobFailed(job)
        return result_of(job, self.urls)


async def _asking(
    services: AppServices, urls: ClientUrls, client: ClientWord, prefer: Prefer = ""
) -> Caller:
    return Caller(services, urls, client, parse_prefer(prefer))


#: Who makes a request that may be made again: it needs no key.
Asking = Annotated[Caller, Depends(_asking)]


async def _posting(caller: Asking, idempotency_key: IdempotencyKey = None) -> Caller:
    return replace(caller, idempotency_key=idempotency_key)


Posting = Annotated[Caller, Depends(_posting)]


async def job_answer(services: Services, urls: BlobUrls, job: Job) -> JobAnswer:
    """The job resource. Only for a job that waits behind others the store is asked once more."""
    waits = job.state is JobState.QUEUED and job.expected and (job.queue_position or 1) > 1
    queue = await services.store.records.queue() if waits else None
    return job_answer_of(job, urls, queue=queue)


def accepted_as(answer: type[BaseModel]) -> Responses:
    """What `accepted` answers, for the OpenAPI document; `answer`: the resource of such a job."""
    return {
        202: {
            "model": answer,
            "description": "The job goes on; ask for it at `Location`.",
            "headers": headers("Location", "Retry-After", "Preference-Applied"),
        }
    }


async def accepted(
    services: Services, urls: BlobUrls, job: Job, preference: Preference | None = None
) -> JSONResponse:
    """202 with the job resource, where it is and when to ask again."""
    location = urls.of(f"/api/v1/jobs/{job.id}")
    sent = {"Location": location, "Retry-After": str(_RETRY_AFTER_S)}
    if preference is not None and preference.respond_async:
        sent["Preference-Applied"] = "respond-async"
    elif preference is not None and preference.wait_s is not None:
        sent["Preference-Applied"] = f"wait={preference.wait_s:.0f}"
    body = (await job_answer(services, urls, job)).model_dump(mode="json")
    return JSONResponse(body, status_code=202, headers=sent)
