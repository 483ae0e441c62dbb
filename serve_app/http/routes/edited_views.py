"""Views of a version: put another picture in the place of one, strike one out, bring one back.

Edits wait for the next generation that begins with the depth of that version. It knows requests and
answers; what may be done to a view is told beside it (`edit_keeping`).
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query

from deployments.jobs.job_errors import ProjectBusy
from pipeline.errors import Conflict, InvalidImage, InvalidOption, NotGeneratedYet, Unavailable
from pipeline.rig import VIEW_COUNT
from serve_app.http.dependencies import AppServices, BlobUrls, ClientUrls, Id, Services
from serve_app.http.edit_keeping import (
    EditedViews,
    prepare_picture,
    replace_view,
    restore_view,
    strike_view,
    view_size,
)
from serve_app.http.openapi import ENGINE_ERRORS, ID_ERRORS, problems
from serve_app.http.photo_forms import PhotoFile, PhotoRoute, RemoveBackground, check_sizes, in_turn
from serve_app.http.problems import (
    BadRequest,
    BodyTooSlow,
    TooLarge,
    TooManyAtOnce,
    UnsupportedMediaType,
)
from serve_app.http.schemas.edit_answers import EditsAnswer

_PREFIX = "/api/v1/projects"
_VIEW = "/{project_id}/views/{view}"

router = APIRouter(prefix=_PREFIX, tags=["views"], route_class=PhotoRoute)

#: Paths of forms with pictures, and whether with several.
FORMS = {re.compile(rf"{_PREFIX}/[^/]+/views/[0-9]+"): False}

ViewNumber = Annotated[int, Path(ge=0, lt=VIEW_COUNT)]
Version = Annotated[int | None, Query(ge=0, lt=2**31, description="Default: the current one.")]

_ERRORS = (*ID_ERRORS, NotGeneratedYet, ProjectBusy)


async def _answer(services: Services, urls: BlobUrls, project_id: str, version: int) -> EditsAnswer:
    detail = await services.store.records.project_detail(project_id)
    return EditsAnswer.of(project_id, version, detail.edits, urls)


@router.put(
    _VIEW,
    response_model=EditsAnswer,
    form_limits={"max_files": 1, "max_fields": 8, "max_part_size": 1024},
    responses=problems(
        *_ERRORS,
        *ENGINE_ERRORS,
        BadRequest,
        BodyTooSlow,
        InvalidImage,
        TooLarge,
        TooManyAtOnce,
        UnsupportedMediaType,
    ),
)
async def put_view(
    services: AppServices,
    urls: ClientUrls,
    project_id: Id,
    view: ViewNumber,
    file: PhotoFile,
    remove_bg: RemoveBackground = True,
    version: Version = None,
) -> EditsAnswer:
    """Put another picture in the place of a view, square and with alpha.

    Of a picture without alpha the background is removed, unless `remove_bg=false`.
    """
    check_sizes([file], services.limits)
    views = await EditedViews.find(services.store, project_id, version)
    size = await view_size(services.store, views, view)
    prepare = partial(
        prepare_picture, size=size, background=services.background, remove_background=remove_bg
    )
    picture = await in_turn(services, file, prepare)
    # Shielded: a client that goes away must not leave a file without a row.
    keeping = asyncio.ensure_future(replace_view(services.store, views, view, picture))
    await asyncio.shield(keeping)
    return await _answer(services, urls, project_id, views.base.version)


@router.delete(
    _VIEW,
    response_model=EditsAnswer,
    responses=problems(*_ERRORS, Conflict, InvalidOption, Unavailable),
)
async def strike_out_view(
    services: AppServices,
    urls: ClientUrls,
    project_id: Id,
    view: ViewNumber,
    version: Version = None,
) -> EditsAnswer:
    """Strike a view out: it is neither fitted nor enhanced nor scored. The file stays."""
    views = await EditedViews.find(services.store, project_id, version)
    await strike_view(services.store, views, view)
    return await _answer(services, urls, project_id, views.base.version)


@router.post(
    f"{_VIEW}/restore",
    response_model=EditsAnswer,
    responses=problems(*_ERRORS, InvalidOption),
)
async def bring_view_back(
    services: AppServices,
    urls: ClientUrls,
    project_id: Id,
    view: ViewNumber,
    version: Version = None,
) -> EditsAnswer:
    """Take back what waits for a view; where nothing does, and it was struck out or replaced, let
    the view as the engine made it stand there again."""
    views = await EditedViews.find(services.store, project_id, version)
    await restore_view(services.store, views, view)
    return await _answer(services, urls, project_id, views.base.version)
