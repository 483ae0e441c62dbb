"""A replica that keeps engines resident and serves their ports.

It knows which ports it hosts, not what a job is. Short calls answer once; long ones stream
(`deployments.streaming`), and stop when the replica that called, named by `caller`, is dead.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
from collections.abc import Awaitable, Callable
from typing import TypeVar

import ray

from deployments.streaming import Streamed, stream
from pipeline.engines import EngineChoice, PortName
from pipeline.errors import ModelFailed
from pipeline.local import LocalPorts, build_ports
from pipeline.options import ExportOptions
from pipeline.ports import (
    EnhancedImages,
    ExportedFile,
    FitRequest,
    Foreground,
    Improvement,
    References,
    RefineRequest,
    Renders,
    ViewRequest,
)
from pipeline.types import Cameras, DepthMaps, Scores, SplatModel, UInt8Array, ViewSet

__all__ = ["ModelHost"]

log = logging.getLogger("ray.serve")

T = TypeVar("T")

#: Longest a single engine call may hold the lane before the replica is called unhealthy. The
#: longest honest one is a fit of 500,000 splats over 10,000 steps.
_HUNG_AFTER_S = 4 * 3600.0

#: Where Serve keeps its replicas; a constant of Serve's own, which it does not export.
SERVE_NAMESPACE = "serve"


class ModelHost:
    """Serve wraps this class in the builder; tests use it as it is."""

    def __init__(
        self, choice: EngineChoice, names: tuple[PortName, ...], *, niceness: int = 0
    ) -> None:
        """Load the engines.

        Args:
            niceness: added to the process's own. Engines fill every core for seconds; answers to
                clients and heartbeats go first where this is positive.
        """
        os.nice(niceness)
        self._names = names
        self._ports: LocalPorts = build_ports(choice, names)
        log.info("engines ready: %s", ", ".join(names))

    async def check_health(self) -> None:
        """Called by Serve off the lane: raises when one call has held the lane for hours."""
        busy_s = self._ports.lane.busy_s
        if busy_s > _HUNG_AFTER_S:
            raise RuntimeError(f"an engine has been running for {busy_s:.0f} s")

    async def peak_memory_bytes(self) -> int:
        """Most memory this process has had at a time since it started, for whichever job."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB

    def _hosted(self, port: T | None, name: PortName) -> T:
        if port is None:
            raise ModelFailed(f"This replica hosts {list(self._names)}, not {name.value}.")
        return port

    async def remove_background(self, rgb: UInt8Array) -> Foreground:
        port = self._hosted(self._ports.background, PortName.BACKGROUND)
        return await port.remove_background(rgb)

    async def synthesize_views(self, request: ViewRequest, caller: str | None) -> Streamed[ViewSet]:
        port = self._hosted(self._ports.views, PortName.VIEWS)
        async for item in stream(
            lambda report: port.synthesize_views(request, report), _lives(caller)
        ):
            yield item

    async def estimate_depth(self, views: ViewSet, caller: str | None) -> Streamed[DepthMaps]:
        port = self._hosted(self._ports.depth, PortName.DEPTH)
        async for item in stream(lambda report: port.estimate_depth(views, report), _lives(caller)):
            yield item

    async def reconstruct(self, request: FitRequest, caller: str | None) -> Streamed[SplatModel]:
        port = self._hosted(self._ports.splats, PortName.SPLATS)
        async for item in stream(lambda report: port.reconstruct(request, report), _lives(caller)):
            yield item

    async def improve(self, request: RefineRequest, caller: str | None) -> Streamed[Improvement]:
        port = self._hosted(self._ports.splats, PortName.SPLATS)
        async for item in stream(lambda report: port.improve(request, report), _lives(caller)):
            yield item

    async def enhance(
        self,
        renders: Renders,
        strength: float,
        prompt: str | None,
        seed: int,
        caller: str | None,
    ) -> Streamed[EnhancedImages]:
        port = self._hosted(self._ports.enhancer, PortName.ENHANCER)
        async for item in stream(
            lambda report: port.enhance(renders, strength, prompt, seed, report), _lives(caller)
        ):
            yield item

    async def export_model(
        self, model: SplatModel, options: ExportOptions, caller: str | None
    ) -> Streamed[ExportedFile]:
        port = self._hosted(self._ports.exporter, PortName.EXPORTER)
        async for item in stream(
            lambda report: port.export_model(model, options, report), _lives(caller)
        ):
            yield item

    async def render(self, model: SplatModel, cameras: Cameras) -> Renders:
        return await self._hosted(self._ports.splats, PortName.SPLATS).render(model, cameras)

    async def evaluate(self, model: SplatModel, references: References) -> Scores:
        return await self._hosted(self._ports.splats, PortName.SPLATS).evaluate(model, references)

    async def engine_name(self) -> str:
        return await self._hosted(self._ports.splats, PortName.SPLATS).engine_name()


def _lives(caller: str | None) -> Callable[[], Awaitable[bool]]:
    """Asks the cluster whether the replica that called, an actor of this name, is alive."""

    async def ask() -> bool:
        if caller is None:
            return True
        try:
            await asyncio.to_thread(ray.get_actor, caller, namespace=SERVE_NAMESPACE)
        except ValueError:
            return False
        return True

    return ask
