"""A generation's journal over the store: artefacts first, then one commit per stage.

It knows rows, paths and codecs; not how stages compute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np

from deployments.jobs.attempt import Attempt
from deployments.jobs.commits import DepthRow, StageCommit, ViewRow
from deployments.jobs.kept_stages import KeptStages
from deployments.jobs.lineage import Generation
from deployments.jobs.rows import Bucket
from pipeline.errors import Conflict
from pipeline.flow.artifacts import (
    LATENT_FILE,
    decode_depths,
    decode_generated,
    decode_latent,
    decode_registered,
    decode_views,
    encode_depths,
    encode_generated,
    encode_registered,
    encode_views,
)
from pipeline.formats.ply import write_ply
from pipeline.journals import Candidate
from pipeline.requests import Generated, KeptLatent, RegisteredPhotos
from pipeline.types import DepthMaps, Scores, SplatModel, ViewSet

T = TypeVar("T")

#: What the stage of a generator calls its model among its files.
MODEL_FILE = "model.ply"


def no_latent(version: int) -> str:
    """What is said where a generation wants to begin with what nobody kept."""
    return (
        f"Version {version} was made by views: there is nothing of a pass that another model could "
        "be made of. Generate from the photo."
    )


class StoreGenerateJournal:
    """A `pipeline.journals.GenerateJournal`.

    Views and depths are stored while the next stage computes, in the order in which they came;
    `flush` waits for what is under way. What is kept of an earlier generation is found here like
    what an earlier attempt has committed: its rows name the files that are there, and no file is
    written for it.
    """

    def __init__(
        self,
        attempt: Attempt,
        *,
        base: Generation | None = None,
        kept: KeptStages | None = None,
    ) -> None:
        """
        Args:
            base: the generation that the model goes on from.
            kept: what is taken from it.
        """
        self.enter = attempt.progress.enter
        self.report = attempt.progress.report
        self._attempt = attempt
        self._files = attempt.files
        self._base = base
        self._kept = kept
        self._saving: asyncio.Task[None] | None = None
        #: Of a model that a generator made: stored before it had scores.
        self._generated: dict[str, str] | None = None

    async def flush(self) -> None:
        """Wait for the saving under way. Raises what it raised."""
        saving, self._saving = self._saving, None
        if saving is not None:
            await saving

    async def _save_meanwhile(self, saving: Coroutine[Any, Any, None]) -> None:
        try:
            await self.flush()
        except BaseException:
            saving.close()
            raise
        self._saving = asyncio.create_task(saving)

    async def _load(
        self, stage: str, bucket: Bucket, decode: Callable[[dict[str, bytes]], T]
    ) -> T | None:
        """What the files say of a stage that an earlier attempt committed."""
        commit = self._attempt.committed.get(stage) or await self._keep(stage)
        if commit is None:
            return None
        files = await self._files.get_all(bucket, commit.detail["files"])
        return await asyncio.to_thread(decode, files)

    async def _keep(self, stage: str) -> StageCommit | None:
        """Commit a stage of the earlier generation as one of this job, where it is kept."""
        if self._kept is None:
            return None
        await self.flush()
        commit = await self._kept.commit_of(stage, self._files)
        if commit is not None:
            await self._attempt.commit(commit)
        return commit

    async def _put(
        self, bucket: Bucket, files: dict[str, bytes], path: Callable[[str], str]
    ) -> dict[str, str]:
        """Store files, name -> bytes; name -> path."""
        paths = {name: path(name) for name in files}
        await self._files.put_all(bucket, {paths[name]: data for name, data in files.items()})
        return paths

    async def load_views(self) -> ViewSet | None:
        return await self._load("views", Bucket.VIEWS, decode_views)

    async def save_views(self, views: ViewSet, seconds: float) -> None:
        """Begins only; an error comes out of the next saving, or of `flush`."""
        await self._save_meanwhile(self._save_views(views, seconds))

    async def _save_views(self, views: ViewSet, seconds: float) -> None:
        files = await asyncio.to_thread(encode_views, views)
        paths = await self._put(Bucket.VIEWS, files, self._files.paths.view)
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
        await self._attempt.commit(
            StageCommit("views", seconds, views=rows, detail={"files": paths})
        )

    async def load_depths(self) -> DepthMaps | None:
        return await self._load("depth", Bucket.DEPTH, decode_depths)

    async def save_depths(self, depths: DepthMaps, seconds: float) -> None:
        """Begins only, as `save_views`."""
        await self._save_meanwhile(self._save_depths(depths, seconds))

    async def _save_depths(self, depths: DepthMaps, seconds: float) -> None:
        files = await asyncio.to_thread(encode_depths, depths)
        paths = await self._put(Bucket.DEPTH, files, self._files.paths.depth)
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
        await self._attempt.commit(
            StageCommit("depth", seconds, depths=tuple(rows), detail={"files": paths})
        )

    async def load_photos(self) -> RegisteredPhotos | None:
        return await self._load("photos", Bucket.VIEWS, decode_registered)

    async def save_photos(self, photos: RegisteredPhotos, seconds: float) -> None:
        """Begins only, as `save_views`."""
        await self._save_meanwhile(self._save_photos(photos, seconds))

    async def _save_photos(self, photos: RegisteredPhotos, seconds: float) -> None:
        files = await asyncio.to_thread(encode_registered, photos)
        # In the folder of this attempt: views that are kept stand in that of another version.
        paths = await self._put(Bucket.VIEWS, files, self._files.paths.view)
        # Of each photo that was given, for people.
        found = [asdict(registration) for registration in photos.registrations]
        await self._attempt.commit(
            StageCommit("photos", seconds, detail={"files": paths, "registrations": found})
        )

    async def load_model(self) -> SplatModel | None:
        commit = self._attempt.committed.get("splats")
        if commit is None:
            return None
        return await self._attempt.get_model(commit.models[0].model_path)

    async def save_model(
        self, model: SplatModel, scores: Scores, engine: str, seconds: float
    ) -> None:
        await self.flush()
        facts: dict[str, Any] = {
            "engine": engine,
            "origin": "generate",
            "parent": None if self._base is None else self._base.version,
        }
        if self._generated is None:
            row = await self._attempt.put_model(self._version, model, scores, **facts)
        else:
            path = self._generated[MODEL_FILE]
            row = await self._attempt.stored_model(self._version, path, model, scores, **facts)
        edits = () if self._kept is None else self._kept.edits
        detail = {"applied_edits": [edit.id for edit in edits]} if edits else {}
        await self._attempt.commit(StageCommit("splats", seconds, models=(row,), detail=detail))

    @property
    def _version(self) -> int:
        """The same in every attempt: what the job found, and one more."""
        newest = self._attempt.detail.newest_model
        return 0 if newest is None else newest.version + 1

    async def load_generated(self) -> Generated | None:
        commit = self._attempt.committed.get("generator")
        if commit is None:
            return None
        self._generated = commit.detail["files"]
        model = await self._attempt.get_model(self._generated[MODEL_FILE])
        files = {LATENT_FILE: await self._files.get(Bucket.MODELS, self._generated[LATENT_FILE])}
        return await asyncio.to_thread(decode_generated, files, model)

    async def save_generated(self, generated: Generated, seconds: float) -> None:
        files = await asyncio.to_thread(encode_generated, generated)
        files[MODEL_FILE] = await asyncio.to_thread(write_ply, generated.model)
        paths = self._files.paths
        names = {MODEL_FILE: paths.model(self._version), LATENT_FILE: paths.latent(LATENT_FILE)}
        self._generated = await self._put(Bucket.MODELS, files, names.__getitem__)
        await self._attempt.commit(
            StageCommit("generator", seconds, detail={"files": self._generated})
        )

    async def load_latent(self) -> KeptLatent:
        assert self._base is not None, "a generation from a latent goes on from a version"
        path = self._base.files("generator").get(LATENT_FILE)
        if path is None:
            raise Conflict.openly(no_latent(self._base.version))
        files = {LATENT_FILE: await self._files.get(Bucket.MODELS, path)}
        return await asyncio.to_thread(decode_latent, files)

    async def load_ranking(self) -> tuple[Candidate, ...] | None:
        commit = self._attempt.committed.get("candidates")
        if commit is None:
            return None
        return tuple(Candidate(**candidate) for candidate in commit.detail["ranking"])

    async def save_ranking(self, ranking: tuple[Candidate, ...], seconds: float) -> None:
        await self.flush()
        detail = {"ranking": [asdict(candidate) for candidate in ranking]}
        await self._attempt.commit(StageCommit("candidates", seconds, detail=detail))
