"""Photos of objects whose surface is known, from known poses, cut out as the product does it.

The camera of the framed cut-out is known too: framing only scales and shifts a picture.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.imaging.framing import GIVEN_ALPHA, frame_object
from pipeline.registration.pose import Pose, cameras_of
from pipeline.types import Cutout, UInt8Array, ViewSet
from tests.oracles.objects import Object, photograph


def straight_colors(views: ViewSet, view: int = 0) -> UInt8Array:
    """uint8 [H, W, 3] without the white that shines through the edge."""
    covered = (views.alphas[view] / 255)[..., None]
    colors = (views.images[view] / 255 - (1 - covered)) / np.maximum(covered, 1e-3)
    straight: UInt8Array = np.round(255 * colors.clip(0, 1)).astype(np.uint8)
    return straight


def raw_photo(thing: Object, pose: Pose, size: int = 256) -> Cutout:
    """The picture as the camera has it, not framed: its pose is the given one."""
    views, _ = photograph(thing, cameras_of([pose], size))
    return Cutout(np.dstack([straight_colors(views), views.alphas[0]]), GIVEN_ALPHA)


def framed_photo(thing: Object, pose: Pose, size: int = 512) -> Cutout:
    """As `flow.intake` makes it of the picture."""
    views, _ = photograph(thing, cameras_of([pose], size))
    return frame_object(straight_colors(views), views.alphas[0], engine=GIVEN_ALPHA)


def gained(cutout: Cutout, *gains: float) -> Cutout:
    """The same photo with another exposure, one gain per channel."""
    rgba = cutout.rgba.astype(np.float64)
    rgba[..., :3] *= np.array(gains)
    return replace(cutout, rgba=np.round(rgba.clip(0, 255)).astype(np.uint8))
