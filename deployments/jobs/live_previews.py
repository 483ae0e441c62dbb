"""Small models of what a stage has so far: stored, told of as events, and deleted again.

Bounded in number, rate and bytes. None of it is part of the work: what cannot be shown is logged
and forgotten. It does not know how a model came to be, nor who looks at it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from deployments.jobs.commits import LivePreview
from deployments.jobs.job_errors import StaleAttempt
from deployments.jobs.paths import AttemptPaths
from deployments.jobs.rows import Bucket, Lease
from deployments.jobs.stage_progress import StageProgress
from deployments.jobs.store import Store
from pipeline.errors import GlimpseError
from pipeline.file_types import media_type
from pipeline.formats.splat import write_splat
from pipeline.splats.small_model import MOST_LIVE_SPLATS, thinned
from pipeline.types import SplatModel

log = logging.getLogger("ray.serve")

#: Between two live models of an attempt at least so long, and so many of them at most: with
#: `MOST_LIVE_SPLATS` of 32 bytes they are 64 KB a second and 25 MB in all.
PAUSE_S, MOST = 2.0, 200

#: So many files are there at once; an older one goes when a new one has been told of.
KEPT = 3


@dataclass(frozen=True)
class _Offered:
    stage: str
    step: str
    model: SplatModel


class LivePreviews:
    """Those of one attempt."""

    def __init__(self, store: Store, lease: Lease, *, pause_s: float = PAUSE_S) -> None:
        self._store = store
        self._lease = lease
        self._paths = AttemptPaths.of(lease.job, lease.fence)
        self._pause_s = pause_s
        self._newest: _Offered | None = None
        self._offered = asyncio.Event()
        self._files: list[str] = []
        self._count = 0

    @asynccontextmanager
    async def shown(self, progress: StageProgress) -> AsyncIterator[None]:
        """Those of a work's progress are shown inside, and gone behind."""
        progress.on_preview = self.offer
        showing = asyncio.ensure_future(self.run())
        try:
            yield
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
            await self.close()

    def offer(self, stage: str, step: str, model: SplatModel) -> None:
        """The newest one is shown when it is time; it takes the place of one that was not yet."""
        self._newest = _Offered(stage, step, model)
        self._offered.set()

    async def run(self) -> None:
        """Show what is offered until it is cancelled, or there have been enough."""
        while self._count < MOST:
            await self._offered.wait()
            self._offered.clear()
            offered, self._newest = self._newest, None
            if offered is None:
                continue
            began = time.monotonic()
            try:
                await self._show(offered)
            except StaleAttempt:
                return
            except Exception as error:
                unforeseen = not isinstance(error, GlimpseError)
                said = "job %s shows no live model: %s"
                log.warning(said, self._lease.job.id, error, exc_info=unforeseen)
            await asyncio.sleep(max(0.0, self._pause_s - (time.monotonic() - began)))

    async def _show(self, offered: _Offered) -> None:
        small = thinned(offered.model, MOST_LIVE_SPLATS)
        data = await asyncio.to_thread(write_splat, small)
        path = self._paths.live(self._count)
        self._count += 1
        # Named before it is there: what is cancelled in between is deleted, too.
        self._files.append(path)
        await self._put(path, data)
        job = self._lease.job
        preview = LivePreview(offered.stage, offered.step, path, len(small))
        await self._store.records.publish_preview(job.id, self._lease.fence, preview)
        while len(self._files) > KEPT:
            await self._store.blobs.delete(Bucket.MODELS, self._files[:1])
            # Forgotten when it is gone.
            del self._files[0]

    async def _put(self, path: str, data: bytes) -> None:
        put = asyncio.ensure_future(
            self._store.blobs.put(Bucket.MODELS, path, data, media_type(path))
        )
        try:
            await asyncio.shield(put)
        except asyncio.CancelledError:
            # A file that appeared after `close` would stay.
            await asyncio.gather(put, return_exceptions=True)
            raise

    async def close(self) -> None:
        """Delete what is left. What cannot be deleted now is found by the janitor."""
        files, self._files = self._files, []
        if not files:
            return
        try:
            await self._store.blobs.delete(Bucket.MODELS, files)
        except Exception as error:
            unforeseen = not isinstance(error, GlimpseError)
            said = "job %s leaves live models behind: %s"
            log.warning(said, self._lease.job.id, error, exc_info=unforeseen)
