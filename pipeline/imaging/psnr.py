"""Peak signal-to-noise ratio of two images.

It does not know what they show, and needs no tensors: whoever only compares loads no torch.
"""

from __future__ import annotations

import math

import numpy as np

from pipeline.types import FloatArray

#: That of identical images would be infinite; this is above what 8-bit images can tell apart.
_LIMIT_DB = 100.0


def psnr(image: FloatArray, reference: FloatArray) -> float:
    """Peak signal-to-noise ratio in dB of float32 images of range 0..1, any equal shape."""
    error = float(np.mean((image.astype(np.float64) - reference) ** 2))
    return min(_LIMIT_DB, -10 * math.log10(max(error, 1e-12)))
