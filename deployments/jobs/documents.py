"""The JSON that rows keep as it is: scores and iterations, read back too, and results of jobs.

A result has the names that answers over HTTP have. It knows no store, nor who reads the documents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from deployments.jobs.commits import EnhancedViewRow, IterationRow, ModelRow
from pipeline.flow.generate import GenerateResult
from pipeline.flow.refine import RefineResult
from pipeline.journals import Candidate, IterationOutcome
from pipeline.types import Scores

#: Of `Scores`: rows have a column for each.
_COLUMNS = ("psnr", "ssim", "lpips", "view_agreement", "expected_likeness")

#: Of the others, those in the result of a refinement.
_MORE_SCORES = ("silhouette_iou", "consistency", "floaters")

_SCORES = TypeAdapter(Scores)


def scores_document(scores: Scores) -> dict[str, Any]:
    """The scores that have no column of their own, JSON-ready; infinite numbers as text."""
    every = asdict(scores).items()
    return {name: _document(value) for name, value in every if name not in _COLUMNS}


def score_fields(scores: Scores) -> dict[str, Any]:
    """All scores, as the fields that `ModelRow` and `IterationRow` have for them."""
    return {**_columns(scores), "scores": scores_document(scores)}


def _columns(row: Scores | ModelRow | IterationRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _COLUMNS}


def _known(scores: Scores) -> dict[str, Any]:
    """What is known and how much is not, for results of jobs."""
    return {
        "seen_share": scores.seen_share,
        "photos": [_document(asdict(photo)) for photo in scores.photos],
    }


def read_scores(row: ModelRow | IterationRow) -> Scores | None:
    """All scores of a row; None where it has none. Inverse of `scores_document` and columns."""
    if row.psnr is None or row.ssim is None or row.view_agreement is None:
        return None
    return _SCORES.validate_python({**row.scores, **_columns(row)})


def _document(value: Any) -> Any:
    """JSON has no infinities: they travel as the strings that `float` reads."""
    if isinstance(value, Mapping):
        return {name: _document(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_document(part) for part in value]
    if isinstance(value, float | np.floating):
        number = float(value)  # not numpy's
        return number if math.isfinite(number) else str(number)
    return value


def iteration_document(outcome: IterationOutcome) -> dict[str, Any]:
    """What an iteration was made with: `detail` of its row."""
    return {
        "parameters": dict(outcome.parameters),
        "view_weights": {str(view): float(w) for view, w in outcome.view_weights.items()},
        "guards": list(outcome.guards),
    }


def read_outcome(row: IterationRow, enhanced: tuple[EnhancedViewRow, ...]) -> IterationOutcome:
    """An iteration as an earlier attempt left it, without pictures."""
    scores = read_scores(row)
    assert scores is not None, "an iteration has scores"
    weights = [view.weight for view in enhanced if view.weight is not None]
    detail = row.detail
    return IterationOutcome(
        iteration=row.iteration_number,
        accepted=row.accepted,
        scores=scores,
        model=None,
        enhance_engine=row.enhance_engine,
        strength=row.strength,
        learning_rate=row.learning_rate,
        seconds=row.seconds,
        enhanced_views=tuple(view.view_index for view in enhanced),
        enhanced_weights=tuple(weights),
        view_weights={int(view): w for view, w in detail.get("view_weights", {}).items()},
        parameters=dict(detail.get("parameters", {})),
        guards=tuple(detail.get("guards", ())),
        note=row.note,
    )


def generate_document(
    result: GenerateResult,
    newest: ModelRow,
    *,
    background: str,
    seed: int,
    notes: list[str],
    drawn_by: str | None = None,
) -> dict[str, Any]:
    """Of a generation.

    Args:
        newest: the row of its model.
        background: engine that cut the photo out.
        notes: sentences beside those of the result.
        drawn_by: of a model that a generator made, the splat engine that drew its views.
    """
    engines = (
        {
            "views": result.views.engine,
            "depth": result.depths.engine,
            "splats": newest.engine,
        }
        if drawn_by is None
        else {"generator": newest.engine, "splats": drawn_by}
    )
    return {
        "model_version": newest.version,
        "parent": newest.parent,
        "model_path": newest.model_path,
        "views_generated": len(result.views),
        "depth_maps_generated": len(result.depths.depth),
        "engines": {"background": background, **engines},
        "seed": seed,
        "splat_count": len(result.model),
        **_columns(result.scores),
        **_known(result.scores),
        "notes": [*result.notes, *notes],
        "camera": None if result.views.estimate is None else asdict(result.views.estimate),
        "ranking": [_without_picture(candidate) for candidate in result.ranking],
    }


def _without_picture(candidate: Candidate) -> dict[str, Any]:
    """Pictures are in the detail of the stage, for reports."""
    return {name: value for name, value in asdict(candidate).items() if name != "picture"}


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
    made_with = iteration_document(outcome)
    return {
        "iteration": outcome.iteration,
        **_columns(outcome.scores),
        **{name: getattr(outcome.scores, name) for name in _MORE_SCORES},
        **_known(outcome.scores),
        "accepted": outcome.accepted,
        "seconds": outcome.seconds,
        "engine": outcome.enhance_engine,
        "note": outcome.note,
        "guards": made_with["guards"],
        "view_weights": made_with["view_weights"],
    }
