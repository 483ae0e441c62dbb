"""The errors of jobs and their leases; branches of the tree in `pipeline.errors`.

It does not know HTTP or Ray.

    Conflict
     └── ProjectBusy            another job is queued or running on the project
    InvalidInput
     └── IdempotencyMismatch    the key was used with another request
    Unavailable
     └── TooBusy                the queue is full
    GlimpseError
     └── StaleAttempt           the lease went to another attempt; nothing may be written
    ModelFailed
     └── AttemptsExhausted      every attempt stopped without an answer
"""

from __future__ import annotations

from pipeline.errors import Conflict, GlimpseError, InvalidInput, ModelFailed, Unavailable


class AttemptsExhausted(ModelFailed):
    """Every attempt of a job stopped without an answer; the records say so, nobody raises it."""

    code = "attempts_exhausted"
    retryable = True


class IdempotencyMismatch(InvalidInput):
    """The same Idempotency-Key came with a different request."""

    code = "idempotency_key_reused"


class ProjectBusy(Conflict):
    """Another job is queued or running on the project; `job_id` names it."""

    code = "project_busy"
    retryable = True

    def __init__(self, detail: str, job_id: str = "", *, public: str = "") -> None:
        super().__init__(detail, public=public)
        self.job_id = job_id


class StaleAttempt(GlimpseError):
    """The lease belongs to a newer attempt: this one must stop and write nothing."""

    code = "stale_attempt"
    ends_attempt = True
    for_clients = True


class TooBusy(Unavailable):
    """More jobs are queued than the service admits."""

    code = "too_busy"
    for_clients = True
