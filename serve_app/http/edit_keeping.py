"""Edits of views, kept until a generation does them: which view it is, and what may be done to it.

It knows rows, files and pictures; not HTTP.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from deployments.jobs.commits import ViewRow
from deployments.jobs.edit_rows import NewViewEdit, ViewEditRow
from deployments.jobs.job_errors import ProjectBusy
from deployments.jobs.lineage import Generation, generation_of
from deployments.jobs.paths import edit_path
from deployments.jobs.rows import Bucket, ProjectDetail, ProjectJob
from deployments.jobs.store import Store
from pipeline.errors import (
    Conflict,
    GlimpseError,
    InvalidImage,
    ModelFailed,
    NotFound,
    NotGeneratedYet,
    Unavailable,
)
from pipeline.flow.manifest import content_hash
from pipeline.flow.view_edits import EditKind, check_picture, check_struck
from pipeline.imaging.decoding import decode_photo, decode_png, encode_png
from pipeline.ports import BackgroundRemover

#: So often in a row somebody else may edit views before a strike is given up.
_TRIES = 5


@dataclass(frozen=True)
class EditedViews:
    """The views of a generated version, and the edits of them that wait.

    Attributes:
        base: the generation that has made them.
        jobs: all of the project.
    """

    project_id: str
    base: Generation
    jobs: Sequence[ProjectJob]
    waiting: tuple[ViewEditRow, ...]

    @classmethod
    async def find(cls, store: Store, project_id: str, version: int | None) -> EditedViews:
        """Those of a version, or of the current one.

        Raises:
            NotFound: there is no such project or version.
            NotGeneratedYet: there is no version yet.
        """
        detail: ProjectDetail = await store.records.project_detail(project_id)
        version = detail.project.current_version if version is None else version
        if version is None:
            raise NotGeneratedYet("The project has no views yet: generate them first.")
        if detail.model(version) is None:
            raise NotFound(
                f"The project has no model version {version}; it has "
                f"{', '.join(str(row.version) for row in detail.models)}."
            )
        jobs = await store.records.project_jobs(project_id)
        base = generation_of(jobs, version)
        waiting = tuple(
            edit
            for edit in detail.edits
            if edit.version == base.version and edit.applied_by is None
        )
        return cls(project_id, base, jobs, waiting)

    def row(self, view: int) -> ViewRow:
        """The row of a view. Raises NotFound."""
        return _row(self.base, view)

    def edit_of(self, view: int) -> ViewEditRow | None:
        """What waits for a view."""
        return next((edit for edit in self.waiting if edit.view_index == view), None)

    def struck_with(self, view: int) -> set[int]:
        """What would be struck out with a further view."""
        kinds = {edit.view_index: edit.kind for edit in self.waiting}
        struck = {row.view_index for row in self.base.stages["views"].views if row.edit == "struck"}
        struck -= kinds.keys()
        return struck | {i for i, kind in kinds.items() if kind is EditKind.STRIKE} | {view}

    def source_of(self, view: int) -> int:
        """The version that has a view as the engine made it: this one, or the nearest that it comes
        from."""
        at = self.base
        while _row(at, view).edit and at.model.parent is not None:
            at = generation_of(self.jobs, at.model.parent)
        return at.version


def _row(generation: Generation, view: int) -> ViewRow:
    for row in generation.stages["views"].views:
        if row.view_index == view:
            return row
    raise NotFound(f"Version {generation.version} has no view {view}.")


@dataclass(frozen=True)
class NewPicture:
    """A picture that may replace a view.

    Attributes:
        png: RGBA.
        engine: who found the outline in a picture that had none; else empty.
        notes: sentences that a user should read.
    """

    png: bytes
    engine: str
    notes: tuple[str, ...]


async def prepare_picture(
    data: bytes, size: int, background: BackgroundRemover, *, remove_background: bool
) -> NewPicture:
    """A picture that is to replace a view of `size` pixels.

    Raises:
        InvalidImage: it cannot be used; the text says why.
    """
    photo = await asyncio.to_thread(decode_photo, data)
    alpha, engine, notes = photo.alpha, "", list(photo.notes)
    if alpha is None and not remove_background:
        raise InvalidImage(
            "The picture has no transparency, which says what of it is the object: save it as PNG "
            "with alpha, or leave out remove_bg=false, and the background is removed here."
        )
    if alpha is None:
        found = await background.remove_background(photo.rgb)
        alpha, engine = found.alpha, found.engine
        notes.append(f"The picture had no transparency: its outline is what {engine} found.")
    rgba = np.dstack([photo.rgb, alpha])
    notes += await asyncio.to_thread(check_picture, rgba, size, photo.source_size)
    return NewPicture(await asyncio.to_thread(encode_png, rgba), engine, tuple(notes))


async def view_size(store: Store, views: EditedViews, view: int) -> int:
    """Pixels along each side of a view."""
    shown = await store.blobs.get(Bucket.VIEWS, views.row(view).image_path)
    pixels = await asyncio.to_thread(decode_png, shown)
    return int(pixels.shape[1])


async def replace_view(store: Store, views: EditedViews, view: int, picture: NewPicture) -> None:
    """Let a picture wait that is to stand in the place of a view. Raises ProjectBusy."""
    path = edit_path(views.project_id, str(uuid.uuid4()))
    await store.blobs.put(Bucket.VIEWS, path, picture.png, "image/png")
    edit = NewViewEdit(
        version=views.base.version,
        view_index=view,
        kind=EditKind.REPLACE,
        image_path=path,
        sha256=content_hash(picture.png),
        engine=picture.engine,
        notes=picture.notes,
    )
    try:
        await _put(store, views.project_id, edit)
    except Unavailable:
        # A row may name it, or yet do so. Where none does, it goes with the project.
        with suppress(GlimpseError):
            detail = await store.records.project_detail(views.project_id)
            if any(row.image_path == path for row in detail.edits):
                return  # only the answer was lost
        raise
    except GlimpseError:
        # No row names it.
        with suppress(GlimpseError):
            await store.blobs.delete(Bucket.VIEWS, [path])
        raise


async def strike_view(store: Store, views: EditedViews, view: int) -> None:
    """Let a view be struck out. Raises InvalidOption where too few would be left, ProjectBusy, and
    Conflict where others edit them all the time."""
    for _ in range(_TRIES):
        waiting, row = views.edit_of(view), views.row(view)
        if waiting is not None and waiting.kind is EditKind.STRIKE:
            return
        if waiting is None and row.edit == "struck":
            return
        check_struck(views.struck_with(view))
        # Others that are struck at the same time count, too.
        seen = tuple(sorted(edit.id for edit in views.waiting))
        edit = NewViewEdit(views.base.version, view, EditKind.STRIKE, seen=seen)
        try:
            await _put(store, views.project_id, edit)
            return
        except ProjectBusy:
            raise
        except Conflict:
            views = await EditedViews.find(store, views.project_id, views.base.version)
    raise Conflict("Others edit these views now: look at them and ask again.")


async def restore_view(store: Store, views: EditedViews, view: int) -> None:
    """Take back what waits for a view; where nothing does, let the view as the engine made it stand
    there again. Raises ProjectBusy, and InvalidOption where it would be struck out again and too
    few be left."""
    waiting, row = views.edit_of(view), views.row(view)
    if waiting is not None and waiting.kind is EditKind.REPLACE and row.edit == "struck":
        check_struck(views.struck_with(view))
    if waiting is not None and waiting.kind is not EditKind.RESTORE:
        taken = await store.records.take_view_edit(views.project_id, views.base.version, view)
        await _forget(store, taken)
    elif waiting is None and row.edit:
        edit = NewViewEdit(
            views.base.version, view, EditKind.RESTORE, source_version=views.source_of(view)
        )
        if (
            edit.source_version is None
            or _row(generation_of(views.jobs, edit.source_version), view).edit
        ):
            raise ModelFailed.openly(f"No version has view {view} as the engine made it.")
        await _put(store, views.project_id, edit)


async def _put(store: Store, project_id: str, edit: NewViewEdit) -> None:
    put = await store.records.put_view_edit(project_id, edit)
    if put.replaced is not None and put.replaced.image_path != edit.image_path:
        await _forget(store, put.replaced)


async def _forget(store: Store, edit: ViewEditRow | None) -> None:
    """Delete the picture of an edit that nobody waits for any more; one that stays goes with the
    project."""
    if edit is not None and edit.image_path is not None:
        with suppress(GlimpseError):
            await store.blobs.delete(Bucket.VIEWS, [edit.image_path])
