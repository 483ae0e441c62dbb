"""What the HTTP application works with, handed to `create_app`; fakes stand in for it in tests.

It does not know Ray or any route.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

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
    """

    max_upload_bytes: int = MAX_BYTES
    max_wait_s: float = 600.0
    max_queued_jobs: int = 100


@dataclass(frozen=True)
class Services:
    """Everything a route needs. `files` is None when blobs have URLs of their own."""

    store: Store
    background: BackgroundRemover
    readiness: Readiness
    files: FileSource | None = None
    limits: Limits = field(default_factory=Limits)
    public_url: str | None = None
