"""The splat engine: first fit, refinement rounds, renders and scores on one rasteriser.

It turns the pipeline's requests into calls of the fit and knows nothing of stages, stores or how
targets were enhanced. `pipeline.engines.splats.gsplat_splats` has the one for GPUs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import numpy as np
import torch

from pipeline.control import UNATTENDED, Control
from pipeline.device import Device, Precision
from pipeline.geometry.frames import with_exact_quats
from pipeline.imaging.rounding import to_bytes
from pipeline.registration.against_views import register_photos
from pipeline.requests import (
    FitRequest,
    Improvement,
    References,
    RefineRequest,
    RegisteredPhotos,
    RegisterRequest,
    Renders,
)
from pipeline.splats.judge import judge_model
from pipeline.splats.render import render_model
from pipeline.splats.scores import LpipsLike
from pipeline.splats.training import (
    DefaultStrategy,
    FitPlan,
    PhotometricObjective,
    PhotoTargets,
    Strategy,
    Targets,
    fit,
    improve_model,
    splats_from_views,
)
from pipeline.types import Cameras, DepthMaps, Scores, SplatModel, ViewSet

#: Where placing the first splats ends in the progress of a reconstruction; it takes .5 s where the
#: fits of the presets take 2 to 20 s.
_PLACED = 0.1


class SplatsOnDevice(ABC):
    """What the engines have in common: everything but the first fit, on any device."""

    def __init__(self, device: Device, lpips: LpipsLike | None = None) -> None:
        """Without `lpips` no score has an LPIPS."""
        self._device = device
        self._lpips = lpips

    @property
    @abstractmethod
    def name(self) -> str:
        """For manifests and logs."""

    @abstractmethod
    def _plan(self, request: FitRequest) -> tuple[FitPlan, Strategy]:
        """How the first fit goes."""

    def register(self, request: RegisterRequest, control: Control) -> RegisteredPhotos:
        """Where the photos were taken from; computed on the CPU by every engine.

        Raises:
            Cancelled: `control` asked for it.
        """
        return register_photos(request, control)

    def reconstruct(self, request: FitRequest, control: Control) -> SplatModel:
        """Place splats on the depth maps of the shown views and fit them to these views and to the
        photos, which are at least as large.

        Reports and checks for a stop from the start on.

        Raises:
            ModelFailed: there is nothing to place splats on, or the fit diverged.
            OutOfMemory: the device is too small.
            Cancelled: `control` asked for it.
        """
        shown = [i for i in range(len(request.views)) if i not in request.held_out]
        depths = DepthMaps(
            request.depths.depth[shown], request.depths.confidence[shown], request.depths.engine
        )
        views, depths = _with_auxiliary(
            request.views.select(shown), depths, request.views.auxiliary
        )
        plan, strategy = self._plan(request)
        initial = splats_from_views(
            views,
            depths,
            count=strategy.start_count(plan),
            seed=request.seed,
            control=control.part(0.0, _PLACED),
        )
        control = control.part(_PLACED, 1.0)
        with self._device.reporting_faults("The splat fit"):
            targets = Targets.of_views(views, self._device.torch_device)
            photos = PhotoTargets.of(
                request.views.photos,
                request.views.photo_trust,
                (views.cameras.width, views.cameras.height),
                self._device.torch_device,
            )
            objective = PhotometricObjective(targets, photos=photos)
            fitted = fit(initial, objective, plan, strategy, control, self._device)
        return with_exact_quats(fitted.model)

    def improve(self, request: RefineRequest, control: Control) -> Improvement:
        """One refinement round.

        Raises:
            ModelFailed: the round diverged.
            OutOfMemory: the device is too small.
        """
        with self._device.reporting_faults("A refinement round"):
            improvement = improve_model(request, control, device=self._device)
        return replace(improvement, model=with_exact_quats(improvement.model))

    def render(
        self,
        model: SplatModel,
        cameras: Cameras,
        control: Control = UNATTENDED,
        *,
        with_depth: bool = False,
    ) -> Renders:
        """Pictures on white; with the median depth where it is asked for.

        Raises:
            Cancelled: `control` asked for it, between a few views.
            OutOfMemory: the device is too small.
        """
        with self._device.reporting_faults("Drawing splats"):
            rendering = render_model(
                model,
                cameras,
                with_depth=with_depth,
                device=self._device.torch_device,
                control=control,
            )
        return Renders(
            to_bytes(255 * rendering.images),
            to_bytes(255 * rendering.alphas),
            rendering.median_depth,
        )

    def evaluate(
        self, model: SplatModel, references: References, control: Control = UNATTENDED
    ) -> Scores:
        """What `judge_model` finds.

        Raises:
            Cancelled: `control` asked for it.
            OutOfMemory: the device is too small.
        """
        with self._device.reporting_faults("Judging a model"):
            return judge_model(
                model,
                references,
                self._lpips,
                device=self._device.torch_device,
                control=control,
            )


class CpuSplats(SplatsOnDevice):
    """Engine "cpu": the C++ rasteriser, every core of the process, one view in every step."""

    name = "cpu-rasteriser"

    def __init__(self, lpips: LpipsLike | None = None) -> None:
        """Without `lpips` no score has an LPIPS."""
        super().__init__(Device(torch.device("cpu"), Precision.FP32), lpips)

    def _plan(self, request: FitRequest) -> tuple[FitPlan, Strategy]:
        plan = FitPlan(request.num_gaussians, request.iterations, request.seed)
        return plan, DefaultStrategy()


def _with_auxiliary(
    views: ViewSet, depths: DepthMaps, extra: ViewSet | None
) -> tuple[ViewSet, DepthMaps]:
    """The same and behind them auxiliary views, whose depth the engine that made them knows."""
    if extra is None:
        return views, depths
    surface = extra.surface_depth
    depth = np.zeros(extra.alphas.shape, np.float32) if surface is None else surface
    confidence = (depth > 0).astype(np.float32)
    if extra.surface_confidence is not None:
        confidence *= extra.surface_confidence
    joined = ViewSet(
        np.concatenate([views.images, extra.images]),
        np.concatenate([views.alphas, extra.alphas]),
        Cameras.joined([views.cameras, extra.cameras]),
        views.engine,
    )
    return joined, DepthMaps(
        np.concatenate([depths.depth, depth]),
        np.concatenate([depths.confidence, confidence]),
        depths.engine,
    )
