"""Runs one attempt of a job: its step beside the heartbeat, and whatever end it comes to.

It knows how an attempt begins, ends and is interrupted; not what the steps do, which models run
where, nor how clients are answered. Everything that outlives a call is in the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from deployments.jobs.attempt import Attempt
from deployments.jobs.fenced_commit import Meters
from deployments.jobs.job_errors import StaleAttempt
from deployments.jobs.lease_keeper import Interruption, LeaseKeeper
from deployments.jobs.live_previews import LivePreviews
from deployments.jobs.model_pictures import PictureSize
from deployments.jobs.peak_memory import PeakMemory
from deployments.jobs.rows import JobError, JobState, Lease
from deployments.jobs.steps import STEPS, ran_out_of_memory
from deployments.jobs.store import Store
from pipeline.control import is_being_cancelled
from pipeline.errors import (
    GlimpseError,
    ModelFailed,
    OutOfMemory,
    ReplicaDied,
    TimedOut,
    Unavailable,
)
from pipeline.flow.manifest import environment
from pipeline.ports import Ports

log = logging.getLogger("ray.serve")

#: How long a job that failed waits before the next attempt, by what it failed with; others go on
#: at once. A store or weight that is away may be back, and memory free.
_PAUSES_S: tuple[tuple[type[GlimpseError], float], ...] = (
    (TimedOut, 1.0),
    (OutOfMemory, 1.0),
    (Unavailable, 3.0),
)

#: So long a driver that could not begin keeps its call, after the job was given back: calls go to
#: the driver that has the fewest, which would be this one whatever came.
_NOT_NEXT_S = 3.0

#: Of the machine the driver runs on: models may have another one on a cluster.
_environment = cache(environment)


async def _no_devices() -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class RunnerSettings:
    """How attempts are run.

    Attributes:
        lease_s, heartbeat_s: of `LeaseKeeper`.
        model_dir: where weights lie that no package carries; a job's record names those found.
        patience_s: how long rows are brought again to a store that does not answer.
        pictures: size of turntables and thumbnails; None: the pipeline's own.
    """

    lease_s: float = 15.0
    heartbeat_s: float = 0.5
    model_dir: Path | None = None
    patience_s: float = 30.0
    pictures: PictureSize | None = None


@dataclass(frozen=True)
class JobRunner:
    """Attempts over any store and any ports; needs no Ray.

    Attributes:
        draining: whether this process is about to be stopped.
        memory: of this process; its attempts share it.
        devices: asks what the engine of each port computes on; part of a job's record.
    """

    store: Store
    ports: Ports
    settings: RunnerSettings
    meters: Meters = field(default_factory=dict)
    draining: Callable[[], bool] = lambda: False
    memory: PeakMemory = field(default_factory=PeakMemory)
    devices: Callable[[], Awaitable[dict[str, str]]] = _no_devices

    async def run(self, lease: Lease) -> None:
        """Returns when the attempt has ended, however it ended. Raises only CancelledError."""
        job, settings = lease.job, self.settings
        log.info("job %s %s attempt %d begins", job.id, job.kind, job.attempt)
        keeper = LeaseKeeper(self.store.records, lease, settings.lease_s, settings.heartbeat_s)
        tasks: list[asyncio.Future[Any]] = []
        stage = "start"
        attempt: Attempt | None = None
        try:
            attempt = await Attempt.begin(
                self.store,
                lease,
                patience_s=settings.patience_s,
                memory=self.memory,
                meters=self.meters,
                environment=await self._where(),
            )
            step = STEPS[job.kind](attempt, self.ports, settings.pictures)
            work = asyncio.ensure_future(step)
            heart = asyncio.ensure_future(keeper.renew(attempt.progress, self.draining))
            tasks = [work, heart]
            async with LivePreviews(self.store, lease).shown(attempt.progress):
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            stage = attempt.progress.stage
            if work.done():
                await keeper.finish(JobState.SUCCEEDED, result=work.result())
                return
            interruption = heart.result()
            log.info("job %s stopped: %s", job.id, interruption.name)
            await _stop(work)
            await attempt.files.discard()
            if interruption is Interruption.CANCEL_REQUESTED:
                await keeper.finish(JobState.CANCELLED)
            elif interruption is Interruption.DRAINED:
                await keeper.release()
        except asyncio.CancelledError:
            if not is_being_cancelled():
                await _end_with(
                    keeper, ReplicaDied("What the job waited for was cancelled."), stage
                )
                return
            # Somebody stops this driver, not this job: hand it over.
            await _stop(*tasks)
            await asyncio.shield(keeper.release())
            raise
        except StaleAttempt:
            log.info("job %s belongs to a newer attempt", job.id)
        except GlimpseError as error:
            await _end_with(keeper, error, stage)
        except Exception as error:
            log.exception("job %s failed in stage %s", job.id, stage)
            await _end_with(keeper, ModelFailed(f"{type(error).__name__}: {error}"), stage)
        finally:
            await _stop(*tasks)
            if attempt is not None:
                await attempt.files.discard()
        if attempt is None:
            await asyncio.sleep(_NOT_NEXT_S)

    async def _where(self) -> dict[str, Any]:
        """What an attempt runs on."""
        here = await asyncio.to_thread(_environment, self.settings.model_dir)
        return {**here, "devices": await self.devices()}


async def _end_with(keeper: LeaseKeeper, error: GlimpseError, stage: str) -> None:
    """Fail the job, or give it back where another attempt may do better."""
    job = keeper.lease.job
    log.warning("job %s, stage %s: %s", job.id, stage, error)
    failure = JobError(error.code, error.public, stage, error.retryable)
    # Memory is given back between attempts, and a generation asks for less; once is enough.
    hopeless = isinstance(error, OutOfMemory) and ran_out_of_memory(job)
    if error.retryable and not hopeless:
        pauses = (pause_s for kind, pause_s in _PAUSES_S if isinstance(error, kind))
        await keeper.release(failure, delay_s=next(pauses, 0.0))
    else:
        await keeper.finish(JobState.FAILED, error=failure)


async def _stop(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait for their end; how they end no longer matters."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
