"""The Serve deployment that runs jobs: opens the store and hands leases to a `JobRunner`.

It knows Serve's life cycle and nothing of jobs.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack

from deployments.draining import is_draining
from deployments.handles import HandlePorts
from deployments.jobs.rows import Lease
from deployments.jobs.runner import JobRunner, RunnerSettings
from deployments.jobs.store import StoreSource


class Driver:
    """Serve wraps this class in the builder; tests use it as it is."""

    def __init__(
        self, source: StoreSource, handles: HandlePorts, settings: RunnerSettings, niceness: int = 0
    ) -> None:
        """`niceness` is added to the process's own: a driver encodes and compresses files, and
        answers to clients go first where it is positive."""
        os.nice(niceness)
        self._source = source
        self._handles = handles
        self._settings = settings
        self._stack = AsyncExitStack()
        self._runner: JobRunner | None = None
        self._opening = asyncio.Lock()

    async def check_health(self) -> None:
        """Serve calls it before it sends jobs here, and then every few seconds.

        Raises what opening the store raises: Serve then starts another driver, perhaps on another
        node, and this one gets no jobs.
        """
        await self._open()

    async def run(self, lease: Lease) -> None:
        """Work on a job until it ends, is cancelled or the lease is lost."""
        runner = await self._open()
        await runner.run(lease)

    async def _open(self) -> JobRunner:
        async with self._opening:
            if self._runner is None:
                store = await self._stack.enter_async_context(self._source.open())
                ports, meters = self._handles.ports(), self._handles.meters()
                self._runner = JobRunner(
                    store,
                    ports,
                    self._settings,
                    meters,
                    is_draining,
                    devices=self._handles.devices,
                )
        return self._runner

    async def __del__(self) -> None:
        await self._stack.aclose()
