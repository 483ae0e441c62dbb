"""A replica that keeps engines resident and serves their ports.

It knows which ports it hosts, not what a job is. Short calls answer once; long ones stream
(`deployments.streaming`), and stop when the replica that called, named by `caller`, is dead.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar

import ray

from deployments.batching import Batched, BatchSettings
from deployments.jobs.job_errors import TooBusy
from deployments.jobs.peak_memory import PeakMemory, resident_gauge
from deployments.streaming import Streamed, stream
from pipeline.engines.registry import EngineChoice
from pipeline.errors import ModelFailed, Unavailable
from pipeline.flow.local import Laned, LocalPorts, build_ports
from pipeline.lane import Lane
from pipeline.options import ExportOptions
from pipeline.ports import PortName, SplatEngine
from pipeline.requests import (
    EnhancedImages,
    EnhanceSettings,
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

log = logging.getLogger("ray.serve")

T = TypeVar("T")

#: A call that goes on for so long after it was asked to stop hangs: only a new process helps the
#: calls behind it. Steps of honest engines take less.
_STUCK_AFTER_S = 30.0

#: Where one hangs, no further call is let in behind it after so long.
_HANGS_AFTER_S = 0.5

#: How long a replica without its engines waits before it looks for them again.
_TRY_AGAIN_AFTER_S = 20.0

#: Where Serve keeps its replicas; a constant of Serve's own, which it does not export.
SERVE_NAMESPACE = "serve"


class ModelHost:
    """Serve wraps this class in the builder; tests use it as it is."""

    #: See `check_health`.
    stuck_after_s: ClassVar[float] = _STUCK_AFTER_S

    def __init__(
        self,
        choice: EngineChoice,
        names: tuple[PortName, ...],
        *,
        niceness: int = 0,
        call_limit_s: float = math.inf,
    ) -> None:
        """Load the engines and warm them up; Serve calls no replica before this has returned.

        Where something that can still come is missing, a weight or a compiler, the replica stays
        up, says so in `readiness`, and looks again from time to time.

        Args:
            niceness: added to the process's own. Engines fill every core for seconds; answers to
                clients and heartbeats go first where this is positive.
            call_limit_s: longest that one engine call may run; then it fails with `TimedOut`.
        """
        os.nice(niceness)
        self._call_limit_s = call_limit_s
        self._choice = choice
        self._names = names
        self._ports = LocalPorts(Lane("empty"))
        self._missing: Unavailable | None = None
        self._memory = PeakMemory()
        self._loading: asyncio.Task[None] | None = None
        self._estimate_depths = Batched(self._depths_of, "depth estimation")
        self._load()

    def _load(self) -> None:
        """Blocking."""
        self._tried_at = time.monotonic()
        try:
            ports = self._build()
            ports.warm_up()
        except Unavailable as error:
            self._missing = error
            log.error("no engines for %s: %s", ", ".join(self._names), error)
            return
        self._ports, self._missing = ports, None
        self._memory = PeakMemory(_gauges())
        log.info("engines ready: %s", ", ".join(self._names))

    def _build(self) -> LocalPorts:
        return build_ports(
            self._choice,
            self._names,
            gpu_share=_gpu_share(),
            call_limit_s=self._call_limit_s,
        )

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve hands over `user_config` at the start and whenever it changes in the YAML."""
        self._estimate_depths.configure(BatchSettings.model_validate(user_config))

    async def check_health(self) -> None:
        """Called by Serve off the lane: raises when an engine does not stop; Serve then starts
        another process."""
        stuck_s = self._ports.lane.stuck_s
        if stuck_s > self.stuck_after_s:
            raise RuntimeError(f"an engine goes on {stuck_s:.0f} s after it was asked to stop")
        waited = time.monotonic() - self._tried_at
        if self._missing and not self._loading and waited > _TRY_AGAIN_AFTER_S:
            # Not awaited: loading takes longer than Serve waits for the answer to this.
            self._loading = asyncio.create_task(asyncio.to_thread(self._load))
            self._loading.add_done_callback(self._loaded)

    def _loaded(self, _task: asyncio.Task[None]) -> None:
        self._loading = None

    async def readiness(self) -> str:
        """ "ok", or what is missing and how to get it."""
        return "ok" if self._missing is None else self._missing.detail

    async def peak_memory_bytes(self, span_s: float) -> dict[str, int]:
        """Most memory this process has had in the last `span_s` seconds, for whichever job: "" is
        its own, " GPU" what its tensors took on the device."""
        return self._memory.peaks(span_s)

    def _hosted(self, port: T | None, name: PortName) -> T:
        if name not in self._names:
            raise ModelFailed(f"This replica hosts {list(self._names)}, not {name.value}.")
        if self._missing is not None:
            raise self._missing
        if self._ports.lane.stuck_s > _HANGS_AFTER_S:
            # The caller asks again: another replica, or the process that follows this one.
            raise TooBusy("The engine hangs, and its process is being replaced.")
        assert port is not None, "every named port is built"
        self._memory.mark()
        return port

    @property
    def _splats(self) -> Laned[SplatEngine]:
        return self._hosted(self._ports.splats, PortName.SPLATS)

    async def _depths_of(self, sets: Sequence[ViewSet]) -> list[DepthMaps]:
        return await self._hosted(self._ports.depth, PortName.DEPTH).estimate_many(sets)

    async def remove_background(self, rgb: UInt8Array) -> Foreground:
        port = self._hosted(self._ports.background, PortName.BACKGROUND)
        return await port.remove_background(rgb)

    async def render(
        self, model: SplatModel, cameras: Cameras, *, with_depth: bool = False
    ) -> Renders:
        return await self._splats.render(model, cameras, with_depth=with_depth)

    async def evaluate(self, model: SplatModel, references: References) -> Scores:
        return await self._splats.evaluate(model, references)

    async def engine_name(self) -> str:
        return await self._splats.engine_name()

    # Long calls. Each is an async generator itself: Serve takes a method that returns one for a
    # blocking one, and runs it in a thread.

    async def synthesize_views(self, request: ViewRequest, caller: str | None) -> Streamed[ViewSet]:
        port = self._hosted(self._ports.views, PortName.VIEWS)
        async for item in stream(partial(port.synthesize_views, request), _lives(caller)):
            yield item

    async def estimate_depth(self, views: ViewSet, caller: str | None) -> Streamed[DepthMaps]:
        self._hosted(self._ports.depth, PortName.DEPTH)
        async for item in stream(lambda _report: self._estimate_depths(views), _lives(caller)):
            yield item

    async def reconstruct(self, request: FitRequest, caller: str | None) -> Streamed[SplatModel]:
        async for item in stream(partial(self._splats.reconstruct, request), _lives(caller)):
            yield item

    async def improve(self, request: RefineRequest, caller: str | None) -> Streamed[Improvement]:
        async for item in stream(partial(self._splats.improve, request), _lives(caller)):
            yield item

    async def enhance(
        self, renders: Renders, settings: EnhanceSettings, caller: str | None
    ) -> Streamed[EnhancedImages]:
        port = self._hosted(self._ports.enhancer, PortName.ENHANCER)
        async for item in stream(partial(port.enhance, renders, settings), _lives(caller)):
            yield item

    async def export_model(
        self, model: SplatModel, options: ExportOptions, caller: str | None
    ) -> Streamed[ExportedFile]:
        port = self._hosted(self._ports.exporter, PortName.EXPORTER)
        async for item in stream(partial(port.export_model, model, options), _lives(caller)):
            yield item


def _gauges() -> dict[str, Callable[[], int]]:
    """What is measured in this process. torch is there when an engine has imported it."""
    gauges = {"": resident_gauge}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():

        def on_gpu() -> int:
            peak = int(torch.cuda.max_memory_allocated())
            torch.cuda.reset_peak_memory_stats()
            return peak

        gauges[" GPU"] = on_gpu
    return gauges


def _gpu_share() -> float | None:
    """The share of one GPU that Serve lent to this replica, None where it lent none.

    The number stands in `serve_config.yaml` once, as `num_gpus`: Ray places replicas by it, and
    torch's allocator keeps to it.
    """
    context: Any = ray.get_runtime_context()
    if not ray.is_initialized() or context.get_actor_id() is None:
        return None
    lent = context.get_assigned_resources().get("GPU")
    return None if lent is None else min(float(lent), 1.0)


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
