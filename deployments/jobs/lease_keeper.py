"""A driver's side of a lease: a heartbeat renews it; it is ended or given back with the work.

It knows the records and why work is interrupted; not what the work is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from deployments.jobs.fenced_commit import retry_while_away
from deployments.jobs.job_errors import StaleAttempt
from deployments.jobs.rows import JobError, JobState, Lease
from deployments.jobs.stage_progress import StageProgress
from deployments.jobs.store import Records
from pipeline.errors import GlimpseError, NotFound, Unavailable

log = logging.getLogger("ray.serve")


class Interruption(Enum):
    """Why the heartbeat stops the work."""

    CANCEL_REQUESTED = auto()
    LEASE_LOST = auto()
    #: Serve stops this replica: another driver is to go on.
    DRAINED = auto()


@dataclass(frozen=True)
class LeaseKeeper:
    """One lease.

    Attributes:
        lease_s: a job whose driver is silent for so long is claimed by another.
        heartbeat_s: time between two heartbeats; also how soon a cancellation is noticed.
    """

    records: Records
    lease: Lease
    lease_s: float
    heartbeat_s: float

    async def renew(self, progress: StageProgress, draining: Callable[[], bool]) -> Interruption:
        """Renew the lease and publish progress until the work has to stop."""
        job_id = self.lease.job.id
        renewed = time.monotonic()
        while True:
            if draining():
                return Interruption.DRAINED
            progress.entered.clear()
            try:
                beat = await self.records.heartbeat(
                    job_id,
                    self.lease.fence,
                    lease_s=self.lease_s,
                    stage=progress.stage,
                    progress=progress.fraction,
                    step=progress.step,
                )
            except GlimpseError as error:
                # The store may come back within the lease; after it, another driver owns the job.
                log.warning("heartbeat of job %s: %s", job_id, error)
                if time.monotonic() - renewed > self.lease_s:
                    return Interruption.LEASE_LOST
            else:
                if not beat.owned:
                    return Interruption.LEASE_LOST
                if beat.cancel_requested:
                    return Interruption.CANCEL_REQUESTED
                renewed = time.monotonic()
            # Not `wait_for`: on Python 3.11 it swallows a cancellation that meets the event.
            with suppress(TimeoutError):
                async with asyncio.timeout(self.heartbeat_s):
                    await progress.entered.wait()

    async def finish(
        self,
        state: JobState,
        *,
        result: Mapping[str, Any] | None = None,
        error: JobError | None = None,
    ) -> None:
        """End the job; an unreachable store is asked again for as long as a lease lasts."""
        job_id = self.lease.job.id

        async def end() -> None:
            await self.records.finish_job(
                job_id, self.lease.fence, state=state, result=result, error=error
            )

        try:
            await retry_while_away(end, self.lease_s, self.heartbeat_s)
        except (StaleAttempt, NotFound):
            log.info("job %s was taken over or deleted before it ended", job_id)
        except Unavailable as problem:
            # The next attempt finds every stage committed.
            log.error("job %s could not be ended: %s", job_id, problem)

    async def release(self, error: JobError | None = None, *, delay_s: float = 0.0) -> None:
        """Give the job back so that another driver goes on.

        An unreachable store is asked again for as long as a lease lasts: it is the commonest
        reason to give a job back, and the job is to keep that reason.
        """
        job_id = self.lease.job.id

        async def give_back() -> None:
            await self.records.release_job(job_id, self.lease.fence, error, delay_s=delay_s)

        try:
            await retry_while_away(give_back, self.lease_s, self.heartbeat_s)
        except (StaleAttempt, NotFound):
            log.info("job %s was taken over or deleted before it was released", job_id)
        except GlimpseError as problem:
            log.warning("job %s could not be released: %s", job_id, problem)
