"""The quality report of a project as one frozen value, from its rows.

It knows rows and what they mean to a reader; not how the report is drawn, and no pictures: only
where they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from deployments.jobs.commits import IterationRow, ModelRow
from deployments.jobs.documents import read_scores
from deployments.jobs.lineage import generation_of
from deployments.jobs.rows import Bucket, JobError, JobKind, JobState, ProjectJob, ProjectStatus
from deployments.jobs.store import Records
from pipeline.errors import NotFound
from pipeline.journals import Candidate
from pipeline.types import CameraEstimate, PhotoRegistration, Scores
from serve_app.report.project_manifest import newest_environment

#: Makes the URL of a blob, as the client sees the service.
Url = Callable[[Bucket, str], str]


@dataclass(frozen=True)
class Picture:
    """Where a picture is."""

    bucket: Bucket
    path: str
    url: str


def _picture_in(bucket: Bucket) -> BeforeValidator:
    """Makes the picture at a path in a bucket."""

    def picture_of(path: str, info: ValidationInfo[Url]) -> Picture:
        return Picture(bucket, path, info.context(bucket, path))

    return BeforeValidator(picture_of)


def _model_url(path: str, info: ValidationInfo[Url]) -> str:
    return info.context(Bucket.MODELS, path)


_ModelFile = Annotated[str, BeforeValidator(_model_url)]
_ModelPicture = Annotated[Picture, _picture_in(Bucket.MODELS)]
_Enhanced = Annotated[Picture, _picture_in(Bucket.ENHANCED)]
_Original = Annotated[Picture, _picture_in(Bucket.UPLOADS)]
_Cutout = Annotated[Picture, _picture_in(Bucket.PROCESSED)]


class _Part(BaseModel):
    """A part of the report; `validation_alias` is the column where that has another name."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class ProjectReport(_Part):
    """The project and its photo."""

    id: str
    status: ProjectStatus
    error: str | None
    background_engine: str
    created_at: datetime
    updated_at: datetime
    original: _Original = Field(validation_alias="original_path")
    cutout: _Cutout = Field(validation_alias="processed_path")


class PhotoReport(_Part):
    """A photo that a generation worked with: whence it was said to be taken, and what was found."""

    side: str | None
    azimuth_deg: float | None
    elevation_deg: float | None
    background_engine: str
    original: _Original = Field(validation_alias="original_path")
    cutout: _Cutout = Field(validation_alias="processed_path")
    registration: PhotoRegistration | None


class ModelReport(_Part):
    """One model version; `scores` are None where it has none.

    Attributes:
        parent: the version that was refined, or whose stages a generation kept; None where it began
            with the photo.
        current: further work begins with it, unless it is told another one.
    """

    version: int
    parent: int | None
    current: bool
    origin: str
    engine: str
    job_id: str
    splat_count: int
    file_size_bytes: int
    model_url: _ModelFile = Field(validation_alias="model_path")
    thumbnail: _ModelPicture | None = Field(validation_alias="thumbnail_path")
    turntable_url: _ModelFile | None = Field(validation_alias="turntable_path")
    scores: Scores | None


class TargetReport(_Part):
    """One enhanced target beside renders of the model before and after the round."""

    view: int = Field(validation_alias="view_index")
    weight: float | None
    target: _Enhanced = Field(validation_alias="image_path")
    before: _Enhanced | None = Field(validation_alias="before_path")
    after: _Enhanced | None = Field(validation_alias="after_path")


class IterationReport(_Part):
    """One iteration; number 0 is the model before the refinement.

    Attributes:
        gain: relative to the view agreement of the model it started from; None for iteration 0.
    """

    iteration: int = Field(validation_alias="iteration_number")
    accepted: bool
    model_version: int | None
    gain: float | None
    scores: Scores
    engine: str = Field(validation_alias="enhance_engine")
    strength: float
    learning_rate: float
    seconds: float
    note: str
    guards: tuple[str, ...]
    parameters: dict[str, Any]
    view_weights: dict[str, float]
    targets: tuple[TargetReport, ...]


class RefinementReport(_Part):
    """One refinement.

    Attributes:
        stop_reason: of the loop; "cancelled" or "failed" where the job ended so, None while it
            runs.
    """

    job_id: str
    state: JobState
    stop_reason: str | None
    start_version: int | None
    iterations: tuple[IterationReport, ...]


class StageReport(_Part):
    """A stage that was committed.

    Attributes:
        peak_memory_bytes: most that the driver's process had during the stage, with all of its
            jobs; None in rows of releases that did not measure it.
        replica_peak_memory_bytes: the same of the model deployments, by name.
    """

    stage: str
    seconds: float
    peak_memory_bytes: int | None
    replica_peak_memory_bytes: dict[str, int]


class JobReport(_Part):
    """One job: how long, with what, and how it ended.

    Attributes:
        seconds: from its first start to its end, waiting between attempts included.
        environment: where its newest attempt ran; empty in rows of releases that did not keep it.
    """

    id: str
    kind: JobKind
    state: JobState
    attempt: int
    created_at: datetime
    seconds: float | None
    options: dict[str, Any]
    engines: dict[str, str]
    stages: tuple[StageReport, ...]
    error: JobError | None
    environment: dict[str, Any] = Field(default_factory=dict)


class ExportReport(_Part):
    """One exported file."""

    format: str
    model_version: int
    optimize: bool
    file_size_bytes: int
    contents: dict[str, int]
    download_url: _ModelFile = Field(validation_alias="file_path")


class Report(_Part):
    """Everything about the quality of a project.

    Attributes:
        version: the model version that was asked for, else the current one; None without models.
        models: by version.
        refinements: oldest first, also those that failed or were cancelled.
        ranking: of the generation that `version` comes from; empty where it made one model only.
        notes: of that generation.
        camera: the photo's, where its view engine looked for it.
        sheet: contact sheet of `version`; None until it is made, and of older versions.
        photos: of that generation, the first one first.
    """

    generated_at: datetime
    project: ProjectReport
    version: int | None
    models: tuple[ModelReport, ...]
    refinements: tuple[RefinementReport, ...]
    jobs: tuple[JobReport, ...]
    exports: tuple[ExportReport, ...]
    ranking: tuple[Candidate, ...]
    notes: tuple[str, ...]
    camera: CameraEstimate | None
    photos: tuple[PhotoReport, ...]
    sheet: _ModelPicture | None = None

    @property
    def model(self) -> ModelReport | None:
        """The model of `version`."""
        return next((model for model in self.models if model.version == self.version), None)

    @property
    def refinement(self) -> RefinementReport | None:
        """The newest refinement that made `version` or began with it."""
        for found in reversed(self.refinements):
            if self.version in [i.model_version for i in found.iterations]:
                return found
        return None


async def assemble(
    records: Records, project_id: str, url: Url, version: int | None = None
) -> Report:
    """The report of a project.

    Args:
        version: of the model whose views, origin and refinement count; None: the current one.

    Raises:
        NotFound: no such project, or it has no such version.
    """
    project = await records.get_project(project_id)
    jobs = await records.project_jobs(project_id)
    models = _models(jobs, project.current_version)
    versions = [model["version"] for model in models]
    if version is None:
        version = project.current_version
    elif version is not None and version not in versions:
        has = ", ".join(map(str, versions)) or "none yet, generate one first"
        raise NotFound(f"The project has no model version {version}; it has {has}.")
    origin = None if version is None else generation_of(jobs, version).made
    made = {} if origin is None else origin.job.result or {}
    values = {
        "generated_at": datetime.now(UTC),
        "project": project,
        "version": version,
        "models": models,
        "refinements": [_refinement(one) for one in jobs if one.job.kind is JobKind.REFINE],
        "jobs": [_job(one) for one in jobs],
        "exports": [row for one in jobs for commit in one.commits for row in commit.exports],
        "ranking": _ranking(origin),
        "notes": made.get("notes", ()),
        "camera": made.get("camera"),
        "sheet": _sheet_of(version, jobs),
        "photos": [] if origin is None else _photos(origin),
    }
    return Report.model_validate(values, context=url)


# The values of parts: columns, and what stands in none.


def _models(jobs: Sequence[ProjectJob], current: int | None) -> list[dict[str, Any]]:
    commits = [(one.job.id, commit) for one in jobs for commit in one.commits]
    previews = {row.version: vars(row) for _, commit in commits for row in commit.previews}
    no_preview = {"thumbnail_path": None, "turntable_path": None}
    models = [
        previews.get(row.version, no_preview)
        | vars(row)
        | {"job_id": job_id, "current": row.version == current, "scores": _finite_scores(row)}
        for job_id, commit in commits
        for row in commit.models
    ]
    return sorted(models, key=lambda model: int(model["version"]))


def _finite_scores(row: ModelRow | IterationRow) -> Scores | None:
    """JSON has no infinities; among the named numbers they mean "none"."""
    scores = read_scores(row)
    if scores is None:
        return None
    extra = {name: value for name, value in scores.extra.items() if math.isfinite(value)}
    return replace(scores, extra=extra)


def _refinement(one: ProjectJob) -> dict[str, Any]:
    job, iterations = one.job, []
    best: float | None = None
    for commit in one.commits:
        for row in commit.iterations:
            gain = None if best is None else (row.view_agreement - best) / max(best, 1e-9)
            iterations.append(
                {"guards": (), "parameters": {}, "view_weights": {}, **row.detail, **vars(row)}
                | {"gain": gain, "scores": _finite_scores(row), "targets": commit.enhanced}
            )
            if row.accepted:
                best = row.view_agreement
    ended = job.state.value if job.state.ended else None
    succeeded = job.state is JobState.SUCCEEDED
    return {
        "job_id": job.id,
        "state": job.state,
        "stop_reason": (job.result or {}).get("stop_reason") if succeeded else ended,
        "start_version": iterations[0]["model_version"] if iterations else None,
        "iterations": iterations,
    }


def _job(one: ProjectJob) -> dict[str, Any]:
    job = one.job
    seconds = None
    if job.started_at is not None and job.finished_at is not None:
        seconds = (job.finished_at - job.started_at).total_seconds()
    return vars(job) | {
        "seconds": seconds,
        "engines": (job.result or {}).get("engines", {}),
        "stages": [
            {"peak_memory_bytes": None, "replica_peak_memory_bytes": {}, **c.detail, **vars(c)}
            for c in one.commits
        ],
        "environment": newest_environment(one),
    }


def _sheet_of(version: int | None, jobs: Sequence[ProjectJob]) -> str | None:
    """Where the contact sheet of a version is."""
    sheets = [row for one in jobs for commit in one.commits for row in commit.sheets]
    return next((row.image_path for row in sheets if row.model_version == version), None)


def _photos(origin: ProjectJob) -> list[dict[str, Any]]:
    kept = [c.detail["registrations"] for c in origin.commits if "registrations" in c.detail]
    found = kept[-1] if kept else ()
    return [
        vars(photo) | {"registration": registration}
        for photo, registration in zip_longest(origin.job.photos, found[: len(origin.job.photos)])
    ]


def _ranking(origin: ProjectJob | None) -> list[Mapping[str, Any]]:
    commits = () if origin is None else origin.commits
    return [candidate for commit in commits for candidate in commit.detail.get("ranking", ())]
