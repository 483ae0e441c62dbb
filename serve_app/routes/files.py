"""Stored files under signed, expiring URLs, with byte ranges.

It trusts nothing but the signature; paths are checked again by the store.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse

from deployments.store import Bucket
from pipeline.errors import NotFound
from pipeline.media_types import media_type
from serve_app.problems import Problem
from serve_app.services import Services

__all__ = ["router"]

router = APIRouter(prefix="/files", tags=["files"])


@router.head("/{bucket}/{path:path}", include_in_schema=False)
@router.get("/{bucket}/{path:path}", response_class=FileResponse)
async def get_file(
    request: Request,
    bucket: str,
    path: str,
    expires: Annotated[str, Query()] = "",
    signature: Annotated[str, Query()] = "",
) -> FileResponse:
    """A file of a project; the URL comes from an answer of the service."""
    services = Services.of(request)
    if services.files is None or bucket not in list(Bucket):
        raise NotFound("No such file.")
    if not services.files.verify(bucket, path, expires, signature):
        raise Problem(
            403,
            "bad_signature",
            "The link is not valid",
            "The link has expired or was changed; ask for a new one with GET /status.",
        )
    # Names never change their contents, so a copy may be kept as long as the link is valid.
    headers = {"Cache-Control": "private, max-age=3600, immutable"}
    return FileResponse(
        services.files.open_path(Bucket(bucket), path),
        filename=path.rpartition("/")[2],
        media_type=media_type(path),
        content_disposition_type="inline",
        headers=headers,
    )
