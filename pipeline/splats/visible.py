"""Which splats of a model are ever seen.

It does not know why somebody wants fewer: exports, meshing and clean-up use it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pipeline.control import Control
from pipeline.geometry.cameras import surround_cameras
from pipeline.geometry.unit_frame import CAMERA_RADIUS, SEEN_RADIUS, STRAY_RADII, UnitFrame
from pipeline.splats.rasterize import AS_VIEWERS, RasterRequest, rasterize
from pipeline.types import FloatArray, SplatModel

_VIEWS, _VIEW_SIZE = 16, 192

#: In pixels of such a view. Leaving out all splats that add less than this to every view changed
#: renders of fitted models by 60 dB; one step of 255 in every pixel would be 48 dB.
_UNSEEN = 0.1

#: A splat with a smaller standard deviation, in pixels of such a view, cannot be judged by it: it
#: is drawn larger than it is, over its neighbours. Of 20,000 fitted splats one is so small and
#: adds less than `_UNSEEN`; of an object beside another one 230 radii away, most are.
_FINE = 0.25
#: From this share of the splats on, those that are too small are told of.
_MANY_FINE = 0.01

#: No rasteriser draws what is fainter.
_NEVER_DRAWN = 1 / 255


@dataclass(frozen=True)
class Pruned:
    """A model without what nobody sees.

    Attributes:
        model: the splats that stay, in their order.
        notes: sentences for the user: how many splats went because they lie far away or are far
            too large, how many stayed although no view could judge them.
    """

    model: SplatModel
    notes: tuple[str, ...] = ()


def prune_invisible(model: SplatModel, control: Control | None = None) -> Pruned:
    """Without the splats that nobody sees from outside: too faint, or behind others from all sides.

    A few strays that lie far away or are far too large go, too. Splats that the views around the
    object cannot judge, because they lie outside of them, are larger than the object or tiny beside
    the whole model, stay unless they are too faint to be drawn. A model of which nothing would be
    left stays as it is.

    Raises:
        Cancelled: a stop was asked for.
    """
    if not len(model):
        return Pruned(model)
    frame = UnitFrame.of(model)
    unit = frame.to_unit(model)
    judged = frame.near(model, radius=SEEN_RADIUS)
    drawn = model.opacities >= _NEVER_DRAWN
    seen = drawn & ~judged
    contributions = peak_contributions(unit.select(judged), control or Control())
    seen[judged] = contributions >= _UNSEEN
    fine = drawn & judged & ~seen & (unit.log_scales.max(axis=1) < np.log(_FINE * _pixel()))
    seen |= fine
    far, huge = frame.strays(model)
    seen &= ~(far | huge)
    if not seen.any():
        return Pruned(model)
    notes = []
    if far.any():
        notes.append(
            f"Left out far away from the object: {far.sum():,} of {len(model):,} splats, "
            f"more than {STRAY_RADII:g} times its radius from its centre."
        )
    if huge.any():
        notes.append(
            f"Left out because they cover the object: {huge.sum():,} of {len(model):,} splats, "
            f"more than {STRAY_RADII:g} times as large as its radius."
        )
    if unjudged := int((seen & ~judged).sum()):
        notes.append(
            f"Kept without knowing whether anybody sees them: {unjudged:,} of {len(model):,} "
            "splats, which lie around the object or are larger than it."
        )
    if (unresolved := int((seen & fine).sum())) > _MANY_FINE * len(model):
        notes.append(
            f"Kept without knowing whether anybody sees them: {unresolved:,} of {len(model):,} "
            "splats, which are tiny beside the whole model."
        )
    return Pruned(model.select(seen), tuple(notes))


def _pixel() -> float:
    """Width of a pixel at the object's centre, in units of `UnitFrame`."""
    focal = surround_cameras(_VIEWS, size=_VIEW_SIZE, radius=CAMERA_RADIUS).intrinsics[0, 0, 0]
    return CAMERA_RADIUS / float(focal)


def peak_contributions(unit: SplatModel, control: Control) -> FloatArray:
    """How much of a view is made of each splat, in pixels: float32 [N], the largest of 16 views.

    Args:
        unit: the model in its `UnitFrame`.

    What a splat adds to a pixel is alpha times the light that gets past those before it. Its sum
    over a view is the derivative of that view's total brightness by the splat's own.
    """
    cameras = surround_cameras(_VIEWS, size=_VIEW_SIZE, radius=CAMERA_RADIUS)
    means, quats, scales, opacities = (
        torch.from_numpy(np.ascontiguousarray(a, np.float32))
        for a in (unit.means, unit.quats, unit.scales, unit.opacities)
    )
    peak = np.zeros(len(unit), np.float32)
    for view in range(_VIEWS):
        control.step(view / _VIEWS, "visibility")
        brightness = torch.ones(len(unit), 1, requires_grad=True)
        viewmat, K = (
            torch.from_numpy(a[view : view + 1].copy())
            for a in (cameras.viewmats, cameras.intrinsics)
        )
        splats = (means, quats, scales, opacities, brightness)
        image, _, _ = rasterize(
            RasterRequest(*splats, viewmat, K, _VIEW_SIZE, _VIEW_SIZE, **AS_VIEWERS)
        )
        (gradient,) = torch.autograd.grad(image.sum(), brightness)
        np.maximum(peak, gradient[:, 0].numpy(), out=peak)
    return peak
