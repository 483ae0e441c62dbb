"""Finds the object in pictures on white ground, as the diffusion model makes them.

It looks at colours and connectivity only, and knows no model. Its limits: a white part of the
object that touches the outline is taken for ground, ground that the object encloses (the hole of a
ring) is taken for object, and so is a cast shadow.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.imaging.rounding import to_bytes
from pipeline.types import UInt8Array

#: A pixel whose darkest channel is within so much of white may be ground. The autoencoder returns
#: white as 250..255.
GROUND_TOLERANCE = 10

#: Connected spots of fewer pixels than this share of the picture are dirt: 33 of 256 x 256.
_DIRT_SHARE = 1 / 2000
#: Pixels next to the ground, corners included, may be mixed with it.
_RIM_PX = 1.5
#: Pixels this far inside show the object's own colour.
_CORE_PX = 2.5
#: A thin part without a core within so far keeps hard edges.
_NEAR_PX = 5.0
#: Object colours nearer to white than this say nothing about how much ground is mixed in.
_LIGHT = 40.0


def mattes(images: UInt8Array) -> UInt8Array:
    """Alpha of every picture: uint8 [V, H, W, 3] on white -> uint8 [V, H, W].

    Ground is what is nearly white and connected to the border. A pixel at the object's rim is taken
    as a mix a F + (1 - a) white with F the colour of the nearest pixel inside, and a is its alpha.
    """
    return np.stack([_matte(image) for image in images])


def _matte(image: UInt8Array) -> UInt8Array:
    darkness = 255.0 - image.astype(np.float32)  # [H, W, 3], 0 is white
    solid = _object(darkness.max(axis=2))
    alpha = np.where(solid, 255, 0).astype(np.uint8)
    # The frame is no ground: an object may be cut by it and is opaque there.
    inside = ndimage.distance_transform_edt(np.pad(solid, 1, constant_values=True))[1:-1, 1:-1]
    rim = solid & (inside <= _RIM_PX)
    core = solid & (inside > _CORE_PX)
    if not rim.any() or not core.any():
        return alpha
    distance, (row, column) = ndimage.distance_transform_edt(~core, return_indices=True)
    own = darkness[row, column][rim]
    mixed = darkness[rim]
    strength = (own * own).sum(1)
    share = (mixed * own).sum(1) / np.maximum(strength, 1.0)
    soft = to_bytes(255 * share)
    known = (own.max(1) >= _LIGHT) & (distance[rim] <= _NEAR_PX)
    alpha[rim] = np.where(known, soft, 255)
    return alpha


def _object(darkness: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """What is not ground and no dirt, [H, W], from the distance to white of each pixel."""
    labels, _ = ndimage.label(darkness < GROUND_TOLERANCE)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    ground = np.isin(labels, np.setdiff1d(edge, [0]))
    parts, count = ndimage.label(~ground)
    if not count:
        return ~ground
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    kept: npt.NDArray[np.bool_] = (sizes >= darkness.size * _DIRT_SHARE)[parts]
    return kept
