"""Photos: those of a project, and what an upload answers.

It knows rows; not who made them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, TypeAdapter

from deployments.jobs.photo_rows import PhotoRow
from deployments.jobs.rows import Bucket, Project, ProjectDetail
from pipeline.types import PhotoRegistration
from serve_app.http.schemas.result_answers import RowAnswer, Url

Side = Literal["front", "left", "back", "right", "top"]

_REGISTRATION = TypeAdapter(PhotoRegistration)


class PhotoAnswer(RowAnswer):
    """A photo of a project; the one in `position` 0 is the first, which all is made around.

    `side`, or `azimuth_deg` and `elevation_deg`, is what was said of whence it was taken;
    `registration` what the newest generation found, `null` where that has not worked with it.
    """

    id: str
    position: int
    original_url: str
    processed_url: str
    background_engine: str
    side: Side | None
    azimuth_deg: float | None
    elevation_deg: float | None
    notes: list[str]
    created_at: datetime
    registration: PhotoRegistration | None

    @classmethod
    def of(cls, row: PhotoRow, registration: Mapping[str, Any] | None, url: Url) -> Self:
        """From its row."""
        return cls.from_row(
            row,
            original_url=url(Bucket.UPLOADS, row.original_path),
            processed_url=url(Bucket.PROCESSED, row.processed_path),
            notes=list(row.notes),
            registration=(
                None if registration is None else _REGISTRATION.validate_python(registration)
            ),
        )


def photo_answers(detail: ProjectDetail, url: Url) -> list[PhotoAnswer]:
    """The photos of a project, the first one first."""
    # Of an engine that registers nothing there is none.
    found = {
        photo.id: registration
        for photo, registration in zip(detail.generated_photos, detail.registrations, strict=False)
    }
    return [PhotoAnswer.of(photo, found.get(photo.id), url) for photo in detail.photos]


class PhotosAnswer(BaseModel):
    """The photos of a project, the first one first."""

    project_id: str
    photos: list[PhotoAnswer]

    @classmethod
    def of(cls, detail: ProjectDetail, url: Url) -> Self:
        """From everything that is known about a project."""
        return cls(project_id=detail.project.id, photos=photo_answers(detail, url))


class UploadAnswer(BaseModel):
    """Answer of `POST /upload`: the project, and its photos; the URLs beside them and
    `background_engine` are those of the first. `notes` are those of all photos."""

    project_id: str
    original_url: str
    processed_url: str
    background_engine: str
    notes: list[str] = []
    photos: list[PhotoAnswer]

    @classmethod
    def of(cls, project: Project, photos: Sequence[PhotoRow], url: Url) -> Self:
        """From the project it made."""
        names = [f"Photo {photo.position}: " if len(photos) > 1 else "" for photo in photos]
        return cls(
            project_id=project.id,
            original_url=url(Bucket.UPLOADS, project.original_path),
            processed_url=url(Bucket.PROCESSED, project.processed_path),
            background_engine=project.background_engine,
            notes=[
                name + note
                for name, photo in zip(names, photos, strict=True)
                for note in photo.notes
            ],
            photos=[PhotoAnswer.of(photo, None, url) for photo in photos],
        )
