"""The quality report of a project as one frozen value, from its rows.

It knows rows and what they mean to a reader; not how the report is drawn, and no pictures: only
where they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from deployments.jobs.rows import (
    Bucket,
    EnhancedViewRow,
    IterationRow,
    Job,
    JobError,
    JobKind,
    JobState,
    PreviewRow,
    ProjectJob,
    StageCommit,
)
from deployments.jobs.score_documents import read_scores
from deployments.jobs.store import Records
from pipeline.errors import NotFound
from pipeline.journals import Candidate
from pipeline.types import Scores

__all__ = [
    "ExportReport",
    "IterationReport",
    "JobReport",
    "ModelReport",
    "Picture",
    "ProjectReport",
    "RefinementReport",
    "Report",
    "StageReport",
    "TargetReport",
    "assemble",
]

#: Makes the URL of a blob, as the client sees the service.
Url = Callable[[Bucket, str], str]


@dataclass(frozen=True)
class Picture:
    """Where a picture is."""

    bucket: Bucket
    path: str
    url: str


@dataclass(frozen=True)
class ProjectReport:
    """The project and its photo."""

    id: str
    status: str
    error: str | None
    background_engine: str
    created_at: datetime
    updated_at: datetime
    original: Picture
    cutout: Picture


@dataclass(frozen=True)
class ModelReport:
    """One model version; `scores` are None where it has none."""

    version: int
    origin: str
    engine: str
    job_id: str
    splat_count: int
    file_size_bytes: int
    model_url: str
    thumbnail: Picture | None
    turntable_url: str | None
    scores: Scores | None


@dataclass(frozen=True)
class TargetReport:
    """One enhanced target beside renders of the model before and after the round."""

    view: int
    weight: float | None
    target: Picture
    before: Picture | None
    after: Picture | None


@dataclass(frozen=True)
class IterationReport:
    """One iteration; number 0 is the model before the refinement.

    Attributes:
        gain: relative to the quality of the model it started from; None for iteration 0.
    """

    iteration: int
    accepted: bool
    model_version: int | None
    gain: float | None
    scores: Scores
    engine: str
    strength: float
    learning_rate: float
    seconds: float
    note: str
    guards: tuple[str, ...]
    parameters: dict[str, Any]
    view_weights: dict[str, float]
    targets: tuple[TargetReport, ...]


@dataclass(frozen=True)
class RefinementReport:
    """One refinement.

    Attributes:
        stop_reason: of the loop; "cancelled" or "failed" where the job ended so, None while it
            runs.
    """

    job_id: str
    state: str
    stop_reason: str | None
    start_version: int | None
    iterations: tuple[IterationReport, ...]


@dataclass(frozen=True)
class StageReport:
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


@dataclass(frozen=True)
class JobReport:
    """One job: how long, with what, and how it ended.

    Attributes:
        seconds: from its first start to its end, waiting between attempts included.
        environment: where its newest attempt ran; empty in rows of releases that did not keep it.
    """

    id: str
    kind: str
    state: str
    attempt: int
    created_at: datetime
    seconds: float | None
    options: dict[str, Any]
    engines: dict[str, str]
    stages: tuple[StageReport, ...]
    error: JobError | None
    environment: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ExportReport:
    """One exported file."""

    format: str
    model_version: int
    optimize: bool
    file_size_bytes: int
    contents: dict[str, int]
    download_url: str


@dataclass(frozen=True)
class Report:
    """Everything about the quality of a project.

    Attributes:
        version: the model version that was asked for, else the newest; None without models.
        models: by version.
        refinements: oldest first, also those that failed or were cancelled.
        ranking: of the generation that `version` comes from; empty where it made one model only.
        notes: of that generation.
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
        version: of the model whose views, origin and refinement count; None: the newest.

    Raises:
        NotFound: no such project, or it has no such version.
    """
    project = await records.get_project(project_id)
    jobs = await records.project_jobs(project_id)
    models = _models(jobs, url)
    if version is None and models:
        version = models[-1].version
    elif version is not None and version not in [model.version for model in models]:
        raise NotFound(f"The project has no model version {version}.")
    origin = _generation_of(version, jobs)
    return Report(
        generated_at=datetime.now(UTC),
        project=ProjectReport(
            id=project.id,
            status=project.status.value,
            error=project.error,
            background_engine=project.background_engine,
            created_at=project.created_at,
            updated_at=project.updated_at,
            original=_picture(Bucket.UPLOADS, project.original_path, url),
            cutout=_picture(Bucket.PROCESSED, project.processed_path, url),
        ),
        version=version,
        models=models,
        refinements=tuple(_refinement(j, url) for j in jobs if j.job.kind is JobKind.REFINE),
        jobs=tuple(_job(one) for one in jobs),
        exports=tuple(
            ExportReport(
                format=row.format,
                model_version=row.model_version,
                optimize=row.optimize,
                file_size_bytes=row.file_size_bytes,
                contents=dict(row.contents),
                download_url=url(Bucket.MODELS, row.file_path),
            )
            for one in jobs
            for commit in one.commits
            for row in commit.exports
        ),
        ranking=_ranking(origin),
        notes=() if origin is None else tuple((origin.job.result or {}).get("notes", ())),
    )


def _picture(bucket: Bucket, path: str, url: Url) -> Picture:
    return Picture(bucket, path, url(bucket, path))


def _picture_or_none(path: str | None, url: Url) -> Picture | None:
    return None if path is None else _picture(Bucket.ENHANCED, path, url)


def _models(jobs: Sequence[ProjectJob], url: Url) -> tuple[ModelReport, ...]:
    previews: dict[int, PreviewRow] = {
        row.version: row for one in jobs for commit in one.commits for row in commit.previews
    }
    found = []
    for one in jobs:
        for row in [row for commit in one.commits for row in commit.models]:
            shown, scores = previews.get(row.version), read_scores(row)
            found.append(
                ModelReport(
                    version=row.version,
                    origin=row.origin,
                    engine=row.engine,
                    job_id=one.job.id,
                    splat_count=row.splat_count,
                    file_size_bytes=row.file_size_bytes,
                    model_url=url(Bucket.MODELS, row.model_path),
                    thumbnail=_picture(Bucket.MODELS, shown.thumbnail_path, url) if shown else None,
                    turntable_url=url(Bucket.MODELS, shown.turntable_path) if shown else None,
                    scores=None if scores is None else _finite(scores),
                )
            )
    return tuple(sorted(found, key=lambda model: model.version))


def _finite(scores: Scores) -> Scores:
    """JSON has no infinities; among the named numbers they mean "none"."""
    extra = {name: value for name, value in scores.extra.items() if math.isfinite(value)}
    return replace(scores, extra=extra)


def _refinement(one: ProjectJob, url: Url) -> RefinementReport:
    iterations: list[IterationReport] = []
    best: float | None = None
    for commit in one.commits:
        for row in commit.iterations:
            iterations.append(_iteration(row, commit.enhanced, best, url))
            if row.accepted:
                best = row.overall_quality
    return RefinementReport(
        job_id=one.job.id,
        state=one.job.state.value,
        stop_reason=_stop_reason(one.job),
        start_version=iterations[0].model_version if iterations else None,
        iterations=tuple(iterations),
    )


def _stop_reason(job: Job) -> str | None:
    if job.state is JobState.SUCCEEDED:
        return (job.result or {}).get("stop_reason")
    return job.state.value if job.state.ended else None


def _iteration(
    row: IterationRow, enhanced: Sequence[EnhancedViewRow], best: float | None, url: Url
) -> IterationReport:
    scores = read_scores(row)
    assert scores is not None, "an iteration has scores"
    return IterationReport(
        iteration=row.iteration_number,
        accepted=row.accepted,
        model_version=row.model_version,
        gain=None if best is None else (row.overall_quality - best) / max(best, 1e-9),
        scores=_finite(scores),
        engine=row.enhance_engine,
        strength=row.strength,
        learning_rate=row.learning_rate,
        seconds=row.seconds,
        note=row.note,
        guards=tuple(row.detail.get("guards", ())),
        parameters=dict(row.detail.get("parameters", {})),
        view_weights=dict(row.detail.get("view_weights", {})),
        targets=tuple(
            TargetReport(
                view=view.view_index,
                weight=view.weight,
                target=_picture(Bucket.ENHANCED, view.image_path, url),
                before=_picture_or_none(view.before_path, url),
                after=_picture_or_none(view.after_path, url),
            )
            for view in enhanced
        ),
    )


def _job(one: ProjectJob) -> JobReport:
    job = one.job
    seconds = None
    if job.started_at is not None and job.finished_at is not None:
        seconds = (job.finished_at - job.started_at).total_seconds()
    environment: Mapping[str, Any] = {}
    for commit in one.commits:
        environment = commit.detail.get("environment", environment)
    return JobReport(
        id=job.id,
        kind=job.kind.value,
        state=job.state.value,
        attempt=job.attempt,
        created_at=job.created_at,
        seconds=seconds,
        options=dict(job.options),
        engines=dict((job.result or {}).get("engines", {})),
        stages=tuple(_stage(commit) for commit in one.commits),
        error=job.error,
        environment=dict(environment),
    )


def _stage(commit: StageCommit) -> StageReport:
    detail = commit.detail
    return StageReport(
        stage=commit.stage,
        seconds=commit.seconds,
        peak_memory_bytes=detail.get("peak_memory_bytes"),
        replica_peak_memory_bytes=dict(detail.get("replica_peak_memory_bytes", {})),
    )


def _generation_of(version: int | None, jobs: Sequence[ProjectJob]) -> ProjectJob | None:
    """The generation that a version comes from: the newest one that made it or an older one."""
    found = None
    for one in jobs:
        if one.job.kind is JobKind.GENERATE:
            made = [row.version for commit in one.commits for row in commit.models]
            if version is not None and made and min(made) <= version:
                found = one
    return found


def _ranking(origin: ProjectJob | None) -> tuple[Candidate, ...]:
    if origin is None:
        return ()
    return tuple(
        Candidate(**candidate)
        for commit in origin.commits
        for candidate in commit.detail.get("ranking", ())
    )
