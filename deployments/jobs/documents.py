"""Scores and iterations as the JSON that rows keep, and back.

It knows no store: rows hold these documents as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from deployments.jobs.commits import EnhancedViewRow, IterationRow, ModelRow
from pipeline.journals import IterationOutcome
from pipeline.types import Scores

#: Of `Scores`: rows have a column for each.
_COLUMNS = ("psnr", "ssim", "lpips", "overall_quality")

_SCORES = TypeAdapter(Scores)


def scores_document(scores: Scores) -> dict[str, Any]:
    """The scores that have no column of their own, JSON-ready; infinite numbers as text."""
    every = asdict(scores).items()
    return {name: _document(value) for name, value in every if name not in _COLUMNS}


def read_scores(row: ModelRow | IterationRow) -> Scores | None:
    """All scores of a row; None where it has none. Inverse of `scores_document` and columns."""
    if row.psnr is None or row.ssim is None or row.overall_quality is None:
        return None
    return _SCORES.validate_python({**row.scores, **{n: getattr(row, n) for n in _COLUMNS}})


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
