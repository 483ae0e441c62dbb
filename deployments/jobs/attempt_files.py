"""The files of one attempt: stored, hashed, and deleted again where no row came to name them.

It knows buckets, paths and bytes; not what is in a file, nor which rows are committed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from deployments.jobs.job_errors import StaleAttempt
from deployments.jobs.paths import AttemptPaths
from deployments.jobs.rows import Bucket
from deployments.jobs.store import Blobs
from pipeline.errors import GlimpseError, NotFound
from pipeline.file_types import media_type
from pipeline.flow.manifest import content_hash

log = logging.getLogger("ray.serve")


class AttemptFiles:
    """What an attempt puts and gets. `paths` says where it writes.

    A store that does not answer is not asked again here: it tries by itself where that helps.
    """

    def __init__(self, blobs: Blobs, paths: AttemptPaths, job_id: str) -> None:
        self.paths = paths
        self._blobs = blobs
        self._job_id = job_id
        #: What was stored since the last commit, with its bucket: no row names it yet.
        self._loose: list[tuple[Bucket, str]] = []
        #: Content hashes of the same, by documented name.
        self._hashes: dict[str, str] = {}

    async def put_all(self, bucket: Bucket, files: Mapping[str, bytes]) -> None:
        """Upload files, path -> bytes, side by side."""
        # Not a TaskGroup: callers want the store's own error, not a group of them.
        self._loose += [(bucket, path) for path in files]
        puts = asyncio.gather(
            *(self._blobs.put(bucket, p, d, media_type(p)) for p, d in files.items()),
            return_exceptions=True,
        )
        try:
            answers = await asyncio.shield(puts)
        except asyncio.CancelledError:
            # A file that appeared after `discard` would stay for ever.
            await puts
            raise
        for answer in answers:
            if answer is not None:
                raise answer
        hashes = await asyncio.to_thread(lambda: [content_hash(data) for data in files.values()])
        self._hashes |= zip(map(self.paths.documented, files), hashes, strict=True)

    async def get(self, bucket: Bucket, path: str) -> bytes:
        """One file. Raises NotFound."""
        return await self._blobs.get(bucket, path)

    async def get_all(self, bucket: Bucket, paths: Mapping[str, str]) -> dict[str, bytes]:
        """Download files, name -> path, side by side; name -> bytes."""
        parts = await asyncio.gather(*(self.get(bucket, path) for path in paths.values()))
        return dict(zip(paths, parts, strict=True))

    @contextmanager
    def committing(self) -> Iterator[dict[str, str]]:
        """Around the commit whose rows name what was stored since the last one; its hashes.

        From here until the store has said no, rows may name the files: only a refusal makes them
        loose again.
        """
        loose, self._loose = self._loose, []
        try:
            yield dict(sorted(self._hashes.items()))
        except (StaleAttempt, NotFound):
            self._loose = loose
            raise
        self._hashes.clear()

    async def discard(self) -> None:
        """Delete what was stored and not committed; the attempt will not go on.

        What cannot be deleted now is found when the job has ended (`deployments.jobs.janitor`).
        """
        by_bucket: dict[Bucket, list[str]] = {}
        for bucket, path in self._loose:
            by_bucket.setdefault(bucket, []).append(path)
        self._loose.clear()
        for bucket, paths in by_bucket.items():
            try:
                await self._blobs.delete(bucket, paths)
            except GlimpseError as error:
                log.warning("job %s leaves files behind: %s", self._job_id, error)
