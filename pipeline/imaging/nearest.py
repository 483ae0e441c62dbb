"""Values spread over a picture from the pixels where they are known.

It does not know what the values are.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

T = TypeVar("T", bound=np.generic)


def nearest_known(values: npt.NDArray[T], known: npt.NDArray[np.bool_]) -> npt.NDArray[T]:
    """`values` [H, W, ...] with that of the nearest pixel of `known` [H, W] everywhere."""
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    spread: npt.NDArray[T] = values[nearest[0], nearest[1]]
    return spread
