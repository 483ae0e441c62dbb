"""The pipeline's ports served by engines in this process, each behind a lane.

The command line uses them directly; a Ray Serve replica hosts the same objects. It does not know
who calls.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import torch

from pipeline.control import Report, ignore_progress
from pipeline.engines import EngineChoice, PortName
from pipeline.export import MeshMemory, export_model
from pipeline.lane import Lane
from pipeline.models.background import BackgroundEngine, make_background_engine
from pipeline.models.enhance import EnhancerEngine, make_enhancer_engine
from pipeline.models.lpips import find_lpips
from pipeline.models.relief import Relief
from pipeline.models.surface_depth import SurfaceDepth
from pipeline.native import default_threads, load_library, set_threads
from pipeline.options import ExportOptions
from pipeline.ports import (
    EnhancedImages,
    ExportedFile,
    FitRequest,
    Foreground,
    Improvement,
    Ports,
    References,
    RefineRequest,
    Renders,
    ViewRequest,
)
from pipeline.splats.engine import CpuSplats
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


@dataclass(frozen=True)
class LocalBackground:
    engine: BackgroundEngine
    lane: Lane

    async def remove_background(self, rgb: UInt8Array) -> Foreground:
        alpha = await self.lane.run(lambda control: self.engine.remove(rgb, control))
        return Foreground(alpha, self.engine.name)


@dataclass(frozen=True)
class LocalViews:
    engine: Relief
    lane: Lane

    async def synthesize_views(
        self, request: ViewRequest, report: Report = ignore_progress
    ) -> ViewSet:
        views = await self.lane.run(
            lambda control: self.engine.synthesize(request.cutout, request.elevation_deg, control),
            report,
        )
        unused = [n for n in ("steps", "guidance_scale") if getattr(request, n) is not None]
        notes = tuple(f"The {self.engine.name} engine has no use for {name}." for name in unused)
        return replace(views, notes=views.notes + notes)


@dataclass(frozen=True)
class LocalDepth:
    engine: SurfaceDepth
    lane: Lane

    async def estimate_depth(self, views: ViewSet, report: Report = ignore_progress) -> DepthMaps:
        return await self.lane.run(lambda control: self.engine.estimate(views, control), report)


@dataclass(frozen=True)
class LocalSplats:
    engine: CpuSplats
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

    async def render(self, model: SplatModel, cameras: Cameras) -> Renders:
        return await self.lane.run(lambda _control: self.engine.render(model, cameras))

    async def evaluate(self, model: SplatModel, references: References) -> Scores:
        return await self.lane.run(lambda _control: self.engine.evaluate(model, references))

    async def engine_name(self) -> str:
        return self.engine.name


@dataclass(frozen=True)
class LocalEnhancer:
    engine: EnhancerEngine
    lane: Lane

    async def enhance(
        self,
        renders: Renders,
        strength: float,
        prompt: str | None,
        seed: int,
        report: Report = ignore_progress,
    ) -> EnhancedImages:
        # Neither engine draws random numbers: the seed has nothing to do here.
        del seed
        images = await self.lane.run(
            lambda control: self.engine.enhance(renders.images, renders.alphas, strength, control),
            report,
        )
        notes = () if prompt is None else (f"The {self.engine.name} engine has no use for prompt.",)
        return EnhancedImages(images, self.engine.name, notes)


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


#: Ports that call the native library.
_NATIVE = {PortName.SPLATS, PortName.VIEWS, PortName.EXPORTER}


def build_ports(choice: EngineChoice, names: Collection[PortName] = tuple(PortName)) -> LocalPorts:
    """Load the chosen engines of the named ports. Blocking; may compile the native library.

    Ports built together share one lane, because they share the CPU.

    Raises:
        Unavailable: a weight or the compiler is missing; the text says which and what to do.
    """
    threads = choice.threads or default_threads()
    torch.set_num_threads(threads)
    if _NATIVE & set(names):
        load_library()
        set_threads(threads)
    lane = Lane("+".join(sorted(names)))
    return LocalPorts(
        lane=lane,
        background=LocalBackground(
            make_background_engine(choice.background, choice.model_dir), lane
        )
        if PortName.BACKGROUND in names
        else None,
        views=LocalViews(Relief(), lane) if PortName.VIEWS in names else None,
        depth=LocalDepth(SurfaceDepth(), lane) if PortName.DEPTH in names else None,
        splats=LocalSplats(CpuSplats(find_lpips(choice.model_dir)), lane)
        if PortName.SPLATS in names
        else None,
        enhancer=LocalEnhancer(
            make_enhancer_engine(choice.enhancer, choice.model_dir, threads), lane
        )
        if PortName.ENHANCER in names
        else None,
        exporter=LocalExporter(lane) if PortName.EXPORTER in names else None,
    )
