"""What the calls answer that make something: generate, refine, export.

It knows rows and results of jobs; not how a call comes by them.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict

from deployments.jobs.commits import ExportRow
from deployments.jobs.rows import Bucket, Job, JobKind
from pipeline.file_types import media_type
from pipeline.flow.refine import StopReason
from serve_app.http.schemas.request_bodies import FormatName


class Url(Protocol):
    """Makes absolute URLs, as the client sees the service: of a blob, or `of` one of its paths."""

    def __call__(self, bucket: Bucket, path: str) -> str: ...

    def of(self, path: str) -> str: ...


class RowAnswer(BaseModel):
    """An answer most of whose fields are those of a row, by the same names."""

    model_config = ConfigDict(from_attributes=True)

    @classmethod
    def from_row(cls, row: object, **more: Any) -> Self:
        """From a row; `more` are the fields that it has not, or has in another form."""
        names = [name for name in cls.model_fields if name not in more and hasattr(row, name)]
        return cls(**{name: getattr(row, name) for name in names}, **more)


class PhotoScoreAnswer(BaseModel):
    """How far a model shows what a photo shows, from the photo's own camera."""

    photo: int
    psnr: float
    silhouette_iou: float
    lpips: float | None = None


class CandidateAnswer(BaseModel):
    """One of several models that a generation chose from; its numbers are of a small fit that saw
    no photo, and None where it failed."""

    seed: int
    photo_psnr: float | None = None
    consistency: float | None = None
    expected_likeness: float | None = None
    like_others: float | None = None
    view_agreement: float | None
    psnr: float | None
    ssim: float | None
    lpips: float | None
    chosen: bool
    note: str


class CameraAnswer(BaseModel):
    """The photo's camera as the view engine found it, and how far it may be off: the elevation in
    degrees (`null` where it was given), the focal length in widths of the framed cut-out, with the
    error of its natural logarithm."""

    elevation_deg: float
    elevation_error_deg: float | None
    focal: float
    focal_error: float


# Fields with defaults are missing in results that a release before this one left in its jobs.


class GenerateAnswer(BaseModel):
    """Answer of `POST /generate`; `parent` is the version whose stages were kept, `ranking` empty
    where there was one candidate, `camera` `null` where the view engine does not look for it."""

    status: Literal["completed"] = "completed"
    model_url: str
    views_generated: int
    depth_maps_generated: int
    job_id: str
    model_version: int
    parent: int | None = None
    engines: dict[str, str]
    seed: int
    splat_count: int
    psnr: float
    ssim: float
    lpips: float | None
    view_agreement: float
    expected_likeness: float | None = None
    seen_share: float | None = None
    photos: list[PhotoScoreAnswer] = []
    notes: list[str]
    ranking: list[CandidateAnswer] = []
    camera: CameraAnswer | None = None
    timings: dict[str, float]


class MetricAnswer(BaseModel):
    """One iteration; iteration 0 is the model before refinement."""

    iteration: int
    view_agreement: float
    psnr: float
    ssim: float
    lpips: float | None
    silhouette_iou: float | None = None
    consistency: float | None = None
    floaters: float | None = None
    expected_likeness: float | None = None
    seen_share: float | None = None
    photos: list[PhotoScoreAnswer] = []
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
    stop_reason: StopReason
    engines: dict[str, str] = {}
    seed: int
    timings: dict[str, float]


class ExportAnswer(RowAnswer):
    """Answer of `GET /export`. `file_size_mb` is in millions of bytes."""

    download_url: str
    format: FormatName
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
    def of(cls, row: ExportRow, url: Url) -> Self:
        """From its row."""
        return cls.from_row(
            row,
            download_url=url(Bucket.MODELS, row.file_path),
            file_size_mb=round(row.file_size_bytes / 1e6, 3),
            file_name=row.file_path.rpartition("/")[2],
            media_type=media_type(row.file_path),
            seconds=round(row.seconds, 3),
        )


ResultAnswer = GenerateAnswer | RefineAnswer | ExportAnswer


def result_of(job: Job, url: Url) -> ResultAnswer:
    """What a job that succeeded has to say: the body of the call that waited for it."""
    result = dict(job.result or {})
    if job.kind is JobKind.EXPORT:
        return ExportAnswer.of(ExportRow(**result), url)
    model_url = url(Bucket.MODELS, result.pop("model_path"))
    shared = {"job_id": job.id, "timings": dict(job.timings), **result}
    if job.kind is JobKind.GENERATE:
        return GenerateAnswer(model_url=model_url, **shared)
    return RefineAnswer(final_model_url=model_url, **shared)
