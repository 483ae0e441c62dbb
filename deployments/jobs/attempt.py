"""One attempt of one job: what it found when it began, what it stores and commits, where it stands.

Steps, journals and pictures share it. It does not know what a stage computes, nor who renews the
lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deployments.jobs.attempt_files import AttemptFiles
from deployments.jobs.commits import ModelRow, StageCommit
from deployments.jobs.documents import score_fields
from deployments.jobs.fenced_commit import FencedCommit, Meters, retry_while_away
from deployments.jobs.paths import AttemptPaths
from deployments.jobs.peak_memory import PeakMemory
from deployments.jobs.rows import Bucket, Job, Lease, ProjectDetail, ProjectJob
from deployments.jobs.stage_progress import StageProgress
from deployments.jobs.store import Records, Store
from pipeline.errors import InvalidModelFile, ModelFailed
from pipeline.formats.ply import read_ply, write_ply
from pipeline.types import Scores, SplatModel


@dataclass(frozen=True)
class Attempt:
    """What the parts of an attempt have in common.

    Attributes:
        detail: the project as it was when the attempt began.
        committed: what earlier attempts of this job committed, by stage.
        patience_s: how long rows are asked for again while the store is away.
    """

    job: Job
    detail: ProjectDetail
    committed: Mapping[str, StageCommit]
    progress: StageProgress
    files: AttemptFiles
    commit: FencedCommit
    records: Records
    patience_s: float

    @classmethod
    async def begin(
        cls,
        store: Store,
        lease: Lease,
        *,
        patience_s: float = 30.0,
        memory: PeakMemory | None = None,
        meters: Meters | None = None,
        environment: Mapping[str, Any] | None = None,
    ) -> Attempt:
        """Read what the attempt begins with.

        Args:
            memory: of this process; its attempts share it, because a reading starts the mark anew.
            meters: of the model deployments.
            environment: what the attempt runs on (`pipeline.flow.manifest.environment`).

        Raises:
            Unavailable: the store was away for `patience_s`, or files cannot be stored from here.
            NotFound: the project has been deleted.
        """
        job, records, memory = lease.job, store.records, memory or PeakMemory()
        # A file that a store without its folder does not find would fail the job for good.
        await store.blobs.ping()
        detail = await retry_while_away(lambda: records.project_detail(job.project_id), patience_s)
        commits = await retry_while_away(lambda: records.committed(job.id), patience_s)
        files = AttemptFiles(store.blobs, AttemptPaths.of(job, lease.fence), job.id)
        return cls(
            job=job,
            detail=detail,
            committed={commit.stage: commit for commit in commits},
            progress=StageProgress(memory.mark),
            files=files,
            commit=FencedCommit(
                records, lease, files, patience_s, memory, meters or {}, environment
            ),
            records=records,
            patience_s=patience_s,
        )

    async def read_detail(self) -> ProjectDetail:
        """The project as it is now."""
        return await retry_while_away(
            lambda: self.records.project_detail(self.job.project_id), self.patience_s
        )

    async def read_jobs(self) -> tuple[ProjectJob, ...]:
        """All jobs of the project with what they committed."""
        return await retry_while_away(
            lambda: self.records.project_jobs(self.job.project_id), self.patience_s
        )

    async def read_newest_model(self) -> ModelRow:
        """The newest model there is now. Raises ModelFailed where there is none."""
        newest = (await self.read_detail()).newest_model
        if newest is None:
            raise ModelFailed.openly("The stage ended without a model.")
        return newest

    async def put_model(
        self,
        version: int,
        model: SplatModel,
        scores: Scores,
        *,
        engine: str,
        origin: str,
        parent: int | None,
    ) -> ModelRow:
        """Upload a model version as .ply; the row to commit."""
        data = await asyncio.to_thread(write_ply, model)
        path = self.files.paths.model(version)
        await self.files.put_all(Bucket.MODELS, {path: data})
        facts: dict[str, Any] = {"engine": engine, "origin": origin, "parent": parent}
        return await self.stored_model(version, path, model, scores, size=len(data), **facts)

    async def stored_model(
        self,
        version: int,
        path: str,
        model: SplatModel,
        scores: Scores,
        *,
        engine: str,
        origin: str,
        parent: int | None,
        size: int | None = None,
    ) -> ModelRow:
        """The row to commit of a model version that was stored; without `size` it is asked for."""
        return ModelRow(
            version=version,
            model_path=path,
            engine=engine,
            origin=origin,
            splat_count=len(model),
            file_size_bytes=size or len(await self.files.get(Bucket.MODELS, path)),
            parent=parent,
            **score_fields(scores),
        )

    async def get_model(self, path: str) -> SplatModel:
        """A model version, as it was put. Raises ModelFailed where the stored file is damaged."""
        data = await self.files.get(Bucket.MODELS, path)
        try:
            return await asyncio.to_thread(read_ply, data)
        except InvalidModelFile as error:  # of the store, not of the caller
            raise ModelFailed.openly(f"The stored model is damaged: {error}") from error
