"""What the pipeline asks of its neighbours, as Protocols.

An engine in this process, an adapter of a Ray Serve handle (`deployments.handles`) and a test fake
are three implementations of each. The ports do not know which of them they are. Cancelling the
awaiting task stops the work behind the port within a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from pipeline.control import Report, ignore_progress
from pipeline.options import ExportOptions
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
from pipeline.types import (
    Cameras,
    DepthMaps,
    Scores,
    SplatModel,
    UInt8Array,
    ViewSet,
)

__all__ = [
    "BackgroundRemover",
    "DepthEstimator",
    "Enhancer",
    "Exporter",
    "PortName",
    "Ports",
    "SplatEngine",
    "ViewSynthesizer",
]


class PortName(StrEnum):
    """The ports of the pipeline, one engine each."""

    BACKGROUND = "background"
    VIEWS = "views"
    DEPTH = "depth"
    SPLATS = "splats"
    ENHANCER = "enhancer"
    EXPORTER = "exporter"


class BackgroundRemover(Protocol):
    async def remove_background(self, rgb: UInt8Array) -> Foreground:
        """Find the object in uint8 [H, W, 3]. Raises InvalidImage when there is none."""


class ViewSynthesizer(Protocol):
    async def synthesize_views(
        self, request: ViewRequest, report: Report = ignore_progress
    ) -> ViewSet:
        """The 16 views of the rig."""


class DepthEstimator(Protocol):
    async def estimate_depth(self, views: ViewSet, report: Report = ignore_progress) -> DepthMaps:
        """Depth of every view."""


class SplatEngine(Protocol):
    async def reconstruct(
        self, request: FitRequest, report: Report = ignore_progress
    ) -> SplatModel: ...

    async def improve(
        self, request: RefineRequest, report: Report = ignore_progress
    ) -> Improvement: ...

    async def render(
        self, model: SplatModel, cameras: Cameras, *, with_depth: bool = False
    ) -> Renders: ...

    async def evaluate(self, model: SplatModel, references: References) -> Scores:
        """Render at the cameras of the references and compare."""

    async def engine_name(self) -> str: ...


class Enhancer(Protocol):
    async def enhance(
        self,
        renders: Renders,
        settings: EnhanceSettings,
        report: Report = ignore_progress,
    ) -> EnhancedImages:
        """Sharper versions of the renders, same size, same colours at low frequencies.

        Raises:
            InvalidOption: the engine cannot do what the settings ask for.
        """


class Exporter(Protocol):
    async def export_model(
        self, model: SplatModel, options: ExportOptions, report: Report = ignore_progress
    ) -> ExportedFile:
        """The model as a file. Raises InvalidInput for a model without anything to see."""


@dataclass(frozen=True)
class Ports:
    """Every neighbour of the pipeline."""

    background: BackgroundRemover
    views: ViewSynthesizer
    depth: DepthEstimator
    splats: SplatEngine
    enhancer: Enhancer
    exporter: Exporter
