"""Which splats of a model are ever seen.

It does not know why somebody wants fewer: exports, meshing and clean-up use it.
"""

from __future__ import annotations

import numpy as np
import torch

from pipeline.control import Control
from pipeline.geometry.cameras import surround_cameras
from pipeline.geometry.unit_frame import CAMERA_RADIUS, UnitFrame
from pipeline.splats.rasterize import RasterRequest, rasterize
from pipeline.types import FloatArray, SplatModel

_VIEWS, _VIEW_SIZE = 16, 192

#: In pixels of such a view. Leaving out all splats that add less than this to every view changed
#: renders of fitted models by 60 dB; one step of 255 in every pixel would be 48 dB.
_UNSEEN = 0.1


def prune_invisible(model: SplatModel, control: Control | None = None) -> SplatModel:
    """Without the splats that nobody sees from outside: too faint, or behind others from all sides.

    A model of which nothing would be left stays as it is.

    Raises:
        Cancelled: a stop was asked for.
    """
    if not len(model):
        return model
    seen = peak_contributions(model, control or Control()) >= _UNSEEN
    return model.select(seen) if seen.any() else model


def peak_contributions(model: SplatModel, control: Control) -> FloatArray:
    """How much of a view is made of each splat, in pixels: float32 [N], the largest of 16 views.

    What a splat adds to a pixel is alpha times the light that gets past those before it. Its sum
    over a view is the derivative of that view's total brightness by the splat's own.
    """
    unit = UnitFrame.of(model).to_unit(model)
    cameras = surround_cameras(_VIEWS, size=_VIEW_SIZE, radius=CAMERA_RADIUS)
    means, quats, scales, opacities = (
        torch.from_numpy(np.ascontiguousarray(a, np.float32))
        for a in (unit.means, unit.quats, unit.scales, unit.opacities)
    )
    peak = np.zeros(len(model), np.float32)
    for view in range(_VIEWS):
        control.step(view / _VIEWS, "visibility")
        brightness = torch.ones(len(model), 1, requires_grad=True)
        viewmat, K = (
            torch.from_numpy(a[view : view + 1].copy())
            for a in (cameras.viewmats, cameras.intrinsics)
        )
        splats = (means, quats, scales, opacities, brightness)
        image, _, _ = rasterize(RasterRequest(*splats, viewmat, K, _VIEW_SIZE, _VIEW_SIZE))
        (gradient,) = torch.autograd.grad(image.sum(), brightness)
        np.maximum(peak, gradient[:, 0].numpy(), out=peak)
    return peak
