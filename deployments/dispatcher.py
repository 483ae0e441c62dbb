"""Hands jobs to drivers, tells webhooks of their end, and keeps the store tidy.

It knows the job table and one handle, and has no state of its own: what is lost with it is claimed
again when leases expire. One replica is enough, several do no harm.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from ray.serve.handle import DeploymentHandle

from deployments.draining import is_draining
from deployments.handles import translate
from deployments.jobs.janitor import Janitor, JanitorSettings
from deployments.jobs.outbox import WebhookRules, WebhookSender, send_due
from deployments.jobs.rows import JobError, JobState, Lease
from deployments.jobs.store import Store, StoreSource
from pipeline.errors import GlimpseError, Unavailable

__all__ = ["Dispatcher", "DispatcherSettings"]

log = logging.getLogger("ray.serve")

#: How often a job that waits for a driver is looked at: its lease, and whether it is to stop.
_HOLD_S = 1.0

#: Webhooks under way at once: a receiver that does not answer must not hold up the others.
_SENDERS = 3

#: Pause after the store did not answer.
_STORE_AWAY_S = 1.0


@dataclass(frozen=True)
class DispatcherSettings:
    """How jobs are handed out.

    Attributes:
        max_running_jobs: jobs under way at once over all drivers. Their heavy work queues in the
            lanes; what it buys is that an export waits for no more than one engine's call, not
            for a whole generation.
        poll_s: how often the table is asked for work while there is none.
        lease_s: of the first lease; the driver's heartbeat renews it.
        tidy_s: pause between two rounds of the janitor.
        webhooks: None: nobody is told.
    """

    max_running_jobs: int = 4
    poll_s: float = 0.05
    lease_s: float = 15.0
    tidy_s: float = 2.0
    janitor: JanitorSettings = field(default_factory=JanitorSettings)
    webhooks: WebhookRules | None = None


class Dispatcher:
    """The Serve deployment. Serve wraps this class in the builder."""

    def __init__(
        self, source: StoreSource, driver: DeploymentHandle[Any], settings: DispatcherSettings
    ) -> None:
        self._source = source
        self._driver = driver
        self._settings = settings
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._stack = AsyncExitStack()
        self._store: Store | None = None
        self._running: set[asyncio.Task[None]] = set()
        #: Claimed, and no driver has begun.
        self._waiting: dict[str, Lease] = {}
        self._loops: list[asyncio.Task[None]] = []

    async def check_health(self) -> None:
        """Serve calls it from the start and then every few seconds: it keeps the loops alive."""
        if not self._loops:
            self._loops = [asyncio.create_task(self._work(), name="dispatcher")]
        for loop in self._loops:
            if loop.done():
                raise RuntimeError(f"{loop.get_name()} ended: {loop.exception()!r}")

    async def __del__(self) -> None:
        """Serve calls it when it stops this replica."""
        await self.close()

    async def close(self) -> None:
        """Give back at once what no driver has begun."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        if self._store is not None:
            for lease in [*self._waiting.values()]:
                await self._release(self._store, lease, None)
        await self._stack.aclose()

    async def _work(self) -> None:
        while self._store is None:
            try:
                self._store = await self._stack.enter_async_context(self._source.open())
            except Unavailable as error:
                log.warning("the store cannot be opened: %s", error)
                await asyncio.sleep(_STORE_AWAY_S)
        store = self._store
        janitor = Janitor(store, self._settings.janitor)
        chores = [self._claim_for_ever(store), _again(janitor.tidy, self._settings.tidy_s)]
        if self._settings.webhooks is not None:
            chores.append(self._tell_for_ever(store, self._settings.webhooks))
        # One that ends takes the others with it; then `check_health` says so.
        async with asyncio.TaskGroup() as group:
            for chore in chores:
                group.create_task(chore)

    async def _tell_for_ever(self, store: Store, rules: WebhookRules) -> None:
        async with WebhookSender(rules) as sender:

            async def tell_all() -> None:
                while await send_due(store.records, sender):
                    pass

            await asyncio.gather(
                *(_again(tell_all, self._settings.tidy_s) for _ in range(_SENDERS))
            )

    async def _claim_for_ever(self, store: Store) -> None:
        while not is_draining():
            lease = await self._claim(store)
            if lease is None:
                await asyncio.sleep(self._settings.poll_s)
                continue
            self._waiting[lease.job.id] = lease
            task = asyncio.create_task(self._drive(store, lease))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        await asyncio.Event().wait()  # until `__del__`

    async def _claim(self, store: Store) -> Lease | None:
        if len(self._running) >= self._settings.max_running_jobs:
            return None
        try:
            return await store.records.claim_job(self._worker, self._settings.lease_s)
        except GlimpseError as error:
            log.warning("no job could be claimed: %s", error)
            await asyncio.sleep(_STORE_AWAY_S)
            return None

    async def _drive(self, store: Store, lease: Lease) -> None:
        """One attempt: hand the lease to a driver and see to its end."""
        call = self._driver.run.remote(lease)
        holder = asyncio.create_task(self._hold(store, lease, call.cancel))
        try:
            await call
        except Exception as error:
            # A driver that died cannot give the job back: do it now instead of waiting for the
            # lease to expire. A newer attempt's fence makes this harmless, and so does its end.
            log.warning("the driver of job %s is gone: %r", lease.job.id, error)
            failure = translate(error, "the driver")
            reason = JobError(failure.code, failure.detail, lease.job.stage, failure.retryable)
            await self._release(store, lease, reason)
        finally:
            holder.cancel()
            self._waiting.pop(lease.job.id, None)

    async def _hold(self, store: Store, lease: Lease, cancel_call: Callable[[], Any]) -> None:
        """Renew the lease while the call waits for a driver; the driver's heartbeat goes on.

        A claim has no stage until the driver's first heartbeat.
        """
        job_id, fence = lease.job.id, lease.fence
        while True:
            await asyncio.sleep(_HOLD_S)
            try:
                if (await store.records.get_job(job_id)).stage:
                    break
                beat = await store.records.heartbeat(
                    job_id, fence, lease_s=self._settings.lease_s, stage="", progress=0
                )
                if beat.cancel_requested and beat.owned:
                    await store.records.finish_job(job_id, fence, state=JobState.CANCELLED)
                if beat.cancel_requested or not beat.owned:
                    cancel_call()
                    break
            except GlimpseError as error:
                log.warning("lease of job %s: %s", job_id, error)
        self._waiting.pop(job_id, None)

    async def _release(self, store: Store, lease: Lease, error: JobError | None) -> None:
        try:
            await store.records.release_job(lease.job.id, lease.fence, error)
        except GlimpseError as problem:
            log.info("job %s was not released: %s", lease.job.id, problem)


async def _again(chore: Callable[[], Awaitable[None]], pause_s: float) -> None:
    """Do a chore for ever. What the store or the network refuses today may work in a moment."""
    while True:
        try:
            await chore()
        except GlimpseError as error:
            log.warning("a chore is put off: %s", error)
        await asyncio.sleep(pause_s)
