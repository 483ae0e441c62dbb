"""Turns the rows of `deployments.jobs.store` into the JSON of the SQL functions, and back.

It does not know who carries the JSON: asyncpg and PostgREST give and take the same documents.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, TypeVar

from deployments.jobs.rows import (
    Bucket,
    DepthRow,
    EnhancedViewRow,
    EventKind,
    ExportRow,
    IterationRow,
    Job,
    JobError,
    JobEvent,
    JobKind,
    JobState,
    ModelRow,
    PreviewRow,
    Project,
    ProjectDetail,
    ProjectJob,
    ProjectPage,
    ProjectStatus,
    Queue,
    SheetRow,
    StageCommit,
    ViewRow,
    Webhook,
)

__all__ = [
    "commit_document",
    "error_document",
    "read_commit",
    "read_detail",
    "read_event",
    "read_job",
    "read_page",
    "read_paths",
    "read_project",
    "read_project_job",
    "read_queue",
    "read_webhook",
]

Document = Mapping[str, Any]

Row = TypeVar(
    "Row",
    ViewRow,
    DepthRow,
    ModelRow,
    IterationRow,
    EnhancedViewRow,
    ExportRow,
    PreviewRow,
    SheetRow,
)


def _float_fields(kind: type) -> frozenset[str]:
    hints = typing.get_type_hints(kind)
    return frozenset(
        name for name, hint in hints.items() if hint is float or float in typing.get_args(hint)
    )


_FLOATS: dict[type, frozenset[str]] = {
    kind: _float_fields(kind)
    for kind in (
        ViewRow,
        DepthRow,
        ModelRow,
        IterationRow,
        EnhancedViewRow,
        ExportRow,
        PreviewRow,
        SheetRow,
    )
}


def _read_row(kind: type[Row], document: Document) -> Row:
    """A row from its document; columns that a newer schema added are left out."""
    values = {field.name: document[field.name] for field in fields(kind)}
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = tuple(value)
    for name in _FLOATS[kind]:
        if values[name] is not None:
            # JSON has no infinities: they travel as the strings PostgreSQL and Python both read.
            values[name] = float(values[name])
    return kind(**values)


def _row_document(row: Any) -> dict[str, Any]:
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            values[name] = str(value)
    return values


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _time_or_none(text: str | None) -> datetime | None:
    return None if text is None else _time(text)


def read_project(document: Document) -> Project:
    """A project from `project_document_v1`."""
    return Project(
        id=document["id"],
        status=ProjectStatus(document["status"]),
        current_step=document["current_step"],
        progress_percentage=float(document["progress_percentage"]),
        original_path=document["original_path"],
        processed_path=document["processed_path"],
        background_engine=document["background_engine"],
        error=document["error"],
        created_at=_time(document["created_at"]),
        updated_at=_time(document["updated_at"]),
    )


def error_document(error: JobError) -> dict[str, Any]:
    """What `jobs.error` holds."""
    return _row_document(error)


def _read_error(document: Document) -> JobError:
    return JobError(
        code=document["code"],
        detail=document["detail"],
        stage=document["stage"],
        retryable=document["retryable"],
    )


def read_job(document: Document) -> Job:
    """A job from `job_document_v1`."""
    error, last_error = document["error"], document["last_error"]
    return Job(
        id=document["id"],
        project_id=document["project_id"],
        kind=JobKind(document["kind"]),
        state=JobState(document["state"]),
        options=document["options"],
        stage=document["stage"],
        step=document["step"],
        progress=float(document["progress"]),
        attempt=document["attempt"],
        max_attempts=document["max_attempts"],
        fence=document["fence"],
        cancel_requested=document["cancel_requested"],
        timings={stage: float(seconds) for stage, seconds in document["timings"].items()},
        memory={
            stage: {process: int(size) for process, size in sizes.items()}
            for stage, sizes in document["memory"].items()
        },
        expected={stage: float(seconds) for stage, seconds in document["expected"].items()},
        error=None if error is None else _read_error(error),
        last_error=None if last_error is None else _read_error(last_error),
        result=document["result"],
        queue_position=document["queue_position"],
        ordinal=document["ordinal"],
        number=document["number"],
        created_at=_time(document["created_at"]),
        step_started_at=_time_or_none(document["step_started_at"]),
        started_at=_time_or_none(document["started_at"]),
        finished_at=_time_or_none(document["finished_at"]),
    )


def commit_document(commit: StageCommit) -> dict[str, Any]:
    """The argument of `commit_stage_v1`."""
    return {
        "stage": commit.stage,
        "seconds": commit.seconds,
        "detail": dict(commit.detail),
        "views": [_row_document(row) for row in commit.views],
        "depths": [_row_document(row) for row in commit.depths],
        "models": [_row_document(row) for row in commit.models],
        "iterations": [_row_document(row) for row in commit.iterations],
        "enhanced": [_row_document(row) for row in commit.enhanced],
        "exports": [_row_document(row) for row in commit.exports],
        "previews": [_row_document(row) for row in commit.previews],
        "sheets": [_row_document(row) for row in commit.sheets],
    }


def read_commit(document: Document) -> StageCommit:
    """One element of `committed_v1`."""
    return StageCommit(
        stage=document["stage"],
        seconds=float(document["seconds"]),
        detail=document["detail"],
        views=_read_rows(ViewRow, document["views"]),
        depths=_read_rows(DepthRow, document["depths"]),
        models=_read_rows(ModelRow, document["models"]),
        iterations=_read_rows(IterationRow, document["iterations"]),
        enhanced=_read_rows(EnhancedViewRow, document["enhanced"]),
        exports=_read_rows(ExportRow, document["exports"]),
        previews=_read_rows(PreviewRow, document["previews"]),
        sheets=_read_rows(SheetRow, document["sheets"]),
    )


def _read_rows(kind: type[Row], documents: list[Document]) -> tuple[Row, ...]:
    return tuple(_read_row(kind, document) for document in documents)


def read_detail(document: Document) -> ProjectDetail:
    """A project with its rows from `project_detail_v1`."""
    job, sheet = document["job"], document["contact_sheet"]
    return ProjectDetail(
        project=read_project(document["project"]),
        views=_read_rows(ViewRow, document["views"]),
        depths=_read_rows(DepthRow, document["depths"]),
        models=_read_rows(ModelRow, document["models"]),
        iterations=_read_rows(IterationRow, document["iterations"]),
        exports=_read_rows(ExportRow, document["exports"]),
        previews=_read_rows(PreviewRow, document["previews"]),
        contact_sheet=None if sheet is None else _read_row(SheetRow, sheet),
        job=None if job is None else read_job(job),
    )


def read_project_job(document: Document) -> ProjectJob:
    """One element of `project_jobs_v1`."""
    commits = tuple(read_commit(stage) for stage in document["stages"])
    return ProjectJob(read_job(document["job"]), commits)


def read_page(document: Document) -> ProjectPage:
    """Some projects from `list_projects_v1`."""
    projects = tuple(read_project(project) for project in document["projects"])
    last = projects[-1] if document["more"] else None
    return ProjectPage(projects, None if last is None else (last.created_at, last.id))


def read_queue(document: Document) -> Queue:
    """How many jobs wait and run, from `queue_v1`."""
    queued, running = (
        {JobKind(kind): count for kind, count in document[state].items()}
        for state in (JobState.QUEUED, JobState.RUNNING)
    )
    return Queue(queued, running)


def read_event(document: Document) -> JobEvent:
    """One element of `job_events_v2` and `project_events_v1`."""
    return JobEvent(
        job_id=document["job_id"],
        job_number=document["job_number"],
        seq=document["seq"],
        at=_time(document["at"]),
        kind=EventKind(document["kind"]),
        data=document["data"],
    )


def read_paths(document: Document) -> dict[Bucket, frozenset[str]]:
    """Paths by bucket from `referenced_paths_v1`; every bucket is there."""
    return {bucket: frozenset(document.get(bucket, ())) for bucket in Bucket}


def read_webhook(document: Document) -> Webhook:
    """A message from `claim_webhook_v1`."""
    return Webhook(read_job(document["job"]), document["url"], document["attempt"])
