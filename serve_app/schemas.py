"""JSON in and out: request bodies that forbid unknown fields, answers with the documented names.

It knows the contract's words; not how an answer comes about.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from deployments.store import (
    Bucket,
    ExportRow,
    IterationRow,
    Job,
    JobKind,
    JobState,
    ModelRow,
    PreviewRow,
    ProjectDetail,
)
from pipeline.cameras import VIEW_COUNT
from pipeline.formats import FORMATS
from pipeline.media_types import media_type
from pipeline.options import (
    FACE_LIMITS,
    MAX_CANDIDATES,
    SEED_LIMIT,
    TEXTURE_SIZES,
    ExportOptions,
    GenerateOptions,
    RefineOptions,
    random_seed,
)

__all__ = [
    "ExportAnswer",
    "ExportQuery",
    "GenerateAnswer",
    "GenerateBody",
    "JobAnswer",
    "ManifestAnswer",
    "ReadyAnswer",
    "RefineAnswer",
    "RefineBody",
    "ReportQuery",
    "StatusAnswer",
    "UploadAnswer",
    "Url",
    "result_of",
]

Seed = Annotated[int, Field(ge=0, lt=SEED_LIMIT, strict=True)]
Count = Annotated[int, Field(strict=True)]


class _Body(BaseModel):
    """A request body: unknown fields are refused, numbers are numbers (not strings)."""

    model_config = ConfigDict(extra="forbid")


class GenerateBody(_Body):
    """Options of `POST /generate`; all optional."""

    preset: Literal["draft", "standard", "high"] = "standard"
    seed: Seed | None = None
    elevation_deg: Annotated[float, Field(ge=-10, le=40, allow_inf_nan=False)] = 30.0
    steps: Annotated[Count, Field(ge=1, le=1000)] | None = None
    guidance_scale: Annotated[float, Field(ge=0, le=20, allow_inf_nan=False)] | None = None
    sampler: Literal["ddim", "dpm++"] | None = None
    num_gaussians: Annotated[Count, Field(ge=500, le=500_000)] | None = None
    candidates: Annotated[Count, Field(ge=1, le=MAX_CANDIDATES)] = 1

    def options(self) -> GenerateOptions:
        """As the pipeline wants them; a missing seed is drawn here."""
        values = self.model_dump(exclude={"seed"})
        return GenerateOptions(seed=random_seed() if self.seed is None else self.seed, **values)


class RefineBody(_Body):
    """Options of `POST /refine`; all optional."""

    num_iterations: Annotated[Count, Field(ge=1, le=100)] = 3
    learning_rate: Annotated[float, Field(ge=1e-5, le=1, allow_inf_nan=False)] = 0.01
    views_to_refine: (
        Annotated[
            list[Annotated[Count, Field(ge=0, lt=VIEW_COUNT)]],
            Field(min_length=1, max_length=VIEW_COUNT),
        ]
        | None
    ) = None
    strength: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.5
    prompt: Annotated[str, Field(max_length=1000)] | None = None
    negative_prompt: Annotated[str, Field(max_length=1000)] | None = None
    seed: Seed | None = None

    def options(self) -> RefineOptions:
        """As the pipeline wants them; a missing seed is drawn here."""
        values = self.model_dump(exclude={"seed", "views_to_refine"})
        views = None if self.views_to_refine is None else tuple(self.views_to_refine)
        seed = random_seed() if self.seed is None else self.seed
        return RefineOptions(seed=seed, views_to_refine=views, **values)


class ExportQuery(BaseModel):
    """Query of `GET /export`; unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid")

    format: Annotated[str, Field(json_schema_extra={"enum": [*FORMATS]})] = "ply"
    optimize: bool = False
    face_limit: Annotated[int, Field(ge=FACE_LIMITS[0], le=FACE_LIMITS[1])] = 10_000
    texture_size: Annotated[int, Field(ge=TEXTURE_SIZES[0], le=TEXTURE_SIZES[1])] = 1024

    def options(self) -> ExportOptions:
        """As the pipeline wants them, canonical. Raises InvalidOption, which lists the formats."""
        return ExportOptions(**self.model_dump()).canonical()


class ReportQuery(BaseModel):
    """Query of a project's report; unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["json", "html"] | None = None
    version: Annotated[int, Field(ge=0, lt=2**31)] | None = None


class UploadAnswer(BaseModel):
    """Answer of `POST /upload`."""

    project_id: str
    original_url: str
    processed_url: str
    background_engine: str


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


#: Makes the URL of a blob, as the client sees the service.
Url = Callable[[Bucket, str], str]


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


class JobErrorAnswer(BaseModel):
    """Why a job failed."""

    code: str
    detail: str
    stage: str
    retryable: bool


class JobAnswer(BaseModel):
    """The job resource."""

    id: str
    project_id: str
    kind: str
    state: str
    stage: str
    progress: float
    eta_s: float | None
    queue_position: int | None
    attempt: int
    timings: dict[str, float]
    error: JobErrorAnswer | None
    result: GenerateAnswer | RefineAnswer | ExportAnswer | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, job: Job, url: Url, *, now: datetime) -> JobAnswer:
        """`eta_s` extrapolates from the first start; None before there is any progress.

        `result` is what the call that submitted the job answers when it waits.
        """
        eta_s: float | None = None
        if job.state is JobState.RUNNING and job.started_at and job.progress > 0.02:
            elapsed_s = max((now - job.started_at).total_seconds(), 0.0)
            eta_s = round(elapsed_s * (1 - job.progress) / job.progress, 1)
        error = job.error
        return cls(
            id=job.id,
            project_id=job.project_id,
            kind=job.kind.value,
            state=job.state.value,
            stage=job.stage,
            progress=job.progress,
            eta_s=eta_s,
            queue_position=job.queue_position,
            attempt=job.attempt,
            timings=dict(job.timings),
            error=JobErrorAnswer(**vars(error)) if error else None,
            result=result_of(job, url) if job.state is JobState.SUCCEEDED else None,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )


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


class PhotoAnswer(BaseModel):
    """The photo of a manifest."""

    file: str
    sha256: str
    processed_sha256: str
    remove_background: bool


class StepAnswer(BaseModel):
    """A generation or refinement that succeeded; `artefacts` maps names to content hashes."""

    kind: str
    options: dict[str, Any]
    engines: dict[str, str]
    artefacts: dict[str, str]


class ManifestAnswer(BaseModel):
    """What made a project's models (`pipeline.manifest`), and why a replay may differ."""

    version: int
    project_id: str
    created_at: str
    photo: PhotoAnswer
    environment: dict[str, Any]
    steps: list[StepAnswer]
    notes: list[str]


class ReadyAnswer(BaseModel):
    """Answer of `GET /ready`: every check with its state, and why where it is not ready."""

    ready: bool
    checks: dict[str, str]
