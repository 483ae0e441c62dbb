"""What the pipeline asks of its neighbours, as Protocols.

A model in this process (`pipeline.flow.local`), an adapter of a Ray Serve handle
(`deployments.handles`) and a test fake are three implementations of each. The ports do not know
which of them they are. Cancelling the awaiting task stops the work behind the port within a step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.control import Progress, Report, ignore_progress
from pipeline.options import ExportOptions
from pipeline.types import (
    Cameras,
    Cutout,
    DepthMaps,
    FloatArray,
    Scores,
    SplatModel,
    UInt8Array,
    ViewSet,
)

__all__ = [
    "BackgroundRemover",
    "Candidate",
    "DepthEstimator",
    "EnhanceSettings",
    "EnhancedImages",
    "Enhancer",
    "ExportedFile",
    "Exporter",
    "FitRequest",
    "Foreground",
    "GenerateJournal",
    "Improvement",
    "IterationOutcome",
    "Ports",
    "References",
    "RefineJournal",
    "RefineRequest",
    "Renders",
    "SplatEngine",
    "ViewRequest",
    "ViewSynthesizer",
]


@dataclass(frozen=True)
class Foreground:
    """What a background remover found.

    Attributes:
        alpha: uint8 [H, W], 255 on the object.
        engine: name of the remover.
    """

    alpha: UInt8Array
    engine: str


@dataclass(frozen=True)
class ViewRequest:
    """Input of view synthesis; what is None is left to the engine.

    Attributes:
        steps, guidance_scale: of a diffusion engine.
        sampler: of a diffusion engine: "ddim" or "dpm++".
    """

    cutout: Cutout
    elevation_deg: float
    seed: int
    steps: int | None = None
    guidance_scale: float | None = None
    sampler: str | None = None


@dataclass(frozen=True)
class FitRequest:
    """Input of the first reconstruction.

    Attributes:
        views: what to fit; views listed in `held_out` are not shown to the optimiser.
        depths: where the splats start.
        num_gaussians: cap on the number of splats.
        iterations: optimisation steps.
    """

    views: ViewSet
    depths: DepthMaps
    held_out: tuple[int, ...]
    num_gaussians: int
    iterations: int
    seed: int


@dataclass(frozen=True)
class RefineRequest:
    """Input of one refinement round.

    Attributes:
        model: where to start.
        originals: the views of the first reconstruction, without the held-out ones; their `photo`
            is a further target.
        enhanced: uint8 [E, H, W, 3], enhanced renders of `enhanced_views`, on white.
        enhanced_views: which of the originals each enhanced image replaces, as indices into
            `originals`.
        depths: of `originals`, for the disparity loss; None leaves that loss out.
        learning_rate: of the colours; other parameters scale with it.
    """

    model: SplatModel
    originals: ViewSet
    enhanced: UInt8Array
    enhanced_views: tuple[int, ...]
    learning_rate: float
    iterations: int
    seed: int
    depths: DepthMaps | None = None


@dataclass(frozen=True)
class Improvement:
    """What a refinement round made of a model.

    Attributes:
        model: the candidate; as many splats as before.
        view_weights: float32 [O], how far each original target was trusted at the end, 0..1.
        enhanced_weights: float32 [E], the same of the enhanced targets.
        exposures: float32 [O, 3, 4], the colour map from the model to each original target.
        parameters: what the engine used, JSON-ready (rates, loss weights, steps).
    """

    model: SplatModel
    view_weights: FloatArray
    enhanced_weights: FloatArray
    exposures: FloatArray
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Renders:
    """Pictures of a model.

    Attributes:
        images: uint8 [V, H, W, 3] on white.
        alphas: uint8 [V, H, W].
        depth: float32 [V, H, W], z-depth in world units, 0 where there is nothing; None unless
            asked for.
    """

    images: UInt8Array
    alphas: UInt8Array
    depth: FloatArray | None = None

    def select(self, indices: list[int]) -> Renders:
        """The pictures at `indices`, in that order."""
        depth = self.depth
        return Renders(
            self.images[indices],
            self.alphas[indices],
            None if depth is None else depth[indices],
        )


@dataclass(frozen=True)
class EnhanceSettings:
    """How renders are enhanced.

    Attributes:
        strength: above 0 and at most 1; engines say how they round it.
        seed: of an engine that draws noise; the same for every view of a round.
        prompt, negative_prompt: for an engine that reads text.
    """

    strength: float
    seed: int = 0
    prompt: str | None = None
    negative_prompt: str | None = None


@dataclass(frozen=True)
class References:
    """What a model is judged by; no optimiser saw the images.

    Attributes:
        images: uint8 [V, H, W, 3] on white.
        cameras: V cameras.
        views: index of each image in the rig.
        alphas: uint8 [V, H, W], or None: no silhouettes are compared.
        depth: float32 [V, H, W], z-depth up to scale and shift of its inverse, 0 where unknown, or
            None.
        photo: the photo as one view. It is a target of the refinement, so it is no score, but it
            must not get worse: a guard.
    """

    images: UInt8Array
    cameras: Cameras
    views: tuple[int, ...] = ()
    alphas: UInt8Array | None = None
    depth: FloatArray | None = None
    photo: ViewSet | None = None


@dataclass(frozen=True)
class EnhancedImages:
    """Output of an enhancer: uint8 [V, H, W, 3] on white, and the engine's name."""

    images: UInt8Array
    engine: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExportedFile:
    """A model in a file format.

    Attributes:
        data: the whole file.
        contents: what is in it: `splats`, or `vertices`, `faces` and `texture_size` (absent where
            colours are per vertex).
        saved: what `optimize` left out, by the same names and in `bytes`; empty without it.
        notes: sentences a user should read: what had to be done to get a closed surface.
    """

    data: bytes
    contents: dict[str, int]
    saved: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


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


class _Journal(Protocol):
    async def enter(self, stage: str, start: float, end: float) -> None:
        """A stage begins; it fills `start`..`end` (0..1) of the whole job."""

    def report(self, progress: Progress) -> None:
        """Progress inside the stage that was entered last."""


@dataclass(frozen=True)
class Candidate:
    """One of several models that a generation chose from.

    Attributes:
        seed: of its views and its fit.
        overall_quality, psnr, ssim, lpips: on its own held-out views; None where it failed.
        chosen: it became the project's model; true of one.
        note: why it failed, else empty.
    """

    seed: int
    overall_quality: float | None
    psnr: float | None
    ssim: float | None
    lpips: float | None
    chosen: bool
    note: str = ""


class GenerateJournal(_Journal, Protocol):
    """Where a generation keeps what it finished; `load_*` answers None when not there yet."""

    async def load_views(self) -> ViewSet | None: ...

    async def save_views(self, views: ViewSet, seconds: float) -> None: ...

    async def load_depths(self) -> DepthMaps | None: ...

    async def save_depths(self, depths: DepthMaps, seconds: float) -> None: ...

    async def load_model(self) -> SplatModel | None: ...

    async def save_model(
        self, model: SplatModel, scores: Scores, engine: str, seconds: float
    ) -> None: ...

    async def load_ranking(self) -> tuple[Candidate, ...] | None:
        """Asked, and the ranking saved, only where there are several candidates."""

    async def save_ranking(self, ranking: tuple[Candidate, ...], seconds: float) -> None:
        """Best first, the failed ones last; before the views of the chosen one are saved."""


@dataclass(frozen=True)
class IterationOutcome:
    """One refinement iteration, accepted or rolled back.

    Attributes:
        iteration: 0 is the model before refinement, then 1, 2, ...
        scores: of the candidate of this iteration on held-out data.
        model: the candidate where it was accepted, else None.
        enhanced: the enhanced targets, uint8 [E, H, W, 3]; None for iteration 0.
        before, after: renders of the model before and after the round from the same cameras.
        enhanced_views: rig indices of `enhanced`.
        enhanced_weights: how far each was trusted, 0..1.
        view_weights: rig index to trust, 0..1, of every original view the optimiser saw.
        parameters: what engine and enhancer used, JSON-ready.
        guards: sentences about guards that the candidate broke.
    """

    iteration: int
    accepted: bool
    scores: Scores
    model: SplatModel | None
    enhance_engine: str
    strength: float
    learning_rate: float
    seconds: float
    enhanced: UInt8Array | None = None
    before: UInt8Array | None = None
    after: UInt8Array | None = None
    enhanced_views: tuple[int, ...] = ()
    enhanced_weights: tuple[float, ...] = ()
    view_weights: dict[int, float] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    guards: tuple[str, ...] = ()
    note: str = ""


class RefineJournal(_Journal, Protocol):
    """Where a refinement finds its input and keeps what it finished."""

    async def generated_views(self) -> ViewSet:
        """The views of the generation that made the model."""

    async def generated_depths(self) -> DepthMaps:
        """Their depth maps."""

    async def load_start(self) -> SplatModel:
        """The model to refine: the newest version when the job began."""

    async def load_iterations(self) -> tuple[IterationOutcome, ...]:
        """What earlier attempts finished; only the newest accepted one needs its model."""

    async def save_iteration(self, outcome: IterationOutcome) -> None: ...
