"""One cut-out photo to the first splat model: views, depth, splats.

It reads like the description of the method and knows its neighbours only as ports: not where
models run, not where results are kept.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from pipeline.cameras import HELD_OUT_VIEWS
from pipeline.errors import ModelFailed
from pipeline.options import GenerateOptions
from pipeline.ports import FitRequest, GenerateJournal, Ports, References, ViewRequest
from pipeline.types import Cutout, DepthMaps, Scores, SplatModel, ViewSet

__all__ = ["STAGE_SPANS", "GenerateResult", "generate", "held_out_references"]

#: Where each stage begins and ends in the progress of the whole job; from stage seconds measured
#: on two cores with the embedded engines. What is left is for the previews, which others make.
STAGE_SPANS = {"views": (0.0, 0.10), "depth": (0.10, 0.12), "splats": (0.12, 0.75)}


@dataclass(frozen=True)
class GenerateResult:
    """What a generation made. `scores` are on the held-out views."""

    views: ViewSet
    depths: DepthMaps
    model: SplatModel
    scores: Scores


def held_out_references(views: ViewSet) -> References:
    """The views that scores come from."""
    indices = list(HELD_OUT_VIEWS)
    return References(views.images[indices], views.cameras.select(indices))


async def generate(
    cutout: Cutout, options: GenerateOptions, ports: Ports, journal: GenerateJournal
) -> GenerateResult:
    """Views, depth, splats; each stage is saved before the next begins and skipped when saved.

    Raises:
        ModelFailed: an engine raised or returned something that cannot be used.
        Cancelled: the engines were stopped.
        StaleAttempt: the journal belongs to a newer attempt.
    """
    views = await _views(cutout, options, ports, journal)
    depths = await _depths(views, ports, journal)

    await journal.enter("splats", *STAGE_SPANS["splats"])
    started = time.perf_counter()
    model = await journal.load_model()
    references = held_out_references(views)
    if model is None:
        request = FitRequest(
            views=views,
            depths=depths,
            held_out=HELD_OUT_VIEWS,
            num_gaussians=options.splat_count,
            iterations=options.fit_iterations,
            seed=options.seed,
        )
        model = await ports.splats.reconstruct(request, journal.report)
        scores = await ports.splats.evaluate(model, references)
        engine = await ports.splats.engine_name()
        await journal.save_model(model, scores, engine, time.perf_counter() - started)
    else:
        scores = await ports.splats.evaluate(model, references)
    return GenerateResult(views, depths, model, scores)


async def _views(
    cutout: Cutout, options: GenerateOptions, ports: Ports, journal: GenerateJournal
) -> ViewSet:
    await journal.enter("views", *STAGE_SPANS["views"])
    views = await journal.load_views()
    if views is not None:
        return views
    started = time.perf_counter()
    request = ViewRequest(
        cutout, options.elevation_deg, options.seed, options.steps, options.guidance_scale
    )
    views = await ports.views.synthesize_views(request, journal.report)
    if not (views.alphas > 127).any(axis=(1, 2)).all():
        raise ModelFailed(f"The {views.engine} engine returned an empty view.")
    await journal.save_views(views, time.perf_counter() - started)
    return views


async def _depths(views: ViewSet, ports: Ports, journal: GenerateJournal) -> DepthMaps:
    await journal.enter("depth", *STAGE_SPANS["depth"])
    depths = await journal.load_depths()
    if depths is not None:
        return depths
    started = time.perf_counter()
    depths = await ports.depth.estimate_depth(views, journal.report)
    if not (depths.confidence > 0).any():
        raise ModelFailed(f"The {depths.engine} engine found no depth in any view.")
    await journal.save_depths(depths, time.perf_counter() - started)
    return depths
