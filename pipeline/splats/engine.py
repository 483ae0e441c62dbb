"""The splat engine: first fit, refinement rounds, renders and scores on one rasteriser.

It turns the pipeline's requests into calls of the fit and knows nothing of stages, stores or how
targets were enhanced.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from pipeline.control import Control
from pipeline.errors import ModelFailed
from pipeline.ports import FitRequest, References, RefineRequest, Renders
from pipeline.scores import compare
from pipeline.splats.fit import FitOptions, fit
from pipeline.splats.initialise import splats_from_views
from pipeline.splats.optimiser import LearningRates, Optimiser
from pipeline.splats.render import render_model
from pipeline.splats.targets import Targets
from pipeline.types import Cameras, DepthMaps, FloatArray, Scores, SplatModel, UInt8Array, ViewSet

__all__ = ["CpuSplats"]

#: Share of steps that look at an enhanced view, and the weight of its loss (Difix3D, arXiv
#: 2503.01774): enhanced views add detail, the originals keep the object.
_ENHANCED_SHARE, _ENHANCED_WEIGHT = 0.3, 0.3

#: Learning rates of a refinement round when `learning_rate` is .01. Against those a fit starts
#: with: colours a half, opacities a fifth, rotations and scales a sixth, means a sixteenth (where a
#: fit ends at a twentieth): the shape has been found, a round polishes it.
_REFINE_RATES = LearningRates(
    means=5e-5, quats=1e-3, log_scales=2.5e-3, logit_opacities=1e-2, sh0=1e-2, sh_rest=5e-4
)
_REFINE_RATES_AT = 0.01

#: Where placing the first splats ends in the progress of a reconstruction; it takes .5 s where the
#: fits of the presets take 2 to 20 s.
_PLACED = 0.1


class CpuSplats:
    """Engine "cpu": the C++ rasteriser, every core of the process."""

    name = "cpu-rasteriser"

    def reconstruct(self, request: FitRequest, control: Control) -> SplatModel:
        """Place splats on the depth maps of the shown views and fit them to these views.

        Reports and checks for a stop from the start on.

        Raises:
            ModelFailed: there is nothing to place splats on, or the fit diverged.
            Cancelled: `control` asked for it.
        """
        shown = [i for i in range(len(request.views)) if i not in request.held_out]
        depths = DepthMaps(
            request.depths.depth[shown], request.depths.confidence[shown], request.depths.engine
        )
        views, depths = _with_auxiliary(
            replace(request.views.select(shown), auxiliary=request.views.auxiliary), depths
        )
        options = FitOptions(
            num_gaussians=request.num_gaussians, iterations=request.iterations, seed=request.seed
        )
        initial = splats_from_views(
            views,
            depths,
            count=options.start_count,
            seed=request.seed,
            control=control.part(0.0, _PLACED),
        )
        fitted = fit(initial, Targets.of_views(views), options, control.part(_PLACED, 1.0))
        return fitted.model

    def improve(self, request: RefineRequest, control: Control) -> SplatModel:
        """One refinement round: Adam through the renderer, originals and enhanced targets mixed.

        The number of splats stays. The same request gives the same model.

        Raises:
            ModelFailed: the round diverged.
            Cancelled: `control` asked for it.
        """
        originals, enhanced = _joined(request.originals), list(request.enhanced_views)
        targets = Targets(
            np.concatenate([originals.images, request.enhanced]),
            np.concatenate([originals.alphas, originals.alphas[enhanced]]),
            originals.cameras.select([*range(len(originals)), *enhanced]),
            np.array([1.0] * len(originals) + [_ENHANCED_WEIGHT] * len(enhanced), np.float32),
        ).tensors()
        optimiser = Optimiser(request.model, _REFINE_RATES)
        rate = request.learning_rate / _REFINE_RATES_AT
        generator = torch.Generator().manual_seed(request.seed)
        for step in range(request.iterations):
            chance, pick = torch.rand(2, generator=generator).tolist()
            look_at_enhanced = bool(enhanced) and chance < _ENHANCED_SHARE
            view = (
                len(originals) + int(pick * len(enhanced))
                if look_at_enhanced
                else int(pick * len(originals))
            )
            # The rates fall to a tenth, so that the round ends at rest.
            decay = 0.1 ** (step / request.iterations)
            result = optimiser.step(
                targets, [view], geometry_rate=rate * decay, color_rate=rate * decay
            )
            if not result.loss < float("inf"):
                raise ModelFailed(f"The refinement diverged at step {step + 1}.")
            control.step((step + 1) / request.iterations, "Refining", loss=result.loss)
        return optimiser.model()

    def render(self, model: SplatModel, cameras: Cameras) -> Renders:
        """Pictures on white."""
        rendering = render_model(model, cameras)
        return Renders(_to_bytes(rendering.images), _to_bytes(rendering.alphas))

    def evaluate(self, model: SplatModel, references: References) -> Scores:
        """Scores of renders from the references' cameras."""
        rendering = render_model(model, references.cameras)
        return compare(rendering.images, (references.images / 255).astype(np.float32))


def _joined(views: ViewSet) -> ViewSet:
    """The views and behind them the auxiliary ones, as one set."""
    extra = views.auxiliary
    if extra is None:
        return views
    cameras = Cameras(
        np.concatenate([views.cameras.viewmats, extra.cameras.viewmats]),
        np.concatenate([views.cameras.intrinsics, extra.cameras.intrinsics]),
        views.cameras.width,
        views.cameras.height,
    )
    return ViewSet(
        np.concatenate([views.images, extra.images]),
        np.concatenate([views.alphas, extra.alphas]),
        cameras,
        views.engine,
    )


def _with_auxiliary(views: ViewSet, depths: DepthMaps) -> tuple[ViewSet, DepthMaps]:
    """The same with the auxiliary views, whose depth the engine that made them knows."""
    extra = views.auxiliary
    if extra is None:
        return views, depths
    surface = extra.surface_depth
    depth = np.zeros(extra.alphas.shape, np.float32) if surface is None else surface
    confidence = (depth > 0).astype(np.float32)
    return _joined(views), DepthMaps(
        np.concatenate([depths.depth, depth]),
        np.concatenate([depths.confidence, confidence]),
        depths.engine,
    )


def _to_bytes(values: FloatArray) -> UInt8Array:
    return np.round(255 * values).astype(np.uint8)
