"""The photos of a project: look at them, add, replace, order and remove them, say whence they were
taken.

What is done with a photo is told beside it (`photo_forms`, `photo_keeping`). A job that was
submitted before works with the photos as they were then.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, File, Header, Path, Response, UploadFile
from pydantic.json_schema import SkipJsonSchema

from deployments.jobs.job_errors import IdempotencyMismatch
from deployments.jobs.rows import Bucket, ProjectDetail
from pipeline.errors import Conflict, InvalidImage, InvalidOption, NotFound
from pipeline.flow.intake import Upload, masked_upload
from pipeline.flow.photo_list import MAX_PHOTOS, Direction
from serve_app.http.dependencies import AppServices, BlobUrls, ClientUrls, ClientWord, Id, Services
from serve_app.http.openapi import ENGINE_ERRORS, ID_ERRORS, Responses, headers, problems
from serve_app.http.photo_forms import (
    FORM_LIMITS,
    Azimuth,
    Elevation,
    PhotoFile,
    PhotoRoute,
    RemoveBackground,
    SideWord,
    check_sizes,
    direction_of,
    fingerprint_of,
    in_turn,
    prepare,
)
from serve_app.http.photo_keeping import (
    OTHER_PHOTOS,
    Asked,
    Standing,
    arrange,
    find_photo,
    keep_photo,
    standing,
)
from serve_app.http.problems import (
    BadRequest,
    BodyTooSlow,
    Changed,
    TooLarge,
    TooManyAtOnce,
    UnsupportedMediaType,
)
from serve_app.http.schemas.photo_answers import PhotosAnswer
from serve_app.http.schemas.request_bodies import OrderBody
from serve_app.http.waiting import IdempotencyKey, checked_key

_PREFIX = "/api/v1/projects"
_PLACE = "/{project_id}/photos"

router = APIRouter(prefix=_PREFIX, tags=["projects"], route_class=PhotoRoute)

#: Paths of forms with photos, and whether with several.
FORMS = {
    re.compile("/api/v1/upload"): True,
    re.compile(rf"{_PREFIX}/[^/]+/photos(/[0-9]+(/mask)?)?"): False,
}

_FORM_ERRORS = (
    *ID_ERRORS,
    *ENGINE_ERRORS,
    BadRequest,
    BodyTooSlow,
    Changed,
    Conflict,
    InvalidImage,
    InvalidOption,
    TooLarge,
    TooManyAtOnce,
    UnsupportedMediaType,
)

IfMatch = Annotated[
    str | SkipJsonSchema[None],
    Header(
        alias="If-Match",
        description="The `ETag` of the photos as the client has seen them: nothing is done where "
        "they are others by now.",
    ),
]
Place = Annotated[int, Path(ge=0, lt=MAX_PHOTOS)]

_ANSWER: Responses = {200: {"headers": headers("ETag")}}


def _tag(detail: ProjectDetail) -> str:
    return f'"{detail.project.photos_revision}"'


async def _seen(services: Services, project_id: str, if_match: str | None) -> ProjectDetail:
    """The project now. Raises NotFound, and Changed where the client has seen other photos."""
    detail = await services.store.records.project_detail(project_id)
    tags = _tags(if_match)
    if tags and _tag(detail) not in tags:
        raise Changed(OTHER_PHOTOS)
    return detail


def _tags(if_match: str | None) -> list[str]:
    """What is insisted upon; nothing where any will do."""
    tags = [] if if_match is None else [tag.strip() for tag in if_match.split(",")]
    return [] if "*" in tags else tags


def _only(detail: ProjectDetail, if_match: str | None) -> int | None:
    """The revision that `_seen` has found, for what takes a while: see `keep_photo`."""
    return detail.project.photos_revision if _tags(if_match) else None


async def _answer(
    services: Services, urls: BlobUrls, response: Response, project_id: str
) -> PhotosAnswer:
    detail = await services.store.records.project_detail(project_id)
    response.headers["ETag"] = _tag(detail)
    return PhotosAnswer.of(detail, urls)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """A client that goes away must not leave half of it behind."""
    await asyncio.shield(asyncio.ensure_future(work))


def _check_place(photos: list[Standing], n: int) -> None:
    if n >= len(photos):
        last = f"photos 0 to {len(photos) - 1}" if len(photos) > 1 else "photo 0 alone"
        raise NotFound(f"There is no photo {n}: the project has {last}.")


@router.get(
    _PLACE,
    response_model=PhotosAnswer,
    responses={**_ANSWER, **problems(*ID_ERRORS)},
)
async def list_photos(
    services: AppServices, urls: ClientUrls, response: Response, project_id: Id
) -> PhotosAnswer:
    """The photos of a project, with what the newest generation found out about them."""
    return await _answer(services, urls, response, project_id)


@router.post(
    _PLACE,
    response_model=PhotosAnswer,
    form_limits=FORM_LIMITS,
    responses={**_ANSWER, **problems(*_FORM_ERRORS, IdempotencyMismatch)},
)
async def add_photo(
    services: AppServices,
    urls: ClientUrls,
    client: ClientWord,
    response: Response,
    project_id: Id,
    file: PhotoFile,
    side: SideWord = None,
    azimuth_deg: Azimuth = None,
    elevation_deg: Elevation = None,
    remove_bg: RemoveBackground = True,
    idempotency_key: IdempotencyKey = None,
    if_match: IfMatch = None,
) -> PhotosAnswer:
    """Add a photo of the same object, from another side.

    Without a side and angles it is looked for whence it was taken. With an `Idempotency-Key` the
    same photo is added once, however often it is sent.
    """
    check_sizes([file], services.limits)
    direction = direction_of(side, azimuth_deg, elevation_deg)
    key, fingerprint = checked_key(idempotency_key), ""
    if key is not None:
        fingerprint = await fingerprint_of([file], project_id, remove_bg, direction)
    asked = Asked(client, key, fingerprint)
    if await find_photo(services.store, asked):
        return await _answer(services, urls, response, project_id)
    detail = await _seen(services, project_id, if_match)
    _check_room(len(detail.photos))
    photo = await prepare(services, file, remove_bg=remove_bg)

    def added(photos: list[Standing], new: Standing) -> list[Standing]:
        _check_room(len(photos))
        return [*photos, new]

    seen = _only(detail, if_match)
    await _to_its_end(keep_photo(services.store, project_id, photo, direction, added, asked, seen))
    return await _answer(services, urls, response, project_id)


def _check_room(count: int) -> None:
    if count >= MAX_PHOTOS:
        raise Conflict(
            f"The project has {MAX_PHOTOS} photos, which is as many as there may be: replace one "
            "with PUT, or take one out with DELETE."
        )


@router.put(
    f"{_PLACE}/order",
    response_model=PhotosAnswer,
    responses={
        **_ANSWER,
        **problems(
            *ID_ERRORS,
            BadRequest,
            BodyTooSlow,
            Changed,
            Conflict,
            InvalidOption,
            TooLarge,
            TooManyAtOnce,
        ),
    },
)
async def order_photos(
    services: AppServices,
    urls: ClientUrls,
    response: Response,
    project_id: Id,
    body: OrderBody,
    if_match: IfMatch = None,
) -> PhotosAnswer:
    """Put the photos of a project in another order; the first one is what all is made around."""
    detail = await _seen(services, project_id, if_match)

    def ordered(photos: list[Standing]) -> list[Standing]:
        if sorted(body.order) != list(range(len(photos))):
            raise Conflict(
                f"order must name each of the {len(photos)} photos once, by the position that it "
                f"has: some order of {list(range(len(photos)))}."
            )
        return [photos[n] for n in body.order]

    await _to_its_end(arrange(services.store, detail, ordered))
    return await _answer(services, urls, response, project_id)


@router.put(
    f"{_PLACE}/{{n:int}}",
    response_model=PhotosAnswer,
    form_limits=FORM_LIMITS,
    responses={**_ANSWER, **problems(*_FORM_ERRORS)},
)
async def replace_photo(
    services: AppServices,
    urls: ClientUrls,
    client: ClientWord,
    response: Response,
    project_id: Id,
    n: Place,
    file: Annotated[
        UploadFile | SkipJsonSchema[None], File(json_schema_extra={"format": "binary"})
    ] = None,
    side: SideWord = None,
    azimuth_deg: Azimuth = None,
    elevation_deg: Elevation = None,
    remove_bg: RemoveBackground = True,
    if_match: IfMatch = None,
) -> PhotosAnswer:
    """Put another photo in the place of one, or say whence it was taken, or both.

    What is not sent stays as it is; `side=unknown` forgets what was said. Generations that have
    worked with the old photo keep it.
    """
    says_whence = side is not None or azimuth_deg is not None or elevation_deg is not None
    if file is None and not says_whence:
        raise InvalidOption("Send a file, a side, or azimuth_deg and elevation_deg.")
    said = direction_of(side, azimuth_deg, elevation_deg)
    detail = await _seen(services, project_id, if_match)

    def direction_at(photos: list[Standing]) -> Direction:
        _check_place(photos, n)
        return said if says_whence else photos[n].given.direction

    if file is None:

        def turned(photos: list[Standing]) -> list[Standing]:
            given = replace(photos[n].given, direction=direction_at(photos))
            return [*photos[:n], Standing(photos[n].id, given), *photos[n + 1 :]]

        _check_place(standing(detail.photos), n)
        await _to_its_end(arrange(services.store, detail, turned))
        return await _answer(services, urls, response, project_id)

    check_sizes([file], services.limits)
    before = standing(detail.photos)
    direction = direction_at(before)
    photo = await prepare(services, file, remove_bg=remove_bg)
    replaced, seen = partial(_in_place_of, before[n].id, n), _only(detail, if_match)
    asked = Asked(client)
    await _to_its_end(
        keep_photo(services.store, project_id, photo, direction, replaced, asked, seen)
    )
    return await _answer(services, urls, response, project_id)


def _in_place_of(photo_id: str, n: int, photos: list[Standing], new: Standing) -> list[Standing]:
    """Raises Changed where another photo is in that place by now."""
    if n >= len(photos) or photos[n].id != photo_id:
        raise Changed(OTHER_PHOTOS)
    return [*photos[:n], new, *photos[n + 1 :]]


@router.put(
    f"{_PLACE}/{{n:int}}/mask",
    response_model=PhotosAnswer,
    form_limits={"max_files": 1, "max_fields": 8, "max_part_size": 1024},
    responses={**_ANSWER, **problems(*_FORM_ERRORS)},
)
async def put_mask(
    services: AppServices,
    urls: ClientUrls,
    client: ClientWord,
    response: Response,
    project_id: Id,
    n: Place,
    file: PhotoFile,
    if_match: IfMatch = None,
) -> PhotosAnswer:
    """Say with a mask what of a photo is the object: white is, black is not, or alpha tells it.

    The photo gets another cut-out and another id. Generations that have worked with the old one
    keep that.
    """
    check_sizes([file], services.limits)
    detail = await _seen(services, project_id, if_match)
    before = standing(detail.photos)
    _check_place(before, n)
    old, blobs = detail.photos[n], services.store.blobs

    async def with_mask(mask: bytes) -> Upload:
        return await masked_upload(await blobs.get(Bucket.UPLOADS, old.original_path), mask)

    photo = await in_turn(services, file, with_mask)
    replaced, seen = partial(_in_place_of, old.id, n), _only(detail, if_match)
    await _to_its_end(
        keep_photo(
            services.store,
            project_id,
            photo,
            old.direction,
            replaced,
            Asked(client),
            seen,
            of=old,
        )
    )
    return await _answer(services, urls, response, project_id)


@router.delete(
    f"{_PLACE}/{{n:int}}",
    response_model=PhotosAnswer,
    responses={**_ANSWER, **problems(*ID_ERRORS, Changed, Conflict, InvalidOption)},
)
async def remove_photo(
    services: AppServices,
    urls: ClientUrls,
    response: Response,
    project_id: Id,
    n: Place,
    if_match: IfMatch = None,
) -> PhotosAnswer:
    """Take a photo out; those behind it move up, and without the first the next is the first.

    Generations that have worked with it keep it.
    """
    detail = await _seen(services, project_id, if_match)

    def without(photos: list[Standing]) -> list[Standing]:
        _check_place(photos, n)
        if len(photos) == 1:
            raise Conflict(
                "It is the only photo of the project: replace it with PUT, or delete the project."
            )
        return [*photos[:n], *photos[n + 1 :]]

    await _to_its_end(arrange(services.store, detail, without))
    return await _answer(services, urls, response, project_id)
