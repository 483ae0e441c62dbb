"""Colours of a cut-out that may be trusted, and how they are spread without crossing its outline.

It works in the picture plane and does not know what is painted with them.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

from pipeline.engines.views.outline import Mask, Plane
from pipeline.imaging.nearest import nearest_known
from pipeline.types import FloatArray, UInt8Array

#: Rim of the photo that may show the old ground, share of the picture's side.
FRINGE_SHARE = 0.004


def without_fringe(rgba: UInt8Array, inside: Mask) -> FloatArray:
    """float32 [S, S, 3] in 0..1: colours from surely opaque pixels, the nearest elsewhere."""
    photo = rgba[..., :3].astype(np.float32) / 255.0
    sure = inside & (rgba[..., 3] >= 230)
    depth = ndimage.distance_transform_edt(sure)
    margin = FRINGE_SHARE * rgba.shape[0]
    trusted = sure & (depth > margin)
    # Where the object is thinner than two margins its middle line is the best there is.
    lost = sure & ~ndimage.binary_dilation(trusted, iterations=int(2 * margin) + 2)
    trusted |= lost & (depth >= ndimage.maximum_filter(depth, 3))
    if not trusted.any():
        trusted = inside
    filled = nearest_known(photo, trusted)
    softened = blur_inside(filled, inside, 1.0)
    clean: FloatArray = np.where(trusted[..., None], filled, softened)
    return clean


def blur_inside(colours: FloatArray, inside: Mask, sigma: float) -> FloatArray:
    """Gaussian blur that neither takes nor gives colour across the outline."""
    weight = inside.astype(np.float32)
    blurred = cv2.GaussianBlur(colours * weight[..., None], (0, 0), sigma)
    total = cv2.GaussianBlur(weight, (0, 0), sigma)
    mixed: FloatArray = blurred / np.maximum(total, 1e-4)[..., None]
    return np.where(total[..., None] > 1e-4, mixed, colours)


def smooth_step(low: float, high: float, value: Plane) -> FloatArray:
    """0 below `low`, 1 above `high`, float32 and smooth in between."""
    x = np.clip((value - low) / (high - low), 0.0, 1.0)
    step: FloatArray = (x * x * (3.0 - 2.0 * x)).astype(np.float32)
    return step
