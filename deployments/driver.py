"""Runs jobs: the pipeline over model handles, under a lease that a heartbeat renews.

It knows how a job begins, ends and is interrupted; not which models run where, and not how
clients are answered. Everything that outlives a call is in the store.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from enum import Enum, auto
from functools import cache
from pathlib import Path
from typing import Any

from deployments.draining import is_draining
from deployments.handles import HandlePorts
from deployments.jobs.commits import ExportRow, ModelRow, StageCommit
from deployments.jobs.job_errors import StaleAttempt
from deployments.jobs.journal import (
    Meters,
    StoreGenerateJournal,
    StoreJournal,
    StoreRefineJournal,
    steadily,
)
from deployments.jobs.model_pictures import PIPELINE_END, show_models
from deployments.jobs.paths import AttemptPaths
from deployments.jobs.peak_memory import PeakMemory
from deployments.jobs.rows import Bucket, Job, JobError, JobKind, JobState, Lease
from deployments.jobs.store import Store, StoreSource
from pipeline.errors import (
    GlimpseError,
    ModelFailed,
    NotFound,
    NotGeneratedYet,
    OutOfMemory,
    TimedOut,
    Unavailable,
)
from pipeline.file_types import find_format
from pipeline.flow.generate import generate
from pipeline.flow.manifest import environment
from pipeline.flow.refine import refine
from pipeline.imaging.images import decode_png, frame_object
from pipeline.journals import IterationOutcome
from pipeline.options import SPLAT_LIMITS, ExportOptions, GenerateOptions, RefineOptions
from pipeline.ports import Ports
from pipeline.types import Cutout

__all__ = ["Driver", "DriverSettings", "JobRunner"]

log = logging.getLogger("ray.serve")

#: How long a job that failed waits before the next attempt, by what it failed with; others go on
#: at once. A store or weight that is away may be back, and memory free.
_PAUSES_S: tuple[tuple[type[GlimpseError], float], ...] = (
    (TimedOut, 1.0),
    (OutOfMemory, 1.0),
    (Unavailable, 3.0),
)

#: Size in pixels of the cut-out handed to the view synthesiser; twice the size of a view, so that
#: an engine that textures a surface with it does not lose detail. Others scale it down.
_CUTOUT_SIZE = 512


@dataclass(frozen=True)
class DriverSettings:
    """How a driver keeps its leases.

    Attributes:
        lease_s: a job whose driver is silent for so long is claimed by another.
        heartbeat_s: time between two heartbeats; also how soon a cancellation is noticed.
        model_dir: where weights lie that no package carries; a job's record names those found.
        patience_s: how long rows are brought again to a store that does not answer.
        niceness: added to the process's own; a driver encodes and compresses files, and answers to
            clients go first where this is positive.
        pictures: frames and size in pixels of turntables and thumbnails; None: the pipeline's own.
    """

    lease_s: float = 15.0
    heartbeat_s: float = 0.5
    model_dir: Path | None = None
    patience_s: float = 30.0
    niceness: int = 0
    pictures: tuple[int, int] | None = None


class Driver:
    """The Serve deployment. Serve wraps this class in the builder; tests use it as it is."""

    def __init__(self, source: StoreSource, handles: HandlePorts, settings: DriverSettings) -> None:
        os.nice(settings.niceness)
        self._source = source
        self._ports = handles.ports()
        self._meters = handles.meters()
        self._settings = settings
        self._stack = AsyncExitStack()
        self._runner: JobRunner | None = None
        self._opening = asyncio.Lock()

    async def run(self, lease: Lease) -> None:
        """Work on a job until it ends, is cancelled or the lease is lost."""
        async with self._opening:
            if self._runner is None:
                store = await self._stack.enter_async_context(self._source.open())
                self._runner = JobRunner(
                    store, self._ports, self._settings, self._meters, is_draining
                )
        await self._runner.run(lease)

    async def __del__(self) -> None:
        await self._stack.aclose()


class _Interruption(Enum):
    """Why the heartbeat stopped the work."""

    CANCEL_REQUESTED = auto()
    LEASE_LOST = auto()
    #: Serve stops this replica: another driver is to go on.
    DRAINED = auto()


@dataclass(frozen=True)
class JobRunner:
    """One attempt of one job over any store and any ports; needs no Ray."""

    store: Store
    ports: Ports
    settings: DriverSettings
    meters: Meters = field(default_factory=dict)
    draining: Callable[[], bool] = lambda: False
    memory: PeakMemory = field(default_factory=PeakMemory)

    async def run(self, lease: Lease) -> None:
        """Returns when the attempt has ended, however it ended. Raises only CancelledError."""
        job = lease.job
        log.info("job %s %s attempt %d begins", job.id, job.kind, job.attempt)
        tasks: list[asyncio.Future[Any]] = []
        stage = "start"
        journal: StoreJournal | None = None
        try:
            journal = await self._open_journal(lease)
            work = asyncio.ensure_future(self._work(journal))
            heart = asyncio.ensure_future(self._keep_lease(journal))
            tasks = [work, heart]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            stage = journal.stage
            if work.done():
                await self._finish(lease, JobState.SUCCEEDED, result=work.result())
                return
            interruption = heart.result()
            log.info("job %s stopped: %s", job.id, interruption.name)
            await _stop(work)
            await journal.discard()
            if interruption is _Interruption.CANCEL_REQUESTED:
                await self._finish(lease, JobState.CANCELLED)
            elif interruption is _Interruption.DRAINED:
                await self._release(lease)
        except asyncio.CancelledError:
            # Somebody stops this driver, not this job: hand it over.
            await _stop(*tasks)
            await asyncio.shield(self._release(lease))
            raise
        except StaleAttempt:
            log.info("job %s belongs to a newer attempt", job.id)
        except GlimpseError as error:
            await self._end_with(lease, error, stage)
        except Exception as error:
            log.exception("job %s failed in stage %s", job.id, stage)
            await self._end_with(lease, ModelFailed(f"{type(error).__name__}: {error}"), stage)
        finally:
            await _stop(*tasks)
            if journal is not None:
                await journal.discard()

    async def _open_journal(self, lease: Lease) -> StoreJournal:
        job, patience_s = lease.job, self.settings.patience_s
        detail = await steadily(
            lambda: self.store.records.project_detail(job.project_id), patience_s
        )
        commits = await steadily(lambda: self.store.records.committed(job.id), patience_s)
        return _JOURNALS.get(job.kind, StoreJournal)(
            store=self.store,
            lease=lease,
            paths=AttemptPaths.of(job, lease.fence),
            detail=detail,
            committed={commit.stage: commit for commit in commits},
            environment=await asyncio.to_thread(_environment, self.settings.model_dir),
            meters=self.meters,
            memory=self.memory,
            patience_s=patience_s,
        )

    async def _keep_lease(self, journal: StoreJournal) -> _Interruption:
        """Renew the lease and publish progress until the work has to stop."""
        lease, settings = journal.lease, self.settings
        renewed = time.monotonic()
        while True:
            if self.draining():
                return _Interruption.DRAINED
            journal.entered.clear()
            try:
                beat = await self.store.records.heartbeat(
                    lease.job.id,
                    lease.fence,
                    lease_s=settings.lease_s,
                    stage=journal.stage,
                    progress=journal.progress,
                    step=journal.step,
                )
            except GlimpseError as error:
                # The store may come back within the lease; after it, another driver owns the job.
                log.warning("heartbeat of job %s: %s", lease.job.id, error)
                if time.monotonic() - renewed > settings.lease_s:
                    return _Interruption.LEASE_LOST
            else:
                if not beat.owned:
                    return _Interruption.LEASE_LOST
                if beat.cancel_requested:
                    return _Interruption.CANCEL_REQUESTED
                renewed = time.monotonic()
            # Not `wait_for`: on Python 3.11 it swallows a cancellation that meets the event.
            with suppress(TimeoutError):
                async with asyncio.timeout(settings.heartbeat_s):
                    await journal.entered.wait()

    async def _work(self, journal: StoreJournal) -> dict[str, Any]:
        if isinstance(journal, StoreGenerateJournal):
            return await self._generate(journal)
        if isinstance(journal, StoreRefineJournal):
            return await self._refine(journal)
        return await self._export(journal)

    async def _generate(self, journal: StoreGenerateJournal) -> dict[str, Any]:
        options = GenerateOptions.from_json(journal.lease.job.options)
        notes: list[str] = []
        if _ran_out_of_memory(journal.lease.job):
            options = _with_less(options)
            notes.append(
                "The machine ran out of memory: the model has at most "
                f"{options.splat_count:,} splats."
            )
        project = journal.detail.project
        png = await self.store.blobs.get(Bucket.PROCESSED, project.processed_path)
        cutout = await asyncio.to_thread(_cutout, png, project.background_engine)
        try:
            result = await generate(cutout, options, self.ports, journal)
        finally:
            # Also of a generation that failed or was stopped: what it has made is not made again.
            await journal.settle()
        await show_models(journal, self.ports, self.settings.pictures)
        newest = await self._newest_model(journal)
        return {
            "model_version": newest.version,
            "model_path": newest.model_path,
            "views_generated": len(result.views),
            "depth_maps_generated": len(result.depths.depth),
            "engines": {
                "background": cutout.engine,
                "views": result.views.engine,
                "depth": result.depths.engine,
                "splats": newest.engine,
            },
            "seed": options.seed,
            "splat_count": len(result.model),
            "psnr": result.scores.psnr,
            "ssim": result.scores.ssim,
            "lpips": result.scores.lpips,
            "overall_quality": result.scores.overall_quality,
            "notes": [*result.views.notes, *notes],
            "ranking": [asdict(candidate) for candidate in result.ranking],
        }

    async def _refine(self, journal: StoreRefineJournal) -> dict[str, Any]:
        options = RefineOptions.from_json(journal.lease.job.options)
        if not journal.detail.models:
            raise NotGeneratedYet("The project has no model to refine yet.")
        with journal.within(0.0, PIPELINE_END[JobKind.REFINE]):
            result = await refine(options, self.ports, journal)
        await show_models(journal, self.ports, self.settings.pictures)
        newest = await self._newest_model(journal)
        return {
            "iterations_completed": len(result.outcomes) - 1,
            "converged": result.converged,
            "stop_reason": result.stop_reason.value,
            "model_version": newest.version,
            "model_path": newest.model_path,
            "seed": options.seed,
            "engines": {
                "splats": await self.ports.splats.engine_name(),
                # Of the newest round in which it worked.
                "enhancer": next(
                    (o.enhance_engine for o in reversed(result.outcomes) if o.enhance_engine), ""
                ),
            },
            "metrics": [_metric(outcome) for outcome in result.outcomes],
        }

    async def _export(self, journal: StoreJournal) -> dict[str, Any]:
        options = ExportOptions.from_json(journal.lease.job.options).canonical()
        model = journal.detail.newest_model
        if model is None:
            raise NotGeneratedYet("The project has no model to export yet.")
        await journal.enter("export", 0.0, 1.0)
        started = time.perf_counter()
        splats = await journal.get_model(model.model_path)
        file = await self.ports.exporter.export_model(splats, options, journal.report)
        path = journal.paths.export(find_format(options.format).suffix)
        await journal.put_all(Bucket.MODELS, {path: file.data})
        seconds = time.perf_counter() - started
        row = ExportRow(
            model_version=model.version,
            format=options.format,
            optimize=options.optimize,
            file_path=path,
            file_size_bytes=len(file.data),
            seconds=seconds,
            options=options.to_json(),
            contents=file.contents,
            saved=file.saved,
            notes=file.notes,
        )
        await journal.commit(StageCommit("export", seconds, exports=(row,)))
        return asdict(row)

    async def _newest_model(self, journal: StoreJournal) -> ModelRow:
        detail = await journal.read_detail()
        if detail.newest_model is None:
            raise ModelFailed("The stage ended without a model.")
        return detail.newest_model

    async def _end_with(self, lease: Lease, error: GlimpseError, stage: str) -> None:
        """Fail the job, or give it back where another attempt may do better."""
        log.warning("job %s, stage %s: %s", lease.job.id, stage, error)
        failure = JobError(error.code, error.detail, stage, error.retryable)
        # Memory is given back between attempts, and a generation asks for less; once is enough.
        hopeless = isinstance(error, OutOfMemory) and _ran_out_of_memory(lease.job)
        if error.retryable and not hopeless:
            pauses = (pause_s for kind, pause_s in _PAUSES_S if isinstance(error, kind))
            await self._release(lease, failure, delay_s=next(pauses, 0.0))
        else:
            await self._finish(lease, JobState.FAILED, error=failure)

    async def _finish(
        self,
        lease: Lease,
        state: JobState,
        *,
        result: dict[str, Any] | None = None,
        error: JobError | None = None,
    ) -> None:
        """End the job; an unreachable store is asked again for as long as a lease lasts."""
        asked_until = time.monotonic() + self.settings.lease_s
        while True:
            try:
                await self.store.records.finish_job(
                    lease.job.id, lease.fence, state=state, result=result, error=error
                )
            except (StaleAttempt, NotFound):
                log.info("job %s was taken over or deleted before it ended", lease.job.id)
            except Unavailable as problem:
                if time.monotonic() < asked_until:
                    await asyncio.sleep(self.settings.heartbeat_s)
                    continue
                # The next attempt finds every stage committed.
                log.error("job %s could not be ended: %s", lease.job.id, problem)
            return

    async def _release(
        self, lease: Lease, error: JobError | None = None, *, delay_s: float = 0.0
    ) -> None:
        try:
            await self.store.records.release_job(lease.job.id, lease.fence, error, delay_s=delay_s)
        except GlimpseError as problem:
            log.warning("job %s could not be released: %s", lease.job.id, problem)


_JOURNALS: dict[JobKind, type[StoreJournal]] = {
    JobKind.GENERATE: StoreGenerateJournal,
    JobKind.REFINE: StoreRefineJournal,
}


@cache
def _environment(model_dir: Path | None) -> dict[str, Any]:
    """Of the machine the driver runs on: models may have another one on a cluster."""
    return environment(model_dir)


def _ran_out_of_memory(job: Job) -> bool:
    return job.last_error is not None and job.last_error.code == OutOfMemory.code


def _with_less(options: GenerateOptions) -> GenerateOptions:
    """Half as many splats: what the memory of a fit grows with."""
    return replace(options, num_gaussians=max(options.splat_count // 2, SPLAT_LIMITS[0]))


def _metric(outcome: IterationOutcome) -> dict[str, Any]:
    """An iteration in the job's result, with the names of the HTTP answer."""
    scores = outcome.scores
    return {
        "iteration": outcome.iteration,
        "overall_quality": scores.overall_quality,
        "psnr": scores.psnr,
        "ssim": scores.ssim,
        "lpips": scores.lpips,
        "silhouette_iou": scores.silhouette_iou,
        "consistency": scores.consistency,
        "floaters": scores.floaters,
        "accepted": outcome.accepted,
        "seconds": outcome.seconds,
        "engine": outcome.enhance_engine,
        "note": outcome.note,
        "guards": list(outcome.guards),
        "view_weights": {str(view): float(w) for view, w in outcome.view_weights.items()},
    }


def _cutout(png: bytes, engine: str) -> Cutout:
    rgba = decode_png(png)
    return frame_object(rgba[..., :3], rgba[..., 3], size=_CUTOUT_SIZE, engine=engine)


async def _stop(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait for their end; how they end no longer matters."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
