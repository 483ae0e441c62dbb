"""What the HTTP application works with, handed to `create_app`; fakes stand in for it in tests.

It does not know Ray or any route.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fastapi import Request

from deployments.store import Bucket, Store
from pipeline.images import MAX_BYTES
from pipeline.ports import BackgroundRemover

__all__ = ["FileSource", "Limits", "Readiness", "Services"]

#: Answers, by name, what is ready ("ok") and what is not (a sentence).
Readiness = Callable[[], Awaitable[Mapping[str, str]]]


class FileSource(Protocol):
    """Blobs that this service hands out itself, under signed URLs."""

    def verify(self, bucket: str, path: str, expires: str, signature: str) -> bool:
        """Whether a URL was signed by us for this file and has not expired."""

    def open_path(self, bucket: Bucket, path: str) -> Path:
        """The file on disk. Raises NotFound."""


@dataclass(frozen=True)
class Limits:
    """What a request may cost.

    Attributes:
        max_upload_bytes: of the photo file.
        max_wait_s: longest a request waits for its job before it is answered with 202.
        max_queued_jobs: above it new jobs are refused with 503.
        upload_timeout_s: longest an upload waits for its turn and for background removal.
    """

    max_upload_bytes: int = MAX_BYTES
    max_wait_s: float = 600.0
    max_queued_jobs: int = 100
    upload_timeout_s: float = 120.0


@dataclass(frozen=True)
class Services:
    """Everything a route needs.

    Attributes:
        files: None when blobs have URLs of their own.
        decoding: uploads that are decoded at once: a photo of 64 megapixels costs hundreds of
            megabytes while it is decoded, and this process serves everybody.
    """

    store: Store
    background: BackgroundRemover
    readiness: Readiness
    files: FileSource | None = None
    limits: Limits = field(default_factory=Limits)
    decoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    public_url: str | None = None

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
