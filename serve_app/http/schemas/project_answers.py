"""Projects: the resource, the list of them, everything known about one.

It knows the rows of a project; not who made them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel

from deployments.jobs.commits import IterationRow, ModelRow, PreviewRow
from deployments.jobs.rows import Bucket, Project, ProjectDetail, ProjectStatus
from pipeline.rig import VIEW_COUNT
from serve_app.http.schemas.edit_answers import EditAnswer, ViewAnswer
from serve_app.http.schemas.job_answers import JobAnswer
from serve_app.http.schemas.photo_answers import PhotoAnswer, photo_answers
from serve_app.http.schemas.request_bodies import FormatName
from serve_app.http.schemas.result_answers import PhotoScoreAnswer, RowAnswer, Url


class ProjectAnswer(RowAnswer):
    """The project part of a status."""

    id: str
    status: ProjectStatus
    current_step: str
    progress_percentage: float
    original_url: str
    processed_url: str
    background_engine: str
    error: str | None
    created_at: datetime
    updated_at: datetime
    current_version: int | None

    @classmethod
    def of(cls, project: Project, url: Url, **links: str) -> Self:
        """From its row."""
        return cls.from_row(
            project,
            original_url=url(Bucket.UPLOADS, project.original_path),
            processed_url=url(Bucket.PROCESSED, project.processed_path),
            **links,
        )


class ProjectResource(ProjectAnswer):
    """A project, and where the rest of it is told."""

    status_url: str
    report_url: str
    manifest_url: str
    events_url: str

    @classmethod
    def of(cls, project: Project, url: Url, **links: str) -> Self:
        """From its row, with the links."""
        return super().of(
            project,
            url,
            status_url=url.of(f"/api/v1/status/{project.id}"),
            report_url=url.of(f"/api/v1/projects/{project.id}/report"),
            manifest_url=url.of(f"/api/v1/projects/{project.id}/manifest"),
            events_url=url.of(f"/api/v1/status/{project.id}/events"),
            **links,
        )


class ProjectPageAnswer(BaseModel):
    """Some projects, newest first; `next_cursor` is the `cursor` of the next page, if any."""

    projects: list[ProjectResource]
    next_cursor: str | None


class DeletionAnswer(BaseModel):
    """A project is gone for its users; the service removes what is left of it by itself."""

    status: Literal["deleting"] = "deleting"
    project_id: str
    detail: str


class CountAnswer(BaseModel):
    """How many of how many."""

    completed: int
    total: int


class PipelineProgressAnswer(BaseModel):
    """What the project has so far; `refinement_iterations` does not count iteration 0."""

    multiview_images: CountAnswer
    depth_maps: CountAnswer
    model_versions: int
    refinement_iterations: int


def _loose_scores(row: IterationRow | ModelRow) -> dict[str, Any]:
    """The scores that have no column of their own."""
    names = ("silhouette_iou", "consistency", "floaters", "seen_share")
    return {name: row.scores.get(name) for name in names} | {"photos": row.scores.get("photos", ())}


class IterationAnswer(RowAnswer):
    """One iteration of the newest refinement; number 0 is the model before it."""

    iteration_number: int
    view_agreement: float
    psnr: float
    ssim: float
    lpips: float | None
    silhouette_iou: float | None
    consistency: float | None
    floaters: float | None
    expected_likeness: float | None
    seen_share: float | None
    photos: list[PhotoScoreAnswer]
    accepted: bool
    model_version: int | None
    strength: float
    seconds: float
    engine: str
    note: str
    guards: list[str]
    view_weights: dict[str, float]

    @classmethod
    def of(cls, row: IterationRow) -> Self:
        """From its row."""
        return cls.from_row(
            row,
            engine=row.enhance_engine,
            guards=row.detail.get("guards", ()),
            view_weights=row.detail.get("view_weights", {}),
            **_loose_scores(row),
        )


class ModelAnswer(RowAnswer):
    """One model version; the pictures are None until they are made. `parent` is the version that
    was refined, or whose stages a generation kept; None where it began with the photo."""

    version: int
    parent: int | None
    job_id: str
    model_url: str
    thumbnail_url: str | None
    turntable_url: str | None
    origin: Literal["generate", "refine"]
    engine: str
    splat_count: int
    file_size_bytes: int
    psnr: float | None
    ssim: float | None
    lpips: float | None
    view_agreement: float | None
    silhouette_iou: float | None
    consistency: float | None
    floaters: float | None
    expected_likeness: float | None
    seen_share: float | None
    photos: list[PhotoScoreAnswer]

    @classmethod
    def of(cls, row: ModelRow, preview: PreviewRow | None, job_id: str, url: Url) -> Self:
        """From its rows."""
        return cls.from_row(
            row,
            job_id=job_id,
            model_url=url(Bucket.MODELS, row.model_path),
            thumbnail_url=url(Bucket.MODELS, preview.thumbnail_path) if preview else None,
            turntable_url=url(Bucket.MODELS, preview.turntable_path) if preview else None,
            **_loose_scores(row),
        )


class ExportedAnswer(RowAnswer):
    """One exported file."""

    model_version: int
    format: FormatName
    optimize: bool
    download_url: str
    file_size_bytes: int
    options: dict[str, Any]
    contents: dict[str, int]
    saved: dict[str, int]
    notes: list[str]


class StatusAnswer(BaseModel):
    """Answer of `GET /status`."""

    project: ProjectAnswer
    photos: list[PhotoAnswer]
    pipeline_progress: PipelineProgressAnswer
    iterations: list[IterationAnswer]
    models: list[ModelAnswer]
    exports: list[ExportedAnswer]
    views: list[ViewAnswer]
    edits: list[EditAnswer]
    view_urls: list[str]
    depth_urls: list[str]
    contact_sheet_url: str | None
    job: JobAnswer | None

    @classmethod
    def of(cls, detail: ProjectDetail, job: JobAnswer | None, url: Url) -> Self:
        """From everything that is known about a project."""
        previews = {row.version: row for row in detail.previews}
        sheet = detail.contact_sheet
        return cls(
            project=ProjectAnswer.of(detail.project, url),
            photos=photo_answers(detail, url),
            pipeline_progress=PipelineProgressAnswer(
                multiview_images=CountAnswer(completed=len(detail.views), total=VIEW_COUNT),
                depth_maps=CountAnswer(completed=len(detail.depths), total=VIEW_COUNT),
                model_versions=len(detail.models),
                refinement_iterations=sum(row.iteration_number > 0 for row in detail.iterations),
            ),
            iterations=[IterationAnswer.of(row) for row in detail.iterations],
            models=[
                ModelAnswer.of(row, previews.get(row.version), detail.made_by[row.version], url)
                for row in detail.models
            ],
            exports=[
                ExportedAnswer.from_row(row, download_url=url(Bucket.MODELS, row.file_path))
                for row in detail.exports
            ],
            views=[ViewAnswer.of(row, url) for row in detail.views],
            edits=[EditAnswer.of(row, url) for row in detail.edits],
            view_urls=[url(Bucket.VIEWS, row.image_path) for row in detail.views],
            depth_urls=[url(Bucket.DEPTH, row.heat_map_path) for row in detail.depths],
            contact_sheet_url=url(Bucket.MODELS, sheet.image_path) if sheet else None,
            job=job,
        )
