"""The axes of splats as vectors of the world.

It does not know what somebody measures with them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.geometry.frames import unit_rows
from pipeline.types import SplatModel


def ellipsoid_axes(model: SplatModel) -> npt.NDArray[np.float64]:
    """[N, 3, 3] (splat, axis, xyz): each axis as long as the standard deviation along it."""
    w, x, y, z = unit_rows(model.quats, [1, 0, 0, 0]).T
    # The rows are the columns of the rotation.
    axes = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)],
            [2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)],
            [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)],
        ]
    ).transpose(2, 0, 1)
    scaled: npt.NDArray[np.float64] = axes * model.scales.astype(np.float64)[..., None]
    return scaled
