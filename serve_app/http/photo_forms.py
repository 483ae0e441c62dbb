"""Forms with photos: let in by their headers, checked, and made ready to be stored.

The only model it knows is background removal. It does not know what becomes of a photo.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Annotated, Any, BinaryIO, TypeVar

from fastapi import File, Form, Request, Response, UploadFile
from fastapi.routing import APIRoute
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from pipeline.errors import InvalidImage, Unavailable
from pipeline.flow.intake import Upload, prepare_upload
from pipeline.flow.photo_list import MAX_PHOTOS, Direction
from pipeline.types import PHOTO_SIDES
from serve_app.http.budgets import client_of
from serve_app.http.dependencies import Limits, Services
from serve_app.http.problems import TooLarge, UnsupportedMediaType

T = TypeVar("T")

#: Bytes of a file that are read at once.
_PIECE = 256 * 1024

#: Of the form parser: some files more than there may be, so that who sends nine is told how many.
FORM_LIMITS: Any = {"max_files": 4 * MAX_PHOTOS, "max_fields": 24, "max_part_size": 1024}

#: That nobody knows, or that what was said is to be forgotten. An empty field of a form is none.
_UNKNOWN = "unknown"

#: What a form may say of a side.
SIDE_WORDS = {"enum": [_UNKNOWN, *PHOTO_SIDES]}

SideWord = Annotated[str | SkipJsonSchema[None], Form(json_schema_extra={**SIDE_WORDS})]
RemoveBackground = Annotated[bool, Form()]
#: Limits stand inside, or JSON Schema would not have them.
_Azimuth = Annotated[float, Field(ge=-360, le=360, allow_inf_nan=False)]
_Elevation = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
Azimuth = Annotated[_Azimuth | SkipJsonSchema[None], Form()]
Elevation = Annotated[_Elevation | SkipJsonSchema[None], Form()]
PhotoFile = Annotated[UploadFile, File(json_schema_extra={"format": "binary"})]


class PhotoRoute(APIRoute):
    """Decides by the headers of a form, before it is read; photos that are let in have places.

    Routes without `form_limits` take no form.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if not self.form_limits:
            return handle

        async def checked(request: Request) -> Response:
            _require_multipart(request)
            services: Services = request.app.state.services
            client = client_of(request, services.client_header)
            places = _places(request.headers.get("content-length", ""), services.limits)
            with services.budgets.uploads.taken(client, places):
                return await handle(request)

        return checked


def _require_multipart(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        raise UnsupportedMediaType("Send the photo as multipart/form-data with a part named file.")


def _places(length: str, limits: Limits) -> int:
    """How many photos of the largest size a body may hold, by what it says of its length."""
    most = limits.max_photos_bytes
    return max(1, -(-(int(length) if length.isdecimal() else most) // limits.max_upload_bytes))


def check_sizes(files: Sequence[UploadFile], limits: Limits) -> None:
    """Raises TooLarge for a file that is too large, or files that are so together."""
    if any(file.size is None or file.size > limits.max_upload_bytes for file in files):
        raise TooLarge(limits.max_upload_bytes)
    if sum(file.size or 0 for file in files) > limits.max_photos_bytes:
        raise TooLarge(limits.max_photos_bytes, "sum of the files")


async def fingerprint_of(files: Sequence[UploadFile], *words: object) -> str:
    """Digest of what the client sent, equal for equal requests."""
    return await asyncio.to_thread(_digest, [(file.size, file.file) for file in files], words)


def _digest(files: Sequence[tuple[int | None, BinaryIO]], words: Sequence[object]) -> str:
    digest = hashlib.sha256(repr((words, [size for size, _ in files])).encode())
    for _, file in files:
        file.seek(0)
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


async def prepare(
    services: Services, file: UploadFile, *, remove_bg: bool, name: str = ""
) -> Upload:
    """A photo and its cut-out.

    Args:
        name: of the photo, where it is one of several.

    Raises:
        InvalidImage: it cannot be used; the sentence begins with its name.
        Unavailable: it did not get its turn, or was not ready, in time.
    """
    try:
        cut_out = partial(
            prepare_upload, background=services.background, remove_background=remove_bg
        )
        return await in_turn(services, file, cut_out)
    except InvalidImage as error:
        if not name:
            raise
        raise InvalidImage(f"{name}: {error.detail}", public=f"{name}: {error.public}") from error


async def in_turn(
    services: Services, file: UploadFile, make_ready: Callable[[bytes], Awaitable[T]]
) -> T:
    """What `make_ready` makes of a file, as soon as it may be decoded beside others. Raises
    Unavailable where that takes too long."""
    try:
        async with asyncio.timeout(services.limits.upload_timeout_s), services.decoding:
            # Until its turn comes a photo lies in a temporary file.
            await file.seek(0)
            return await make_ready(await file.read())
    except TimeoutError:
        raise Unavailable.openly("The photo could not be prepared in time; try again.") from None


def direction_of(
    side: str | None, azimuth_deg: float | None, elevation_deg: float | None
) -> Direction:
    """What a form says. Raises InvalidOption."""
    side = None if side in ("", _UNKNOWN) else side
    return Direction.checked(side, azimuth_deg, elevation_deg)
