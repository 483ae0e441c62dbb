"""The photos as large as a fit looks at them; engines hand them back as large as their views.

It does not know where a photo was taken from or how a fit uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.imaging.framing import picture_on_white
from pipeline.types import Cutout, ViewSet


def with_large_photos(views: ViewSet, cutouts: Sequence[Cutout], pixels: int) -> ViewSet:
    """The same views, whose photos are made anew from their cut-outs.

    Their side is `pixels`, or that of the largest cut-out among them where that is smaller, and at
    least that of the views.

    Args:
        cutouts: of all photos that were given, in their order; the accepted ones are used.
    """
    photos = views.photos
    if photos is None:
        return views
    accepted = [found.photo for found in views.registrations if found.accepted]
    used = [cutouts[i] for i in (accepted or range(len(photos)))]
    own = max(cutout.rgba.shape[0] for cutout in used)
    size = max(min(pixels, own), views.cameras.width)
    if size == photos.cameras.width or len(used) != len(photos):
        return views
    pictures, alphas = zip(*(picture_on_white(cutout, size) for cutout in used), strict=True)
    large = replace(
        photos,
        images=np.stack(pictures),
        alphas=np.stack(alphas),
        cameras=photos.cameras.resized(size, size),
    )
    return replace(views, photos=large)
