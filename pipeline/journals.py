"""Where a generation or a refinement keeps what it finished, and finds it again, as Protocols.

A folder (`pipeline.flow.folder_journal`), the store of a job (`deployments.jobs`) and a test are
three of each. They do not know what is computed next.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.control import Progress
from pipeline.requests import Generated, KeptLatent, RegisteredPhotos
from pipeline.types import (
    DepthMaps,
    Scores,
    SplatModel,
    UInt8Array,
    ViewSet,
)


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
        view_agreement, psnr, ssim, lpips: of its trial, a small fit that saw no photo, on its own
            held-out views; None where it failed.
        chosen: it became the project's model; true of one.
        note: why it failed, else empty.
        photo_psnr: dB, how far the trial shows what the photos show; first in the ranking.
        consistency: of the trial; second in the ranking.
        expected_likeness: of the trial.
        like_others: dB, mean PSNR of the trial's sides and those of each of the other trials: where
            candidates differ, all of them guess. None where it is the only one.
        picture: of the trial from the first photo's camera, a data URI; else empty.
    """

    seed: int
    view_agreement: float | None
    psnr: float | None
    ssim: float | None
    lpips: float | None
    chosen: bool
    note: str = ""
    photo_psnr: float | None = None
    consistency: float | None = None
    expected_likeness: float | None = None
    like_others: float | None = None
    picture: str = ""


class GenerateJournal(_Journal, Protocol):
    """Where a generation keeps what it finished; `load_*` answers None when not there yet."""

    async def load_views(self) -> ViewSet | None: ...

    async def save_views(self, views: ViewSet, seconds: float) -> None: ...

    async def load_depths(self) -> DepthMaps | None: ...

    async def save_depths(self, depths: DepthMaps, seconds: float) -> None: ...

    async def load_photos(self) -> RegisteredPhotos | None: ...

    async def save_photos(self, photos: RegisteredPhotos, seconds: float) -> None: ...

    async def load_model(self) -> SplatModel | None: ...

    async def save_model(
        self, model: SplatModel, scores: Scores, engine: str, seconds: float
    ) -> None: ...

    async def load_generated(self) -> Generated | None: ...

    async def save_generated(self, generated: Generated, seconds: float) -> None:
        """Asked only of a generation by a generator; the model is saved once more with its scores,
        by `save_model`."""

    async def load_latent(self) -> KeptLatent:
        """What the generator of the version kept that the generation goes on from. Raises
        Conflict where nothing was kept."""

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
