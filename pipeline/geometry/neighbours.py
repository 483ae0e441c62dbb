"""How close the splats of a model lie to each other.

It does not know what the answer is for.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from pipeline.cores import worker_threads
from pipeline.types import FloatArray


def neighbour_distance(means: FloatArray, count: int = 8) -> FloatArray:
    """Mean distance to the `count` nearest others, float32 [N]; 0 for a single splat.

    Args:
        means: float32 [N, 3], world units.
    """
    points = means.astype(np.float64)
    # The nearest of each point is itself.
    nearest = min(count + 1, len(points))
    distance = np.asarray(cKDTree(points).query(points, nearest, workers=worker_threads())[0])
    total = distance.reshape(len(points), -1).sum(axis=1)
    mean: FloatArray = (total / max(nearest - 1, 1)).astype(np.float32)
    return mean
