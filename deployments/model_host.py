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
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

import ray

from deployments.batching import Batched, BatchSettings
from deployments.jobs.job_errors import TooBusy
from deployments.jobs.peak_memory import PeakMemory, resident_gauge
from deployments.streaming import Streamed, stream
from pipeline.engines.registry import EngineChoice
from pipeline.errors import DeviceLost, ModelFailed, Unavailable
from pipeline.flow.local import LocalPorts, build_ports
from pipeline.lane import Lane
from pipeline.ports import (
    BackgroundRemover,
    Enhancer,
    Exporter,
    Generator,
    PortName,
    SplatFitter,
    ViewSynthesizer,
)
from pipeline.types import DepthMaps, ViewSet

log = logging.getLogger("ray.serve")

P = ParamSpec("P")
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


def _short(
    name: PortName, method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]
) -> Callable[Concatenate[ModelHost, P], Coroutine[Any, Any, T]]:
    """A port's method that answers once."""

    @wraps(method)
    async def ask(host: ModelHost, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with host.noticing_a_lost_device():
            answer: T = await getattr(host.hosted(name), method.__name__)(*args, **kwargs)
        return answer

    return ask


def _long(
    name: PortName, method: Callable[..., Coroutine[Any, Any, T]]
) -> Callable[..., Streamed[T]]:
    """A port's method as a stream: its arguments but for `report`, then the `caller`."""

    # An async generator itself: Serve takes a method that returns one for a blocking one, and runs
    # it in a thread.
    @wraps(method)  # Serve names the method in logs and metrics
    async def run(host: ModelHost, /, *args: Any) -> Streamed[T]:
        *request, caller = args
        call = partial(getattr(host.hosted(name), method.__name__), *request)
        with host.noticing_a_lost_device():
            async for item in stream(call, _lives(caller)):
                yield item

    return run


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
        self._lost: DeviceLost | None = None
        self._memory = PeakMemory()
        self._loading: asyncio.Task[None] | None = None
        self._estimate_depths = Batched(self._depths_of, "depth estimation")
        self._load()

    def _load(self) -> None:
        """Blocking."""
        self._tried_at = time.monotonic()
        try:
            with self.noticing_a_lost_device():
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
            shows=True,
        )

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve hands over `user_config` at the start and whenever it changes in the YAML."""
        self._estimate_depths.configure(BatchSettings.model_validate(user_config))

    async def check_health(self) -> None:
        """Called by Serve off the lane: raises when an engine does not stop, or the GPU failed;
        Serve then starts another process."""
        if self._lost is not None:
            raise RuntimeError(self._lost.detail)
        stuck_s = self._ports.lane.stuck_s
        if stuck_s > self.stuck_after_s:
            raise RuntimeError(f"an engine goes on {stuck_s:.0f} s after it was asked to stop")
        waited = time.monotonic() - self._tried_at
        is_loading = self._loading is not None and not self._loading.done()
        if self._missing and not is_loading and waited > _TRY_AGAIN_AFTER_S:
            # Not awaited: loading takes longer than Serve waits for the answer to this.
            self._loading = asyncio.create_task(asyncio.to_thread(self._load))

    async def readiness(self) -> Unavailable | None:
        """What is missing and how to get it; None where nothing is."""
        return self._missing

    async def devices(self) -> dict[str, str]:
        """By hosted port, what its engine computes on (`LocalPorts.devices`)."""
        return self._ports.devices()

    async def peak_memory_bytes(self, span_s: float) -> dict[str, int]:
        """Most memory this process has had in the last `span_s` seconds, for whichever job: "" is
        its own, " GPU" what its tensors took on the device."""
        return self._memory.peaks(span_s)

    def hosted(self, name: PortName) -> Any:
        """The port's engine behind the lane. Raises an error where there is none now."""
        if name not in self._names:
            raise ModelFailed(f"This replica hosts {list(self._names)}, not {name.value}.")
        if self._missing is not None:
            raise self._missing
        # The caller asks again: another replica, or the process that follows this one.
        if self._lost is not None:
            raise TooBusy("The GPU failed, and the engine's process is being replaced.")
        if self._ports.lane.stuck_s > _HANGS_AFTER_S:
            raise TooBusy("The engine hangs, and its process is being replaced.")
        port = getattr(self._ports, name.value)
        assert port is not None, "every named port is built, and none asks for a missing generator"
        self._memory.mark()
        return port

    @contextmanager
    def noticing_a_lost_device(self) -> Iterator[None]:
        """A `DeviceLost` that leaves the block was the last call of an engine in this process."""
        try:
            yield
        except DeviceLost as error:
            log.error("the process of %s has to be replaced: %s", ", ".join(self._names), error)
            self._lost = error
            raise

    async def _depths_of(self, sets: Sequence[ViewSet]) -> list[DepthMaps]:
        with self.noticing_a_lost_device():
            depths: list[DepthMaps] = await self.hosted(PortName.DEPTH).estimate_many(sets)
        return depths

    async def estimate_depth(self, views: ViewSet, caller: str | None) -> Streamed[DepthMaps]:
        self.hosted(PortName.DEPTH)
        async for item in stream(lambda _report: self._estimate_depths(views), _lives(caller)):
            yield item

    remove_background = _short(PortName.BACKGROUND, BackgroundRemover.remove_background)
    render = _short(PortName.SPLATS, SplatFitter.render)
    evaluate = _short(PortName.SPLATS, SplatFitter.evaluate)
    engine_name = _short(PortName.SPLATS, SplatFitter.engine_name)

    generate_model = _long(PortName.GENERATOR, Generator.generate_model)
    synthesize_views = _long(PortName.VIEWS, ViewSynthesizer.synthesize_views)
    register = _long(PortName.SPLATS, SplatFitter.register)
    reconstruct = _long(PortName.SPLATS, SplatFitter.reconstruct)
    improve = _long(PortName.SPLATS, SplatFitter.improve)
    enhance = _long(PortName.ENHANCER, Enhancer.enhance)
    export_model = _long(PortName.EXPORTER, Exporter.export_model)


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
