"""What the calls answer that make something: upload, generate, refine, export.

It knows rows and results of jobs; not how a call comes by them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel

from deployments.jobs.commits import ExportRow
from deployments.jobs.rows import Bucket, Job, JobKind, Project
from pipeline.file_types import media_type

__all__ = [
    "CandidateAnswer",
    "ExportAnswer",
    "GenerateAnswer",
    "MetricAnswer",
    "RefineAnswer",
    "UploadAnswer",
    "Url",
    "result_of",
]

#: Makes the URL of a blob, as the client sees the service.
Url = Callable[[Bucket, str], str]


class UploadAnswer(BaseModel):
    """Answer of `POST /upload`."""

    project_id: str
    original_url: str
    processed_url: str
    background_engine: str

    @classmethod
    def of(cls, project: Project, url: Url) -> UploadAnswer:
        """From the project it made."""
        return cls(
            project_id=project.id,
            original_url=url(Bucket.UPLOADS, project.original_path),
            processed_url=url(Bucket.PROCESSED, project.processed_path),
            background_engine=project.background_engine,
        )


class CandidateAnswer(BaseModel):
    """One of several models that a generation chose from; numbers are None where it failed."""

    seed: int
    overall_quality: float | None
    psnr: float | None
    ssim: float | None
    lpips: float | None
    chosen: bool
    note: str


# Fields with defaults are missing in results that a release before this one left in its jobs.


class GenerateAnswer(BaseModel):
    """Answer of `POST /generate`; `ranking` is empty where there was one candidate."""

    status: Literal["completed"] = "completed"
    model_url: str
    views_generated: int
    depth_maps_generated: int
    job_id: str
    model_version: int
    engines: dict[str, str]
    seed: int
    splat_count: int
    psnr: float
    ssim: float
    lpips: float | None
    overall_quality: float
    notes: list[str]
    ranking: list[CandidateAnswer] = []
    timings: dict[str, float]


class MetricAnswer(BaseModel):
    """One iteration; iteration 0 is the model before refinement."""

    iteration: int
    overall_quality: float
    psnr: float
    ssim: float
    lpips: float | None
    silhouette_iou: float | None = None
    consistency: float | None = None
    floaters: float | None = None
    accepted: bool
    seconds: float
    engine: str
    note: str
    guards: list[str] = []
    view_weights: dict[str, float] = {}


class RefineAnswer(BaseModel):
    """Answer of `POST /refine`."""

    status: Literal["refined"] = "refined"
    iterations_completed: int
    converged: bool
    final_model_url: str
    metrics: list[MetricAnswer]
    job_id: str
    model_version: int
    stop_reason: str
    engines: dict[str, str] = {}
    seed: int
    timings: dict[str, float]


class ExportAnswer(BaseModel):
    """Answer of `GET /export`. `file_size_mb` is in millions of bytes."""

    download_url: str
    format: str
    file_size_mb: float
    file_size_bytes: int
    file_name: str
    media_type: str
    model_version: int
    optimize: bool
    options: dict[str, Any]
    contents: dict[str, int]
    saved: dict[str, int]
    notes: list[str]
    seconds: float

    @classmethod
    def of(cls, row: ExportRow, url: Url) -> ExportAnswer:
        """From its row."""
        return cls(
            download_url=url(Bucket.MODELS, row.file_path),
            format=row.format,
            file_size_mb=round(row.file_size_bytes / 1e6, 3),
            file_size_bytes=row.file_size_bytes,
            file_name=row.file_path.rpartition("/")[2],
            media_type=media_type(row.file_path),
            model_version=row.model_version,
            optimize=row.optimize,
            options=dict(row.options),
            contents=dict(row.contents),
            saved=dict(row.saved),
            notes=list(row.notes),
            seconds=round(row.seconds, 3),
        )


def result_of(job: Job, url: Url) -> GenerateAnswer | RefineAnswer | ExportAnswer:
    """What a job that succeeded has to say: the body of the call that waited for it."""
    result = dict(job.result or {})
    if job.kind is JobKind.EXPORT:
        return ExportAnswer.of(ExportRow(**result), url)
    model_url = url(Bucket.MODELS, result.pop("model_path"))
    shared = {"job_id": job.id, "timings": dict(job.timings), **result}
    if job.kind is JobKind.GENERATE:
        return GenerateAnswer(model_url=model_url, **shared)
    return RefineAnswer(final_model_url=model_url, **shared)
