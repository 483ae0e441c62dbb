"""How good a model is: PSNR, SSIM and one number made of them.

It compares images and does not know how they were rendered. Scores are honest only when the
optimiser did not see the references; callers see to that.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from pipeline.splats.losses import ssim
from pipeline.types import FloatArray, Scores

__all__ = ["compare", "overall_quality", "psnr"]

#: PSNR of identical images would be infinite; this is above what 8-bit images can tell apart.
_PSNR_LIMIT_DB = 100.0


def psnr(image: FloatArray, reference: FloatArray) -> float:
    """Peak signal-to-noise ratio in dB of float32 images of range 0..1, any equal shape."""
    error = float(np.mean((image.astype(np.float64) - reference) ** 2))
    return min(_PSNR_LIMIT_DB, -10 * math.log10(max(error, 1e-12)))


def overall_quality(psnr_db: float, ssim_value: float) -> float:
    """One number, 0..1, strictly increasing in PSNR and in SSIM.

    .5 / (1 + exp((25 - PSNR) / 5)) + .5 * max(SSIM, 0): the logistic puts 20, 25, 30 and 35 dB
    at .27, .50, .73 and .88, so that a relative gain of 1% is about a third of a decibel.
    """
    fidelity = 1 / (1 + math.exp((25 - psnr_db) / 5))
    return 0.5 * fidelity + 0.5 * max(ssim_value, 0.0)


def compare(images: FloatArray, references: FloatArray) -> Scores:
    """Scores of float32 [V, H, W, 3] in 0..1 against references of the same shape.

    PSNR and SSIM are computed per image and averaged. LPIPS is None: there are no weights.
    `extra` holds the PSNR of each image as psnr_0, psnr_1, ...: the numbers are positions in
    `images`, not indices of views in the rig.

    Raises:
        ValueError: the shapes differ or there is no image.
    """
    if images.shape != references.shape or len(images) == 0:
        raise ValueError(f"shapes must match and hold images: {images.shape}, {references.shape}")
    per_view = [psnr(a, b) for a, b in zip(images, references, strict=True)]
    with torch.no_grad():
        similarity = float(ssim(_nchw(images), _nchw(references)))
    mean_psnr = float(np.mean(per_view))
    return Scores(
        psnr=mean_psnr,
        ssim=similarity,
        lpips=None,
        overall_quality=overall_quality(mean_psnr, similarity),
        extra={f"psnr_{i}": value for i, value in enumerate(per_view)},
    )


def _nchw(images: FloatArray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
