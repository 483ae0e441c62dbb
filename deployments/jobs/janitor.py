"""Removes what nobody needs any more: files without rows, deleted and expired projects.

Every step may be repeated, by any number of janitors, and interrupted at any point. It knows the
store and how long things are kept; not who runs it, nor how jobs work.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from deployments.jobs.rows import Bucket, Job
from deployments.jobs.store import Store

log = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class JanitorSettings:
    """How long things are kept.

    Attributes:
        history_ttl_s: events, messages and idempotency keys of ended jobs are of use for so long.
        project_ttl_s: a project goes so long after its last job, or its upload; None: never.
        upload_ttl_s: an upload that has not come to its end by then never will.
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
class Janitor:
    """One round of cleaning at a time over an open store."""

    store: Store
    settings: JanitorSettings

    async def tidy(self) -> None:
        """One round. Raises Unavailable when the store is away; the next round goes on."""
        records, settings = self.store.records, self.settings
        await self.store.blobs.tidy(settings.write_limit_s)
        for job in await records.jobs_to_sweep():
            await self._sweep(job)
        await records.expire_uploads(settings.upload_ttl_s)
        await records.forget(settings.history_ttl_s)
        if settings.project_ttl_s is not None:
            for project_id in await records.expire_projects(settings.project_ttl_s):
                log.info("project %s has expired", project_id)
        for project_id in await records.due_deletions(settings.grace_s):
            if await records.purge_project(project_id):
                await delete_files(self.store, project_id)
                await records.end_deletion(project_id, settings.grace_s)

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
            orphans = [path for path in paths if path not in named.get(bucket, frozenset())]
            if orphans:
                await blobs.delete(bucket, orphans)
                log.info("%d files in %s that job %s left", len(orphans), bucket, job.id)
        await self.store.records.mark_swept(job.id)


async def delete_files(store: Store, project_id: str) -> None:
    """Every byte of a project, in every bucket."""
    for bucket in Bucket:
        await store.blobs.delete_prefix(bucket, f"{project_id}/")
