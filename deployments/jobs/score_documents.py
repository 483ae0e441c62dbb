"""Scores and iterations as the JSON that rows keep, and back.

It knows no store: rows hold these documents as they are.
"""

from __future__ import annotations

import math
from typing import Any

from deployments.jobs.commits import EnhancedViewRow, IterationRow, ModelRow
from pipeline.journals import IterationOutcome
from pipeline.types import Scores, ViewScore

__all__ = ["iteration_document", "read_outcome", "read_scores", "scores_document"]


def scores_document(scores: Scores) -> dict[str, Any]:
    """The scores that have no column of their own, JSON-ready; infinite numbers as text."""
    return {
        "silhouette_iou": _number_document(scores.silhouette_iou),
        "consistency": _number_document(scores.consistency),
        "floaters": _number_document(scores.floaters),
        "views": [
            {
                "view": view.view,
                "psnr": _number_document(view.psnr),
                "ssim": _number_document(view.ssim),
                "lpips": _number_document(view.lpips),
                "silhouette_iou": _number_document(view.silhouette_iou),
            }
            for view in scores.views
        ],
        "extra": {name: _number_document(value) for name, value in scores.extra.items()},
    }


def read_scores(row: ModelRow | IterationRow) -> Scores | None:
    """All scores of a row; None where it has none. Inverse of `scores_document` and columns."""
    if row.psnr is None or row.ssim is None or row.overall_quality is None:
        return None
    more = row.scores
    return Scores(
        psnr=row.psnr,
        ssim=row.ssim,
        lpips=row.lpips,
        overall_quality=row.overall_quality,
        silhouette_iou=_read_number(more.get("silhouette_iou")),
        consistency=_read_number(more.get("consistency")),
        floaters=_read_number(more.get("floaters")),
        views=tuple(
            ViewScore(
                view=int(view["view"]),
                psnr=float(view["psnr"]),
                ssim=float(view["ssim"]),
                lpips=_read_number(view["lpips"]),
                silhouette_iou=_read_number(view["silhouette_iou"]),
            )
            for view in more.get("views", ())
        ),
        extra={name: float(value) for name, value in more.get("extra", {}).items()},
    )


def _number_document(value: float | None) -> float | str | None:
    """JSON has no infinities: they travel as the strings that `float` reads."""
    if value is None:
        return None
    number = float(value)  # not numpy's
    return number if math.isfinite(number) else str(number)


def _read_number(value: float | str | None) -> float | None:
    return None if value is None else float(value)


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
