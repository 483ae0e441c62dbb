"""Judges a model: how well it explains pictures it was not fitted to, and how sound it is itself.

It does not know what the verdict is for, nor who made the references; that no optimiser saw them
is the caller's word.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import torch

from pipeline.control import UNATTENDED, Control
from pipeline.geometry.cameras import rig_cameras
from pipeline.imaging.psnr import psnr
from pipeline.requests import References
from pipeline.splats.floaters import floater_share
from pipeline.splats.likeness import (
    contradiction,
    detail_of,
    expected_likeness,
    flatness,
    turning,
)
from pipeline.splats.render import Rendering, render_model
from pipeline.splats.scores import LpipsLike, summarise, view_scores
from pipeline.splats.seen_surface import find_seen_surface
from pipeline.splats.view_consistency import cross_view_error, low_pass
from pipeline.types import (
    Cameras,
    FloatArray,
    PhotoScore,
    Scores,
    SplatModel,
    UInt8Array,
    ViewSet,
)

#: Blur before renders are compared with the references' colours, pixels.
_LOW_PASS_SIGMA = 4.0

#: Width in pixels of the window that must lie inside of the outline.
_RIM = 5

#: Mean colour change per pixel (0..1) of an object so plain that displacements cannot be seen.
_PLAIN = 0.004

#: Exposure drift that the low-passed comparison forgives, per view and channel; a colour cast
#: beyond that is an error.
_GAIN_RANGE = (0.8, 1.25)

#: Fewer pixels with both depths than this tell nothing about a view.
_FEWEST_PIXELS = 64


def judge_model(
    model: SplatModel,
    references: References,
    lpips: LpipsLike | None,
    *,
    device: torch.device | None = None,
    control: Control = UNATTENDED,
) -> Scores:
    """Renders a model and compares it with the references and with itself.

    PSNR, SSIM, LPIPS and outlines are those of renders from the references' cameras, raw:
    exposures and colours are not adjusted. `consistency` is `rig_consistency` at the references'
    width, `floaters` is `floater_share`. What References lack is None.

    What the photos are compared with is the model from their own cameras, raw. `seen_share` is
    `find_seen_surface`, `expected_likeness` the rule of `pipeline.splats.likeness` on `evidence`.

    `extra` holds guards that have no part in the agreement, each absent where it is not measured:
        low_pass_psnr: mean PSNR (dB) of renders and references, both blurred with sigma 4 px,
            after one gain per view and channel (`exposure_gains`): it forgives lost or invented
            detail and exposure drift of a target, not misplaced mass.
        depth_error: mean over the views of the error of the rendered disparity (`depth_error`).
        photo_psnr (dB), photo_lpips: the model from the photos' cameras against them, mean.

    The same input gives the same numbers, bit by bit, for any number of threads; a GPU draws other
    last bits than the CPU. 20,000 splats at 256 px take .65 s of one core, 1.1 s with a photo of
    512 px, without LPIPS.

    Args:
        model: on white, as it was fitted.
        lpips: None leaves every LPIPS out.
        device: where the model is drawn; the comparison is numpy. None is the CPU.
        control: asked for a stop while views are drawn and before each comparison.

    Raises:
        Cancelled: a stop was asked for.
        InvalidInput: the model or a camera holds NaN or infinity.
        Unavailable: the rasteriser of the device is not there or cannot be compiled.
        ValueError: there is no reference, or its parts have different shapes.
    """
    wanted = _unit_range(references.images)
    rendering = render_model(
        model,
        references.cameras,
        with_depth=references.depth is not None,
        device=device,
        control=control,
    )
    control.check()
    views = view_scores(
        rendering.images,
        wanted,
        views=references.views,
        lpips=lpips,
        rendered_alphas=rendering.alphas,
        alphas=references.alphas,
    )
    extra = {"low_pass_psnr": _low_pass_psnr(rendering, wanted)}
    if references.depth is not None and rendering.median_depth is not None:
        errors = depth_error(rendering.median_depth, references.depth)
        if np.isfinite(errors).any():
            extra["depth_error"] = float(errors[np.isfinite(errors)].mean())
    cameras = rig_cameras(references.cameras.width)
    rig = _drawn_rig(model, cameras, device, control)
    scores = summarise(
        views,
        consistency=_consistency(rig, cameras),
        floaters=floater_share(model),
        extra=extra,
    )
    if references.photos is None:
        return scores
    control.check()
    photos = _photo_scores(
        model, references.photos, references.photo_numbers, lpips, device, control
    )
    seen = find_seen_surface(model, references.photos.cameras, device=device, control=control)
    evidence = {
        "photo_psnr": float(np.mean([photo.psnr for photo in photos])),
        "photo_outline": float(np.mean([photo.silhouette_iou for photo in photos])),
        "engine_confidence": references.confidence or 0.0,
        "turn": turning(rig.images + 1 - rig.alphas[..., None]),
        "flatness": flatness(seen.rendering.alphas),
        "detail": detail_of(references.photos),
    }
    if seen.share is not None:
        evidence["seen_share"] = seen.share
        evidence["contradiction"] = contradiction(seen.share, scores.view_agreement)
    guards = {"photo_psnr": evidence["photo_psnr"]}
    distances = [photo.lpips for photo in photos if photo.lpips is not None]
    if distances:
        guards["photo_lpips"] = float(np.mean(distances))
    return replace(
        scores,
        extra=scores.extra | guards,
        photos=photos,
        seen_share=seen.share,
        evidence=evidence,
        expected_likeness=expected_likeness(evidence),
    )


def rig_consistency(
    model: SplatModel,
    size: int,
    *,
    device: torch.device | None = None,
    control: Control = UNATTENDED,
) -> float | None:
    """How far apart neighbouring cameras of the rig see the same detail, in pixels.

    Mean absolute colour difference of `cross_view_error` over the 16 cameras, through the median
    depth, over the mean colour gradient per pixel: a picture that is sharper has larger
    differences for the same displacement, and must not be called less consistent for it. None for
    a model without a surface.

    Args:
        size: width and height of the renders in pixels.
        device: where the model is drawn; None is the CPU.
        control: as in `judge_model`.
    """
    cameras = rig_cameras(size)
    return _consistency(_drawn_rig(model, cameras, device, control), cameras)


def _drawn_rig(
    model: SplatModel, cameras: Cameras, device: torch.device | None, control: Control
) -> Rendering:
    """On black, with depth."""
    return render_model(
        model, cameras, background=0.0, with_depth=True, device=device, control=control
    )


def _consistency(rendering: Rendering, cameras: Cameras) -> float | None:
    """`rig_consistency` of a model that is drawn on black."""
    depth = rendering.median_depth
    assert depth is not None, "asked for"
    straight = rendering.images / np.maximum(rendering.alphas, 1e-3)[..., None]
    colors = straight.clip(0, 1).astype(np.float32)
    agreement = cross_view_error(colors, depth, cameras)
    # Pixels at an outline are a mixture that no other view has.
    square = np.ones((_RIM,) * 2, np.uint8)
    inner = np.stack([cv2.erode((d > 0).astype(np.uint8), square) for d in depth]) > 0
    looked = agreement.known & inner
    if np.count_nonzero(looked) < _FEWEST_PIXELS:
        return None
    steps = np.stack([_gradient(image) for image in colors])
    return float(agreement.error[looked].mean() / max(float(steps[looked].mean()), _PLAIN))


def _gradient(image: FloatArray) -> FloatArray:
    """Colour change per pixel, float32 [H, W]: sums of both axes, mean of the channels."""
    across, down = (cv2.Sobel(image, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1)))
    steps: FloatArray = (np.abs(across) + np.abs(down)).mean(axis=-1)
    return steps


def exposure_gains(objects: FloatArray, wanted: FloatArray) -> FloatArray:
    """Gains g float32 [V, 3] with |g * objects - wanted| least per view and channel, .8 to 1.25.

    The least absolute error is at the weighted median of wanted / objects with weights `objects`
    (in a sum of w |g - r| the slope changes its sign there): pixels where the two show different
    things do not pull as long as they are the lesser half.

    Args:
        objects, wanted: float32 [V, H, W, 3], colours times alpha, the ground taken away.
    """
    gains = np.ones((len(objects), 3), np.float32)
    for v in range(len(objects)):
        for c in range(3):
            ours, theirs = objects[v, ..., c].ravel(), wanted[v, ..., c].ravel()
            lit = ours > 0.02
            if lit.any():
                ratio = theirs[lit] / ours[lit]
                order = np.argsort(ratio, kind="stable")
                heap = np.cumsum(ours[lit][order], dtype=np.float64)
                gains[v, c] = ratio[order[np.searchsorted(heap, heap[-1] / 2)]]
    clipped: FloatArray = gains.clip(*_GAIN_RANGE)
    return clipped


def depth_error(rendered: FloatArray, reference: FloatArray) -> npt.NDArray[np.float64]:
    """Scale- and shift-invariant error of disparity (1 / depth) per view, float64 [V].

    Each disparity map is brought to median 0 and mean absolute deviation 1 over the pixels that
    both know, then their mean absolute difference is taken (Ranftl et al. 2020, equations 5 to 7):
    0 is the same shape, about 1 an unrelated one. NaN where there are fewer than 64 such pixels or
    the reference is flat. Missing surface does not count: outlines do that.

    Args:
        rendered, reference: float32 [V, H, W], z-depth, 0 where unknown; the reference's up to
            scale and shift of its inverse.

    Raises:
        ValueError: the shapes differ.
    """
    if rendered.shape != reference.shape:
        raise ValueError(f"depth must have one shape: {rendered.shape}, {reference.shape}")
    errors = np.full(len(rendered), np.nan)
    for v, (ours, theirs) in enumerate(zip(rendered, reference, strict=True)):
        both = (ours > 0) & (theirs > 0)
        if np.count_nonzero(both) < _FEWEST_PIXELS:
            continue
        wanted = _normalised(1 / theirs[both].astype(np.float64))
        if wanted.any():
            found = _normalised(1 / ours[both].astype(np.float64))
            errors[v] = np.abs(found - wanted).mean()
    return errors


def _normalised(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Median 0 and mean absolute deviation 1; all 0 where the values hardly differ."""
    centred = values - np.median(values)
    spread = float(np.abs(centred).mean())
    flat = spread <= 1e-6 * float(np.abs(values).mean())
    return np.zeros_like(values) if flat else centred / spread


def _low_pass_psnr(rendering: Rendering, wanted: FloatArray) -> float:
    """Mean PSNR in dB of blurred renders, with gains, against blurred float32 [V, H, W, 3]."""
    ground = low_pass(1 - rendering.alphas, _LOW_PASS_SIGMA)[..., None]
    objects = (low_pass(rendering.images, _LOW_PASS_SIGMA) - ground).clip(0)
    blurred = low_pass(wanted, _LOW_PASS_SIGMA)
    gains = exposure_gains(objects, (blurred - ground).clip(0))
    adjusted = (gains[:, None, None] * objects + ground).clip(0, 1)
    return float(np.mean([psnr(a, b) for a, b in zip(adjusted, blurred, strict=True)]))


def _photo_scores(
    model: SplatModel,
    photos: ViewSet,
    numbers: tuple[int, ...],
    lpips: LpipsLike | None,
    device: torch.device | None,
    control: Control,
) -> tuple[PhotoScore, ...]:
    """The model from the photos' own cameras against the photos, raw."""
    drawn = render_model(model, photos.cameras, device=device, control=control)
    found = view_scores(
        drawn.images,
        _unit_range(photos.images),
        lpips=lpips,
        rendered_alphas=drawn.alphas,
        alphas=photos.alphas,
    )
    return tuple(
        PhotoScore(number, score.psnr, score.silhouette_iou or 0.0, score.lpips)
        for number, score in zip(numbers or range(len(found)), found, strict=True)
    )


def _unit_range(images: UInt8Array) -> FloatArray:
    """uint8 -> float32, 0..1."""
    return (images / 255).astype(np.float32)
