"""Removes what nobody needs any more: files without rows, photos, deleted and expired projects.

Every step may be repeated, by any number of janitors, and interrupted at any point. It knows the
store and how long things are kept; not who runs it, nor how jobs work.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from deployments.jobs.paths import is_edit
from deployments.jobs.photo_rows import DuePhoto
from deployments.jobs.rows import Bucket, Job
from deployments.jobs.store import Store
from pipeline.errors import GlimpseError, Unavailable

log = logging.getLogger("ray.serve")

T = TypeVar("T")

#: What a chore asks for in a round, beside what waits after a failure.
_AT_ONCE = 20

#: At most of both; the store answers no more.
_MOST = 10_000

#: Before a project that failed is tried again: after the first time, and at most. Each pause is
#: twice the one before.
_PAUSE_S = (10.0, 600.0)

#: So many projects in a row that the store did not answer for: it is away, and so are the others.
_STORE_IS_AWAY_AFTER = 3


@dataclass(frozen=True)
class JanitorSettings:
    """How long things are kept.

    Attributes:
        history_ttl_s: events, messages and idempotency keys of ended jobs are of use for so long.
        project_ttl_s: a project goes so long after its last job, or its upload; None: never.
        upload_ttl_s: an upload, or a further photo, that has not come to its end by then never
            will.
        write_limit_s: a file that is being written for so long never will be whole.
        grace_s: files of a deleted project are looked for once more after so long: a driver that
            was frozen may have written in the meantime.
    """

    history_ttl_s: float = 7 * 24 * 3600.0
    project_ttl_s: float | None = None
    upload_ttl_s: float = 600.0
    write_limit_s: float = 3600.0
    grace_s: float = 600.0


@dataclass(frozen=True)
class _Failure:
    """How often in a row something failed, with what kind of error, and when it is tried again."""

    times: int
    kind: str
    again_at: float


@dataclass(frozen=True)
class Janitor:
    """One round of cleaning at a time over an open store.

    Chores do not depend on each other, nor projects within a chore: what fails is logged once,
    waits behind the others, and is tried again after pauses that grow.
    """

    store: Store
    settings: JanitorSettings
    #: By chore and what it is done for: a project, a job, or "".
    _failures: dict[tuple[str, str], _Failure] = field(default_factory=dict)

    async def tidy(self) -> None:
        """One round. Raises nothing: what failed is tried again in a later one."""
        records, blobs, settings = self.store.records, self.store.blobs, self.settings
        grace_s, ttl_s = settings.grace_s, settings.project_ttl_s
        await self._do("half-written files", partial(blobs.tidy, settings.write_limit_s))
        await self._for_each(
            "files without rows", records.jobs_to_sweep, lambda job: job.id, self._sweep
        )
        await self._do("uploads", partial(records.expire_uploads, settings.upload_ttl_s))
        due_photos = partial(records.due_photos, settings.upload_ttl_s)
        await self._for_each("photos", due_photos, lambda photo: photo.id, self._remove_photo)
        await self._do("history", partial(records.forget, settings.history_ttl_s))
        if ttl_s is not None:
            await self._do("expired projects", partial(self._expire, ttl_s))
        await self._for_each(
            "deletions", partial(records.due_deletions, grace_s), str, self._delete
        )

    async def _for_each(
        self,
        chore: str,
        ask: Callable[[int], Awaitable[tuple[T, ...]]],
        name_of: Callable[[T], str],
        work: Callable[[T], Awaitable[None]],
    ) -> None:
        """Do a chore for each that it is due for; `ask` takes how many at most."""
        waiting = {name for of, name in self._failures if of == chore and name}
        due: tuple[T, ...] = ()

        async def look() -> None:
            nonlocal due
            due = await ask(min(_AT_ONCE + len(waiting), _MOST))

        if not await self._do(chore, look):
            return
        for name in waiting - {name_of(item) for item in due}:
            del self._failures[chore, name]
        in_a_row = 0
        for item in due:
            failure = self._failures.get((chore, name_of(item)))
            if failure is not None and time.monotonic() < failure.again_at:
                continue
            if await self._do(chore, partial(work, item), name_of(item)):
                in_a_row = 0
            elif self._failures[chore, name_of(item)].kind == Unavailable.__name__:
                in_a_row += 1
            if in_a_row >= _STORE_IS_AWAY_AFTER:
                return

    async def _do(self, chore: str, work: Callable[[], Awaitable[object]], name: str = "") -> bool:
        """Whether it succeeded."""
        before = self._failures.get((chore, name))
        try:
            await work()
        except Exception as error:
            first_s, longest_s = _PAUSE_S
            times = 1 if before is None else before.times + 1
            pause_s = min(first_s * 2.0 ** min(times - 1, 30), longest_s)
            kind = type(error).__name__
            self._failures[chore, name] = _Failure(times, kind, time.monotonic() + pause_s)
            if before is None or before.kind != kind:
                what = f"{chore} of {name}" if name else chore
                unforeseen = not isinstance(error, GlimpseError)
                log.warning("the janitor puts off %s: %s", what, error, exc_info=unforeseen)
            return False
        if before is not None:
            del self._failures[chore, name]
            log.info("the janitor does %s %s again, after %d failures", chore, name, before.times)
        return True

    async def _expire(self, ttl_s: float) -> None:
        for project_id in await self.store.records.expire_projects(ttl_s):
            log.info("project %s has expired", project_id)

    async def _remove_photo(self, photo: DuePhoto) -> None:
        await delete_photo(self.store, photo)

    async def _delete(self, project_id: str) -> None:
        records = self.store.records
        if await records.purge_project(project_id):
            await delete_files(self.store, project_id)
            await records.end_deletion(project_id, self.settings.grace_s)

    async def _sweep(self, job: Job) -> None:
        """Delete what attempts of an ended job left without a row, when they were killed."""
        blobs = self.store.blobs
        # Listed before the rows are read: a job that begins meanwhile writes other files, and the
        # rows then say that the project is busy.
        found = {bucket: await blobs.list_prefix(bucket, f"{job.project_id}/") for bucket in Bucket}
        named = await self.store.records.referenced_paths(job.project_id)
        if named is None:
            return
        for bucket, paths in found.items():
            # A picture for a view is stored before its row, and beside no job.
            orphans = [
                path
                for path in paths
                if path not in named.get(bucket, frozenset()) and not is_edit(job.project_id, path)
            ]
            if orphans:
                await blobs.delete(bucket, orphans)
                log.info("%d files in %s that job %s left", len(orphans), bucket, job.id)
        await self.store.records.mark_swept(job.id)


async def delete_photo(store: Store, photo: DuePhoto) -> None:
    """The files of a photo that is none of its project's, then its row."""
    files = ((Bucket.UPLOADS, photo.original_path), (Bucket.PROCESSED, photo.processed_path))
    for bucket, path in files:
        if path is not None:
            await store.blobs.delete(bucket, [path])
    await store.records.end_photo(photo.id)


async def delete_files(store: Store, project_id: str) -> None:
    """Every byte of a project, in every bucket, as far as that is possible.

    Raises what the first bucket raised that could not be emptied.
    """
    failure: Exception | None = None
    for bucket in Bucket:
        try:
            await store.blobs.delete_prefix(bucket, f"{project_id}/")
        except Exception as error:
            failure = failure or error
    if failure is not None:
        raise failure
