"""The Storage API's resumable uploads: TUS 1.0.0.

Unlike the rest of the Storage API its errors are plain text with the HTTP status that is meant;
only a token that is not valid is refused the other way. An upload is known to the gateway until
the project is switched; `Upload-Expires` is said and not enforced. `Location` is of https, as on
the platform, whatever the request came by. Stricter than the source of the Storage API: pieces have
to be of 6 MiB, as the platform's manual demands.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate

import asyncpg
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .blobs import Incoming
from .project import of
from .storage import (
    NewObject,
    StorageError,
    bucket_of,
    check_mime_type,
    check_permission,
    complete,
    from_database,
    require_token,
    size_limit,
    valid_key,
    wants_upsert,
)

__all__ = ["PIECE", "Upload", "routes"]

#: All requests but the last carry exactly so many bytes.
PIECE = 6 * 1024 * 1024
_LIFETIME_S = 24 * 3600
_PATH = "/storage/v1/upload/resumable"
_OFFSET_STREAM = "application/offset+octet-stream"


@dataclass
class Upload:
    """One upload, begun or complete."""

    new: NewObject
    raw_metadata: str
    incoming: Incoming
    expires: float = field(default_factory=lambda: time.time() + _LIFETIME_S)
    #: One request at a time.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class _TusError(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def _endpoint(
    work: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def answered(request: Request) -> Response:
        _, caller = of(request)
        headers = {"Tus-Resumable": "1.0.0"}
        try:
            require_token(request, caller)
        except StorageError as refused:
            return JSONResponse(refused.body, refused.http)
        try:
            if request.query_params:
                raise _TusError(400, "this gateway knows no parameters here")
            version = request.headers.get("tus-resumable")
            if version is None:
                raise _TusError(412, "Tus-Resumable Required\n")
            if version != "1.0.0":
                raise _TusError(400, "Invalid tus-resumable\n")
            for name in ("upload-concat", "upload-defer-length", "upload-checksum", "x-signature"):
                if name in request.headers:
                    raise _TusError(501, f"this gateway does not know {name}")
            response = await work(request)
            response.headers.update(headers)
            return response
        except _TusError as error:
            return Response(str(error), error.status, headers, "text/plain")
        except StorageError as error:
            return Response(error.message, error.status, headers, "text/plain")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as problem:
            known = from_database(problem)
            return Response(known.message, known.status, headers, "text/plain")

    return answered


def _metadata(text: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    try:
        for pair in text.split(","):
            key, _, value = pair.strip().partition(" ")
            if not key or key in pairs:
                raise ValueError(key)
            pairs[key] = base64.b64decode(value, validate=True).decode()
    except (ValueError, binascii.Error):
        raise _TusError(400, "Invalid upload-metadata\n") from None
    return pairs


def _number(request: Request, name: str) -> int | None:
    value = request.headers.get(name)
    if value is not None and not re.fullmatch("0|[1-9][0-9]*", value):
        raise _TusError(400, f"Invalid {name}\n")
    return None if value is None else int(value)


async def _check(request: Request, operation: str, new: NewObject) -> None:
    """As the caller, at the beginning and again with every piece, by that request's x-upsert."""
    operation = f"storage.tus.upload.{operation}"
    await check_permission(request, operation, new, upsert=wants_upsert(request))


async def _create(request: Request) -> Response:
    project, _ = of(request)
    length = _number(request, "upload-length")
    if length is None:
        raise _TusError(400, "Upload-Length or Upload-Defer-Length header required\n")
    raw_metadata = request.headers.get("upload-metadata", "")
    metadata = _metadata(raw_metadata)
    bucket, name = metadata.get("bucketName", ""), metadata.get("objectName", "")
    if not bucket:
        raise _TusError(400, "Bucket name invalid")
    valid_key(name)
    found = await bucket_of(request, bucket)
    if length > size_limit(found):
        raise _TusError(413, "Maximum size exceeded\n")
    age = metadata.get("cacheControl", "")
    cache_control = f"max-age={age}" if age.isdecimal() else "no-cache"
    mime_type = metadata.get("contentType")
    new = NewObject(bucket, name, length, mime_type, cache_control, metadata.get("metadata"))
    await _check(request, "create", new)
    if mime_type:
        check_mime_type(mime_type, found)
    upload = Upload(new, raw_metadata, Incoming(project.blobs))
    version = upload.incoming.version
    project.uploads[version] = upload
    identifier = base64.urlsafe_b64encode(f"{bucket}/{name}/{version}".encode()).decode()
    location = request.url.replace(scheme="https", path=f"{_PATH}/{identifier.rstrip('=')}")
    headers = {"Location": str(location)}
    if length == 0:
        await complete(request, new, upload.incoming)
    elif request.headers.get("content-type") == _OFFSET_STREAM:
        headers |= await _receive(request, upload)
    else:
        headers["Upload-Expires"] = formatdate(upload.expires, usegmt=True)
    return Response(status_code=201, headers=headers)


def _find(request: Request) -> Upload:
    project, _ = of(request)
    text = request.path_params["identifier"]
    try:
        identifier = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        raise _TusError(400, "Invalid upload id") from None
    upload = project.uploads.get(identifier.rpartition("/")[2])
    if upload is None:
        raise _TusError(404, "The file for this url was not found\n")
    return upload


async def _receive(request: Request, upload: Upload) -> dict[str, str]:
    """Append the body; what came before a connection broke stays. The headers of the answer."""
    incoming = upload.incoming
    start = incoming.size
    async for piece in request.stream():
        if incoming.size + len(piece) > upload.new.length:
            raise _TusError(413, "upload's size exceeded\n")
        if incoming.size + len(piece) - start > PIECE:
            raise _TusError(400, "this gateway takes pieces of 6 MiB")
        incoming.write(piece)
    headers = {"Upload-Offset": str(incoming.size)}
    if incoming.size < upload.new.length:
        if incoming.size - start != PIECE:
            raise _TusError(400, "this gateway takes pieces of 6 MiB")
        return headers | {"Upload-Expires": formatdate(upload.expires, usegmt=True)}
    await complete(request, upload.new, incoming)
    return headers | {"Tus-Complete": "1"}


async def _append(request: Request) -> Response:
    offset = _number(request, "upload-offset")
    kind = request.headers.get("content-type")
    if kind is not None and kind != _OFFSET_STREAM:
        raise _TusError(400, "Invalid content-type\n")
    if offset is None:
        raise _TusError(403, "Upload-Offset header required\n")
    if kind is None:
        raise _TusError(403, "Content-Type header required\n")
    upload = _find(request)
    await _check(request, "part", upload.new)
    async with upload.lock:
        if offset != upload.incoming.size:
            raise _TusError(409, "Upload-Offset conflict\n")
        headers = await _receive(request, upload)
    return Response(status_code=204, headers=headers)


async def _offset(request: Request) -> Response:
    upload = _find(request)
    async with upload.lock:
        return Response(
            headers={
                "Cache-Control": "no-store",
                "Upload-Offset": str(upload.incoming.size),
                "Upload-Length": str(upload.new.length),
                "Upload-Metadata": upload.raw_metadata,
            }
        )


async def _options(_: Request) -> Response:
    extensions = "creation,creation-with-upload,creation-defer-length,termination,expiration"
    headers = {"Tus-Resumable": "1.0.0", "Tus-Version": "1.0.0", "Tus-Extension": extensions}
    return Response(status_code=204, headers=headers)


routes = [
    Route(_PATH, _options, methods=["OPTIONS"]),
    Route(_PATH, _endpoint(_create), methods=["POST"]),
    Route(f"{_PATH}/{{identifier}}", _options, methods=["OPTIONS"]),
    Route(f"{_PATH}/{{identifier}}", _endpoint(_append), methods=["PATCH"]),
    Route(f"{_PATH}/{{identifier}}", _endpoint(_offset), methods=["HEAD"]),
]
