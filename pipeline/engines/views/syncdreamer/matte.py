"""Finds the object in pictures on white ground, as the diffusion model makes them.

It decides by colours where they are not nearly white, and elsewhere by a hint: an alpha from who
knows what objects look like. It knows no model and not who gives hints. Without one, a white part
that touches the outline is taken for ground, and of the holes only large ones with sharp edges are
seen; a cast shadow is object in any case.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.imaging.rounding import to_bytes
from pipeline.types import UInt8Array

Mask = npt.NDArray[np.bool_]
Plane = npt.NDArray[np.float32]

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

#: A hint that holds less than this share of what surely is object has looked at something else.
_FITTING_SHARE = 0.85
#: A hint's outline may be off by so many pixels: what is no wider is not added along a rim.
_HINT_PX = 3
#: What is nearly white and enclosed is a hole if the hint calls most of it ground; also if it is as
#: white as ground and the hint is not quite sure of it: in 16 views of a white mug highlights had a
#: hint of 1.0 all over, the hole of the handle one of .12 to .94, and 1.0 where it is narrow.
_HOLE_HINT, _WHITE_HOLE_HINT = 0.5, 0.95
#: A spot of so large a share of the object may be seen to be a hole, without a hint, where its
#: edges rise within 4 pixels to this share of what they rise to in 9, and at least by so much.
_LARGE_HOLE, _SHARP, _LEAST_EDGE = 0.02, 0.6, 20.0
#: As white as ground, which is noisy.
_WHITE = 4.0


def matte(image: UInt8Array, hint: UInt8Array | None = None) -> UInt8Array:
    """Alpha of a picture: uint8 [H, W, 3] on white -> uint8 [H, W].

    Ground is what is nearly white and connected to the border, unless the hint knows a part of the
    object there, and what is nearly white and enclosed, if the hint knows it for ground or it
    cannot be anything else. A pixel
    at the object's rim is taken as a mix a F + (1 - a) white with F the colour of the nearest
    pixel inside, and a is its alpha; where F is too light to tell, the hint's.

    Args:
        hint: uint8 [H, W]; used if it `fits`.
    """
    darkness = 255.0 - image.astype(np.float32)  # [H, W, 3], 0 is white
    by_colour = _not_ground(darkness.max(2))
    if hint is not None and not fits(hint, image):
        hint = None
    known = np.where(by_colour, 255, 0).astype(np.uint8) if hint is None else hint
    solid = _without_dirt(_hinted(darkness.max(2), by_colour, known))
    return _softened(darkness, solid, hint)


def fits(hint: UInt8Array, image: UInt8Array) -> bool:
    """Whether a hint shows the object of the picture: it holds nearly all that is not white."""
    darkness = 255.0 - image.min(2).astype(np.float32)
    sure = _without_dirt(darkness >= GROUND_TOLERANCE)
    near = ndimage.maximum_filter(hint >= 128, 2 * _HINT_PX + 1)
    if not near.any():
        return False
    return float((sure & near).sum()) >= _FITTING_SHARE * float(sure.sum())


def _not_ground(darkness: Plane) -> Mask:
    """What is not nearly white and connected to the border, bool [H, W]."""
    labels, _ = ndimage.label(darkness < GROUND_TOLERANCE)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    outside: Mask = ~np.isin(labels, np.setdiff1d(edge, [0]))
    return outside


def _hinted(darkness: Plane, by_colour: Mask, hint: UInt8Array) -> Mask:
    """The object by colours, with the light parts and without the holes that the hint knows."""
    hinted = hint >= 128
    # Light parts: the hint's body beyond what colours know, but for slivers along the outline.
    beyond = hinted & ~by_colour
    wide = ndimage.binary_opening(beyond, np.ones((2 * _HINT_PX + 1,) * 2, bool))
    solid = by_colour | (ndimage.binary_dilation(wide, iterations=2 * _HINT_PX) & beyond)
    # Nearly white spots that are enclosed: highlights or holes.
    spots, count = ndimage.label(by_colour & (darkness < GROUND_TOLERANCE))
    numbers = np.arange(1, count + 1)
    sure = np.asarray(ndimage.mean(hint / 255.0, spots, numbers))
    white = np.asarray(ndimage.median(darkness, spots, numbers)) <= _WHITE
    hole = sure < np.where(white, _WHITE_HOLE_HINT, _HOLE_HINT)
    large = np.bincount(spots.ravel(), minlength=count + 1)[1:] >= _LARGE_HOLE * by_colour.sum()
    for number in numbers[white & large & ~hole]:
        hole[number - 1] = _is_ground(spots == number, darkness, by_colour)
    holes = np.concatenate([[False], hole])[spots]
    # A light part of the object may lie in the same spot as the hole beside it.
    ground = (ndimage.uniform_filter(darkness, 3) <= _WHITE) | ~hinted
    ground &= holes
    # Averages end short of the edge.
    ground |= ndimage.binary_dilation(ground, iterations=2) & holes & (darkness <= _WHITE)
    result: Mask = solid & ~ground
    return result


def _is_ground(spot: Mask, darkness: Plane, by_colour: Mask) -> bool:
    """Whether a large white spot that is enclosed is ground whatever a hint says: with a sharp
    edge, and within it as white and as even as the ground around the object. A highlight fades
    into the object's colour, and paper in the light of a room is not even."""
    within = ndimage.binary_erosion(spot, iterations=2)
    around = ndimage.binary_erosion(~by_colour, iterations=2)
    if not within.any() or not around.any():
        return False
    distance = ndimage.distance_transform_edt(~spot)
    beside, beyond = (
        darkness[by_colour & ~spot & (distance > near) & (distance <= far)]
        for near, far in ((1.5, 4), (6, 9))
    )
    if not len(beside) or not len(beyond):
        return False
    rises = max(_LEAST_EDGE, _SHARP * float(np.median(beyond)))
    if float(np.quantile(beside, 0.25)) < rises:
        return False
    alike = abs(float(darkness[within].mean()) - float(darkness[around].mean()))
    return alike <= 1.0 and float(darkness[within].std()) <= float(darkness[around].std()) + 0.5


def _without_dirt(solid: Mask) -> Mask:
    parts, count = ndimage.label(solid)
    if not count:
        return solid
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    kept: Mask = (sizes >= solid.size * _DIRT_SHARE)[parts]
    return kept


def _softened(darkness: Plane, solid: Mask, hint: UInt8Array | None) -> UInt8Array:
    """The alpha of an object [H, W] with its rim mixed with white; darkness [H, W, 3]."""
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
    unknown = np.uint8(255) if hint is None else np.maximum(hint[rim], 128)
    alpha[rim] = np.where(known, soft, unknown)
    return alpha
