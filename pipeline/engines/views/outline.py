"""The outline of an object in a cut-out: from the alpha of its pixels to a line between them.

It works in the picture plane and does not know what is made of the outline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.errors import InvalidImage
from pipeline.imaging.nearest import nearest_known
from pipeline.types import UInt8Array

Plane = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: Separate parts and holes smaller than these shares of the object are noise of the matte.
MIN_PART_SHARE = 0.02
MIN_HOLE_SHARE = 0.0005


@dataclass(frozen=True)
class Silhouette:
    """An outline with sub-pixel accuracy.

    Attributes:
        field: float64 [S, S], 0..1; the outline is its 0.5 level set between pixel centres.
        inside: bool [S, S], field >= 0.5; False along the border of the picture.
    """

    field: Plane
    inside: Mask


def silhouette(alpha: UInt8Array) -> Silhouette:
    """The outline of the object in alpha uint8 [S, S], without litter and smoothed by a pixel.

    Raises:
        InvalidImage: nothing is opaque but perhaps the outermost pixels.
    """
    field = np.zeros(alpha.shape)
    field[1:-1, 1:-1] = alpha[1:-1, 1:-1] / 255.0
    solid = field >= 0.5
    parts, count = ndimage.label(solid)
    if count == 0:
        raise InvalidImage("The cut-out has no foreground: it is transparent everywhere.")
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    kept = sizes >= MIN_PART_SHARE * sizes.max()
    field = np.where(nearest_known(kept[parts], solid), field, 0.0)

    holes, _ = ndimage.label(field < 0.5, np.ones((3, 3)))
    faulty = np.bincount(holes.ravel()) < max(4.0, MIN_HOLE_SHARE * sizes.sum())
    faulty[0] = False
    field[faulty[holes]] = 1.0

    # Smoothing takes the stairs out of the rim, but it would erase what is thinner than it.
    solid = field >= 0.5
    thin = solid & ~ndimage.binary_opening(solid, np.ones((3, 3), bool))
    keep_sharp = ndimage.binary_dilation(thin, iterations=2)
    smooth = np.where(keep_sharp, field, ndimage.gaussian_filter(field, 1.0))
    for plane in (smooth, field):
        plane[[0, -1]] = 0.0
        plane[:, [0, -1]] = 0.0
        if (plane >= 0.5).any():
            return Silhouette(plane, plane >= 0.5)
    raise InvalidImage("The cut-out has no foreground: what it shows is too small for a surface.")
