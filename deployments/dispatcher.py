"""Claims jobs and hands them to drivers. One replica, without state of its own.

It knows the job table and one handle; what is lost with it is claimed again when leases expire.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from dataclasses import dataclass
from typing import Any

from ray.serve.handle import DeploymentHandle

from deployments.handles import translate
from deployments.store import JobError, Lease, Store, StoreSource
from pipeline.errors import GlimpseError

__all__ = ["Dispatcher", "DispatcherSettings"]

log = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class DispatcherSettings:
    """How jobs are handed out.

    Attributes:
        max_running_jobs: jobs under way at once over all drivers. Their heavy work queues in the
            lanes; what it buys is that an export waits for no more than one engine's call, not
            for a whole generation.
        poll_s: how often the table is asked for work while there is none.
        lease_s: of the first lease; the driver's heartbeat renews it.
    """

    max_running_jobs: int = 4
    poll_s: float = 0.1
    lease_s: float = 15.0


class Dispatcher:
    """The Serve deployment. Serve wraps this class in the builder."""

    def __init__(
        self, source: StoreSource, driver: DeploymentHandle[Any], settings: DispatcherSettings
    ) -> None:
        self._source = source
        self._driver = driver
        self._settings = settings
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._running: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None

    async def check_health(self) -> None:
        """Serve calls it from the start and then every few seconds: it keeps the loop alive."""
        if self._loop is None:
            self._loop = asyncio.create_task(self._claim_for_ever())
        elif self._loop.done():
            raise RuntimeError(f"the claim loop ended: {self._loop.exception()!r}")

    async def _claim_for_ever(self) -> None:
        async with self._source.open() as store:
            while True:
                lease = await self._claim(store)
                if lease is None:
                    await asyncio.sleep(self._settings.poll_s)
                    continue
                task = asyncio.create_task(self._drive(store, lease))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def _claim(self, store: Store) -> Lease | None:
        if len(self._running) >= self._settings.max_running_jobs:
            return None
        try:
            return await store.records.claim_job(self._worker, self._settings.lease_s)
        except GlimpseError as error:
            log.warning("no job could be claimed: %s", error)
            await asyncio.sleep(1.0)
            return None

    async def _drive(self, store: Store, lease: Lease) -> None:
        """One attempt: hand the lease to a driver and see to its end."""
        holder = asyncio.create_task(self._hold(store, lease))
        try:
            await self._driver.run.remote(lease)
        except Exception as error:
            # A driver that died cannot give the job back: do it now instead of waiting for the
            # lease to expire. A newer attempt's fence makes this harmless.
            log.warning("the driver of job %s is gone: %r", lease.job.id, error)
            failure = translate(error, "the driver")
            reason = JobError(failure.code, failure.detail, lease.job.stage, failure.retryable)
            try:
                await store.records.release_job(lease.job.id, lease.fence, reason)
            except GlimpseError as problem:
                log.info("job %s was not released: %s", lease.job.id, problem)
        finally:
            holder.cancel()

    async def _hold(self, store: Store, lease: Lease) -> None:
        """Renew the lease while the call waits for a driver; the driver's heartbeat goes on.

        A claim has no stage until the driver's first heartbeat.
        """
        while True:
            await asyncio.sleep(self._settings.lease_s / 4)
            try:
                if (await store.records.get_job(lease.job.id)).stage:
                    return
                await store.records.heartbeat(
                    lease.job.id, lease.fence, lease_s=self._settings.lease_s, stage="", progress=0
                )
            except GlimpseError as error:
                log.warning("lease of job %s: %s", lease.job.id, error)
