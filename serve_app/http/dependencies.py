"""What the HTTP application works with, handed to `create_app`; fakes stand in for it in tests.

It does not know Ray or any route.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

from fastapi import Depends, Request
from pydantic import AfterValidator

from deployments.jobs.outbox import WebhookRules
from deployments.jobs.rows import Bucket
from deployments.jobs.store import Blobs, Store
from pipeline.engines.registry import EngineChoice
from pipeline.imaging.decoding import MAX_BYTES
from pipeline.ports import BackgroundRemover
from serve_app.http.budgets import Budget, client_of
from serve_app.http.reach import Reach
from serve_app.http.single_flight import SingleFlight
from serve_app.report.pictures import SmallPictures
from serve_app.report.project_manifest import PhotoHashes
from serve_app.stores.opened import FileSource

_UUID = re.compile("[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")

#: Answers, by name, what is ready ("ok") and what is not (a sentence that anyone may read).
Readiness = Callable[[], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True)
class Limits:
    """What a request may cost.

    Attributes:
        max_upload_bytes: of a photo file.
        max_json_bytes: of every other body.
        max_url_bytes: of path and query.
        max_header_bytes: of all headers of a request.
        max_headers: of a request.
        body_timeout_s: longest that a body which is no photo may take to arrive.
        max_arriving: such bodies, of those that do not come at once, that are waited for.
        max_wait_s: longest a request waits for its job before it is answered with 202.
        max_running_jobs: so many are worked on at once; it is only told.
        max_queued_jobs: above it new jobs are refused with 503.
        upload_timeout_s: longest an upload waits for its turn and for background removal.
        keep_alive_s: a stream of events says something at least so often.
        max_stream_s: a stream of events is closed after so long; the client comes again.
        delete_wait_s: longest a deletion waits for the project's job to stop.
        max_uploads: photos that are read, wait or are worked on at once; of a body with several
            as many as its length has room for, and of one that does not say its length the most.
        max_waiting: requests that wait for a job at once.
        max_streams: streams of events that are open at once.
        max_downloads: files that are on their way to clients at once.
        max_download_bytes: of these files, and of pages of reports.
        max_pages: pages of reports that are made at once.
        download_wait_s: longest a file waits for others to arrive.
        client_share: of everything that is limited by number, for one client.
    """

    max_upload_bytes: int = MAX_BYTES
    max_json_bytes: int = 64 * 1024
    max_url_bytes: int = 8 * 1024
    max_header_bytes: int = 32 * 1024
    max_headers: int = 100
    body_timeout_s: float = 20.0
    max_arriving: int = 32
    max_wait_s: float = 600.0
    max_running_jobs: int = 4
    max_queued_jobs: int = 100
    upload_timeout_s: float = 120.0
    keep_alive_s: float = 15.0
    max_stream_s: float = 300.0
    delete_wait_s: float = 20.0
    max_uploads: int = 32
    max_waiting: int = 160
    max_streams: int = 160
    max_downloads: int = 64
    max_download_bytes: int = 256 * 1024 * 1024
    download_wait_s: float = 10.0
    max_pages: int = 4
    client_share: float = 0.5

    @property
    def max_photos_bytes(self) -> int:
        """Of the files of one upload together: eight of the largest would be no photos of a
        phone, and lie on this machine's disk while they wait."""
        return 4 * self.max_upload_bytes

    @property
    def held_for_long(self) -> int:
        """Most requests that are held longer than an answer takes, at once in this process."""
        once = self.max_arriving + self.max_uploads + self.max_downloads
        return once + self.max_waiting + self.max_streams


class Budgets:
    """What requests may hold at once in this process.

    Attributes:
        arriving: bodies, without photos, that are slow to come.
        uploads: photos from their first byte until they are kept.
        waiting: requests that wait for a job.
        streams: streams of events.
        pages: of reports, while they are made.
        downloads, download_bytes: files until their clients have them.
    """

    def __init__(self, limits: Limits) -> None:
        share = limits.client_share
        self.arriving = Budget("bodies on their way", limits.max_arriving, share)
        self.uploads = Budget("uploads", limits.max_uploads, share)
        self.waiting = Budget("requests that wait for a job", limits.max_waiting, share)
        self.streams = Budget("streams of events", limits.max_streams, share)
        self.pages = Budget("pages that are made", limits.max_pages, share)
        self.downloads = Budget("downloads", limits.max_downloads, share)
        self.download_bytes = Budget("bytes on their way", limits.max_download_bytes, share)


@dataclass(frozen=True)
class Services:
    """Everything a route needs.

    Attributes:
        files: what is behind the service's own URLs of blobs.
        decoding: uploads that are decoded at once: a photo of 64 megapixels costs hundreds of
            megabytes while it is decoded, and this process serves everybody.
        pictures, photo_hashes: what reports and manifests need of files, made lately.
        reads: reads that many clients ask for at the same time.
        reach: by which addresses clients come.
        webhooks: what a webhook's URL may be; None: webhooks are not configured.
        client_header: header that says who asks, set by a proxy in front of us; None, or a
            request without it: the address that the request came from (`ClientWord`).
        engines: what the models are; what they cannot do is refused before there is a job.
    """

    store: Store
    background: BackgroundRemover
    readiness: Readiness
    files: FileSource
    limits: Limits = field(default_factory=Limits)
    decoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    pictures: SmallPictures = field(default_factory=SmallPictures)
    photo_hashes: PhotoHashes = field(default_factory=PhotoHashes)
    reads: SingleFlight = field(default_factory=SingleFlight)
    reach: Reach = field(default_factory=Reach)
    webhooks: WebhookRules | None = None
    client_header: str | None = None
    engines: EngineChoice = field(default_factory=EngineChoice)

    @cached_property
    def budgets(self) -> Budgets:
        """What is held now, and how much of it there may be."""
        return Budgets(self.limits)


@dataclass(frozen=True)
class BlobUrls:
    """Absolute URLs of blobs and of the service's own paths, as one client sees them: this service
    is at `base` for it, without a slash at its end."""

    blobs: Blobs
    base: str

    def __call__(self, bucket: Bucket, path: str) -> str:
        url = self.blobs.url(bucket, path)
        return self.base + url if url.startswith("/") else url

    def of(self, path: str) -> str:
        """Of a path of the service, such as `/api/v1/queue`."""
        return self.base + path


# Coroutine functions, because FastAPI sends plain ones through a thread.


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


#: The services of the application that handles a request.
AppServices = Annotated[Services, Depends(_services)]


def _canonical(text: str) -> str:
    """An id as rows have it: a UUID may be written in capital letters (RFC 9562)."""
    return text.lower() if _UUID.fullmatch(text) else text


#: Of a project or a job, in a path.
Id = Annotated[str, AfterValidator(_canonical)]


async def _client_urls(request: Request, services: AppServices) -> BlobUrls:
    base = services.reach.public_url or str(request.base_url)
    return BlobUrls(services.store.blobs, base.rstrip("/"))


#: Makes the URLs in the answer to a request.
ClientUrls = Annotated[BlobUrls, Depends(_client_urls)]


async def _client_word(request: Request, services: AppServices) -> str:
    return client_of(request, services.client_header)


#: Who asks: a word that tells clients apart and names nobody. Clients take turns by it, and each
#: has idempotency keys of its own.
ClientWord = Annotated[str, Depends(_client_word)]
