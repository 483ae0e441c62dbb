"""The job resource and the queue.

It knows jobs as rows; not who runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel

from deployments.jobs.rows import Job, JobKind, JobState, Queue
from serve_app.http.eta import eta_s
from serve_app.http.schemas.result_answers import (
    ExportAnswer,
    GenerateAnswer,
    RefineAnswer,
    Url,
    result_of,
)

__all__ = ["JobAnswer", "JobErrorAnswer", "QueueAnswer"]


class JobErrorAnswer(BaseModel):
    """Why a job failed."""

    code: str
    detail: str
    stage: str
    retryable: bool


class JobAnswer(BaseModel):
    """The job resource. `memory` has the most bytes each process had, by stage."""

    id: str
    project_id: str
    kind: str
    state: str
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
    result: GenerateAnswer | RefineAnswer | ExportAnswer | None
    events_url: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, job: Job, url: Url, *, now: datetime, queue: Queue | None = None) -> JobAnswer:
        """`result` is what the call that submitted the job answers when it waits.

        Args:
            queue: what a waiting job's `eta_s` also depends on.
        """
        error = job.error
        return cls(
            id=job.id,
            project_id=job.project_id,
            kind=job.kind.value,
            state=job.state.value,
            stage=job.stage,
            step=job.step,
            progress=job.progress,
            eta_s=eta_s(job, queue, now),
            queue_position=job.queue_position,
            attempt=job.attempt,
            cancel_requested=job.cancel_requested,
            timings=dict(job.timings),
            memory={stage: dict(peaks) for stage, peaks in job.memory.items()},
            error=JobErrorAnswer(**vars(error)) if error else None,
            result=result_of(job, url) if job.state is JobState.SUCCEEDED else None,
            events_url=f"/api/v1/jobs/{job.id}/events",
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )


class QueueAnswer(BaseModel):
    """How many jobs wait and run, in all and by kind."""

    queued: int
    running: int
    queued_by_kind: dict[str, int]
    running_by_kind: dict[str, int]

    @classmethod
    def of(cls, queue: Queue) -> QueueAnswer:
        """Every kind has its number, be it 0."""

        def by_kind(counts: Mapping[JobKind, int]) -> dict[str, int]:
            return {kind.value: counts.get(kind, 0) for kind in JobKind}

        return cls(
            queued=sum(queue.queued.values()),
            running=sum(queue.running.values()),
            queued_by_kind=by_kind(queue.queued),
            running_by_kind=by_kind(queue.running),
        )
