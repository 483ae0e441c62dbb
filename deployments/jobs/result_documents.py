"""What a job that succeeded leaves in its row as `result`: the names that answers over HTTP have.

It knows what generations, refinements and exports made; not who reads it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from deployments.jobs.commits import ExportRow, ModelRow
from pipeline.flow.generate import GenerateResult
from pipeline.flow.refine import RefineResult
from pipeline.journals import IterationOutcome

#: Of `pipeline.types.Scores`.
_SCORES = ("psnr", "ssim", "lpips", "overall_quality")
_MORE_SCORES = ("silhouette_iou", "consistency", "floaters")


def generate_document(
    result: GenerateResult, newest: ModelRow, *, background: str, seed: int, notes: list[str]
) -> dict[str, Any]:
    """Of a generation.

    Args:
        newest: the row of its model.
        background: engine that cut the photo out.
        notes: sentences beside those of the views.
    """
    return {
        "model_version": newest.version,
        "model_path": newest.model_path,
        "views_generated": len(result.views),
        "depth_maps_generated": len(result.depths.depth),
        "engines": {
            "background": background,
            "views": result.views.engine,
            "depth": result.depths.engine,
            "splats": newest.engine,
        },
        "seed": seed,
        "splat_count": len(result.model),
        **{name: getattr(result.scores, name) for name in _SCORES},
        "notes": [*result.views.notes, *notes],
        "ranking": [asdict(candidate) for candidate in result.ranking],
    }


def refine_document(
    result: RefineResult, newest: ModelRow, *, splat_engine: str, seed: int
) -> dict[str, Any]:
    """Of a refinement; `newest` is the row of the model it ended with."""
    enhancers = (o.enhance_engine for o in reversed(result.outcomes) if o.enhance_engine)
    return {
        "iterations_completed": len(result.outcomes) - 1,
        "converged": result.converged,
        "stop_reason": result.stop_reason.value,
        "model_version": newest.version,
        "model_path": newest.model_path,
        "seed": seed,
        # The enhancer of the newest round in which it worked.
        "engines": {"splats": splat_engine, "enhancer": next(enhancers, "")},
        "metrics": [_metric(outcome) for outcome in result.outcomes],
    }


def _metric(outcome: IterationOutcome) -> dict[str, Any]:
    return {
        "iteration": outcome.iteration,
        **{name: getattr(outcome.scores, name) for name in _SCORES + _MORE_SCORES},
        "accepted": outcome.accepted,
        "seconds": outcome.seconds,
        "engine": outcome.enhance_engine,
        "note": outcome.note,
        "guards": list(outcome.guards),
        "view_weights": {str(view): float(w) for view, w in outcome.view_weights.items()},
    }


def export_document(row: ExportRow) -> dict[str, Any]:
    """Of an export: its row."""
    return asdict(row)
