"""JSON in and out: request bodies that forbid unknown fields, answers with the documented names.

It knows the contract's words; not how an answer comes about. By topic: `bodies` (what is asked),
`results` (what the calls answer that make something), `jobs`, `projects`, `service`.
"""

from __future__ import annotations

from serve_app.http.schemas.job_answers import JobAnswer, QueueAnswer
from serve_app.http.schemas.project_answers import (
    DeletionAnswer,
    ExportedAnswer,
    IterationAnswer,
    ModelAnswer,
    ProjectAnswer,
    ProjectPageAnswer,
    ProjectResource,
    StatusAnswer,
)
from serve_app.http.schemas.request_bodies import (
    ExportQuery,
    GenerateBody,
    ProjectsQuery,
    RefineBody,
    ReportQuery,
)
from serve_app.http.schemas.result_answers import (
    ExportAnswer,
    GenerateAnswer,
    MetricAnswer,
    RefineAnswer,
    UploadAnswer,
    Url,
    result_of,
)
from serve_app.http.schemas.service_answers import ManifestAnswer, ReadyAnswer

__all__ = [
    "DeletionAnswer",
    "ExportAnswer",
    "ExportQuery",
    "ExportedAnswer",
    "GenerateAnswer",
    "GenerateBody",
    "IterationAnswer",
    "JobAnswer",
    "ManifestAnswer",
    "MetricAnswer",
    "ModelAnswer",
    "ProjectAnswer",
    "ProjectPageAnswer",
    "ProjectResource",
    "ProjectsQuery",
    "QueueAnswer",
    "ReadyAnswer",
    "RefineAnswer",
    "RefineBody",
    "ReportQuery",
    "StatusAnswer",
    "UploadAnswer",
    "Url",
    "result_of",
]
