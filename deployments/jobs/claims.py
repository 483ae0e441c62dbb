"""Claims jobs and sees each attempt to its end in a driver.

It knows the job table and how an attempt is handed over, not who runs it. It has no state of its
own: what is lost with it is claimed again when leases expire.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from deployments.jobs.fenced_commit import retry_while_away
from deployments.jobs.rows import Job, JobError, JobState, Lease
from deployments.jobs.store import Records
from pipeline.control import is_being_cancelled
from pipeline.errors import GlimpseError

log = logging.getLogger("ray.serve")

#: How often a job that waits for a driver is looked at: its lease, and whether it is to stop.
_HOLD_S = 1.0

#: Pause after the store did not answer.
STORE_AWAY_S = 1.0

#: Pause of all claims after a job came back that no driver had begun: after the first one, and at
#: most; each in a row is twice the one before. Jobs keep no driver from being repaired.
_NO_DRIVER_S = (0.25, 30.0)


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
    explain: Callable[[BaseException], GlimpseError]
    draining: Callable[[], bool]
    max_running_jobs: int
    poll_s: float
    lease_s: float
    _running: set[asyncio.Task[None]] = field(default_factory=set)
    #: Claimed, and no driver has begun, by job and fence: an older call may not have ended yet.
    _waiting: dict[tuple[str, int], Lease] = field(default_factory=dict)
    #: A claim whose answer nobody has taken: it may be a job's, also when its asker is cancelled.
    _asked: asyncio.Future[Lease | None] | None = None
    #: Jobs in a row that came back without that a driver had begun, and when claims go on.
    _false_starts: int = 0
    _paused_until: float = 0.0
    _is_closing: bool = False

    async def run(self) -> None:
        """Claim for ever; once draining, wait to be cancelled."""
        while not self.draining():
            lease = await self._claim()
            if lease is None:
                await asyncio.sleep(self.poll_s)
                continue
            self._waiting[_key(lease)], self._asked = lease, None
            task = asyncio.create_task(self._drive(lease))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        await asyncio.Event().wait()

    async def give_back(self) -> None:
        """Release at once what no driver has begun."""
        self._is_closing = True
        if self._asked is not None:
            with suppress(GlimpseError):
                lease = await self._asked
                if lease is not None:
                    self._waiting[_key(lease)] = lease
        for lease in [*self._waiting.values()]:
            await self._release(lease, None)

    async def _claim(self) -> Lease | None:
        if len(self._running) >= self.max_running_jobs or time.monotonic() < self._paused_until:
            return None
        try:
            claim = self.records.claim_job(self.worker, self.lease_s, self.max_running_jobs)
            self._asked = asyncio.ensure_future(claim)
            return await asyncio.shield(self._asked)
        except GlimpseError as error:
            log.warning("no job could be claimed: %s", error)
            await asyncio.sleep(STORE_AWAY_S)
            return None

    async def _drive(self, lease: Lease) -> None:
        """One attempt: hand the lease to a driver and see to its end."""
        holder: asyncio.Task[None] | None = None
        try:
            call = self.hand_over(lease)
            holder = asyncio.create_task(self._hold(lease, call.cancel))
            await call
            self._false_starts = 0
        except asyncio.CancelledError as error:
            if is_being_cancelled():
                raise
            await self._take_back(lease, error)
        except Exception as error:
            await self._take_back(lease, error)
        finally:
            if holder is not None:
                holder.cancel()
            self._waiting.pop(_key(lease), None)

    async def _take_back(self, lease: Lease, error: BaseException) -> None:
        """Release a job for its driver, which died or never had it.

        Now, instead of waiting for the lease to expire. A newer attempt's fence makes this
        harmless, and so does the job's end.
        """
        log.warning("the driver of job %s is gone: %r", lease.job.id, error)
        failure = self.explain(error)
        reason = JobError(failure.code, failure.public, lease.job.stage, failure.retryable)
        job = await self._release(lease, reason)
        if job is None or job.state is not JobState.QUEUED or job.stage not in ("", "start"):
            return  # also a driver that was stopped in a stage, and had given the job back itself
        if job.attempt < lease.job.attempt:
            # It cost no attempt: no driver had begun. The next job would fare no better.
            first_s, longest_s = _NO_DRIVER_S
            pause_s = min(first_s * 2.0 ** min(self._false_starts, 30), longest_s)
            self._false_starts += 1
            self._paused_until = time.monotonic() + pause_s
            log.warning("no driver began a job, %d in a row", self._false_starts)

    async def _hold(self, lease: Lease, cancel_call: Callable[[], Any]) -> None:
        """Renew the lease while the call waits for a driver; the driver's heartbeat goes on.

        A claim has no stage until the driver's first heartbeat.
        """
        job_id, fence = lease.job.id, lease.fence
        while True:
            await asyncio.sleep(_HOLD_S)
            try:
                if (await self.records.get_job(job_id)).stage:
                    self._false_starts = 0
                    break
                beat = await self.records.heartbeat(
                    job_id, fence, lease_s=self.lease_s, stage="", progress=0
                )
                if beat.cancel_requested and beat.owned:
                    await self.records.finish_job(job_id, fence, state=JobState.CANCELLED)
                if not beat.owned and (await self.records.get_job(job_id)).state is JobState.QUEUED:
                    break  # a driver gave it back, and ends its call itself
                if beat.cancel_requested or not beat.owned:
                    cancel_call()
                    break
            except GlimpseError as error:
                log.warning("lease of job %s: %s", job_id, error)
        self._waiting.pop(_key(lease), None)

    async def _release(self, lease: Lease, error: JobError | None) -> Job | None:
        """The job as it is then; None where it could not be, or needed not to be, released.

        A store that is away is asked again until the lease ends, so that the job keeps its error;
        once only where this process is waited for.
        """
        patience_s = 0.0 if self._is_closing else self.lease_s
        try:
            return await retry_while_away(
                lambda: self.records.release_job(lease.job.id, lease.fence, error), patience_s
            )
        except GlimpseError as problem:
            log.info("job %s was not released: %s", lease.job.id, problem)
            return None


def _key(lease: Lease) -> tuple[str, int]:
    return lease.job.id, lease.fence
