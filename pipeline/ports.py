"""What the pipeline asks of its neighbours, as Protocols: asynchronous ports, blocking engines.

Engines behind a lane (`pipeline.flow.local.Laned`), an adapter of a Ray Serve handle
(`deployments.handles`) and a test fake are three implementations of each port. The ports do not
know which of them they are. Cancelling the awaiting task stops the work behind the port within a
step: an engine gets a `Control` and checks it. A step is as long as the call of a library that
cannot be stopped: one pass of a network, one setting of the simplification of a mesh.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from pipeline.control import Control, Report, ignore_progress
from pipeline.options import ExportOptions
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
from pipeline.types import (
    Cameras,
    DepthMaps,
    Scores,
    SplatModel,
    UInt8Array,
    ViewSet,
)


class PortName(StrEnum):
    """The ports of the pipeline, one engine each, or none where that is said."""

    BACKGROUND = "background"
    VIEWS = "views"
    DEPTH = "depth"
    SPLATS = "splats"
    ENHANCER = "enhancer"
    EXPORTER = "exporter"
    #: The one port that may have no engine: views, depth and a fit make the first model then.
    GENERATOR = "generator"


class Engine(Protocol):
    """What all engines have."""

    @property
    def name(self) -> str:
        """Stable name for rows and manifests."""


class BackgroundEngine(Engine, Protocol):
    def remove(self, rgb: UInt8Array, control: Control) -> UInt8Array:
        """Alpha uint8 [H, W] of the object in `rgb` uint8 [H, W, 3] (sRGB).

        Raises:
            InvalidImage: no object stands out, or everything is object.
        """


class BackgroundRemover(Protocol):
    async def remove_background(self, rgb: UInt8Array) -> Foreground:
        """Find the object in uint8 [H, W, 3]. Raises InvalidImage when there is none."""


class ViewEngine(Engine, Protocol):
    def synthesize(self, request: ViewRequest, control: Control) -> ViewSet:
        """The 16 views of the rig. Raises InvalidOption, ModelFailed, OutOfMemory, Cancelled."""


class ViewSynthesizer(Protocol):
    async def synthesize_views(
        self, request: ViewRequest, report: Report = ignore_progress
    ) -> ViewSet:
        """The 16 views of the rig."""


class GeneratorEngine(Engine, Protocol):
    def generate(self, request: GeneratorRequest, control: Control) -> Generated:
        """As `Generator.generate_model`. Raises Cancelled, too."""


class Generator(Protocol):
    async def generate_model(
        self, request: GeneratorRequest, report: Report = ignore_progress
    ) -> Generated:
        """A whole model of photos in one pass, or another one of what an earlier pass kept.

        Raises:
            InvalidOption: the engine cannot do what is asked for.
            InvalidImage: a photo has no object.
            ModelFailed: it computed nothing that can be used.
            OutOfMemory: the device is too small.
        """


class DepthEngine(Engine, Protocol):
    def estimate_many(self, sets: Sequence[ViewSet], control: Control) -> list[DepthMaps]:
        """Depth of every view of one or several objects, in that order.

        Raises ModelFailed, OutOfMemory, Cancelled.
        """


class DepthEstimator(Protocol):
    async def estimate_depth(self, views: ViewSet, report: Report = ignore_progress) -> DepthMaps:
        """Depth of every view."""


class SplatEngine(Engine, Protocol):
    def register(self, request: RegisterRequest, control: Control) -> RegisteredPhotos: ...

    def reconstruct(self, request: FitRequest, control: Control) -> SplatModel: ...

    def improve(self, request: RefineRequest, control: Control) -> Improvement: ...

    def render(
        self, model: SplatModel, cameras: Cameras, control: Control, *, with_depth: bool = False
    ) -> Renders: ...

    def evaluate(self, model: SplatModel, references: References, control: Control) -> Scores: ...


class SplatFitter(Protocol):
    async def register(
        self, request: RegisterRequest, report: Report = ignore_progress
    ) -> RegisteredPhotos:
        """Find out where the photos were taken from, against views and depth."""

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


class EnhancerEngine(Engine, Protocol):
    def enhance(
        self, renders: Renders, settings: EnhanceSettings, control: Control
    ) -> EnhancedImages:
        """As `Enhancer.enhance`. Raises Cancelled, too."""


class Enhancer(Protocol):
    async def enhance(
        self,
        renders: Renders,
        settings: EnhanceSettings,
        report: Report = ignore_progress,
    ) -> EnhancedImages:
        """Sharper versions of the renders, same size, same colours at low frequencies.

        Raises:
            InvalidOption: strength is out of range, or the engine cannot do what the settings ask
                for.
        """


class ExporterEngine(Engine, Protocol):
    def export_model(
        self, model: SplatModel, options: ExportOptions, control: Control
    ) -> ExportedFile:
        """As `Exporter.export_model`. Raises Cancelled, too."""


class Exporter(Protocol):
    async def export_model(
        self, model: SplatModel, options: ExportOptions, report: Report = ignore_progress
    ) -> ExportedFile:
        """The model as a file. Raises InvalidInput for a model without anything to see."""


@dataclass(frozen=True)
class Ports:
    """Every neighbour of the pipeline; a generator where there is one."""

    background: BackgroundRemover
    views: ViewSynthesizer
    depth: DepthEstimator
    splats: SplatFitter
    enhancer: Enhancer
    exporter: Exporter
    generator: Generator | None = None
