"""Photos into the store, and the photos of a project in another order: all of it, or nothing.

Rows come first, as ones that are on their way: should this process die in between, they say which
files nobody will ever ask for, and the janitor takes them away. It knows no form and no answer.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from deployments.jobs.janitor import delete_photo
from deployments.jobs.paths import original_path, processed_path
from deployments.jobs.photo_rows import DuePhoto, NewPhoto, PhotoRow, PlacedPhoto
from deployments.jobs.rows import Bucket, ProjectDetail, ProjectStatus, Uploaded
from deployments.jobs.store import Store
from pipeline.errors import Conflict, GlimpseError, InvalidInput, NotFound, Unavailable
from pipeline.flow.intake import Upload
from pipeline.flow.manifest import content_hash
from pipeline.flow.photo_list import Direction, GivenPhoto, check_photos
from serve_app.http.problems import Changed
from serve_app.http.removal import remove_project

#: So often in a row somebody else may change a project's photos before a new one is given up.
_TRIES = 5

#: To a client that has seen others than there are by now.
OTHER_PHOTOS = "The photos have been changed meanwhile: look at them and ask again."


async def given_photos(
    photos: Sequence[Upload], directions: Sequence[Direction]
) -> tuple[GivenPhoto, ...]:
    """What decides whether these may stand together."""
    hashes = await asyncio.to_thread(lambda: [content_hash(one.original_png) for one in photos])
    return tuple(map(GivenPhoto, directions, hashes))


async def keep_project(
    store: Store,
    photos: Sequence[Upload],
    given: Sequence[GivenPhoto],
    *,
    client: str,
    key: str | None,
    fingerprint: str,
) -> Uploaded:
    """Store all pictures and the rows of a new project, or nothing.

    Args:
        photos: the first one first.
        given: of each.
    """
    records, project_id = store.records, str(uuid.uuid4())
    # The first one has the documented names.
    rows = [
        _row(project_id, photo, one, folder="" if place == 0 else str(uuid.uuid4()))
        for place, (photo, one) in enumerate(zip(photos, given, strict=True))
    ]
    try:
        await records.begin_upload(project_id, rows)
        await _put(store, rows, photos)
        uploaded = await records.finish_upload(
            project_id, idempotency_key=key, fingerprint=fingerprint, client=client
        )
    except Exception as error:
        kept = None
        # With a store that is away the janitor does it later: the row is uploading or marked.
        with suppress(Unavailable):
            kept = await _give_up_unless_kept(store, project_id)
        if kept is not None:
            return kept
        if isinstance(error, NotFound):
            raise Unavailable.openly("Storing the photo took too long; try again.") from error
        raise
    if not uploaded.created:
        # Somebody sent the same photo with the same key at the same time, and was first.
        with suppress(GlimpseError):
            await remove_project(store, project_id)
    return uploaded


def _row(project_id: str, photo: Upload, given: GivenPhoto, folder: str) -> NewPhoto:
    return NewPhoto(
        id=folder or project_id,
        original_path=original_path(project_id, folder),
        processed_path=processed_path(project_id, folder),
        background_engine=photo.engine,
        sha256=given.sha256,
        side=given.direction.side,
        azimuth_deg=given.direction.azimuth_deg,
        elevation_deg=given.direction.elevation_deg,
        notes=photo.notes,
    )


async def _put(
    store: Store, rows: Sequence[NewPhoto], photos: Sequence[Upload], *, originals: bool = True
) -> None:
    """Both pictures of each, or the cut-outs alone. All have ended when one fails: what is deleted
    then is not written again."""
    puts = [
        store.blobs.put(bucket, path, data, "image/png")
        for row, photo in zip(rows, photos, strict=True)
        for bucket, path, data in (
            (Bucket.UPLOADS, row.original_path, photo.original_png),
            (Bucket.PROCESSED, row.processed_path, photo.processed_png),
        )
        if originals or bucket is not Bucket.UPLOADS
    ]
    for failure in await asyncio.gather(*puts, return_exceptions=True):
        if failure is not None:
            raise failure


async def _give_up_unless_kept(store: Store, project_id: str) -> Uploaded | None:
    """Remove what there is of a project; but when only the answer was lost, it is the project."""
    with suppress(NotFound):
        detail = await store.records.project_detail(project_id)
        if detail.project.status is not ProjectStatus.UPLOADING:
            return Uploaded(detail.project, True, detail.photos)
    with suppress(NotFound):
        await store.records.delete_project(project_id)
    await remove_project(store, project_id)
    return None


class _DoesNotFit(Conflict):
    """Photos that may not stand together, however often it is tried."""


@dataclass(frozen=True)
class Standing:
    """A photo in a project's list of photos."""

    id: str
    given: GivenPhoto


#: A project's photos as they are to be, of those that it has.
Change = Callable[[list[Standing]], list[Standing]]


def standing(photos: Sequence[PhotoRow]) -> list[Standing]:
    """The photos of a project, the first one first."""
    return [Standing(photo.id, photo.given) for photo in photos]


async def arrange(store: Store, project: ProjectDetail, change: Change, **known: Any) -> None:
    """Change the photos of a project, as they were read.

    Args:
        known: of `PhotoRecords.arrange_photos`.

    Raises:
        Conflict: these photos may not stand together, or somebody else has changed them since.
    """
    before = standing(project.photos)
    photos = _still_front(before[0], change(before))
    try:
        check_photos([photo.given for photo in photos])
    except InvalidInput as error:
        # The request is right, and would be for a project with other photos.
        raise _DoesNotFit(error.detail) from error
    await store.records.arrange_photos(
        project.project.id,
        project.project.photos_revision,
        [PlacedPhoto.of(photo.id, photo.given.direction) for photo in photos],
        **known,
    )


def _still_front(first: Standing, photos: list[Standing]) -> list[Standing]:
    """Of a first photo of which nobody said anything it is known that it is the front: not only
    while it is the first, where another side is the first now."""
    if first.given.direction.is_known or photos[0].given.direction.angles[0] is None:
        return photos
    front = replace(first, given=replace(first.given, direction=Direction("front")))
    return [front if photo == first else photo for photo in photos]


@dataclass(frozen=True)
class Asked:
    """The request that brings a photo: who asks, and by which key it is known again."""

    client: str
    key: str | None = None
    fingerprint: str = ""


async def keep_photo(
    store: Store,
    project_id: str,
    photo: Upload,
    direction: Direction,
    change: Callable[[list[Standing], Standing], list[Standing]],
    asked: Asked,
    seen: int | None = None,
    *,
    of: PhotoRow | None = None,
) -> None:
    """Store a further photo and let it stand among the others, or nothing.

    Args:
        change: the project's photos with the new one; asked again when somebody else was faster.
        seen: the only revision of the photos that may be changed; None: any.
        of: the photo that this is another cut-out of, where it is one: they share the original.

    Raises:
        Changed: the photos are not those of `seen` any more.
        IdempotencyMismatch: the key is known with another request.
        GlimpseError: what `change` raises, and as `arrange`.
    """
    records, photo_id = store.records, str(uuid.uuid4())
    (given,) = await given_photos([photo], [direction])
    row, new = _row(project_id, photo, given, folder=photo_id), Standing(photo_id, given)
    if of is not None:
        row = replace(row, original_path=of.original_path)
    own_original = of is None
    try:
        await records.begin_photo(project_id, row)
        await _put(store, [row], [photo], originals=own_original)
        known = {
            "added": photo_id,
            "idempotency_key": asked.key,
            "fingerprint": asked.fingerprint,
            "client": asked.client,
        }
        for tries_left in reversed(range(_TRIES)):
            detail = await records.project_detail(project_id)
            is_changed = seen is not None and detail.project.photos_revision != seen
            try:
                if is_changed:
                    raise Conflict("Nothing is done to other photos than the client has seen.")
                await arrange(store, detail, lambda photos: change(photos, new), **known)
                return
            except Conflict as error:
                # The same request came twice at once, and the other one was first: then the photo
                # does not fit beside itself either.
                if await find_photo(store, asked):
                    await _take_back(store, row, original=own_original)
                    return
                if isinstance(error, _DoesNotFit):
                    raise
                if is_changed:
                    raise Changed(OTHER_PHOTOS) from None
                if tries_left == 0:
                    raise
    except Exception:
        # With a store that is away the janitor does it later: the row is still on its way.
        with suppress(Unavailable):
            if not await _take_back(store, row, original=own_original):
                return  # only the answer was lost
        raise


async def find_photo(store: Store, asked: Asked) -> bool:
    """Whether the request has been answered before. Raises IdempotencyMismatch."""
    if asked.key is None:
        return False
    found = await store.records.find_photo(asked.key, asked.fingerprint, client=asked.client)
    return found is not None


async def _take_back(store: Store, row: NewPhoto, *, original: bool) -> bool:
    """Whether a photo was on its way and is no more, nor are its files.

    Args:
        original: whether that is its own.
    """
    if not await store.records.take_photo_back(row.id):
        return False
    # Whoever fails here leaves a row that the janitor finds.
    with suppress(GlimpseError):
        own = row.original_path if original else None
        await delete_photo(store, DuePhoto(row.id, "", own, row.processed_path))
    return True
