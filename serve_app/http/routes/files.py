"""Stored files under signed, expiring URLs, with byte ranges, or the way to where they are.

It trusts nothing but the signature; paths are checked again by the store.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.responses import FileResponse, RedirectResponse
from pydantic.json_schema import SkipJsonSchema

from deployments.jobs.rows import Bucket
from pipeline.errors import GlimpseError, NotFound, Unavailable
from pipeline.file_types import FORMATS, media_type
from serve_app.http.dependencies import AppServices, ClientWord
from serve_app.http.downloads import CountedFile
from serve_app.http.openapi import headers, problems
from serve_app.http.problems import BadSignature, RangeNotSatisfiable, TooManyAtOnce
from serve_app.stores.opened import SENT_ON_FOR_S

router = APIRouter(prefix="/files", tags=["files"])

_BYTES = {"schema": {"type": "string", "format": "binary"}}
_SUFFIXES = ("png", "mp4", "npy", *(known.suffix for known in FORMATS.values()))
_CONTENT = {media_type(f"file.{suffix}"): _BYTES for suffix in _SUFFIXES}
_HEADERS = headers("Cache-Control", "ETag", "Last-Modified", "Accept-Ranges", "Content-Disposition")


@router.head("/{bucket}/{path:path}", include_in_schema=False)
@router.get(
    "/{bucket}/{path:path}",
    status_code=200,
    response_class=FileResponse,
    responses={
        200: {"description": "The file.", "content": _CONTENT, "headers": _HEADERS},
        206: {
            "description": "Parts of the file.",
            "content": {**_CONTENT, "multipart/byteranges": _BYTES},
            "headers": {**_HEADERS, **headers("Content-Range")},
        },
        304: {
            "description": "The client has it: `If-None-Match` or `If-Modified-Since` says so.",
            "headers": headers("Cache-Control", "ETag"),
        },
        307: {
            "description": "The file is at another URL, for a while.",
            "headers": headers("Location", "Cache-Control"),
        },
        **problems(
            BadSignature, NotFound, RangeNotSatisfiable, Unavailable, TooManyAtOnce, GlimpseError
        ),
    },
)
async def get_file(
    services: AppServices,
    client: ClientWord,
    bucket: Annotated[str, Path(json_schema_extra={"enum": [*Bucket]})],
    path: str,
    expires: Annotated[str, Query()] = "",
    signature: Annotated[str, Query()] = "",
    range_header: Annotated[
        str | SkipJsonSchema[None],
        Header(alias="Range", description="RFC 9110: which bytes, `bytes=0-99`."),
    ] = None,
) -> Response:
    """A file of a project; the URL comes from an answer of the service."""
    del range_header  # `CountedFile` reads it
    if bucket not in list(Bucket):
        raise NotFound("No such file.")
    if not services.files.verify(bucket, path, expires, signature):
        raise BadSignature(
            "The link has expired or was changed; ask for a new one with GET /status."
        )
    located = await services.files.locate(Bucket(bucket), path)
    if isinstance(located, str):
        cache = {"Cache-Control": f"private, max-age={SENT_ON_FOR_S}"}
        return RedirectResponse(located, headers=cache)
    # Names never change their contents, so a copy may be kept as long as the link is valid.
    cache = {"Cache-Control": "private, max-age=3600, immutable"}
    return CountedFile(
        located,
        services,
        client,
        filename=path.rpartition("/")[2],
        media_type=media_type(path),
        content_disposition_type="inline",
        headers=cache,
    )
