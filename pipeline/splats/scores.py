"""How far a model agrees with images: PSNR, SSIM, LPIPS, outlines per view, one number of them all.

It compares images and does not know how they were rendered. Scores are honest only when the
optimiser did not see the references; callers see to that.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit

from pipeline.imaging.psnr import psnr
from pipeline.splats.training.losses import ssim
from pipeline.torch_threads import one_torch_thread
from pipeline.types import FloatArray, Scores, UInt8Array, ViewScore

#: Weights of the terms of `view_agreement`; they add up to 1. What a viewer sees first dominates.
#: Measured at 25 dB: 1% more agreement is .36 dB with all six terms and .23 dB with the first two.
AGREEMENT_WEIGHTS = {
    "fidelity": 0.40,
    "ssim": 0.28,
    "lpips": 0.14,
    "silhouette_iou": 0.08,
    "consistency": 0.06,
    "floaters": 0.04,
}

#: LPIPS and consistency (pixels) at which their terms have fallen to 1 / e, share of floaters at
#: which it has fallen to a half.
_LPIPS_SCALE, _CONSISTENCY_SCALE, _FLOATERS_SCALE = 0.3, 1.0, 0.02


class LpipsLike(Protocol):
    """A perceptual distance, such as `pipeline.engines.perceptual.lpips.Lpips`."""

    def distance(self, images: FloatArray, references: FloatArray) -> npt.NDArray[np.float64]:
        """Distance [V] of each pair of float32 [V, H, W, 3], 0..1; 0 for equal pictures."""


def silhouette_iou(
    rendered: npt.NDArray[np.bool_], reference: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Intersection over union of masks bool [V, H, W], float64 [V]; 1 where both are empty."""
    shared = np.count_nonzero(rendered & reference, axis=(1, 2))
    either = np.count_nonzero(rendered | reference, axis=(1, 2))
    return np.where(either > 0, shared / np.maximum(either, 1), 1.0)


def view_agreement(
    psnr_db: float,
    ssim_value: float,
    lpips: float | None = None,
    silhouette_iou: float | None = None,
    consistency: float | None = None,
    floaters: float | None = None,
) -> float:
    """How far a model agrees with views that were held out, 0..1: what the loop raises.

    It is strictly better when any one measurement is better. Where the views are guesses it says
    how well a guess was met, not how true it is.

    The weighted mean (`AGREEMENT_WEIGHTS`) of terms that are 1 at best; what is None drops out, and
    the others share its weight in their proportions:

        fidelity = 1 / (1 + exp((25 - PSNR) / 5))    20, 25, 30, 35 dB are .27, .50, .73, .88
        ((1 + SSIM) / 2)^2                           about SSIM itself near 1, 0 at -1
        exp(-LPIPS / .3)                             0 is 1, .3 is .37
        silhouette IoU
        exp(-consistency)                            0 is 1, one pixel is .37
        1 / (1 + floaters / .02)                     2 % of the opacity is .5

    Numbers are comparable only where the same terms were measured. 1% more is about a third of a
    decibel.

    Args:
        psnr_db: dB, any.
        ssim_value: -1..1.
        lpips: >= 0, lower is better.
        silhouette_iou: 0..1.
        consistency: >= 0, pixels, lower is better.
        floaters: 0..1, lower is better.
    """
    terms = {
        "fidelity": float(expit((psnr_db - 25) / 5)),
        # Float32 SSIM exceeds 1 by a rounding error.
        "ssim": ((1 + min(max(ssim_value, -1.0), 1.0)) / 2) ** 2,
        "lpips": None if lpips is None else math.exp(-lpips / _LPIPS_SCALE),
        "silhouette_iou": silhouette_iou,
        "consistency": None if consistency is None else math.exp(-consistency / _CONSISTENCY_SCALE),
        "floaters": None if floaters is None else 1 / (1 + floaters / _FLOATERS_SCALE),
    }
    measured = {name: term for name, term in terms.items() if term is not None}
    total = math.fsum(AGREEMENT_WEIGHTS[name] * term for name, term in measured.items())
    return min(1.0, total / math.fsum(AGREEMENT_WEIGHTS[name] for name in measured))


def view_scores(
    images: FloatArray,
    references: FloatArray,
    *,
    views: tuple[int, ...] = (),
    lpips: LpipsLike | None = None,
    rendered_alphas: FloatArray | None = None,
    alphas: UInt8Array | None = None,
) -> tuple[ViewScore, ...]:
    """Scores of each image, as they are: no colours or exposures are adjusted.

    Args:
        images, references: float32 [V, H, W, 3], 0..1, on the same ground.
        views: index of each image in the rig; () numbers them from 0.
        lpips: None leaves that score None.
        rendered_alphas: float32 [V, H, W], 0..1; the outline is where it is at least 1/2.
        alphas: uint8 [V, H, W]; the outline is where it is at least 128. Without one of the two,
            no outlines are compared.

    Raises:
        ValueError: shapes differ, there is no image, or `views` has another length.
    """
    if images.shape != references.shape or len(images) == 0:
        raise ValueError(f"shapes must match and hold images: {images.shape}, {references.shape}")
    if views and len(views) != len(images):
        raise ValueError(f"there are {len(images)} images and {len(views)} view numbers")
    distances: list[float] | list[None] = [None] * len(images)
    with torch.no_grad(), one_torch_thread():
        a, b = _nchw(images), _nchw(references)
        similar = [float(ssim(a[i : i + 1], b[i : i + 1])) for i in range(len(images))]
        if lpips is not None:
            distances = [float(d) for d in lpips.distance(images, references)]
    overlaps: list[float] | list[None] = [None] * len(images)
    if rendered_alphas is not None and alphas is not None:
        overlaps = [float(o) for o in silhouette_iou(rendered_alphas >= 0.5, alphas >= 128)]
    return tuple(
        ViewScore(
            view=views[i] if views else i,
            psnr=psnr(images[i], references[i]),
            ssim=similar[i],
            lpips=distances[i],
            silhouette_iou=overlaps[i],
        )
        for i in range(len(images))
    )


def summarise(
    views: tuple[ViewScore, ...],
    *,
    consistency: float | None = None,
    floaters: float | None = None,
    extra: dict[str, float] | None = None,
) -> Scores:
    """Means over the views and the agreement made of them.

    A measurement that one view lacks is None for all. `extra` has no part in the agreement.
    """
    mean_psnr = float(np.mean([view.psnr for view in views]))
    mean_ssim = float(np.mean([view.ssim for view in views]))
    lpips = _mean([view.lpips for view in views])
    overlap = _mean([view.silhouette_iou for view in views])
    return Scores(
        psnr=mean_psnr,
        ssim=mean_ssim,
        lpips=lpips,
        view_agreement=view_agreement(mean_psnr, mean_ssim, lpips, overlap, consistency, floaters),
        silhouette_iou=overlap,
        consistency=consistency,
        floaters=floaters,
        views=views,
        extra=extra or {},
    )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _nchw(images: FloatArray) -> torch.Tensor:
    return torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), np.float32, order="C"))
