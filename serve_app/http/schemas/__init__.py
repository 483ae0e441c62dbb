"""JSON in and out: request bodies that forbid unknown fields, answers with the documented names.

It knows the contract's words; not how an answer comes about.
"""

from __future__ import annotations

from serve_app.http.schemas.job_answers import (
    ExportJobAnswer,
    GenerateJobAnswer,
    JobAnswer,
    QueueAnswer,
    RefineJobAnswer,
    job_answer_of,
)
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
    ResultAnswer,
    UploadAnswer,
    Url,
    result_of,
)
from serve_app.http.schemas.service_answers import HealthAnswer, ManifestAnswer, ReadyAnswer

__all__ = [
    "DeletionAnswer",
    "ExportAnswer",
    "ExportJobAnswer",
    "ExportQuery",
    "ExportedAnswer",
    "GenerateAnswer",
    "GenerateBody",
    "GenerateJobAnswer",
    "HealthAnswer",
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
    "RefineJobAnswer",
    "ReportQuery",
    "ResultAnswer",
    "StatusAnswer",
    "UploadAnswer",
    "Url",
    "job_answer_of",
    "result_of",
]
