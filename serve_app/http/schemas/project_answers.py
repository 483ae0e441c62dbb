"""Projects: the resource, the list of them, everything known about one.

It knows the rows of a project; not who made them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel

from deployments.jobs.commits import ExportRow, IterationRow, ModelRow, PreviewRow
from deployments.jobs.rows import Bucket, Project, ProjectDetail
from pipeline.rig import VIEW_COUNT
from serve_app.http.schemas.job_answers import JobAnswer
from serve_app.http.schemas.result_answers import Url

__all__ = [
    "DeletionAnswer",
    "ExportedAnswer",
    "IterationAnswer",
    "ModelAnswer",
    "ProjectAnswer",
    "ProjectPageAnswer",
    "ProjectResource",
    "StatusAnswer",
]


class ProjectAnswer(BaseModel):
    """The project part of a status."""

    id: str
    status: str
    current_step: str
    progress_percentage: float
    original_url: str
    processed_url: str
    background_engine: str
    error: str | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, project: Project, url: Url) -> Self:
        """From its row."""
        return cls(**cls.values_of(project, url))

    @staticmethod
    def values_of(project: Project, url: Url) -> dict[str, Any]:
        """The fields that are in the row."""
        return {
            "id": project.id,
            "status": project.status.value,
            "current_step": project.current_step,
            "progress_percentage": project.progress_percentage,
            "original_url": url(Bucket.UPLOADS, project.original_path),
            "processed_url": url(Bucket.PROCESSED, project.processed_path),
            "background_engine": project.background_engine,
            "error": project.error,
            "created_at": project.created_at,
            "updated_at": project.updated_at,
        }


class ProjectResource(ProjectAnswer):
    """A project, and where the rest of it is told; the links are paths of the service."""

    status_url: str
    report_url: str
    manifest_url: str
    events_url: str

    @staticmethod
    def values_of(project: Project, url: Url) -> dict[str, Any]:
        """The fields of the row, and the links."""
        return {
            **ProjectAnswer.values_of(project, url),
            "status_url": f"/api/v1/status/{project.id}",
            "report_url": f"/api/v1/projects/{project.id}/report",
            "manifest_url": f"/api/v1/projects/{project.id}/manifest",
            "events_url": f"/api/v1/status/{project.id}/events",
        }


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


class IterationAnswer(BaseModel):
    """One iteration of the newest refinement; number 0 is the model before it."""

    iteration_number: int
    overall_quality: float
    psnr: float
    ssim: float
    lpips: float | None
    silhouette_iou: float | None
    consistency: float | None
    floaters: float | None
    accepted: bool
    model_version: int | None
    strength: float
    seconds: float
    engine: str
    note: str
    guards: list[str]
    view_weights: dict[str, float]

    @classmethod
    def of(cls, row: IterationRow) -> IterationAnswer:
        """From its row."""
        return cls(
            silhouette_iou=row.scores.get("silhouette_iou"),
            consistency=row.scores.get("consistency"),
            floaters=row.scores.get("floaters"),
            guards=list(row.detail.get("guards", ())),
            view_weights=dict(row.detail.get("view_weights", {})),
            iteration_number=row.iteration_number,
            overall_quality=row.overall_quality,
            psnr=row.psnr,
            ssim=row.ssim,
            lpips=row.lpips,
            accepted=row.accepted,
            model_version=row.model_version,
            strength=row.strength,
            seconds=row.seconds,
            engine=row.enhance_engine,
            note=row.note,
        )


class ModelAnswer(BaseModel):
    """One model version; the pictures are None until they are made."""

    version: int
    model_url: str
    thumbnail_url: str | None
    turntable_url: str | None
    origin: str
    engine: str
    splat_count: int
    file_size_bytes: int
    psnr: float | None
    ssim: float | None
    lpips: float | None
    overall_quality: float | None
    silhouette_iou: float | None
    consistency: float | None
    floaters: float | None

    @classmethod
    def of(cls, row: ModelRow, preview: PreviewRow | None, url: Url) -> ModelAnswer:
        """From its rows."""
        return cls(
            version=row.version,
            model_url=url(Bucket.MODELS, row.model_path),
            thumbnail_url=url(Bucket.MODELS, preview.thumbnail_path) if preview else None,
            turntable_url=url(Bucket.MODELS, preview.turntable_path) if preview else None,
            origin=row.origin,
            engine=row.engine,
            splat_count=row.splat_count,
            file_size_bytes=row.file_size_bytes,
            psnr=row.psnr,
            ssim=row.ssim,
            lpips=row.lpips,
            overall_quality=row.overall_quality,
            silhouette_iou=row.scores.get("silhouette_iou"),
            consistency=row.scores.get("consistency"),
            floaters=row.scores.get("floaters"),
        )

    @classmethod
    def all_of(cls, detail: ProjectDetail, url: Url) -> list[ModelAnswer]:
        """Every version of a project with its pictures."""
        previews = {row.version: row for row in detail.previews}
        return [cls.of(row, previews.get(row.version), url) for row in detail.models]


class ExportedAnswer(BaseModel):
    """One exported file."""

    model_version: int
    format: str
    optimize: bool
    download_url: str
    file_size_bytes: int
    options: dict[str, Any]
    contents: dict[str, int]
    saved: dict[str, int]
    notes: list[str]

    @classmethod
    def of(cls, row: ExportRow, download_url: str) -> ExportedAnswer:
        """From its row."""
        return cls(
            model_version=row.model_version,
            format=row.format,
            optimize=row.optimize,
            download_url=download_url,
            file_size_bytes=row.file_size_bytes,
            options=dict(row.options),
            contents=dict(row.contents),
            saved=dict(row.saved),
            notes=list(row.notes),
        )


class StatusAnswer(BaseModel):
    """Answer of `GET /status`."""

    project: ProjectAnswer
    pipeline_progress: PipelineProgressAnswer
    iterations: list[IterationAnswer]
    models: list[ModelAnswer]
    exports: list[ExportedAnswer]
    view_urls: list[str]
    depth_urls: list[str]
    contact_sheet_url: str | None
    job: JobAnswer | None

    @staticmethod
    def progress_of(detail: ProjectDetail) -> PipelineProgressAnswer:
        """The counts of a project."""
        return PipelineProgressAnswer(
            multiview_images=CountAnswer(completed=len(detail.views), total=VIEW_COUNT),
            depth_maps=CountAnswer(completed=len(detail.depths), total=VIEW_COUNT),
            model_versions=len(detail.models),
            refinement_iterations=sum(row.iteration_number > 0 for row in detail.iterations),
        )
