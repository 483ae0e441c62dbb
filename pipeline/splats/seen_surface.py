"""Which parts of a model's surface were seen by photos, as a share and pixel by pixel.

It does not know how true the rest is, nor how the photos' cameras were found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pipeline.control import UNATTENDED, Control
from pipeline.geometry.cameras import surround_cameras
from pipeline.geometry.line_of_sight import Mask, at_most, seen_through
from pipeline.splats.render import Rendering, render_model
from pipeline.types import Cameras, FloatArray, SplatModel

#: Views from all around in which the surface is counted, and their side in pixels.
_AROUND, _AROUND_SIZE = 24, 96


@dataclass(frozen=True)
class SeenSurface:
    """A model from all around, and what of it the photos saw.

    Attributes:
        rendering: the 24 views of `surround_cameras`, 96 px, on white, with depth.
        seen: bool [24, 96, 96]; False where there is no surface.
        share: 0..1 of the surface; None for a model without one.
    """

    rendering: Rendering
    seen: Mask
    share: float | None


def find_seen_surface(
    model: SplatModel,
    photos: Cameras,
    *,
    device: torch.device | None = None,
    control: Control = UNATTENDED,
) -> SeenSurface:
    """What photos from these cameras saw of a model.

    Every piece of the surface counts as much as the area it shows to views from all around. Of a
    convex surface that is its area (Cauchy); the bottom of a hollow counts as far as it can be
    looked into.

    Args:
        photos: of the accepted photos, P of one size.
        device: where the model is drawn; None is the CPU.
        control: asked for a stop while views are drawn.

    Raises:
        Cancelled: a stop was asked for.
        InvalidInput: the model or a camera holds NaN or infinity.
    """
    cameras = surround_cameras(_AROUND, size=_AROUND_SIZE)
    around = render_model(model, cameras, with_depth=True, device=device, control=control)
    depth = around.median_depth
    assert depth is not None, "asked for"
    seen = seen_pixels(model, depth, cameras, photos, device=device, control=control)
    # A pixel is as large as its distance squared.
    area = depth.astype(np.float64) ** 2
    whole = float(area.sum())
    return SeenSurface(around, seen, float(area[seen].sum()) / whole if whole > 0 else None)


def seen_pixels(
    model: SplatModel,
    depth: FloatArray,
    cameras: Cameras,
    photos: Cameras,
    *,
    device: torch.device | None = None,
    control: Control = UNATTENDED,
) -> Mask:
    """Which pixels of some views of a model show what a photo saw, bool [V, H, W].

    Args:
        depth: float32 [V, H, W] of the model in these views, 0 where there is no surface.
        cameras: of the views, V.
        photos, device, control: as in `find_seen_surface`.
    """
    small = at_most(photos)
    drawn = render_model(model, small, with_depth=True, device=device, control=control)
    assert drawn.median_depth is not None, "asked for"
    return seen_through(drawn.median_depth, small, depth, cameras)
