"""How far refinement targets can be believed: per pixel, per view, and up to which exposure.

Targets were synthesised or enhanced one by one, so they differ in colour and some show what is not
there. It compares them with renders of the model and with each other; it does not optimise.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.geometry.facing import facing_ratio
from pipeline.splats.view_consistency import cross_view_error, low_pass
from pipeline.types import Cameras, FloatArray

#: Pixels (at 256) of the blur before anything is compared: sharpness is what a target may add.
_BLUR = 2.0

#: Standard deviation of the disagreement between views that is forgiven, 0..1.
_WARP_SIGMA = 0.10

#: Views whose error is so many times the median of all views count half as much...
_ROBUST = 2.0

#: ... but below this mean absolute error (0..1) a view is as good as any: the median of nearly
#: perfect targets is no measure.
_FLOOR = 0.02

#: Normalised correlation of structure at which a view counts nothing, and from which it counts
#: fully. A tint keeps .9 and more, a blur .7, another object or another side less than .3.
_GATE = (0.35, 0.65)

#: A view with less weight than this against the model alone is not compared with the others.
_WITNESS = 0.1

#: Exposures are drawn this strongly to the identity: a nearly grey object cannot tell its
#: channels apart.
_RIDGE = 0.05

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TargetSet:
    """T targets of one kind and what the model shows from their cameras.

    Attributes:
        images: float32 [T, H, W, 3], 0..1, on white.
        masks: bool [T, H, W], inside the object.
        renders: float32 [T, H, W, 3], of the model, on white.
        depth: float32 [T, H, W], of the model, z-depth, 0 where it is not.
    """

    images: FloatArray
    masks: Mask
    renders: FloatArray
    depth: FloatArray
    cameras: Cameras

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class TargetWeights:
    """Weights of T targets.

    Attributes:
        pixels: float32 [T, H, W], 0..1.
        views: float32 [T], 0..1.
        exposures: float32 [T, 3, 4], from the model's colours to each target's.
    """

    pixels: FloatArray
    views: FloatArray
    exposures: FloatArray


def weigh_targets(targets: TargetSet) -> TargetWeights:
    """Compares targets with the model and with each other.

    A pixel counts by how squarely the camera looks at it and by how well other targets show the
    same colour there (facing^2 * exp(-e^2 / 2 sigma^2)); a view by whether it shows the same
    structure as the model (gate), and by its error against model and neighbours (Geman and
    McClure's robust weight). Exposure is taken out first: a tint is no error.
    """
    scale = max(targets.cameras.width, targets.cameras.height) / 256
    inner = _eroded(targets.masks & (targets.depth > 0), round(2 * scale))
    soft = low_pass(targets.images, _BLUR * scale)
    model = low_pass(targets.renders, _BLUR * scale)
    exposures = fit_exposures(model, soft, inner)
    plain = _undo(soft, exposures)

    to_model = _mean_over(np.abs(plain - model).mean(axis=-1), inner)
    gates = np.array([_gate(*pair) for pair in zip(plain, model, inner, strict=True)])
    views = gates * _robust(to_model)
    # A picture of something else is no witness against the others.
    credible = views >= _WITNESS
    seen = inner & credible[:, None, None]
    agreement = cross_view_error(plain, np.where(seen, targets.depth, 0), targets.cameras)
    error = np.where(agreement.known, agreement.error, 0)
    facing = np.stack(
        [facing_ratio(d, targets.cameras.select([i])) for i, d in enumerate(targets.depth)]
    )
    pixels = inner * facing**2 * np.exp(-(error**2) / (2 * _WARP_SIGMA**2))

    to_others = _mean_over(error, inner & agreement.known)
    if credible.any():
        views[credible] *= _robust(to_others[credible])
    return TargetWeights(pixels.astype(np.float32), views.astype(np.float32), exposures)


def fit_exposures(model: FloatArray, targets: FloatArray, masks: Mask) -> FloatArray:
    """Colour maps [T, 3, 4] (matrix and offset) that bring the model's colours to each target's.

    Ridge regression towards the identity, twice: the second time without the pixels that fit
    worst in the first.

    Args:
        model, targets: float32 [T, H, W, 3], 0..1.
        masks: bool [T, H, W], the pixels to look at.
    """
    exposures = np.tile(np.eye(3, 4, dtype=np.float32), (len(model), 1, 1))
    for i, mask in enumerate(masks):
        if mask.sum() < 50:
            continue
        x = np.concatenate([model[i][mask], np.ones((int(mask.sum()), 1), np.float32)], axis=1)
        y = targets[i][mask]
        keep = np.ones(len(x), bool)
        for _ in range(2):
            ridge = _RIDGE * keep.sum() * np.eye(4)
            inside = x[keep].astype(np.float64)
            normal = inside.T @ inside + ridge
            exposures[i] = np.linalg.solve(normal, inside.T @ y[keep] + ridge @ np.eye(4, 3)).T
            residual = np.abs(y - x @ exposures[i].T).mean(axis=1)
            keep = residual <= np.quantile(residual, 0.8)
    return exposures


def _undo(images: FloatArray, exposures: FloatArray) -> FloatArray:
    """Targets in the model's colours."""
    plain = np.empty_like(images)
    for i, (image, exposure) in enumerate(zip(images, exposures, strict=True)):
        matrix = exposure[:, :3].astype(np.float64)
        # A tint that cannot be undone stays: the view's error then says so.
        if abs(np.linalg.det(matrix)) < 0.05:
            plain[i] = image
            continue
        plain[i] = (image - exposure[:, 3]) @ np.linalg.inv(matrix).T
    clipped: FloatArray = np.clip(plain, 0, 1).astype(np.float32)
    return clipped


def _eroded(masks: Mask, pixels: int) -> Mask:
    if pixels < 1:
        return masks
    kernel = np.ones((2 * pixels + 1,) * 2, np.uint8)
    return np.stack([cv2.erode(mask.astype(np.uint8), kernel) for mask in masks]).astype(bool)


def _mean_over(values: FloatArray, masks: Mask) -> npt.NDArray[np.float64]:
    """Mean of each image over its mask, [T]; 0 where the mask is empty."""
    count = np.maximum(masks.sum(axis=(1, 2)), 1)
    return np.asarray((values * masks).sum(axis=(1, 2), dtype=np.float64) / count)


def _robust(errors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Geman and McClure: 1 / (1 + (e / s)^2)^2, relative to a view with the median error."""
    usual = max(float(np.median(errors)), _FLOOR)
    excess = np.maximum(errors / usual - 1, 0) / (_ROBUST - 1)
    return np.asarray(1 / (1 + excess**2 * (np.sqrt(2) - 1)) ** 2)


def _gate(target: FloatArray, model: FloatArray, mask: Mask) -> float:
    """0 (another picture) to 1 (the same structure): correlation of the local contrast."""
    if mask.sum() < 50:
        return 0.0
    parts = []
    for image in (target, model):
        local = image - cv2.GaussianBlur(image, (0, 0), 12.0 * max(image.shape[:2]) / 256)
        values = local[mask]
        parts.append((values - values.mean(axis=0)).ravel())
    norm = float(np.linalg.norm(parts[0]) * np.linalg.norm(parts[1]))
    # A plain object has no structure to compare: its colours and neighbours must do.
    if np.abs(parts[1]).mean() < 0.004:
        return 1.0
    correlation = float(parts[0] @ parts[1]) / max(norm, 1e-12)
    low, high = _GATE
    return float(np.clip((correlation - low) / (high - low), 0, 1))
