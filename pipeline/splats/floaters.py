"""Splats that float far from all others: they belong to no surface of the object.

It does not know what a caller does about them: meshing leaves them out, scores count them. A
cluster of nine or more strays keeps itself company and is not found.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.geometry.neighbours import neighbour_distance
from pipeline.types import SplatModel

#: Splats fainter than this have no part in a surface.
VISIBLE_OPACITY = 0.05

#: A splat floats when its neighbours are so many times farther away than the median ...
_FARTHER = 6.0

#: ... and than its own largest standard deviation.
_OWN_SIZES = 3.0


def floating(model: SplatModel) -> npt.NDArray[np.bool_]:
    """Which splats float, bool [N]; faint ones (`VISIBLE_OPACITY`) neither float nor count.

    A splat floats when its eight nearest visible neighbours are on average more than six times
    farther away than is usual (the median) in the model and than three of its own sizes.
    """
    seen = np.flatnonzero(model.opacities >= VISIBLE_OPACITY)
    floats = np.zeros(len(model), bool)
    if seen.size:
        away = neighbour_distance(model.means[seen])
        size = np.exp(model.log_scales[seen].astype(np.float64).max(axis=1))
        floats[seen] = (away > _FARTHER * np.median(away)) & (away > _OWN_SIZES * size)
    return floats


def floater_share(model: SplatModel) -> float:
    """Opacity of the floating splats over that of all splats, 0..1; 0 for an empty model."""
    opacities = model.opacities.astype(np.float64)
    total = float(opacities.sum())
    return float(opacities[floating(model)].sum()) / total if total > 0 else 0.0
