"""The pipeline's journals over the store: artefacts first, then one fenced commit per stage.

It knows rows, paths and codecs; not how stages compute and not who beats the heart of the lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

import numpy as np

from deployments.paths import AttemptPaths, sibling
from deployments.store import (
    Bucket,
    DepthRow,
    EnhancedViewRow,
    IterationRow,
    Lease,
    ModelRow,
    ProjectDetail,
    StageCommit,
    Store,
    ViewRow,
)
from pipeline.artifacts import (
    decode_depths,
    decode_views,
    encode_depths,
    encode_views,
)
from pipeline.cameras import VIEW_COUNT
from pipeline.control import Progress
from pipeline.errors import ModelFailed, NotFound
from pipeline.formats.ply import read_ply, write_ply
from pipeline.images import encode_png
from pipeline.media_types import media_type
from pipeline.ports import IterationOutcome
from pipeline.types import DepthMaps, Scores, SplatModel, UInt8Array, ViewSet

__all__ = ["StoreGenerateJournal", "StoreJournal", "StoreRefineJournal"]


@dataclass
class StoreJournal:
    """What both journals share. `stage` and `progress` are what the heartbeat publishes."""

    store: Store
    lease: Lease
    paths: AttemptPaths
    detail: ProjectDetail
    #: What earlier attempts of this job committed, by stage.
    committed: dict[str, StageCommit]
    stage: str = "start"
    progress: float = 0.0
    _span: tuple[float, float] = (0.0, 0.0)
    _window: tuple[float, float] = (0.0, 1.0)
    #: Set when a stage begins, so that its name is published at once.
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    async def enter(self, stage: str, start: float, end: float) -> None:
        low, high = self._window
        self._span = (low + (high - low) * start, low + (high - low) * end)
        self.stage, self.progress = stage, max(self.progress, self._span[0])
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

    async def read_detail(self) -> ProjectDetail:
        """The project as it is now; `detail` is as it was when the attempt began."""
        return await self.store.records.project_detail(self.detail.project.id)

    async def commit(self, commit: StageCommit) -> None:
        """Refused with StaleAttempt when a newer attempt holds the job."""
        await self.store.records.commit_stage(self.lease.job.id, self.lease.fence, commit)

    async def put_all(self, bucket: Bucket, files: dict[str, bytes]) -> None:
        """Upload files, path -> bytes, side by side."""
        # Not a TaskGroup: callers want the store's own error, not a group of them.
        blobs = self.store.blobs
        await asyncio.gather(*(blobs.put(bucket, p, d, media_type(p)) for p, d in files.items()))

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


class StoreGenerateJournal(StoreJournal):
    """A generation's journal."""

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
        )
        await self.commit(StageCommit("splats", seconds, models=(row,)))


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
        with suppress(NotFound):  # only some engines have auxiliary views
            auxiliary = sibling(rows[0].image_path, "auxiliary.npz")
            files["auxiliary.npz"] = await self.store.blobs.get(Bucket.VIEWS, auxiliary)
        return await asyncio.to_thread(decode_views, files)

    async def load_start(self) -> SplatModel:
        return await self.get_model(self.start_row.model_path)

    async def load_iterations(self) -> tuple[IterationOutcome, ...]:
        commits = [commit for commit in self.committed.values() if commit.iterations]
        outcomes = [_outcome(commit.iterations[0]) for commit in commits]
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
        if outcome.enhanced is None:
            return ()
        k = outcome.iteration
        paths = [self.paths.enhanced(k, view) for view in outcome.enhanced_views]
        files = await asyncio.to_thread(_encode_pngs, paths, outcome.enhanced)
        await self.put_all(Bucket.ENHANCED, files)
        return tuple(
            EnhancedViewRow(k, view, path, outcome.enhance_engine)
            for view, path in zip(outcome.enhanced_views, paths, strict=True)
        )


def _encode_pngs(paths: list[str], images: UInt8Array) -> dict[str, bytes]:
    return {path: encode_png(image) for path, image in zip(paths, images, strict=True)}


def _outcome(row: IterationRow) -> IterationOutcome:
    """An iteration as an earlier attempt left it, without pictures."""
    return IterationOutcome(
        iteration=row.iteration_number,
        accepted=row.accepted,
        scores=Scores(row.psnr, row.ssim, row.lpips, row.overall_quality),
        model=None,
        enhance_engine=row.enhance_engine,
        strength=row.strength,
        learning_rate=row.learning_rate,
        seconds=row.seconds,
        note=row.note,
    )
