"""The two store ports: records (rows, jobs) and blobs (files in buckets), and the rows they move.

It does not know PostgreSQL, Supabase or HTTP: `serve_app.stores` implements these ports, and one
contract suite runs on every implementation. Every method that changes more than one row is one
atomic step, written once in SQL (`supabase/migrations`).

A job is a row; the attempt that works on it holds a lease and a fence:

    queued --claim--> running --finish--> succeeded | failed | cancelled
      ^                  |
      +--release/expiry--+          every claim raises the fence by one; a commit, heartbeat or
                                    finish with an older fence is refused with `StaleAttempt`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

__all__ = [
    "Blobs",
    "Bucket",
    "DepthRow",
    "EnhancedViewRow",
    "ExportRow",
    "Heartbeat",
    "IterationRow",
    "Job",
    "JobError",
    "JobKind",
    "JobState",
    "Lease",
    "ModelRow",
    "NewJob",
    "PreviewRow",
    "Project",
    "ProjectDetail",
    "ProjectJob",
    "ProjectStatus",
    "Records",
    "SheetRow",
    "StageCommit",
    "Store",
    "StoreSource",
    "Submitted",
    "ViewRow",
]


class Bucket(StrEnum):
    """Where blobs live; the names are part of the documented contract."""

    UPLOADS = "project-uploads"
    PROCESSED = "processed-images"
    VIEWS = "multiview-images"
    DEPTH = "depth-maps"
    ENHANCED = "enhanced-views"
    MODELS = "3d-models"


class JobKind(StrEnum):
    """What a job does."""

    GENERATE = "generate"
    REFINE = "refine"
    EXPORT = "export"


class JobState(StrEnum):
    """Where a job stands."""

    #: Waiting for a driver.
    QUEUED = "queued"
    #: An attempt holds the lease.
    RUNNING = "running"
    #: Ended well; `result` is set.
    SUCCEEDED = "succeeded"
    #: Ended badly; `error` is set.
    FAILED = "failed"
    #: Ended because somebody asked for it.
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """No attempt will touch the job again."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class ProjectStatus(StrEnum):
    """Documented status words of a project."""

    UPLOADING = "uploading"
    PREPROCESSING = "preprocessing"
    READY = "ready"
    MULTIVIEW_GENERATING = "multiview_generating"
    DEPTH_ESTIMATING = "depth_estimating"
    RECONSTRUCTING = "reconstructing"
    ENHANCING = "enhancing"
    REFINING = "refining"
    EXPORTING = "exporting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Project:
    """One uploaded photo. `*_path` are object paths in the buckets UPLOADS and PROCESSED."""

    id: str
    status: ProjectStatus
    current_step: str
    progress_percentage: float
    original_path: str
    processed_path: str
    background_engine: str
    error: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class NewJob:
    """A request for work.

    Attributes:
        fingerprint: digest of kind, project and what the client asked for.
        max_queued: the job is refused when so many are queued; None: never.
    """

    project_id: str
    kind: JobKind
    options: Mapping[str, Any]
    fingerprint: str
    idempotency_key: str | None = None
    max_attempts: int = 3
    max_queued: int | None = None


@dataclass(frozen=True)
class JobError:
    """Why a job failed: the stage it was in and the error's code and sentence."""

    code: str
    detail: str
    stage: str
    retryable: bool


@dataclass(frozen=True)
class Job:
    """One row of `jobs`.

    Attributes:
        progress: 0..1 over the whole job, never falls within an attempt.
        fence: number of the newest claim; 0 before the first.
        timings: seconds per stage that ended.
        queue_position: 1 for the next one to be claimed; None when not queued.
        ordinal: 1 for the project's first job of this kind.
    """

    id: str
    project_id: str
    kind: JobKind
    state: JobState
    options: Mapping[str, Any]
    stage: str
    progress: float
    attempt: int
    max_attempts: int
    fence: int
    cancel_requested: bool
    timings: Mapping[str, float]
    error: JobError | None
    result: Mapping[str, Any] | None
    queue_position: int | None
    ordinal: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True)
class Submitted:
    """Answer to `submit_job`; `created` is False when the idempotency key was known."""

    job: Job
    created: bool


@dataclass(frozen=True)
class Lease:
    """The right to work on a job until it expires or a newer fence exists."""

    job: Job
    fence: int


@dataclass(frozen=True)
class Heartbeat:
    """Answer to a heartbeat: is the lease still ours, and did somebody ask to stop."""

    owned: bool
    cancel_requested: bool


@dataclass(frozen=True)
class ViewRow:
    """One synthesised view: a row of `multiview_generation`."""

    view_index: int
    image_path: str
    azimuth_deg: float
    elevation_deg: float
    engine: str


@dataclass(frozen=True)
class DepthRow:
    """Depth of one view: a row of `depth_maps`."""

    view_index: int
    depth_path: str
    heat_map_path: str
    engine: str
    min_depth: float
    max_depth: float


@dataclass(frozen=True)
class ModelRow:
    """One version of the splat model: a row of `gaussian_splat_models`.

    Attributes:
        scores: the scores without a column of their own, JSON-ready: `silhouette_iou`,
            `consistency`, `floaters`, `views`, `extra`. Empty in rows of releases without them.
    """

    version: int
    model_path: str
    engine: str
    origin: str
    splat_count: int
    file_size_bytes: int
    psnr: float | None = None
    ssim: float | None = None
    lpips: float | None = None
    overall_quality: float | None = None
    scores: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class IterationRow:
    """One refinement iteration, accepted or not.

    It fills a row of `enhancement_iterations` (what ran) and one of `refinement_metrics` (what
    came out). `model_version` is None when the iteration was rolled back. Iteration 0 is the
    model before refinement.

    Attributes:
        scores: as in `ModelRow`.
        detail: `parameters`, `view_weights` (view to trust) and `guards`, JSON-ready. Empty in
            rows of releases without them.
    """

    iteration_number: int
    accepted: bool
    model_version: int | None
    enhance_engine: str
    strength: float
    learning_rate: float
    seconds: float
    overall_quality: float
    psnr: float
    ssim: float
    lpips: float | None
    note: str = ""
    scores: Mapping[str, Any] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EnhancedViewRow:
    """One enhanced target view: a row of `enhanced_views`.

    Attributes:
        before_path, after_path: renders of the model before and after the round, in ENHANCED.
        weight: how far the target was trusted, 0..1.
    """

    iteration_number: int
    view_index: int
    image_path: str
    engine: str
    before_path: str | None = None
    after_path: str | None = None
    weight: float | None = None


@dataclass(frozen=True)
class ExportRow:
    """One exported file: a row of `export_history`.

    Attributes:
        options: every option with its value, canonical: equal options make equal files. Empty in
            rows of releases that had but `format` and `optimize`.
        contents, saved, notes: of `pipeline.ports.ExportedFile`.
    """

    model_version: int
    format: str
    optimize: bool
    file_path: str
    file_size_bytes: int
    seconds: float
    options: Mapping[str, Any] = field(default_factory=dict)
    contents: Mapping[str, int] = field(default_factory=dict)
    saved: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PreviewRow:
    """Pictures of one model version: a row of `model_previews`; PNG and MP4 in MODELS."""

    version: int
    thumbnail_path: str
    turntable_path: str


@dataclass(frozen=True)
class SheetRow:
    """One picture of the whole project with renders of one model version: `contact_sheets`."""

    model_version: int
    image_path: str


@dataclass(frozen=True)
class StageCommit:
    """Everything a stage adds to the records, committed in one atomic step under the fence.

    Committing a stage of a job a second time with the same or a newer fence replaces what the
    stage had committed (the rows are keyed by job and stage).

    Attributes:
        stage: name of the stage; an iteration of refine is a stage of its own.
        seconds: how long the stage took; added to `Job.timings`.
        detail: JSON-ready facts: what the stage needs to be resumed (file names), `hashes` of its
            artefacts, peak memory.
    """

    stage: str
    seconds: float
    views: tuple[ViewRow, ...] = ()
    depths: tuple[DepthRow, ...] = ()
    models: tuple[ModelRow, ...] = ()
    iterations: tuple[IterationRow, ...] = ()
    enhanced: tuple[EnhancedViewRow, ...] = ()
    exports: tuple[ExportRow, ...] = ()
    previews: tuple[PreviewRow, ...] = ()
    sheets: tuple[SheetRow, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ProjectDetail:
    """A project with all its rows, read in one snapshot.

    `views` and `depths` are those of the generate job under way, else of the one that made the
    newest generated model, else of the newest. `iterations` are ordered by
    `iteration_number` and belong to the newest refine job. `previews` are ordered by version;
    `contact_sheet` is the newest one. `job` is the queued or running job, else the newest one,
    else None.
    """

    project: Project
    views: tuple[ViewRow, ...]
    depths: tuple[DepthRow, ...]
    models: tuple[ModelRow, ...]
    iterations: tuple[IterationRow, ...]
    exports: tuple[ExportRow, ...]
    previews: tuple[PreviewRow, ...]
    contact_sheet: SheetRow | None
    job: Job | None

    @property
    def newest_model(self) -> ModelRow | None:
        """The model with the highest version."""
        return max(self.models, key=lambda row: row.version, default=None)


@dataclass(frozen=True)
class ProjectJob:
    """One job of a project with everything its attempts committed, in order of commit."""

    job: Job
    commits: tuple[StageCommit, ...]


class Records(Protocol):
    """Rows and jobs. Unreachable storage raises `Unavailable`; unknown ids raise `NotFound`."""

    async def ping(self) -> None:
        """Return if the store answers and its migrations are current, else `Unavailable`."""

    async def create_project(
        self,
        project_id: str,
        *,
        original_path: str,
        processed_path: str,
        background_engine: str,
    ) -> Project:
        """Insert a project with status READY. Raises Conflict when the id is taken."""

    async def get_project(self, project_id: str) -> Project: ...

    async def project_detail(self, project_id: str) -> ProjectDetail: ...

    async def project_jobs(self, project_id: str) -> tuple[ProjectJob, ...]:
        """All jobs of a project, oldest first, read in one snapshot."""

    async def submit_job(self, job: NewJob) -> Submitted:
        """Insert a queued job.

        Raises:
            NotFound: no such project.
            IdempotencyMismatch: the key is known with another fingerprint.
            ProjectBusy: another job of the project is queued or running.
            NotGeneratedYet: refine or export of a project without a model.
            TooBusy: `max_queued` jobs are queued already.
        """

    async def get_job(self, job_id: str) -> Job: ...

    async def wait_for_job(self, job_id: str, timeout_s: float) -> Job:
        """Return the job when it has ended, or as it is after `timeout_s` seconds."""

    async def claim_job(self, worker: str, lease_s: float) -> Lease | None:
        """Take the oldest claimable job: queued, or running with an expired lease.

        A job with an expired lease and no attempts left is failed on the way. A queued job whose
        cancellation was asked for is never returned.
        """

    async def heartbeat(
        self, job_id: str, fence: int, *, lease_s: float, stage: str, progress: float
    ) -> Heartbeat:
        """Renew the lease and publish progress. Never raises `StaleAttempt`: see `owned`.

        Also sets the project's status, step and percentage from the job's stage.
        """

    async def commit_stage(self, job_id: str, fence: int, commit: StageCommit) -> None:
        """Add a stage's rows. Raises `StaleAttempt`."""

    async def committed(self, job_id: str) -> tuple[StageCommit, ...]:
        """What the job's attempts have committed so far, in order of commit."""

    async def finish_job(
        self,
        job_id: str,
        fence: int,
        *,
        state: JobState,
        result: Mapping[str, Any] | None = None,
        error: JobError | None = None,
    ) -> Job:
        """End a job and set the project's status. Raises `StaleAttempt`."""

    async def release_job(self, job_id: str, fence: int, error: JobError | None = None) -> Job:
        """Give the lease back so that another driver goes on at once. Raises `StaleAttempt`.

        Without an error the attempt does not count: its driver was drained. With one it does, and
        a job that has no attempts left fails with it.
        """

    async def cancel_job(self, job_id: str) -> Job:
        """Cancel a queued job at once, ask a running one to stop; harmless after the end."""


class Blobs(Protocol):
    """Files in buckets. Paths are relative, `/`-separated, without `..`."""

    async def put(self, bucket: Bucket, path: str, data: bytes, content_type: str) -> None:
        """Store a whole file or nothing; an existing file is replaced in one step."""

    async def get(self, bucket: Bucket, path: str) -> bytes:
        """The whole file. Raises `NotFound`."""

    async def delete_prefix(self, bucket: Bucket, prefix: str) -> int:
        """Delete every file under `prefix`; the number of files deleted."""

    def url(self, bucket: Bucket, path: str) -> str:
        """A URL, absolute or relative to the service, by which a client may read the file."""


@dataclass(frozen=True)
class Store:
    """Both ports, opened."""

    records: Records
    blobs: Blobs


class StoreSource(Protocol):
    """What a deployment is given: picklable, opens the store inside the replica."""

    def open(self) -> AbstractAsyncContextManager[Store]:
        """Connect; leaving the context closes every connection."""
