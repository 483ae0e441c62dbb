"""What the HTTP application works with, handed to `create_app`; fakes stand in for it in tests.

It does not know Ray or any route.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from fastapi import Request

from deployments.jobs.outbox import WebhookRules
from deployments.jobs.rows import Bucket
from deployments.jobs.store import Store
from pipeline.imaging.images import MAX_BYTES
from pipeline.ports import BackgroundRemover
from serve_app.http.single_flight import SharedCalls
from serve_app.stores.opened import FileSource

__all__ = ["Limits", "Readiness", "Services"]

#: Answers, by name, what is ready ("ok") and what is not (a sentence).
Readiness = Callable[[], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True)
class Limits:
    """What a request may cost.

    Attributes:
        max_upload_bytes: of the photo file.
        max_wait_s: longest a request waits for its job before it is answered with 202.
        max_queued_jobs: above it new jobs are refused with 503.
        upload_timeout_s: longest an upload waits for its turn and for background removal.
        keep_alive_s: a stream of events says something at least so often.
        max_stream_s: a stream of events is closed after so long; the client comes again.
        delete_wait_s: longest a deletion waits for the project's job to stop.
    """

    max_upload_bytes: int = MAX_BYTES
    max_wait_s: float = 600.0
    max_queued_jobs: int = 100
    upload_timeout_s: float = 120.0
    keep_alive_s: float = 15.0
    max_stream_s: float = 300.0
    delete_wait_s: float = 20.0


@dataclass(frozen=True)
class Services:
    """Everything a route needs.

    Attributes:
        files: what is behind the service's own URLs of blobs.
        decoding: uploads that are decoded at once: a photo of 64 megapixels costs hundreds of
            megabytes while it is decoded, and this process serves everybody.
        shared: reads that many clients ask for at the same time.
        webhooks: what a webhook's URL may be; None: webhooks are not configured.
        client_header: header that says who asks, set by a proxy in front of us; None, or a
            request without it: the address that the request came from.
    """

    store: Store
    background: BackgroundRemover
    readiness: Readiness
    files: FileSource
    limits: Limits = field(default_factory=Limits)
    decoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    shared: SharedCalls = field(default_factory=SharedCalls)
    public_url: str | None = None
    webhooks: WebhookRules | None = None
    client_header: str | None = None

    @classmethod
    async def wired(cls, request: Request) -> Services:
        """`of` as a dependency of routes: FastAPI sends plain functions through a thread."""
        return cls.of(request)

    @classmethod
    def of(cls, request: Request) -> Services:
        """The services of the application that handles a request."""
        services: Services = request.app.state.services
        return services

    def url_maker(self, request: Request) -> Callable[[Bucket, str], str]:
        """Makes absolute URLs of blobs, as the client of `request` sees this service."""
        base = (self.public_url or str(request.base_url)).rstrip("/")

        def url(bucket: Bucket, path: str) -> str:
            found = self.store.blobs.url(bucket, path)
            return base + found if found.startswith("/") else found

        return url
