"""The job resource and the queue.

It knows jobs as rows; not who runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, Field
from typing_extensions import TypeAliasType

from deployments.jobs.rows import Job, JobKind, JobState, Queue
from serve_app.http.eta import eta_s
from serve_app.http.schemas.result_answers import (
    ExportAnswer,
    GenerateAnswer,
    RefineAnswer,
    RowAnswer,
    Url,
    result_of,
)

Kind = TypeVar("Kind")
Result = TypeVar("Result")


class JobErrorAnswer(RowAnswer):
    """Why a job failed."""

    code: str
    detail: str
    stage: str
    retryable: bool


class _Job(RowAnswer, Generic[Kind, Result]):
    id: str
    project_id: str
    kind: Kind
    state: JobState
    stage: str
    step: str
    progress: float
    eta_s: float | None
    queue_position: int | None
    attempt: int
    cancel_requested: bool
    timings: dict[str, float]
    memory: dict[str, dict[str, int]]
    error: JobErrorAnswer | None
    result: Result | None
    events_url: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class GenerateJobAnswer(_Job[Literal[JobKind.GENERATE], GenerateAnswer]):
    """A generation. `memory` has the most bytes each process had, by stage."""


class RefineJobAnswer(_Job[Literal[JobKind.REFINE], RefineAnswer]):
    """A refinement. `memory` has the most bytes each process had, by stage."""


class ExportJobAnswer(_Job[Literal[JobKind.EXPORT], ExportAnswer]):
    """An export. `memory` has the most bytes each process had, by stage."""


#: The job resource: one component of the OpenAPI document, told apart by `kind`.
JobAnswer = TypeAliasType(
    "JobAnswer",
    Annotated[GenerateJobAnswer | RefineJobAnswer | ExportJobAnswer, Field(discriminator="kind")],
)

_BY_KIND: Mapping[JobKind, type[GenerateJobAnswer | RefineJobAnswer | ExportJobAnswer]] = {
    JobKind.GENERATE: GenerateJobAnswer,
    JobKind.REFINE: RefineJobAnswer,
    JobKind.EXPORT: ExportJobAnswer,
}


def job_answer_of(job: Job, url: Url, *, queue: Queue | None = None) -> JobAnswer:
    """`result` is what the call that submitted the job answers when it waits.

    Args:
        queue: what a waiting job's `eta_s` also depends on.
    """
    return _BY_KIND[job.kind].from_row(
        job,
        eta_s=eta_s(job, queue, job.read_at),
        result=result_of(job, url) if job.state is JobState.SUCCEEDED else None,
        events_url=url.of(f"/api/v1/jobs/{job.id}/events"),
    )


class QueueAnswer(BaseModel):
    """How many jobs wait and run, in all and by kind, and how many may run at once."""

    queued: int
    running: int
    max_running_jobs: int
    queued_by_kind: dict[JobKind, int]
    running_by_kind: dict[JobKind, int]

    @classmethod
    def of(cls, queue: Queue, max_running_jobs: int) -> Self:
        """Every kind has its number, be it 0."""
        return cls(
            queued=sum(queue.queued.values()),
            running=sum(queue.running.values()),
            max_running_jobs=max_running_jobs,
            queued_by_kind={kind: queue.queued.get(kind, 0) for kind in JobKind},
            running_by_kind={kind: queue.running.get(kind, 0) for kind in JobKind},
        )
