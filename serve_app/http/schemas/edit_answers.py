"""Edits of views, as they are answered.

It knows their rows; not what becomes of the views.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Self

from pydantic import BaseModel

from deployments.jobs.commits import ViewRow
from deployments.jobs.edit_rows import ViewEditRow
from deployments.jobs.rows import Bucket
from pipeline.flow.view_edits import EditKind
from serve_app.http.schemas.result_answers import RowAnswer, Url


class ViewAnswer(RowAnswer):
    """A view of the rig. `edit` is what somebody did to it: `replaced`, `struck`, or empty."""

    view: int
    image_url: str
    azimuth_deg: float
    elevation_deg: float
    engine: str
    edit: str

    @classmethod
    def of(cls, row: ViewRow, url: Url) -> Self:
        """From its row."""
        return cls.from_row(row, view=row.view_index, image_url=url(Bucket.VIEWS, row.image_path))


class EditAnswer(RowAnswer):
    """What somebody did to a view of `version`. `applied_by` is the job that has made a model with
    it; None: it waits. `image_url` is the picture that replaces the view, with its alpha."""

    version: int
    view: int
    kind: EditKind
    image_url: str | None
    sha256: str | None
    engine: str
    notes: list[str]
    source_version: int | None
    created_at: datetime
    applied_by: str | None

    @classmethod
    def of(cls, row: ViewEditRow, url: Url) -> Self:
        """From its row."""
        path = row.image_path
        return cls.from_row(
            row,
            view=row.view_index,
            image_url=None if path is None else url(Bucket.VIEWS, path),
        )


class EditsAnswer(BaseModel):
    """Edits that wait for a generation from the depth of `version`."""

    project_id: str
    version: int
    edits: list[EditAnswer]

    @classmethod
    def of(cls, project_id: str, version: int, rows: Sequence[ViewEditRow], url: Url) -> Self:
        """From the rows of a project."""
        waiting = [row for row in rows if row.version == version and row.applied_by is None]
        return cls(
            project_id=project_id,
            version=version,
            edits=[EditAnswer.of(row, url) for row in waiting],
        )
