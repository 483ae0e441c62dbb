"""Projects and jobs as a store answers them, and their words: buckets, kinds, states.

Frozen dataclasses. Their fields are the names in the JSON of the SQL functions, from which pydantic
reads them. It does not know who moves them (`deployments.jobs.store`) nor how the JSON travels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from deployments.jobs.commits import (
    DepthRow,
    ExportRow,
    IterationRow,
    ModelRow,
    PreviewRow,
    SheetRow,
    StageCommit,
    ViewRow,
)
from deployments.jobs.edit_rows import ViewEditRow
from deployments.jobs.photo_rows import PhotoRow, Registrations

#: A moment, in whatever time zone the database's session has.
Moment = Annotated[datetime, AfterValidator(lambda moment: moment.astimezone(UTC))]


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
    """One object that was photographed.

    Attributes:
        original_path, processed_path, background_engine: of the first photo; object paths in the
            buckets UPLOADS and PROCESSED.
        photos_revision: grows with every change of the photos.
        current_version: of the model that refinements, exports and generations from a stage begin
            with where they name no other: the newest one, until another is restored. None before
            there is a model.
    """

    id: str
    status: ProjectStatus
    current_step: str
    progress_percentage: float
    original_path: str
    processed_path: str
    background_engine: str
    error: str | None
    created_at: Moment
    updated_at: Moment
    photos_revision: int = 0
    current_version: int | None = None


@dataclass(frozen=True)
class NewJob:
    """A request for work.

    Attributes:
        fingerprint: digest of kind, project and what the client asked for.
        max_queued: the job is refused when so many are queued; None: never.
        client: who asked, an opaque word: queued jobs of different clients take turns, and each
            client has idempotency keys of its own.
        shape: what the job's time depends on (preset, iterations, format), one word; its time is
            foretold from jobs of the same kind and shape.
        webhook_url: gets a message when the job has ended; None: nobody does.
    """

    project_id: str
    kind: JobKind
    options: Mapping[str, Any]
    fingerprint: str
    idempotency_key: str | None = None
    max_attempts: int = 3
    max_queued: int | None = None
    client: str = ""
    shape: str = ""
    webhook_url: str | None = None


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
        step: what the stage is doing, a few words for people; empty when it does not say.
        progress: 0..1 over the whole job; never falls, not even with a new attempt.
        fence: number of the newest claim; 0 before the first.
        timings: seconds per stage that ended.
        memory: peak memory in bytes per stage that ended, by process: "Driver" and the model
            deployments that answered.
        expected: mean seconds per stage in the newest similar jobs that succeeded, by the stage's
            name without its number ("iteration", "previews"); empty when there are none, and of
            ended jobs.
        last_error: why the newest attempt that gave the job back did so.
        queue_position: 1 for the next one to be claimed; None when not queued.
        ordinal: 1 for the project's first job of this kind.
        number: position among all jobs ever submitted.
        step_started_at: when the stage under way began, or the newest commit if that is later.
        photos: of a generation, the project's as they were when it was submitted, the first one
            first: every attempt works with these, whatever becomes of them meanwhile.
        read_at: now, by the clock that all moments of the job are by, and no other.
    """

    id: str
    project_id: str
    kind: JobKind
    state: JobState
    options: Mapping[str, Any]
    stage: str
    step: str
    progress: float
    attempt: int
    max_attempts: int
    fence: int
    cancel_requested: bool
    timings: Mapping[str, float]
    memory: Mapping[str, Mapping[str, int]]
    expected: Mapping[str, float]
    error: JobError | None
    last_error: JobError | None
    result: Mapping[str, Any] | None
    queue_position: int | None
    ordinal: int
    number: int
    created_at: Moment
    step_started_at: Moment | None
    started_at: Moment | None
    finished_at: Moment | None
    # Not what the job is.
    read_at: Moment = field(compare=False)
    photos: tuple[PhotoRow, ...] = ()


@dataclass(frozen=True)
class Submitted:
    """Answer to `submit_job`; `created` is False when the idempotency key was known."""

    job: Job
    created: bool


@dataclass(frozen=True)
class Uploaded:
    """Answer to `finish_upload`; `created` is False when the idempotency key was known: then
    `project` is the one that has it, with its photos, and the one just uploaded is gone."""

    project: Project
    created: bool
    photos: tuple[PhotoRow, ...]


@dataclass(frozen=True)
class ProjectPage:
    """Some projects, newest first; `more`: it is not the last page."""

    projects: tuple[Project, ...]
    more: bool

    @property
    def next_after(self) -> tuple[datetime, str] | None:
        """Where the next page begins; None: this is the last."""
        last = self.projects[-1] if self.more else None
        return None if last is None else (last.created_at, last.id)


@dataclass(frozen=True)
class Queue:
    """Jobs that wait and jobs under way, by kind; a kind without any may be missing."""

    queued: Mapping[JobKind, int]
    running: Mapping[JobKind, int]


class EventKind(StrEnum):
    """What a job event tells."""

    #: The job's state changed, or a new attempt began.
    STATE = "state"
    #: A stage began.
    STAGE = "stage"
    #: The job came at least one percent further.
    PROGRESS = "progress"
    #: A stage was committed.
    COMMIT = "commit"
    #: Somebody asked a running job to stop.
    CANCEL = "cancel"
    #: There is a small model of what a stage has so far.
    PREVIEW = "preview"


@dataclass(frozen=True)
class JobEvent:
    """One row of `job_events`.

    Attributes:
        seq: 1, 2, 3... within the job, without gaps.
        job_number: `Job.number`; (job_number, seq) orders the events of a project, because it has
            one job at a time.
        data: JSON-ready: `state`, `stage`, `step`, `progress`, `attempt`, `error`, `seconds`,
            `path` and `splat_count` of a preview, as far as the kind has them.
    """

    job_id: str
    job_number: int
    seq: int
    at: Moment
    kind: EventKind
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Webhook:
    """The message about one ended job that is due, leased to who claimed it.

    Attributes:
        attempt: 1 for the first try.
        claimed_at: by the clock of the store, which is right where that of a node may be wrong.
    """

    job: Job
    url: str
    attempt: int
    claimed_at: Moment


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
class ProjectDetail:
    """A project with all its rows, read in one snapshot.

    `photos` are the project's now. `views` and `depths` are those of the generate job under way,
    else of the one that the current version comes from, else of the newest; so are
    `generated_photos`, which it works with, and `registrations`, what it found out of each of
    these (none before it has looked for them). `made_by` has the job of every version, `edits` what
    was done to views and what waits, in the order in which it was asked for. `iterations` are
    ordered by `iteration_number` and belong to the newest refine job. `previews` are ordered by
    version; `contact_sheet` is that of the current one, None until it is made. `job` is the queued
    or running job, else the newest one, else None.
    """

    project: Project
    photos: tuple[PhotoRow, ...]
    generated_photos: tuple[PhotoRow, ...]
    registrations: Registrations
    views: tuple[ViewRow, ...]
    depths: tuple[DepthRow, ...]
    models: tuple[ModelRow, ...]
    made_by: Mapping[int, str]
    edits: tuple[ViewEditRow, ...]
    iterations: tuple[IterationRow, ...]
    exports: tuple[ExportRow, ...]
    previews: tuple[PreviewRow, ...]
    contact_sheet: SheetRow | None
    job: Job | None

    @property
    def newest_model(self) -> ModelRow | None:
        """The model with the highest version."""
        return max(self.models, key=lambda row: row.version, default=None)

    @property
    def current_model(self) -> ModelRow | None:
        """The model of the current version."""
        return self.model(self.project.current_version)

    def model(self, version: int | None) -> ModelRow | None:
        """The model of a version; None where there is none."""
        return next((row for row in self.models if row.version == version), None)


@dataclass(frozen=True)
class ProjectJob:
    """One job of a project with everything its attempts committed, in order of commit."""

    job: Job
    commits: Annotated[tuple[StageCommit, ...], Field(validation_alias="stages")]
