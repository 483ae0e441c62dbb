"""How close the splats of a model lie to each other.

It does not know what the answer is for.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from pipeline.types import FloatArray

__all__ = ["neighbour_distance"]


def neighbour_distance(means: FloatArray, count: int = 8) -> FloatArray:
    """Mean distance to the `count` nearest others, float32 [N]; 0 for a single splat.

    Args:
        means: float32 [N, 3], world units.
    """
    places = means.astype(np.float64)
    # The nearest place of each is itself.
    nearest = min(count + 1, len(places))
    distance = np.asarray(cKDTree(places).query(places, nearest, workers=-1)[0])
    total = distance.reshape(len(places), -1).sum(axis=1)
    mean: FloatArray = (total / max(nearest - 1, 1)).astype(np.float32)
    return mean
