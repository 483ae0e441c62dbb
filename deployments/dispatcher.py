"""The Serve deployment beside the drivers: claims jobs, sends webhooks, keeps the store tidy.

Three services on one store; none takes another down. It knows Serve's life cycle and one handle,
and nothing of jobs. One replica is enough, several do no harm.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ray.serve.handle import DeploymentHandle

from deployments.draining import is_draining
from deployments.handles import translate
from deployments.jobs.claims import STORE_AWAY_S, Call, Claims
from deployments.jobs.janitor import Janitor, JanitorSettings
from deployments.jobs.outbox import Outbox, WebhookRules
from deployments.jobs.rows import Lease
from deployments.jobs.store import Store, StoreSource
from deployments.jobs.supervision import ServiceState, Supervised, repeat
from pipeline.errors import Unavailable

log = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class DispatcherSettings:
    """How jobs are handed out.

    Attributes:
        max_running_jobs: jobs under way at once over all drivers and dispatchers of the store,
            which counts them. Their heavy work queues in the
            lanes; what it buys is that an export waits for no more than one engine's call, not
            for a whole generation.
        poll_s: how often the table is asked for work while there is none.
        lease_s: of the first lease; the driver's heartbeat renews it.
        tidy_s: pause between two rounds of the janitor, and of the outbox.
        webhooks: None: no messages are sent.
    """

    max_running_jobs: int = 4
    poll_s: float = 0.05
    lease_s: float = 15.0
    tidy_s: float = 2.0
    janitor: JanitorSettings = field(default_factory=JanitorSettings)
    webhooks: WebhookRules | None = None


class Dispatcher:
    """Serve wraps this class in the builder."""

    def __init__(
        self, source: StoreSource, driver: DeploymentHandle[Any], settings: DispatcherSettings
    ) -> None:
        self._source = source
        self._driver = driver
        self._settings = settings
        self._stack = AsyncExitStack()
        self._claiming: asyncio.Task[None] | None = None
        self._claims: Claims | None = None
        #: The others, with what keeps them running.
        self._services: dict[Supervised, asyncio.Task[None]] = {}

    async def check_health(self) -> None:
        """Serve calls it from the start and then every few seconds: it keeps the loops alive.

        Raises RuntimeError when claims have ended; Serve then starts another process. Janitor and
        outbox start again by themselves: what they stumble over would be there in a new process
        too, and claims would stop for it.
        """
        if self._claiming is None:
            self._claiming = asyncio.create_task(self._work(), name="claims")
        if self._claiming.done():
            raise RuntimeError(f"the claims ended: {self._claiming.exception()!r}")

    async def services(self) -> dict[str, ServiceState]:
        """How each of the services is, by name."""
        claiming = self._claiming is not None and not self._claiming.done()
        others = {service.name: service.state for service in self._services}
        return {"claims": ServiceState(claiming)} | others

    async def __del__(self) -> None:
        """Serve calls it when it stops this replica."""
        await self.close()

    async def close(self) -> None:
        """Give back at once what no driver has begun."""
        tasks = [*self._services.values(), *([self._claiming] if self._claiming else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._claims is not None:
            await self._claims.give_back()
        await self._stack.aclose()

    async def _work(self) -> None:
        """Open the store, start the other services and claim."""
        store = await self._open()
        janitor = Janitor(store, self._settings.janitor)
        self._start("janitor", partial(repeat, janitor.tidy, self._settings.tidy_s))
        if self._settings.webhooks is not None:
            outbox = Outbox(store.records, self._settings.webhooks, self._settings.tidy_s)
            self._start("outbox", outbox.run)
        self._claims = Claims(
            store.records,
            worker=f"{socket.gethostname()}:{os.getpid()}",
            hand_over=self._hand_over,
            explain=partial(translate, where="the driver"),
            draining=is_draining,
            max_running_jobs=self._settings.max_running_jobs,
            poll_s=self._settings.poll_s,
            lease_s=self._settings.lease_s,
        )
        await self._claims.run()

    def _hand_over(self, lease: Lease) -> Call:
        call: Call = self._driver.run.remote(lease)
        return call

    async def _open(self) -> Store:
        while True:
            try:
                return await self._stack.enter_async_context(self._source.open())
            except Unavailable as error:
                log.warning("the store cannot be opened: %s", error)
                await asyncio.sleep(STORE_AWAY_S)

    def _start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        service = Supervised(name, run)
        self._services[service] = asyncio.create_task(service.keep(), name=name)
