"""What a project says about itself: the quality report and the manifest.

Both are read from committed rows and files; nothing is computed by a model here.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from pipeline.errors import InvalidOption
from serve_app.http.budgets import taken_soon
from serve_app.http.dependencies import AppServices, ClientUrls, ClientWord, Id
from serve_app.http.downloads import CountedPage
from serve_app.http.openapi import ID_ERRORS, headers, problems
from serve_app.http.problems import TooManyAtOnce
from serve_app.http.schemas.request_bodies import ReportQuery
from serve_app.http.schemas.service_answers import ManifestAnswer
from serve_app.report.assemble import Report, assemble
from serve_app.report.page import render_html, wanted_pictures
from serve_app.report.project_manifest import manifest_document

router = APIRouter(prefix="/api/v1/projects", tags=["reports"])

#: The page asks nobody for anything, and a browser sees to it.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    "Vary": "Accept",
}


def prefers_html(accept: str) -> bool:
    """Whether an `Accept` header names HTML and puts JSON behind it."""
    quality = {"text/html": 0.0, "application/json": 0.0}
    for part in accept.lower().split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        if media_type in quality:
            weights = [p.removeprefix("q=") for p in parameters if p.startswith("q=")]
            try:
                quality[media_type] = float(weights[0]) if weights else 1.0
            except ValueError:
                quality[media_type] = 0.0
    return quality["text/html"] > quality["application/json"]


@router.get(
    "/{project_id}/report",
    response_model=Report,
    responses={
        200: {"content": {"text/html": {"schema": {"type": "string"}}}, "headers": headers("Vary")},
        **problems(*ID_ERRORS, InvalidOption, TooManyAtOnce),
    },
)
async def get_report(
    request: Request,
    services: AppServices,
    urls: ClientUrls,
    client: ClientWord,
    project_id: Id,
    query: Annotated[ReportQuery, Query()],
) -> Report | HTMLResponse:
    """Scores, iterations, timings and pictures of a project; as a page for people."""
    report = await assemble(services.store.records, project_id, urls, query.version)
    accept = request.headers.get("accept", "")
    if query.format == "json" or (query.format is None and not prefers_html(accept)):
        return report
    # For the page alone: a report as JSON is a few rows.
    making = await taken_soon(services.budgets.pages, client, 1, services.limits.download_wait_s)
    with making:
        blobs, wanted = services.store.blobs, wanted_pictures(report)
        pictures = await services.pictures.data_uris(blobs, wanted)
        html = await asyncio.to_thread(render_html, report, pictures)
    return CountedPage(html, services, client, headers=_PAGE_HEADERS)


@router.get("/{project_id}/manifest", response_model=ManifestAnswer, responses=problems(*ID_ERRORS))
async def get_manifest(services: AppServices, project_id: Id) -> dict[str, Any]:
    """What made the models, and the hash of every file: input of `glimpse3d replay`."""
    store = services.store
    return await manifest_document(store.records, store.blobs, project_id, services.photo_hashes)
