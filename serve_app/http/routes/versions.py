"""The versions of a project's model: which of them is the current one.

It changes rows; what was made stays as it is.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from deployments.jobs.job_errors import ProjectBusy
from pipeline.errors import Conflict
from serve_app.http.dependencies import AppServices, ClientUrls, Id
from serve_app.http.openapi import ID_ERRORS, problems
from serve_app.http.schemas.project_answers import ProjectResource

router = APIRouter(prefix="/api/v1/projects/{project_id}", tags=["versions"])

#: Of a model, in a path.
VersionNumber = Annotated[int, Path(ge=0, lt=2**31)]


@router.post(
    "/versions/{version}/restore",
    response_model=ProjectResource,
    responses=problems(*ID_ERRORS, Conflict, ProjectBusy),
)
async def restore_version(
    services: AppServices, urls: ClientUrls, project_id: Id, version: VersionNumber
) -> ProjectResource:
    """Make a version the current one: refinements, exports and generations from a stage begin with
    it. Nothing is removed, and what is made from it gets a new number."""
    project = await services.store.records.restore_version(project_id, version)
    return ProjectResource.of(project, urls)
