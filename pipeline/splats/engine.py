"""The splat engine: first fit, refinement rounds, renders and scores on one rasteriser.

It turns the pipeline's requests into calls of the fit and knows nothing of stages, stores or how
targets were enhanced.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.control import Control
from pipeline.formats.frame import settle
from pipeline.ports import FitRequest, Improvement, References, RefineRequest, Renders
from pipeline.splats.fit import FitOptions, fit
from pipeline.splats.initialise import splats_from_views
from pipeline.splats.judge import LpipsLike, judge_model
from pipeline.splats.polish import improve_model
from pipeline.splats.render import render_model
from pipeline.splats.targets import Targets
from pipeline.types import Cameras, DepthMaps, FloatArray, Scores, SplatModel, UInt8Array, ViewSet

__all__ = ["CpuSplats"]

#: Where placing the first splats ends in the progress of a reconstruction; it takes .5 s where the
#: fits of the presets take 2 to 20 s.
_PLACED = 0.1


class CpuSplats:
    """Engine "cpu": the C++ rasteriser, every core of the process."""

    name = "cpu-rasteriser"

    def __init__(self, lpips: LpipsLike | None = None) -> None:
        """Without `lpips` no score has an LPIPS."""
        self._lpips = lpips

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
        return settle(fitted.model)

    def improve(self, request: RefineRequest, control: Control) -> Improvement:
        """One refinement round; see `pipeline.splats.polish.improve_model`."""
        improvement = improve_model(request, control)
        return replace(improvement, model=settle(improvement.model))

    def render(self, model: SplatModel, cameras: Cameras) -> Renders:
        """Pictures on white."""
        rendering = render_model(model, cameras)
        return Renders(_to_bytes(rendering.images), _to_bytes(rendering.alphas))

    def evaluate(self, model: SplatModel, references: References) -> Scores:
        """See `pipeline.splats.judge.judge_model`."""
        return judge_model(model, references, self._lpips)


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
