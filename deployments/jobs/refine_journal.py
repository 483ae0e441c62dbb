"""A refinement's journal over the store; every iteration is a stage of its own.

It knows rows, paths and codecs; not how iterations compute.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from deployments.jobs.attempt import Attempt
from deployments.jobs.commits import EnhancedViewRow, IterationRow, ModelRow, StageCommit
from deployments.jobs.documents import iteration_document, read_outcome, score_fields
from deployments.jobs.lineage import Generation, generation_of
from deployments.jobs.rows import Bucket
from pipeline.flow.artifacts import decode_depths, decode_views
from pipeline.imaging.decoding import encode_png
from pipeline.journals import IterationOutcome
from pipeline.types import DepthMaps, SplatModel, UInt8Array, ViewSet


class StoreRefineJournal:
    """A `pipeline.journals.RefineJournal`."""

    def __init__(self, attempt: Attempt) -> None:
        self.enter = attempt.progress.enter
        self.report = attempt.progress.report
        self._attempt = attempt
        self._files = attempt.files
        #: What attempts of this job committed, this one included, by stage.
        self._committed = dict(attempt.committed)
        self._found: Generation | None = None

    @property
    def _own_versions(self) -> set[int]:
        return {row.version for commit in self._committed.values() for row in commit.models}

    @property
    def _start_row(self) -> ModelRow:
        """The model that the job was told to refine."""
        row = self._attempt.detail.model(self._attempt.job.options["version"])
        assert row is not None, "a job names a version that is there"
        return row

    @property
    def best_row(self) -> ModelRow:
        """The model that the refinement has come to: the newest one that it made, or its start."""
        own = [row for commit in self._committed.values() for row in commit.models]
        return own[-1] if own else self._start_row

    @property
    def _next_version(self) -> int:
        models = self._attempt.detail.models
        return max({row.version for row in models} | self._own_versions) + 1

    async def _generation(self) -> Generation:
        """The one that the model to refine comes from."""
        if self._found is None:
            jobs = await self._attempt.read_jobs()
            self._found = generation_of(jobs, self._start_row.version)
        return self._found

    async def generated_views(self) -> ViewSet:
        paths = (await self._generation()).files("views", "photos")
        files = await self._files.get_all(Bucket.VIEWS, paths)
        return await asyncio.to_thread(decode_views, files)

    async def generated_depths(self) -> DepthMaps:
        named = (await self._generation()).files("depth")
        # Without the heat maps, which are for people.
        paths = {name: path for name, path in named.items() if not name.endswith(".png")}
        files = await self._files.get_all(Bucket.DEPTH, paths)
        return await asyncio.to_thread(decode_depths, files)

    async def load_start(self) -> SplatModel:
        return await self._attempt.get_model(self._start_row.model_path)

    async def load_iterations(self) -> tuple[IterationOutcome, ...]:
        commits = [commit for commit in self._committed.values() if commit.iterations]
        outcomes = [read_outcome(commit.iterations[0], commit.enhanced) for commit in commits]
        accepted = [i for i, commit in enumerate(commits) if commit.models]
        if accepted:
            newest = accepted[-1]
            model = await self._attempt.get_model(commits[newest].models[0].model_path)
            outcomes[newest] = replace(outcomes[newest], model=model)
        return tuple(outcomes)

    async def save_iteration(self, outcome: IterationOutcome) -> None:
        k, start = outcome.iteration, self._start_row
        version = start.version if k == 0 else None
        models: tuple[ModelRow, ...] = ()
        if outcome.model is not None:
            version = self._next_version
            row = await self._attempt.put_model(
                version,
                outcome.model,
                outcome.scores,
                engine=start.engine,
                origin="refine",
                parent=self.best_row.version,
            )
            models = (row,)
        iteration = IterationRow(
            iteration_number=k,
            accepted=outcome.accepted,
            model_version=version,
            enhance_engine=outcome.enhance_engine,
            strength=outcome.strength,
            learning_rate=outcome.learning_rate,
            seconds=outcome.seconds,
            note=outcome.note,
            **score_fields(outcome.scores),
            detail=iteration_document(outcome),
        )
        commit = StageCommit(
            stage=f"iteration-{k}",
            seconds=outcome.seconds,
            models=models,
            iterations=(iteration,),
            enhanced=await self._put_enhanced(outcome),
        )
        await self._attempt.commit(commit)
        self._committed[commit.stage] = commit

    async def _put_enhanced(self, outcome: IterationOutcome) -> tuple[EnhancedViewRow, ...]:
        """The targets, and the renders before and after the round where they are there."""
        if outcome.enhanced is None:
            return ()
        k, views, paths = outcome.iteration, outcome.enhanced_views, self._files.paths
        pictures = {
            "image_path": ("png", outcome.enhanced),
            "before_path": ("before.png", outcome.before),
            "after_path": ("after.png", outcome.after),
        }
        named = {
            column: ([paths.enhanced(k, view, suffix) for view in views], images)
            for column, (suffix, images) in pictures.items()
            if images is not None
        }
        await self._files.put_all(
            Bucket.ENHANCED, await asyncio.to_thread(_encode_pngs, [*named.values()])
        )
        weights = outcome.enhanced_weights
        return tuple(
            EnhancedViewRow(
                iteration_number=k,
                view_index=view,
                engine=outcome.enhance_engine,
                weight=float(weights[i]) if weights else None,
                **{column: names[i] for column, (names, _) in named.items()},
            )
            for i, view in enumerate(views)
        )


def _encode_pngs(pictures: list[tuple[list[str], UInt8Array]]) -> dict[str, bytes]:
    return {
        path: encode_png(image)
        for paths, images in pictures
        for path, image in zip(paths, images, strict=True)
    }
