"""The pipeline's ports served by engines in this process, each behind a lane.

The command line uses them directly; a Ray Serve replica hosts the same objects. It does not know
who calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch

from pipeline.control import Control, Report, ignore_progress
from pipeline.cores import limit_threads, worker_threads
from pipeline.device import Device
from pipeline.device_faults import reporting_faults
from pipeline.engines.engine_spec import Setup
from pipeline.engines.registry import EngineChoice
from pipeline.lane import Lane
from pipeline.native import default_threads, load_library, set_threads
from pipeline.options import DeviceName, ExportOptions
from pipeline.ports import (
    BackgroundEngine,
    DepthEngine,
    Engine,
    EnhancerEngine,
    ExporterEngine,
    GeneratorEngine,
    PortName,
    Ports,
    SplatEngine,
    ViewEngine,
)
from pipeline.requests import (
    EnhancedImages,
    EnhanceSettings,
    ExportedFile,
    FitRequest,
    Foreground,
    Generated,
    GeneratorRequest,
    Improvement,
    References,
    RefineRequest,
    RegisteredPhotos,
    RegisterRequest,
    Renders,
    ViewRequest,
)
from pipeline.types import Cameras, DepthMaps, Scores, SplatModel, UInt8Array, ViewSet

T = TypeVar("T")
EngineT = TypeVar("EngineT", bound=Engine)


@runtime_checkable
class WarmsUp(Protocol):
    """An engine whose first run is slow."""

    @property
    def name(self) -> str: ...

    def warm_up(self) -> None: ...


@dataclass(frozen=True)
class Laned(Generic[EngineT]):
    """A blocking engine as a port: every call waits for its turn in the lane.

    It has the methods of all ports, and the type checker gives each engine its own: which they
    are, `self` says.
    """

    engine: EngineT
    lane: Lane
    #: What the engine computes on: `Device.description`.
    device: str = "cpu"

    async def _run(self, work: Callable[[Control], T], report: Report = ignore_progress) -> T:
        """In the lane. Errors of a full or a lost device are the product's, whoever raised them."""

        def guarded(control: Control) -> T:
            # torch keeps a number for each thread; this one may have begun with another's.
            torch.set_num_threads(worker_threads())
            with reporting_faults(f"Work of the {self.engine.name} engine"):
                return work(control)

        return await self.lane.run(guarded, report)

    async def engine_name(self) -> str:
        return self.engine.name

    async def remove_background(self: Laned[BackgroundEngine], rgb: UInt8Array) -> Foreground:
        alpha = await self._run(partial(self.engine.remove, rgb))
        return Foreground(alpha, self.engine.name)

    async def synthesize_views(
        self: Laned[ViewEngine], request: ViewRequest, report: Report = ignore_progress
    ) -> ViewSet:
        return await self._run(partial(self.engine.synthesize, request), report)

    async def generate_model(
        self: Laned[GeneratorEngine], request: GeneratorRequest, report: Report = ignore_progress
    ) -> Generated:
        return await self._run(partial(self.engine.generate, request), report)

    async def estimate_depth(
        self: Laned[DepthEngine], views: ViewSet, report: Report = ignore_progress
    ) -> DepthMaps:
        (depths,) = await self.estimate_many([views], report)
        return depths

    async def estimate_many(
        self: Laned[DepthEngine], sets: Sequence[ViewSet], report: Report = ignore_progress
    ) -> list[DepthMaps]:
        """Several objects in common batches."""
        return await self._run(partial(self.engine.estimate_many, sets), report)

    async def register(
        self: Laned[SplatEngine], request: RegisterRequest, report: Report = ignore_progress
    ) -> RegisteredPhotos:
        return await self._run(partial(self.engine.register, request), report)

    async def reconstruct(
        self: Laned[SplatEngine], request: FitRequest, report: Report = ignore_progress
    ) -> SplatModel:
        return await self._run(partial(self.engine.reconstruct, request), report)

    async def improve(
        self: Laned[SplatEngine], request: RefineRequest, report: Report = ignore_progress
    ) -> Improvement:
        return await self._run(partial(self.engine.improve, request), report)

    async def render(
        self: Laned[SplatEngine], model: SplatModel, cameras: Cameras, *, with_depth: bool = False
    ) -> Renders:
        return await self._run(partial(self.engine.render, model, cameras, with_depth=with_depth))

    async def evaluate(
        self: Laned[SplatEngine], model: SplatModel, references: References
    ) -> Scores:
        return await self._run(partial(self.engine.evaluate, model, references))

    async def enhance(
        self: Laned[EnhancerEngine],
        renders: Renders,
        settings: EnhanceSettings,
        report: Report = ignore_progress,
    ) -> EnhancedImages:
        return await self._run(partial(self.engine.enhance, renders, settings), report)

    async def export_model(
        self: Laned[ExporterEngine],
        model: SplatModel,
        options: ExportOptions,
        report: Report = ignore_progress,
    ) -> ExportedFile:
        return await self._run(partial(self.engine.export_model, model, options), report)


@dataclass(frozen=True)
class LocalPorts:
    """The ports that were built here (others are None), and the lane they share."""

    lane: Lane
    background: Laned[BackgroundEngine] | None = None
    views: Laned[ViewEngine] | None = None
    depth: Laned[DepthEngine] | None = None
    splats: Laned[SplatEngine] | None = None
    enhancer: Laned[EnhancerEngine] | None = None
    exporter: Laned[ExporterEngine] | None = None
    generator: Laned[GeneratorEngine] | None = None

    def complete(self) -> Ports:
        """All of them as the pipeline wants them, which can do without a generator alone.

        Raises ValueError when another one was not built.
        """
        background, views, depth = self.background, self.views, self.depth
        splats, enhancer, exporter = self.splats, self.enhancer, self.exporter
        if not (background and views and depth and splats and enhancer and exporter):
            raise ValueError("not every port was built")
        return Ports(background, views, depth, splats, enhancer, exporter, self.generator)

    def devices(self) -> dict[str, str]:
        """By port, what its engine computes on: "cpu", or a card's name and the precision."""
        ports = {name.value: getattr(self, name.value) for name in PortName}
        return {name: port.device for name, port in ports.items() if port is not None}

    def warm_up(self) -> None:
        """One small run of every engine that is slow the first time, so that no user waits for it.

        Blocking, and not in the lane: nobody uses the engines yet.

        Raises:
            OutOfMemory: the device is too small for the engines that share it.
            DeviceLost: the GPU failed.
        """
        for port in (getattr(self, name.value) for name in PortName):
            if port is not None and isinstance(port.engine, WarmsUp):
                with reporting_faults(f"Warming up the {port.engine.name} engine"):
                    port.engine.warm_up()


def build_ports(
    choice: EngineChoice,
    names: Collection[PortName] = tuple(PortName),
    *,
    gpu_share: float | None = None,
    call_limit_s: float = math.inf,
    shows: bool = False,
) -> LocalPorts:
    """Load the chosen engines of the named ports. Blocking; may compile the native library.

    Ports built together share one lane, because they share the device.

    Args:
        gpu_share: 0..1 of the GPU's memory that the engines may take, where they use one; None
            sets no limit.
        call_limit_s: longest that one engine call may run; then it fails with `TimedOut`.
        shows: whether engines may send live models with their progress.

    Raises:
        Unavailable: a weight, a package, the compiler or the GPU is missing; the text says which
            and what to do.
        OutOfMemory: an engine does not fit on the device.
        DeviceLost: the GPU failed.
    """
    threads = choice.threads or default_threads()
    _tell_threads(threads)
    specs = [choice.spec(port) for port in choice.ports if port in names]
    # Only where it is used: looking for a GPU takes memory on it.
    if any(spec.on_device for spec in specs):
        device = Device.choose(choice.device, choice.precision, share=gpu_share)
    else:
        device = Device.choose(DeviceName.CPU)
    if any(spec.native for spec in specs):
        load_library()
        set_threads(threads)
    lane = Lane("+".join(sorted(names)), limit_s=call_limit_s, shows=shows)
    ports: dict[str, Any] = {}
    for spec in specs:
        options = choice.options.get(spec.port, {})
        setup = Setup(spec.name, choice.model_dir, device, threads, options)
        with reporting_faults(f"Loading the {spec.name} engine", device.description):
            engine = spec.load(setup)
        where = device.description if spec.on_device else "cpu"
        ports[spec.port.value] = Laned(engine, lane, where)
    _tell_threads(threads)  # once more: the import of rembg takes torch's back
    return LocalPorts(lane, **ports)


def _tell_threads(count: int) -> None:
    """Every library that starts threads for itself takes so many from now on. numpy's BLAS reads
    `OMP_NUM_THREADS` when it is loaded, and nothing later."""
    import cv2

    limit_threads(count)
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
