"""What a generation takes over from an earlier one: its views and depth, with the edits that wait.

It knows rows, files and codecs; not what is computed from them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from deployments.jobs.attempt_files import AttemptFiles
from deployments.jobs.commits import StageCommit, ViewRow
from deployments.jobs.edit_rows import ViewEditRow
from deployments.jobs.lineage import Generation, generation_of
from deployments.jobs.rows import Bucket, ProjectJob
from pipeline.flow.artifacts import decode_views, encode_views
from pipeline.flow.view_edits import (
    EditKind,
    EditRecord,
    ViewEdit,
    apply_edits,
    changed_files,
)
from pipeline.imaging.decoding import decode_png
from pipeline.types import ViewSet


@dataclass(frozen=True)
class KeptStages:
    """What is kept, and of what.

    Attributes:
        base: the generation that has it.
        stages: names of those that are kept.
        edits: of its views, which are done with the generation that keeps them.
        jobs: all of the project.
    """

    base: Generation
    stages: Collection[str]
    edits: tuple[ViewEditRow, ...] = ()
    jobs: Sequence[ProjectJob] = ()

    async def commit_of(self, stage: str, files: AttemptFiles) -> StageCommit | None:
        """A stage to be committed by the job that keeps it: its rows name the files that are there,
        and those that are written for views that were edited. None where it is not kept."""
        # A release before this one registered no photos.
        if stage not in self.stages or stage not in self.base.stages:
            return None
        old = self.base.stages[stage]
        detail: dict[str, Any] = {"files": self.base.files(stage), "kept_from": self.base.version}
        rows = old.views
        if "registrations" in old.detail:
            detail["registrations"] = old.detail["registrations"]
        if stage == "views" and self.edits:
            written = await self._write_edited(files)
            detail["files"] |= written
            detail["edits"] = [asdict(record_of(edit)) for edit in self.edits]
            rows = self._edited_rows(rows, written)
        return StageCommit(stage, 0.0, views=rows, depths=old.depths, detail=detail)

    async def _write_edited(self, files: AttemptFiles) -> dict[str, str]:
        """Name to path of the files that are others than before."""
        before = await load_views(self.base, files)
        edits = [await self._load(edit, files) for edit in self.edits]
        after = await asyncio.to_thread(partial(apply_edits, before, edits))
        whole = await asyncio.to_thread(encode_views, after)
        paths = {name: files.paths.view(name) for name in sorted(changed_files(edits))}
        await files.put_all(Bucket.VIEWS, {path: whole[name] for name, path in paths.items()})
        return paths

    async def _load(self, edit: ViewEditRow, files: AttemptFiles) -> ViewEdit:
        rgba, source = None, None
        if edit.image_path is not None:
            rgba = await asyncio.to_thread(
                decode_png, await files.get(Bucket.VIEWS, edit.image_path)
            )
        if edit.source_version is not None:
            source = await load_views(generation_of(self.jobs, edit.source_version), files)
        return ViewEdit(edit.kind, edit.view_index, rgba, source)

    def _edited_rows(
        self, rows: tuple[ViewRow, ...], written: Mapping[str, str]
    ) -> tuple[ViewRow, ...]:
        states = {EditKind.REPLACE: "replaced", EditKind.STRIKE: "struck", EditKind.RESTORE: ""}
        found = {edit.view_index: states[edit.kind] for edit in self.edits}
        return tuple(
            replace(
                row,
                image_path=written.get(f"{row.view_index:02d}.png", row.image_path),
                edit=found.get(row.view_index, row.edit),
            )
            for row in rows
        )


async def load_views(generation: Generation, files: AttemptFiles) -> ViewSet:
    """The views of a generation. Raises ModelFailed where a file is missing or damaged."""
    stored = await files.get_all(Bucket.VIEWS, generation.files("views"))
    return await asyncio.to_thread(decode_views, stored)


def record_of(edit: ViewEditRow) -> EditRecord:
    """An edit as a manifest has it."""
    return EditRecord(edit.view_index, edit.kind, edit.sha256, edit.source_version)
