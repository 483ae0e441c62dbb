"""What the application asks of a store beyond the two ports of `deployments.jobs.store`."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deployments.jobs.rows import Bucket
from deployments.jobs.store import Store

#: A client that was sent on to another URL of a file may remember it for so long.
SENT_ON_FOR_S = 600


class FileSource(Protocol):
    """What is behind signed URLs of this service."""

    def verify(self, bucket: str, path: str, expires: str, signature: str) -> bool:
        """Whether a URL was signed by us for this file and has not expired."""

    async def locate(self, bucket: Bucket, path: str) -> Path | str:
        """The file on disk, or a URL that works for `SENT_ON_FOR_S` at least. Raises NotFound."""


@dataclass(frozen=True)
class ServedStore(Store):
    """An opened store with what the `/files` route hands out."""

    files: FileSource


@dataclass(frozen=True)
class Pace:
    """How often a store is asked by those who ask for ever.

    Attributes:
        poll_s: whether there is a job.
        tidy_s: pause between two rounds of the janitor.
    """

    poll_s: float
    tidy_s: float


class Stores(Protocol):
    """Settings of a store: plain values, picklable, a `deployments.jobs.store.StoreSource`."""

    @property
    def pace(self) -> Pace: ...

    def prepare(self) -> Stores:
        """Start and migrate what needs it; settings that `open` takes, in any process. Blocks."""

    def for_keeper(self) -> Stores:
        """For the one process that starts again what `prepare` started and what ended since."""

    @property
    def is_of_one_node(self) -> bool:
        """Other machines cannot reach the rows."""

    def stop(self) -> None:
        """Give up what `prepare` started; harmless when it started nothing."""

    def open(self) -> AbstractAsyncContextManager[ServedStore]:
        """Connect; leaving the context closes every connection."""
