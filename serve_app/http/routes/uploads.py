"""`POST /upload`: a photo becomes a project, whole or not at all.

The only model it knows is background removal; everything else is the store's.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from fastapi.routing import APIRoute

from deployments.jobs.job_errors import IdempotencyMismatch, TooBusy
from deployments.jobs.paths import original_path, processed_path
from deployments.jobs.rows import Bucket, Project, ProjectStatus
from deployments.jobs.store import Store
from pipeline.errors import GlimpseError, InvalidImage, InvalidOption, NotFound, Unavailable
from pipeline.flow.intake import Upload, prepare_upload
from serve_app.http.budgets import client_of
from serve_app.http.dependencies import AppServices, ClientUrls, ClientWord, Services
from serve_app.http.openapi import ENGINE_ERRORS, problems
from serve_app.http.problems import (
    BadRequest,
    BodyTooSlow,
    TooLarge,
    TooManyAtOnce,
    UnsupportedMediaType,
)
from serve_app.http.removal import remove_project
from serve_app.http.schemas.result_answers import UploadAnswer
from serve_app.http.waiting import IdempotencyKey, checked_key


class _PhotoRoute(APIRoute):
    """Decides by the headers, before the body is read; a photo that is let in has its place."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            _require_multipart(request)
            services: Services = request.app.state.services
            client = client_of(request, services.client_header)
            with services.budgets.uploads.taken(client):
                return await handle(request)

        return checked


#: Bytes of a file that are read at once.
_PIECE = 256 * 1024


def _require_multipart(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        raise UnsupportedMediaType("Send the photo as multipart/form-data with a part named file.")


router = APIRouter(prefix="/api/v1", tags=["projects"], route_class=_PhotoRoute)


#: Where photos come in: their bodies may weigh more than others.
PATHS = (f"{router.prefix}/upload",)


@router.post(
    "/upload",
    response_model=UploadAnswer,
    # One photo and a few words.
    form_limits={"max_files": 1, "max_fields": 8, "max_part_size": 1024},
    responses=problems(
        BadRequest,
        BodyTooSlow,
        TooLarge,
        TooManyAtOnce,
        UnsupportedMediaType,
        InvalidImage,
        InvalidOption,
        IdempotencyMismatch,
        Unavailable,
        TooBusy,
        GlimpseError,
        *ENGINE_ERRORS,
    ),
)
async def upload(
    services: AppServices,
    urls: ClientUrls,
    client: ClientWord,
    file: Annotated[UploadFile, File(json_schema_extra={"format": "binary"})],
    remove_bg: Annotated[bool, Form()] = True,
    idempotency_key: IdempotencyKey = None,
) -> UploadAnswer:
    """Check a photo, cut its background out and create a project.

    A photo with transparency keeps it. With `remove_bg=false` the whole photo is the object. With
    an `Idempotency-Key` the same photo is the same project, however often it is sent.
    """
    max_bytes = services.limits.max_upload_bytes
    if file.size is None or file.size > max_bytes:
        raise TooLarge(max_bytes)
    key, fingerprint = checked_key(idempotency_key), ""
    if key is not None:
        fingerprint = await asyncio.to_thread(_fingerprint, file.file, remove_bg)
        known = await services.store.records.find_upload(key, fingerprint, client=client)
        if known is not None:
            return UploadAnswer.of(known, urls)
    try:
        async with asyncio.timeout(services.limits.upload_timeout_s), services.decoding:
            # Until its turn comes a photo lies in a temporary file.
            await file.seek(0)
            data = await file.read()
            photo = await prepare_upload(data, services.background, remove_background=remove_bg)
    except TimeoutError:
        raise Unavailable.openly("The photo could not be prepared in time; try again.") from None
    # Shielded: a client that goes away must not leave half a project behind.
    keeping = asyncio.ensure_future(_keep(services.store, photo, client, key, fingerprint))
    return UploadAnswer.of(await asyncio.shield(keeping), urls, photo.notes)


def _fingerprint(file: BinaryIO, remove_bg: bool) -> str:
    """Digest of what the client sent, equal for equal requests."""
    digest = hashlib.sha256(b"%d:" % remove_bg)
    file.seek(0)
    while piece := file.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()


async def _keep(
    store: Store, photo: Upload, client: str, key: str | None, fingerprint: str
) -> Project:
    """Store both pictures and the project's row, or nothing.

    The row comes first, as one that is uploading: should this process die in between, it says
    which files nobody will ever ask for.
    """
    records, project_id = store.records, str(uuid.uuid4())
    original, processed = original_path(project_id), processed_path(project_id)
    try:
        await records.begin_upload(
            project_id,
            original_path=original,
            processed_path=processed,
            background_engine=photo.engine,
        )
        # Both have ended when one fails: what is deleted then is not written again.
        puts = await asyncio.gather(
            store.blobs.put(Bucket.UPLOADS, original, photo.original_png, "image/png"),
            store.blobs.put(Bucket.PROCESSED, processed, photo.processed_png, "image/png"),
            return_exceptions=True,
        )
        for failure in puts:
            if failure is not None:
                raise failure
        uploaded = await records.finish_upload(
            project_id, idempotency_key=key, fingerprint=fingerprint, client=client
        )
    except Exception as error:
        kept = None
        # With a store that is away the janitor does it later: the row is uploading or marked.
        with suppress(Unavailable):
            kept = await _give_up_unless_kept(store, project_id)
        if kept is not None:
            return kept
        if isinstance(error, NotFound):
            raise Unavailable.openly("Storing the photo took too long; try again.") from error
        raise
    if not uploaded.created:
        # Somebody sent the same photo with the same key at the same time, and was first.
        with suppress(GlimpseError):
            await remove_project(store, project_id)
    return uploaded.project


async def _give_up_unless_kept(store: Store, project_id: str) -> Project | None:
    """Remove what there is of a project; but when only the answer was lost, it is the project."""
    with suppress(NotFound):
        project = await store.records.get_project(project_id)
        if project.status is not ProjectStatus.UPLOADING:
            return project
    with suppress(NotFound):
        await store.records.delete_project(project_id)
    await remove_project(store, project_id)
    return None
