"""The pipeline's ports served by engines in this process, each behind a lane.

The command line uses them directly; a Ray Serve replica hosts the same objects. It does not know
who calls.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch

from pipeline.control import Control, Report, ignore_progress
from pipeline.device import Device
from pipeline.engines.background.removers import BackgroundEngine, make_background_engine
from pipeline.engines.depth.depth_engines import DepthEngine, make_depth_engine
from pipeline.engines.engine_options import with_options
from pipeline.engines.enhance.enhancer_engines import EnhancerEngine, make_enhancer_engine
from pipeline.engines.exporter import MeshMemory, export_model
from pipeline.engines.perceptual.lpips import find_lpips
from pipeline.engines.registry import NATIVE, ON_DEVICE, EngineChoice
from pipeline.engines.splats.cpu_splats import CpuSplats
from pipeline.engines.views.view_engines import ViewEngine, make_view_engine
from pipeline.lane import Lane
from pipeline.native import default_threads, load_library, set_threads
from pipeline.options import DeviceName, ExportOptions
from pipeline.ports import PortName, Ports
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

__all__ = [
    "LocalBackground",
    "LocalDepth",
    "LocalEnhancer",
    "LocalExporter",
    "LocalPorts",
    "LocalSplats",
    "LocalViews",
    "build_ports",
]


@runtime_checkable
class WarmsUp(Protocol):
    """An engine whose first run is slow."""

    def warm_up(self) -> None: ...


class SplatEngineHere(Protocol):
    """What `pipeline.ports.SplatEngine` asks for, blocking."""

    @property
    def name(self) -> str: ...

    def reconstruct(self, request: FitRequest, control: Control) -> SplatModel: ...

    def improve(self, request: RefineRequest, control: Control) -> Improvement: ...

    def render(
        self, model: SplatModel, cameras: Cameras, *, with_depth: bool = False
    ) -> Renders: ...

    def evaluate(self, model: SplatModel, references: References) -> Scores: ...


@dataclass(frozen=True)
class LocalBackground:
    engine: BackgroundEngine
    lane: Lane

    async def remove_background(self, rgb: UInt8Array) -> Foreground:
        alpha = await self.lane.run(lambda control: self.engine.remove(rgb, control))
        return Foreground(alpha, self.engine.name)


@dataclass(frozen=True)
class LocalViews:
    engine: ViewEngine
    lane: Lane

    async def synthesize_views(
        self, request: ViewRequest, report: Report = ignore_progress
    ) -> ViewSet:
        return await self.lane.run(lambda control: self.engine.synthesize(request, control), report)


@dataclass(frozen=True)
class LocalDepth:
    engine: DepthEngine
    lane: Lane

    async def estimate_depth(self, views: ViewSet, report: Report = ignore_progress) -> DepthMaps:
        (depths,) = await self.estimate_many([views], report)
        return depths

    async def estimate_many(
        self, sets: Sequence[ViewSet], report: Report = ignore_progress
    ) -> list[DepthMaps]:
        """Several objects in common batches."""
        return await self.lane.run(lambda control: self.engine.estimate_many(sets, control), report)


@dataclass(frozen=True)
class LocalSplats:
    engine: SplatEngineHere
    lane: Lane

    async def reconstruct(
        self, request: FitRequest, report: Report = ignore_progress
    ) -> SplatModel:
        return await self.lane.run(
            lambda control: self.engine.reconstruct(request, control), report
        )

    async def improve(
        self, request: RefineRequest, report: Report = ignore_progress
    ) -> Improvement:
        return await self.lane.run(lambda control: self.engine.improve(request, control), report)

    async def render(
        self, model: SplatModel, cameras: Cameras, *, with_depth: bool = False
    ) -> Renders:
        return await self.lane.run(
            lambda _control: self.engine.render(model, cameras, with_depth=with_depth)
        )

    async def evaluate(self, model: SplatModel, references: References) -> Scores:
        return await self.lane.run(lambda _control: self.engine.evaluate(model, references))

    async def engine_name(self) -> str:
        return self.engine.name


@dataclass(frozen=True)
class LocalEnhancer:
    engine: EnhancerEngine
    lane: Lane

    async def enhance(
        self, renders: Renders, settings: EnhanceSettings, report: Report = ignore_progress
    ) -> EnhancedImages:
        return await self.lane.run(
            lambda control: self.engine.enhance(renders, settings, control), report
        )


@dataclass(frozen=True)
class LocalExporter:
    lane: Lane
    memory: MeshMemory = field(default_factory=MeshMemory)

    async def export_model(
        self, model: SplatModel, options: ExportOptions, report: Report = ignore_progress
    ) -> ExportedFile:
        return await self.lane.run(
            lambda control: export_model(model, options, control, self.memory), report
        )


@dataclass(frozen=True)
class LocalPorts:
    """The ports that were built here (others are None), and the lane they share."""

    lane: Lane
    background: LocalBackground | None = None
    views: LocalViews | None = None
    depth: LocalDepth | None = None
    splats: LocalSplats | None = None
    enhancer: LocalEnhancer | None = None
    exporter: LocalExporter | None = None

    def complete(self) -> Ports:
        """All of them as the pipeline wants them. Raises ValueError when one was not built."""
        background, views, depth = self.background, self.views, self.depth
        splats, enhancer, exporter = self.splats, self.enhancer, self.exporter
        if not (background and views and depth and splats and enhancer and exporter):
            raise ValueError("not every port was built")
        return Ports(background, views, depth, splats, enhancer, exporter)

    def warm_up(self) -> None:
        """One small run of every engine that is slow the first time, so that no user waits for it.

        Blocking, and not in the lane: nobody uses the engines yet.

        Raises:
            OutOfMemory: the device is too small for the engines that share it.
        """
        ports = (self.views, self.depth, self.splats, self.enhancer)
        engines: list[object] = [port.engine for port in ports if port is not None]
        for engine in engines:
            if isinstance(engine, WarmsUp):
                engine.warm_up()


def build_ports(
    choice: EngineChoice,
    names: Collection[PortName] = tuple(PortName),
    *,
    gpu_share: float | None = None,
    call_limit_s: float = math.inf,
) -> LocalPorts:
    """Load the chosen engines of the named ports. Blocking; may compile the native library.

    Ports built together share one lane, because they share the device.

    Args:
        gpu_share: 0..1 of the GPU's memory that the engines may take, where they use one; None
            sets no limit.
        call_limit_s: longest that one engine call may run; then it fails with `TimedOut`.

    Raises:
        Unavailable: a weight, a package, the compiler or the GPU is missing; the text says which
            and what to do.
    """
    threads = choice.threads or default_threads()
    torch.set_num_threads(threads)
    # Only where it is used: looking for a GPU takes memory on it.
    if any(choice.engine(name) in ON_DEVICE for name in names):
        device = Device.choose(choice.device, choice.precision, share=gpu_share)
    else:
        device = Device.choose(DeviceName.CPU)
    if any(choice.engine(name) in NATIVE for name in names):
        load_library()
        set_threads(threads)
    lane = Lane("+".join(sorted(names)), limit_s=call_limit_s)
    return _Builder(choice, device, threads, lane).build(names)


@dataclass(frozen=True)
class _Builder:
    """Builds ports of one choice on one lane."""

    choice: EngineChoice
    device: Device
    threads: int
    lane: Lane

    def build(self, names: Collection[PortName]) -> LocalPorts:
        """The named ports; the others are None."""
        return LocalPorts(
            lane=self.lane,
            background=self.background() if PortName.BACKGROUND in names else None,
            views=self.views() if PortName.VIEWS in names else None,
            depth=self.depth() if PortName.DEPTH in names else None,
            splats=self.splats() if PortName.SPLATS in names else None,
            enhancer=self.enhancer() if PortName.ENHANCER in names else None,
            exporter=LocalExporter(self.lane) if PortName.EXPORTER in names else None,
        )

    def background(self) -> LocalBackground:
        engine = make_background_engine(self.choice.background, self.choice.model_dir)
        return LocalBackground(engine, self.lane)

    def views(self) -> LocalViews:
        options = self.choice.options_of(PortName.VIEWS)
        engine = make_view_engine(self.choice.views, self.choice.model_dir, self.device, options)
        return LocalViews(engine, self.lane)

    def depth(self) -> LocalDepth:
        options = self.choice.options_of(PortName.DEPTH)
        engine = make_depth_engine(self.choice.depth, self.choice.model_dir, self.device, options)
        return LocalDepth(engine, self.lane)

    def splats(self) -> LocalSplats:
        lpips = find_lpips(self.choice.model_dir)
        if self.choice.splats == "cpu":
            return LocalSplats(CpuSplats(lpips), self.lane)
        from pipeline.engines.splats.gsplat_splats import GsplatSplats

        options = self.choice.options_of(PortName.SPLATS)
        engine = with_options(GsplatSplats, "gsplat", options, self.device, lpips)
        return LocalSplats(engine, self.lane)

    def enhancer(self) -> LocalEnhancer:
        engine = make_enhancer_engine(
            self.choice.enhancer,
            self.choice.model_dir,
            self.threads,
            self.device,
            self.choice.options_of(PortName.ENHANCER),
        )
        return LocalEnhancer(engine, self.lane)
