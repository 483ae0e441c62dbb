"""Claims jobs and sees each attempt to its end in a driver.

It knows the job table and how an attempt is handed over, not who runs it. It has no state of its
own: what is lost with it is claimed again when leases expire.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from deployments.jobs.rows import JobError, JobState, Lease
from deployments.jobs.store import Records
from pipeline.errors import GlimpseError

log = logging.getLogger("ray.serve")

#: How often a job that waits for a driver is looked at: its lease, and whether it is to stop.
_HOLD_S = 1.0

#: Pause after the store did not answer.
STORE_AWAY_S = 1.0


class Call(Protocol):
    """An attempt that was handed over: awaited until it ends."""

    def __await__(self) -> Generator[Any, None, Any]: ...

    def cancel(self) -> Any:
        """Take it back, whether a driver has begun or not."""


@dataclass
class Claims:
    """The claims of one process.

    Attributes:
        worker: names the process in the job table.
        hand_over: calls a driver; it waits there until one has room.
        explain: what an error of such a call means.
        draining: whether this process is about to be stopped; nothing is claimed then.
        max_running_jobs, poll_s, lease_s: of `DispatcherSettings`.
    """

    records: Records
    worker: str
    hand_over: Callable[[Lease], Call]
    explain: Callable[[Exception], GlimpseError]
    draining: Callable[[], bool]
    max_running_jobs: int
    poll_s: float
    lease_s: float
    _running: set[asyncio.Task[None]] = field(default_factory=set)
    #: Claimed, and no driver has begun.
    _waiting: dict[str, Lease] = field(default_factory=dict)
    #: A claim whose answer nobody has taken: it may be a job's, also when its asker is cancelled.
    _asked: asyncio.Future[Lease | None] | None = None

    async def run(self) -> None:
        """Claim for ever; once draining, wait to be cancelled."""
        while not self.draining():
            lease = await self._claim()
            if lease is None:
                await asyncio.sleep(self.poll_s)
                continue
            self._waiting[lease.job.id], self._asked = lease, None
            task = asyncio.create_task(self._drive(lease))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        await asyncio.Event().wait()

    async def give_back(self) -> None:
        """Release at once what no driver has begun."""
        if self._asked is not None:
            with suppress(GlimpseError):
                lease = await self._asked
                if lease is not None:
                    self._waiting[lease.job.id] = lease
        for lease in [*self._waiting.values()]:
            await self._release(lease, None)

    async def _claim(self) -> Lease | None:
        if len(self._running) >= self.max_running_jobs:
            return None
        try:
            self._asked = asyncio.ensure_future(self.records.claim_job(self.worker, self.lease_s))
            return await asyncio.shield(self._asked)
        except GlimpseError as error:
            log.warning("no job could be claimed: %s", error)
            await asyncio.sleep(STORE_AWAY_S)
            return None

    async def _drive(self, lease: Lease) -> None:
        """One attempt: hand the lease to a driver and see to its end."""
        call = self.hand_over(lease)
        holder = asyncio.create_task(self._hold(lease, call.cancel))
        try:
            await call
        except Exception as error:
            # A driver that died cannot give the job back: do it now instead of waiting for the
            # lease to expire. A newer attempt's fence makes this harmless, and so does its end.
            log.warning("the driver of job %s is gone: %r", lease.job.id, error)
            failure = self.explain(error)
            reason = JobError(failure.code, failure.detail, lease.job.stage, failure.retryable)
            await self._release(lease, reason)
        finally:
            holder.cancel()
            self._waiting.pop(lease.job.id, None)

    async def _hold(self, lease: Lease, cancel_call: Callable[[], Any]) -> None:
        """Renew the lease while the call waits for a driver; the driver's heartbeat goes on.

        A claim has no stage until the driver's first heartbeat.
        """
        job_id, fence = lease.job.id, lease.fence
        while True:
            await asyncio.sleep(_HOLD_S)
            try:
                if (await self.records.get_job(job_id)).stage:
                    break
                beat = await self.records.heartbeat(
                    job_id, fence, lease_s=self.lease_s, stage="", progress=0
                )
                if beat.cancel_requested and beat.owned:
                    await self.records.finish_job(job_id, fence, state=JobState.CANCELLED)
                if beat.cancel_requested or not beat.owned:
                    cancel_call()
                    break
            except GlimpseError as error:
                log.warning("lease of job %s: %s", job_id, error)
        self._waiting.pop(job_id, None)

    async def _release(self, lease: Lease, error: JobError | None) -> None:
        try:
            await self.records.release_job(lease.job.id, lease.fence, error)
        except GlimpseError as problem:
            log.info("job %s was not released: %s", lease.job.id, problem)
