"""The part of the store port that is about photos: add one, arrange them, take one back.

It does not know what is in a photo, nor which photos may stand together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from deployments.jobs.photo_rows import DuePhoto, NewPhoto, PlacedPhoto


class PhotoRecords(Protocol):
    """See `deployments.jobs.store.Records`."""

    async def begin_photo(self, project_id: str, photo: NewPhoto) -> None:
        """Insert a photo that is none of the project's yet, before its files are stored.

        One that stays so is taken back by `due_photos`. Its direction counts for nothing: see
        `arrange_photos`. Raises NotFound, and Conflict while the project is UPLOADING.
        """

    async def find_photo(
        self, idempotency_key: str, fingerprint: str, *, client: str = ""
    ) -> str | None:
        """The id of the photo that the client added with the key; it may be none of the project's
        any more. Raises IdempotencyMismatch."""

    async def arrange_photos(
        self,
        project_id: str,
        revision: int,
        photos: Sequence[PlacedPhoto],
        *,
        added: str | None = None,
        idempotency_key: str | None = None,
        fingerprint: str = "",
        client: str = "",
    ) -> None:
        """These are the project's photos now, in this order: of those that it had, and of those
        that `begin_photo` inserted. Whoever is not among them goes, or is kept where a job works
        with it.

        Args:
            revision: `Project.photos_revision` as the caller has seen it.
            added: the photo that a request with an idempotency key has brought.

        Raises:
            Conflict: the photos are not those of that revision any more.
            NotFound: the project is gone, or one of the photos.
            IdempotencyMismatch: the client's key is known with another fingerprint.
        """

    async def due_photos(self, age_s: float, limit: int = 20) -> tuple[DuePhoto, ...]:
        """Photos that were taken out and no job works with, and those that have been on their way
        for so long that nobody brings them any more: their files are to be deleted."""

    async def take_photo_back(self, photo_id: str) -> bool:
        """Give up a photo of `begin_photo`; whether its files may go, which they may not where it
        is one of the project's by now."""

    async def end_photo(self, photo_id: str) -> None:
        """The files of a photo of `due_photos` are gone; harmless for any other."""
