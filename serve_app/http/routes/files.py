"""Stored files under signed, expiring URLs, with byte ranges, or the way to where they are.

It trusts nothing but the signature; paths are checked again by the store.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, RedirectResponse

from deployments.jobs.rows import Bucket
from pipeline.errors import NotFound
from pipeline.file_types import media_type
from serve_app.http.dependencies import Services
from serve_app.http.problems import Problem
from serve_app.stores.opened import SENT_ON_FOR_S

__all__ = ["router"]

router = APIRouter(prefix="/files", tags=["files"])


@router.head("/{bucket}/{path:path}", include_in_schema=False)
@router.get(
    "/{bucket}/{path:path}",
    response_class=FileResponse,
    responses={307: {"description": "The file is at another URL, for a while."}},
)
async def get_file(
    request: Request,
    bucket: str,
    path: str,
    expires: Annotated[str, Query()] = "",
    signature: Annotated[str, Query()] = "",
) -> Response:
    """A file of a project; the URL comes from an answer of the service."""
    services = Services.of(request)
    if bucket not in list(Bucket):
        raise NotFound("No such file.")
    if not services.files.verify(bucket, path, expires, signature):
        raise Problem(
            403,
            "bad_signature",
            "The link is not valid",
            "The link has expired or was changed; ask for a new one with GET /status.",
        )
    found = await services.files.locate(Bucket(bucket), path)
    if isinstance(found, str):
        remembered = {"Cache-Control": f"private, max-age={SENT_ON_FOR_S}"}
        return RedirectResponse(found, headers=remembered)
    # Names never change their contents, so a copy may be kept as long as the link is valid.
    headers = {"Cache-Control": "private, max-age=3600, immutable"}
    return FileResponse(
        found,
        filename=path.rpartition("/")[2],
        media_type=media_type(path),
        content_disposition_type="inline",
        headers=headers,
    )
