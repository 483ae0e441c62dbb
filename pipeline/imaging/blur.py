"""A blur among the pixels of a picture that count.

It does not know why the others do not.
"""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.types import FloatArray


def blur_inside(values: FloatArray, weight: FloatArray, sigma: float) -> FloatArray:
    """Gaussian blur, `sigma` in pixels, of float32 [H, W, 3] (normalised convolution).

    Args:
        weight: float32 [H, W], 0..1; without it a pixel gives nothing to its neighbours.
    """
    total = cv2.GaussianBlur(weight, (0, 0), sigma)
    blurred = cv2.GaussianBlur(values * weight[..., None], (0, 0), sigma)
    mixed: FloatArray = blurred / np.maximum(total, 1e-4)[..., None]
    return mixed
