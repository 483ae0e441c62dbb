"""How much a model is expected to look like its object from sides that no photo showed.

What is known (the photos, what they saw of the surface) and what is a guess (how far the views
agree, how sure their engine is, how much the object changes with the side it is seen from) become
one number, by a rule that was fitted to objects whose every side is known
(`bench.quality_calibration`). It does not know what the number is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from scipy.special import expit

from pipeline.rig import VIEW_COUNT
from pipeline.splats.training.losses import ssim
from pipeline.torch_threads import one_torch_thread
from pipeline.types import FloatArray, ViewSet

#: Side of the pictures of a model that are compared with each other.
_SIDE = 128

#: Views of the rig from one to the other that are compared: 45 degrees.
_APART = 2


@dataclass(frozen=True)
class Term:
    """A number of the evidence and what it adds to the rule.

    Attributes:
        weight: of a step of 1; its sign says whether more of it is better.
        low, high: the range in which it was measured; what lies beyond counts as its end.
    """

    name: str
    weight: float
    low: float
    high: float

    def share(self, value: float) -> float:
        return self.weight * min(max(value, self.low), self.high)


#: The rule: a logistic of a sum. By `python -m bench quality_calibration`.
BASE = 0.845
RULE: tuple[Term, ...] = (
    Term("seen_share", 3.34, 0.332, 0.911),
    Term("engine_confidence", 0.185, 0.0, 0.794),
    Term("contradiction", -0.356, 0.0233, 0.331),
    Term("turn", -3.5, 0.106, 0.445),
    Term("flatness", -1.13, 0.0394, 0.458),
    Term("detail", -1.9, 0.0128, 0.102),
)


def turning(rig: FloatArray) -> float:
    """How much a model's look changes with the side: 1 - SSIM of views 45 degrees apart, mean.

    What a guess costs depends on it: a vase that looks the same from everywhere is guessed well,
    and an error of place or shape costs what a turn costs.

    Args:
        rig: float32 [16, S, S, 3], 0..1, the model from the rig, on white.
    """
    if rig.shape[1] > _SIDE:
        small = [cv2.resize(i, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for i in rig]
        rig = np.stack(small)
    turned = np.roll(rig, -_APART, axis=0)
    with torch.no_grad(), one_torch_thread():
        a, b = (
            torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
            for images in (rig, turned)
        )
        alike = [float(ssim(a[i : i + 1], b[i : i + 1])) for i in range(VIEW_COUNT)]
    return 1 - float(np.mean(alike))


def flatness(alphas: FloatArray) -> float:
    """How differently large a model looks from all around, 0 for a ball: the standard deviation of
    its area over the views, by the mean.

    Args:
        alphas: float32 [V, S, S], 0..1, from evenly spread cameras.
    """
    areas = alphas.mean(axis=(1, 2), dtype=np.float64)
    return float(areas.std() / max(float(areas.mean()), 1e-6))


def contradiction(seen_share: float, view_agreement: float) -> float:
    """How far the views contradict each other where no photo decides, 0..1."""
    return (1 - seen_share) * (1 - view_agreement)


def detail_of(photos: ViewSet) -> float:
    """How busy the photos are: mean colour change per pixel inside the outline, at 96 px a side."""
    found = []
    for image, alpha in zip(photos.images, photos.alphas, strict=True):
        small, cover = (
            cv2.resize(plane.astype(np.float32) / 255, (96, 96), interpolation=cv2.INTER_AREA)
            for plane in (image, alpha)
        )
        inside = cv2.erode((cover > 0.9).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        across, down = (
            cv2.Sobel(small, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1))
        )
        steps = (np.abs(across) + np.abs(down)).mean(axis=-1)
        found.append(float(steps[inside].mean()) if inside.any() else 0.0)
    return float(np.mean(found))


def expected_likeness(evidence: Mapping[str, float]) -> float | None:
    """0..1: 1 less the LPIPS that is to be expected from sides that no photo showed.

    Monotone in each number. None where one of them is missing.
    """
    if not all(term.name in evidence for term in RULE):
        return None
    total = BASE + sum(term.share(evidence[term.name]) for term in RULE)
    return float(expit(total))
