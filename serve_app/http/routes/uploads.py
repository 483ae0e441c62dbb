"""`POST /upload`: photos become a project, whole or not at all.

It knows forms and answers; what is done with a photo is told beside it (`photo_forms`,
`photo_keeping`).
"""

from __future__ import annotations

import asyncio
from itertools import zip_longest
from typing import Annotated

from fastapi import APIRouter, File, Form, UploadFile
from pydantic.json_schema import SkipJsonSchema

from deployments.jobs.job_errors import IdempotencyMismatch, TooBusy
from pipeline.errors import GlimpseError, InvalidImage, InvalidOption, Unavailable
from pipeline.flow.photo_list import MAX_PHOTOS, GivenPhoto, check_count, check_photos
from serve_app.http.dependencies import AppServices, ClientUrls, ClientWord
from serve_app.http.openapi import ENGINE_ERRORS, problems
from serve_app.http.photo_forms import (
    FORM_LIMITS,
    SIDE_WORDS,
    PhotoRoute,
    RemoveBackground,
    check_sizes,
    direction_of,
    fingerprint_of,
    prepare,
)
from serve_app.http.photo_keeping import given_photos, keep_project
from serve_app.http.problems import (
    BadRequest,
    BodyTooSlow,
    TooLarge,
    TooManyAtOnce,
    UnsupportedMediaType,
)
from serve_app.http.schemas.photo_answers import UploadAnswer
from serve_app.http.waiting import IdempotencyKey, checked_key

router = APIRouter(prefix="/api/v1", tags=["projects"], route_class=PhotoRoute)


@router.post(
    "/upload",
    response_model=UploadAnswer,
    form_limits=FORM_LIMITS,
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
    file: Annotated[
        list[UploadFile],
        File(
            json_schema_extra={
                "items": {"type": "string", "format": "binary"},
                "minItems": 1,
                "maxItems": MAX_PHOTOS,
            }
        ),
    ],
    side: Annotated[
        list[str] | SkipJsonSchema[None],
        Form(json_schema_extra={"items": {"type": "string", **SIDE_WORDS}, "maxItems": MAX_PHOTOS}),
    ] = None,
    remove_bg: RemoveBackground = True,
    idempotency_key: IdempotencyKey = None,
) -> UploadAnswer:
    """Check up to eight photos of one object, cut their backgrounds out and create a project.

    The first photo is the one that everything is made around. A photo with transparency keeps it.
    With `remove_bg=false` the whole photos are the object. With an `Idempotency-Key` the same
    photos are the same project, however often they are sent.
    """
    check_count(len(file))
    check_sizes(file, services.limits)
    if side is not None and len(side) > len(file):
        raise InvalidOption(f"side: there are {len(side)} of them for {len(file)} files.")
    directions = [
        direction_of(word, None, None) for _, word in zip_longest(file, side or (), fillvalue="")
    ]
    # Before any work: what is the same picture twice is known only after it.
    check_photos([GivenPhoto(direction, "") for direction in directions])
    records, key, fingerprint = services.store.records, checked_key(idempotency_key), ""
    if key is not None:
        fingerprint = await fingerprint_of(file, remove_bg, *map(str, directions))
        known = await records.find_upload(key, fingerprint, client=client)
        if known is not None:
            detail = await records.project_detail(known.id)
            return UploadAnswer.of(detail.project, detail.photos, urls)
    photos = [
        await prepare(
            services, one, remove_bg=remove_bg, name=f"Photo {place}" if len(file) > 1 else ""
        )
        for place, one in enumerate(file)
    ]
    given = await given_photos(photos, directions)
    check_photos(given)
    # Shielded: a client that goes away must not leave half a project behind.
    keeping = asyncio.ensure_future(
        keep_project(services.store, photos, given, client=client, key=key, fingerprint=fingerprint)
    )
    kept = await asyncio.shield(keeping)
    return UploadAnswer.of(kept.project, kept.photos, urls)
