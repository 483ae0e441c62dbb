"""Pictures of which some pixels count only: values spread from these, or blurred among them.

It does not know what the values are, nor why the others do not count.
"""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.types import FloatArray

__all__ = ["blur_inside", "nearest_known"]

T = TypeVar("T", bound=np.generic)


def nearest_known(values: npt.NDArray[T], known: npt.NDArray[np.bool_]) -> npt.NDArray[T]:
    """`values` [H, W, ...] with that of the nearest pixel of `known` [H, W] everywhere."""
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    spread: npt.NDArray[T] = values[nearest[0], nearest[1]]
    return spread


def blur_inside(values: FloatArray, weight: FloatArray, sigma: float) -> FloatArray:
    """Gaussian blur, `sigma` in pixels, of float32 [H, W, 3] (normalised convolution).

    Args:
        weight: float32 [H, W], 0..1; without it a pixel gives nothing to its neighbours.
    """
    total = cv2.GaussianBlur(weight, (0, 0), sigma)
    blurred = cv2.GaussianBlur(values * weight[..., None], (0, 0), sigma)
    mixed: FloatArray = blurred / np.maximum(total, 1e-4)[..., None]
    return mixed
