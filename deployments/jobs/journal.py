"""The pipeline's journals over the store: artefacts first, then one fenced commit per stage.

It knows rows, paths and codecs; not how stages compute and not who beats the heart of the lease.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from deployments.jobs.commits import (
    DepthRow,
    EnhancedViewRow,
    IterationRow,
    ModelRow,
    StageCommit,
    ViewRow,
)
from deployments.jobs.job_errors import StaleAttempt
from deployments.jobs.paths import AttemptPaths, sibling
from deployments.jobs.peak_memory import PeakMemory
from deployments.jobs.rows import Bucket, Lease, ProjectDetail
from deployments.jobs.score_documents import iteration_document, read_outcome, scores_document
from deployments.jobs.store import Store
from pipeline.control import Progress
from pipeline.errors import GlimpseError, ModelFailed, NotFound, Unavailable
from pipeline.file_types import media_type
from pipeline.flow.artifacts import (
    decode_depths,
    decode_views,
    encode_depths,
    encode_views,
)
from pipeline.flow.manifest import content_hash
from pipeline.formats.ply import read_ply, write_ply
from pipeline.imaging.images import encode_png
from pipeline.journals import Candidate, IterationOutcome
from pipeline.rig import VIEW_COUNT
from pipeline.types import DepthMaps, Scores, SplatModel, UInt8Array, ViewSet

__all__ = [
    "Meters",
    "StoreGenerateJournal",
    "StoreJournal",
    "StoreRefineJournal",
    "steadily",
]

log = logging.getLogger("ray.serve")

T = TypeVar("T")

#: Files beside the views that only some projects have.
_FURTHER_VIEWS = ("auxiliary.npz", "photo.npz")

#: Asks each model deployment, by its name, how much memory it has had at most in the last so many
#: seconds: bytes by what was measured ("" is the process's own memory).
Meters = Mapping[str, Callable[[float], Awaitable[Mapping[str, int]]]]

#: Pause before a store that does not answer is asked again.
_ASK_AGAIN_AFTER_S = 0.5


async def steadily(call: Callable[[], Awaitable[T]], patience_s: float) -> T:
    """Call the store, again and again while it does not answer, for so many seconds.

    Only for calls that may be repeated. Raises what the last call raised.
    """
    give_up_at = time.monotonic() + patience_s
    while True:
        try:
            return await call()
        except Unavailable as error:
            if time.monotonic() > give_up_at:
                raise
            log.warning("the store is asked again: %s", error)
            await asyncio.sleep(_ASK_AGAIN_AFTER_S)


@dataclass
class StoreJournal:
    """What both journals share. `stage`, `step` and `progress` are what the heartbeat publishes.

    Rows that a store does not take now are brought again for `patience_s`: a database that is
    restarted costs a pause. Files are not: their store tries by itself where that helps.
    """

    store: Store
    lease: Lease
    paths: AttemptPaths
    detail: ProjectDetail
    #: What earlier attempts of this job committed, by stage.
    committed: dict[str, StageCommit]
    stage: str = "start"
    step: str = ""
    progress: float = 0.0
    patience_s: float = 30.0
    _span: tuple[float, float] = (0.0, 0.0)
    _window: tuple[float, float] = (0.0, 1.0)
    #: Set when a stage begins, so that its name is published at once.
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    #: What the attempt runs on (`pipeline.flow.manifest.environment`); its first commit keeps it.
    environment: Mapping[str, Any] = field(default_factory=dict)
    meters: Meters = field(default_factory=dict)
    #: Content hashes of what was stored since the last commit, by documented name.
    _hashes: dict[str, str] = field(default_factory=dict)
    #: What was stored since the last commit, with its bucket: no row names it yet.
    _loose: list[tuple[Bucket, str]] = field(default_factory=list)
    _has_committed: bool = False
    #: Of this process: its attempts share it, because a reading starts the mark anew.
    memory: PeakMemory = field(default_factory=PeakMemory)
    _stage_began: float = field(default_factory=time.monotonic)

    async def enter(self, stage: str, start: float, end: float) -> None:
        low, high = self._window
        self._span = (low + (high - low) * start, low + (high - low) * end)
        if stage != self.stage:
            self.memory.mark()
        self.stage, self.step, self.progress = stage, "", max(self.progress, self._span[0])
        self.entered.set()

    @contextmanager
    def within(self, start: float, end: float) -> Iterator[None]:
        """Stages entered inside fill `start`..`end` of the job where they say 0..1."""
        self._window = (start, end)
        try:
            yield
        finally:
            self._window = (0.0, 1.0)

    def report(self, progress: Progress) -> None:
        start, end = self._span
        self.progress = max(self.progress, start + (end - start) * progress.fraction)
        self.step = progress.message

    async def read_detail(self) -> ProjectDetail:
        """The project as it is now; `detail` is as it was when the attempt began."""
        return await steadily(
            lambda: self.store.records.project_detail(self.detail.project.id), self.patience_s
        )

    async def commit(self, commit: StageCommit) -> None:
        """Refused with StaleAttempt when a newer attempt holds the job.

        To the stage's own detail it adds the hashes of the files that were stored for it, the
        peak memory since the commit before, and in an attempt's first commit what the attempt
        runs on.
        """
        span_s = time.monotonic() - self._stage_began
        detail = {
            **commit.detail,
            "hashes": dict(sorted(self._hashes.items())),
            # Of whole processes, whatever else they did meanwhile.
            "peak_memory_bytes": self.memory.peaks(span_s)[""],
            "replica_peak_memory_bytes": await self._read_meters(span_s),
        }
        if self.environment and not self._has_committed:
            detail["environment"] = dict(self.environment)
        job, fence = self.lease.job, self.lease.fence
        whole = replace(commit, detail=detail)
        # From here until the store has said no, rows may name the files.
        loose, self._loose = self._loose, []
        try:
            await steadily(
                lambda: self.store.records.commit_stage(job.id, fence, whole), self.patience_s
            )
        except (StaleAttempt, NotFound):
            self._loose = loose
            raise
        self._has_committed = True
        self._hashes.clear()
        self._stage_began = time.monotonic()

    async def discard(self) -> None:
        """Delete what this attempt stored and did not commit; it will not go on.

        What cannot be deleted now is found when the job has ended (`deployments.jobs.janitor`).
        """
        by_bucket: dict[Bucket, list[str]] = {}
        for bucket, path in self._loose:
            by_bucket.setdefault(bucket, []).append(path)
        self._loose.clear()
        for bucket, paths in by_bucket.items():
            try:
                await self.store.blobs.delete(bucket, paths)
            except GlimpseError as error:
                log.warning("job %s leaves files behind: %s", self.lease.job.id, error)

    async def _read_meters(self, span_s: float) -> dict[str, int]:
        """What the model deployments say; one that does not answer is left out."""
        answers = await asyncio.gather(
            *(meter(span_s) for meter in self.meters.values()), return_exceptions=True
        )
        found: dict[str, int] = {}
        for name, answer in zip(self.meters, answers, strict=True):
            if isinstance(answer, Mapping):
                found |= {name + gauge: peak for gauge, peak in answer.items()}
            elif not isinstance(answer, GlimpseError | asyncio.CancelledError):
                raise answer
        return found

    async def put_all(self, bucket: Bucket, files: dict[str, bytes]) -> None:
        """Upload files, path -> bytes, side by side."""
        # Not a TaskGroup: callers want the store's own error, not a group of them.
        blobs = self.store.blobs
        self._loose += [(bucket, path) for path in files]
        puts = asyncio.gather(
            *(blobs.put(bucket, p, d, media_type(p)) for p, d in files.items()),
            return_exceptions=True,
        )
        try:
            answers = await asyncio.shield(puts)
        except asyncio.CancelledError:
            # A file that appeared after `discard` would stay for ever.
            await puts
            raise
        for answer in answers:
            if answer is not None:
                raise answer
        hashes = await asyncio.to_thread(lambda: [content_hash(data) for data in files.values()])
        self._hashes |= zip(map(self.paths.documented, files), hashes, strict=True)

    async def get_all(self, bucket: Bucket, paths: dict[str, str]) -> dict[str, bytes]:
        """Download files, name -> path, side by side; name -> bytes."""
        parts = await asyncio.gather(*(self.store.blobs.get(bucket, p) for p in paths.values()))
        return dict(zip(paths, parts, strict=True))

    async def put_model(self, version: int, model: SplatModel) -> tuple[str, int]:
        """Upload a model version as .ply; its path and size in bytes."""
        data = await asyncio.to_thread(write_ply, model)
        path = self.paths.model(version)
        await self.put_all(Bucket.MODELS, {path: data})
        return path, len(data)

    async def get_model(self, path: str) -> SplatModel:
        """A model version, as it was put."""
        data = await self.store.blobs.get(Bucket.MODELS, path)
        return await asyncio.to_thread(read_ply, data)


@dataclass
class StoreGenerateJournal(StoreJournal):
    """A generation's journal. Views and depths are stored while the next stage computes, in the
    order in which they came; `settle` waits for what is under way."""

    _pending: asyncio.Task[None] | None = None

    async def settle(self) -> None:
        """Wait for the saving under way. Raises what it raised."""
        pending, self._pending = self._pending, None
        if pending is not None:
            await pending

    async def _save_meanwhile(self, saving: Coroutine[Any, Any, None]) -> None:
        try:
            await self.settle()
        except BaseException:
            saving.close()
            raise
        self._pending = asyncio.create_task(saving)

    @property
    def next_version(self) -> int:
        """Version of the model this job makes; the same in every attempt."""
        newest = self.detail.newest_model
        return 0 if newest is None else newest.version + 1

    async def load_views(self) -> ViewSet | None:
        commit = self.committed.get("views")
        if commit is None:
            return None
        files = await self.get_all(Bucket.VIEWS, dict(commit.detail["files"]))
        return await asyncio.to_thread(decode_views, files)

    async def save_views(self, views: ViewSet, seconds: float) -> None:
        """Begins only; an error comes out of the next saving, or of `settle`."""
        await self._save_meanwhile(self._save_views(views, seconds))

    async def _save_views(self, views: ViewSet, seconds: float) -> None:
        files = await asyncio.to_thread(encode_views, views)
        paths = {name: self.paths.view(name) for name in files}
        await self.put_all(Bucket.VIEWS, {paths[name]: data for name, data in files.items()})
        centres = views.cameras.centres
        azimuths = np.rad2deg(np.arctan2(centres[:, 1], centres[:, 0])) % 360
        elevations = np.rad2deg(np.arcsin(centres[:, 2] / np.linalg.norm(centres, axis=1)))
        rows = tuple(
            ViewRow(
                view_index=i,
                image_path=paths[f"{i:02d}.png"],
                azimuth_deg=round(float(azimuths[i]), 3),
                elevation_deg=round(float(elevations[i]), 3),
                engine=views.engine,
            )
            for i in range(len(views))
        )
        await self.commit(StageCommit("views", seconds, views=rows, detail={"files": paths}))

    async def load_depths(self) -> DepthMaps | None:
        commit = self.committed.get("depth")
        if commit is None:
            return None
        files = await self.get_all(Bucket.DEPTH, dict(commit.detail["files"]))
        return await asyncio.to_thread(decode_depths, files)

    async def save_depths(self, depths: DepthMaps, seconds: float) -> None:
        """Begins only, as `save_views`."""
        await self._save_meanwhile(self._save_depths(depths, seconds))

    async def _save_depths(self, depths: DepthMaps, seconds: float) -> None:
        files = await asyncio.to_thread(encode_depths, depths)
        paths = {name: self.paths.depth(name) for name in files}
        await self.put_all(Bucket.DEPTH, {paths[name]: data for name, data in files.items()})
        rows = []
        for i, (depth, confidence) in enumerate(zip(depths.depth, depths.confidence, strict=True)):
            known = depth[confidence > 0]
            rows.append(
                DepthRow(
                    view_index=i,
                    depth_path=paths[f"{i:02d}.npy"],
                    heat_map_path=paths[f"{i:02d}.png"],
                    engine=depths.engine,
                    min_depth=float(known.min()) if known.size else 0.0,
                    max_depth=float(known.max()) if known.size else 0.0,
                )
            )
        await self.commit(
            StageCommit("depth", seconds, depths=tuple(rows), detail={"files": paths})
        )

    async def load_model(self) -> SplatModel | None:
        commit = self.committed.get("splats")
        return None if commit is None else await self.get_model(commit.models[0].model_path)

    async def save_model(
        self, model: SplatModel, scores: Scores, engine: str, seconds: float
    ) -> None:
        await self.settle()
        path, size = await self.put_model(self.next_version, model)
        row = ModelRow(
            version=self.next_version,
            model_path=path,
            engine=engine,
            origin="generate",
            splat_count=len(model),
            file_size_bytes=size,
            psnr=scores.psnr,
            ssim=scores.ssim,
            lpips=scores.lpips,
            overall_quality=scores.overall_quality,
            scores=scores_document(scores),
        )
        await self.commit(StageCommit("splats", seconds, models=(row,)))

    async def load_ranking(self) -> tuple[Candidate, ...] | None:
        commit = self.committed.get("candidates")
        if commit is None:
            return None
        return tuple(Candidate(**candidate) for candidate in commit.detail["ranking"])

    async def save_ranking(self, ranking: tuple[Candidate, ...], seconds: float) -> None:
        await self.settle()
        detail = {"ranking": [asdict(candidate) for candidate in ranking]}
        await self.commit(StageCommit("candidates", seconds, detail=detail))


class StoreRefineJournal(StoreJournal):
    """A refinement's journal; every iteration is a stage of its own."""

    @property
    def _own_versions(self) -> set[int]:
        return {row.version for commit in self.committed.values() for row in commit.models}

    @property
    def start_row(self) -> ModelRow:
        """The newest model that this job did not make itself."""
        rows = [row for row in self.detail.models if row.version not in self._own_versions]
        return max(rows, key=lambda row: row.version)

    async def generated_views(self) -> ViewSet:
        rows = self.detail.views
        if len(rows) != VIEW_COUNT:
            raise ModelFailed(f"The project has {len(rows)} of {VIEW_COUNT} views.")
        paths = {f"{row.view_index:02d}.png": row.image_path for row in rows}
        paths["geometry.npz"] = sibling(rows[0].image_path, "geometry.npz")
        files = await self.get_all(Bucket.VIEWS, paths)
        for name in _FURTHER_VIEWS:
            with suppress(NotFound):
                path = sibling(rows[0].image_path, name)
                files[name] = await self.store.blobs.get(Bucket.VIEWS, path)
        return await asyncio.to_thread(decode_views, files)

    async def generated_depths(self) -> DepthMaps:
        rows = self.detail.depths
        if len(rows) != VIEW_COUNT:
            raise ModelFailed(f"The project has {len(rows)} of {VIEW_COUNT} depth maps.")
        paths = {f"{row.view_index:02d}.npy": row.depth_path for row in rows}
        paths["confidence.npz"] = sibling(rows[0].depth_path, "confidence.npz")
        files = await self.get_all(Bucket.DEPTH, paths)
        return await asyncio.to_thread(decode_depths, files)

    async def load_start(self) -> SplatModel:
        return await self.get_model(self.start_row.model_path)

    async def load_iterations(self) -> tuple[IterationOutcome, ...]:
        commits = [commit for commit in self.committed.values() if commit.iterations]
        outcomes = [read_outcome(commit.iterations[0], commit.enhanced) for commit in commits]
        accepted = [i for i, commit in enumerate(commits) if commit.models]
        if accepted:
            newest = accepted[-1]
            model = await self.get_model(commits[newest].models[0].model_path)
            outcomes[newest] = replace(outcomes[newest], model=model)
        return tuple(outcomes)

    async def save_iteration(self, outcome: IterationOutcome) -> None:
        k = outcome.iteration
        version: int | None = self.start_row.version if k == 0 else None
        models: tuple[ModelRow, ...] = ()
        scores = outcome.scores
        if outcome.model is not None:
            version = self._next_version
            path, size = await self.put_model(version, outcome.model)
            row = ModelRow(
                version=version,
                model_path=path,
                engine=self.start_row.engine,
                origin="refine",
                splat_count=len(outcome.model),
                file_size_bytes=size,
                psnr=scores.psnr,
                ssim=scores.ssim,
                lpips=scores.lpips,
                overall_quality=scores.overall_quality,
                scores=scores_document(scores),
            )
            models = (row,)
        commit = StageCommit(
            stage=f"iteration-{k}",
            seconds=outcome.seconds,
            models=models,
            iterations=(
                IterationRow(
                    iteration_number=k,
                    accepted=outcome.accepted,
                    model_version=version,
                    enhance_engine=outcome.enhance_engine,
                    strength=outcome.strength,
                    learning_rate=outcome.learning_rate,
                    seconds=outcome.seconds,
                    overall_quality=scores.overall_quality,
                    psnr=scores.psnr,
                    ssim=scores.ssim,
                    lpips=scores.lpips,
                    note=outcome.note,
                    scores=scores_document(scores),
                    detail=iteration_document(outcome),
                ),
            ),
            enhanced=await self._put_enhanced(outcome),
        )
        await self.commit(commit)
        self.committed[commit.stage] = commit

    @property
    def _next_version(self) -> int:
        return max({row.version for row in self.detail.models} | self._own_versions) + 1

    async def _put_enhanced(self, outcome: IterationOutcome) -> tuple[EnhancedViewRow, ...]:
        """The targets, and the renders before and after the round where they are there."""
        if outcome.enhanced is None:
            return ()
        k, views = outcome.iteration, outcome.enhanced_views
        targets = [self.paths.enhanced(k, view) for view in views]
        files = await asyncio.to_thread(_encode_pngs, targets, outcome.enhanced)
        before: list[str | None] = [None] * len(views)
        after: list[str | None] = [None] * len(views)
        if outcome.before is not None:
            paths = [self.paths.render_before(k, view) for view in views]
            files |= await asyncio.to_thread(_encode_pngs, paths, outcome.before)
            before = [*paths]
        if outcome.after is not None:
            paths = [self.paths.render_after(k, view) for view in views]
            files |= await asyncio.to_thread(_encode_pngs, paths, outcome.after)
            after = [*paths]
        await self.put_all(Bucket.ENHANCED, files)
        weights: list[float | None] = [float(weight) for weight in outcome.enhanced_weights]
        weights = weights or [None] * len(views)
        return tuple(
            EnhancedViewRow(
                iteration_number=k,
                view_index=view,
                image_path=targets[i],
                engine=outcome.enhance_engine,
                before_path=before[i],
                after_path=after[i],
                weight=weights[i],
            )
            for i, view in enumerate(views)
        )


def _encode_pngs(paths: list[str], images: UInt8Array) -> dict[str, bytes]:
    return {path: encode_png(image) for path, image in zip(paths, images, strict=True)}
