"""A mask that somebody drew for a photo: read from its file, and refused where it says nothing.

It does not know what the photo shows, nor what is cut out with the mask.
"""

from __future__ import annotations

import numpy as np

from pipeline.errors import InvalidImage
from pipeline.imaging.decoding import MIN_TRANSPARENT_SHARE, Photo, decode_photo
from pipeline.imaging.object_alpha import BODY_ALPHA, BOX_ALPHA, MIN_OBJECT_SHARE
from pipeline.imaging.object_notes import looks_inverted
from pipeline.types import UInt8Array

#: What every sentence ends with.
_WAY_OUT = (
    "A mask is a PNG of the photo's size, grey and white where the object is, or with alpha that "
    "is opaque there."
)

#: A picture has colours if so large a share of its pixels are further from grey than that: a JPEG
#: of a grey one is not.
_COLOURED_SHARE, _GREY_SPREAD = 0.02, 48


def decode_mask(data: bytes, size: tuple[int, int]) -> UInt8Array:
    """The alpha that a mask gives a photo, uint8 [H, W], 255 where the object is.

    It is the alpha of the file where that cuts something out, else how light its pixels are.

    Args:
        data: a file of any kind that a photo may be.
        size: (width, height) of the photo as it is stored, pixels.

    Raises:
        InvalidImage: it is no picture, has another size or colours, is black or the same
            everywhere, or seems to be inverted.
    """
    try:
        picture = decode_photo(data)
    except InvalidImage as error:
        raise InvalidImage(
            f"{error.detail} {_WAY_OUT}", public=f"{error.public} {_WAY_OUT}"
        ) from error
    height, width = picture.rgb.shape[:2]
    if (width, height) != size:
        across, down = picture.source_size
        raise InvalidImage(
            f"The mask has {across} x {down} pixels and the photo {size[0]} x {size[1]}: draw it "
            "over the photo as it is stored, which is its original_url."
        )
    alpha = _alpha_of(picture)
    _check(alpha)
    return alpha


def _alpha_of(picture: Photo) -> UInt8Array:
    if picture.alpha is not None:
        return picture.alpha
    spread = picture.rgb.max(-1) - picture.rgb.min(-1)
    if float((spread > _GREY_SPREAD).mean()) > _COLOURED_SHARE:
        raise InvalidImage(f"The picture has colours, and all of it is opaque. {_WAY_OUT}")
    grey: UInt8Array = (picture.rgb.astype(np.uint16).sum(-1) // 3).astype(np.uint8)
    return grey


def _check(alpha: UInt8Array) -> None:
    """Raises InvalidImage where an alpha tells no object from a ground."""
    if float((alpha > BOX_ALPHA).mean()) < MIN_OBJECT_SHARE:
        raise InvalidImage(f"The mask is empty: it is black everywhere. {_WAY_OUT}")
    light = float((alpha >= BODY_ALPHA).mean())
    if light < MIN_OBJECT_SHARE or 1 - light < MIN_TRANSPARENT_SHARE:
        raise InvalidImage(
            f"The mask has no contrast: its pixels are from {alpha.min()} to {alpha.max()} of 255, "
            f"nearly all of them {'dark' if light < MIN_OBJECT_SHARE else 'light'}. {_WAY_OUT} "
            "Where the object fills all of the photo, send the photo anew with remove_bg=false."
        )
    if looks_inverted(alpha):
        raise InvalidImage(
            "The mask seems to be inverted: all of its rim is white, and there is a hole in the "
            "middle. White is the object. If it is meant so, send the photo anew, with the mask as "
            "its alpha."
        )
