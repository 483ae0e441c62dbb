"""A photo and its object's alpha become the square picture that the DeG encoders look at.

It does not know who found the alpha, nor any network. Every rounding is that of the preparation the
networks were trained with: a picture that is off by a pixel gives another latent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from pipeline.errors import InvalidImage
from pipeline.types import UInt8Array

#: Side of the crop by the longer side of the object's box.
CROP_FACTOR = 1.2
#: Alpha up to here counts as nothing. The box is that of all alpha above 0, so the haze of a soft
#: remover would make it the whole photo.
FAINT_ALPHA = 8
#: An edge is soft by resampling, some pixels of the coarser of photo and resized photo, and by its
#: own nature, a share of the object's longer side: only what reaches farther is haze.
_EDGE_PIXELS, _EDGE_SHARE = 4, 0.02
#: Alpha is eroded by so many pixels of the resized photo.
EROSION = 1
#: A crop whose side is less than this part of the canvas shows nothing that could be recognised.
_LEAST_CROP = 1 / 64


@dataclass(frozen=True)
class PreparedPhoto:
    """What the encoders look at.

    Attributes:
        rgb: uint8 [canvas, canvas, 3], the object on black.
        alpha: uint8 [canvas, canvas], of the object.
        crop: left, top, right, bottom of the canvas in pixels of the resized photo; it may reach
            beyond the photo, and be off square by a pixel.
        scale: pixels of the resized photo by those of the photo.
        notes: sentences for the user.
    """

    rgb: UInt8Array
    alpha: UInt8Array
    crop: tuple[int, int, int, int]
    scale: float
    notes: tuple[str, ...] = ()


def prepare_photo(
    rgb: UInt8Array,
    alpha: UInt8Array,
    canvas: int,
    *,
    crop_factor: float = CROP_FACTOR,
    erosion: int = EROSION,
    faint: int = FAINT_ALPHA,
) -> PreparedPhoto:
    """Resize, erode, crop around the object and paste on black.

    Args:
        rgb: uint8 [h, w, 3], sRGB.
        alpha: uint8 [h, w], of the object in this photo.
        canvas: side of the result, pixels.
        crop_factor: side of the crop by the longer side of the object's box.
        erosion: radius, pixels of the resized photo; 0 leaves the edge.
        faint: alpha up to here counts as nothing.

    Raises:
        InvalidImage: no object is left, or it is too small.
        ValueError: arrays of other shapes.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or alpha.shape != rgb.shape[:2]:
        raise ValueError(f"rgb {rgb.shape} and alpha {alpha.shape} are no photo and its alpha")
    photo, scale = _resized(np.dstack([rgb, alpha]), canvas)
    found = np.asarray(photo.getchannel("A"))
    kept = np.where(found > faint, found, 0).astype(np.uint8)
    mask = Image.fromarray(kept)
    if erosion:
        mask = mask.filter(ImageFilter.MinFilter(2 * erosion + 1))
    photo.putalpha(mask)
    crop = _crop(np.asarray(mask), crop_factor, canvas)
    cut = photo.crop(crop).resize((canvas, canvas), Image.Resampling.LANCZOS)
    black = Image.new("RGB", cut.size)
    black.paste(cut, mask=cut.getchannel("A"))
    return PreparedPhoto(
        np.asarray(black), np.asarray(cut.getchannel("A")), crop, scale, _notes(found, kept, scale)
    )


def _resized(rgba: UInt8Array, canvas: int) -> tuple[Image.Image, float]:
    """The photo with its shorter side as long as the canvas, and how much larger that is."""
    photo = Image.fromarray(rgba)
    scale = canvas / min(photo.size)
    size = (round(photo.width * scale), round(photo.height * scale))
    # Pillow multiplies colours with alpha for this, so what lies behind the object stays there.
    return photo.resize(size, Image.Resampling.LANCZOS), scale


def _crop(alpha: UInt8Array, factor: float, canvas: int) -> tuple[int, int, int, int]:
    """The square around the box of alpha > 0, by the indices of its first and last pixels."""
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    if not len(rows):
        raise InvalidImage(
            "No object is left in the photo: its alpha is empty, or so thin or faint that nothing "
            "stays. Send a photo with one clear object, or one with its own alpha channel."
        )
    y0, y1, x0, x1 = (int(i) for i in (rows[0], rows[-1], columns[0], columns[-1]))
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    half = max(x1 - x0, y1 - y0) / 2 * factor
    if 2 * half < max(canvas * _LEAST_CROP, 1):
        raise InvalidImage(
            f"The object in the photo is too small: {max(x1 - x0, y1 - y0) + 1} pixels once the "
            f"photo's shorter side has {canvas}. Send a photo that shows it larger."
        )
    # int() truncates towards zero, also what is negative: the networks saw such crops.
    return int(cx - half), int(cy - half), int(cx + half), int(cy + half)


def _notes(found: UInt8Array, kept: UInt8Array, scale: float) -> tuple[str, ...]:
    """What cutting faint alpha changed, where there was more of it than a soft edge has."""

    def box(alpha: UInt8Array) -> tuple[int, ...]:
        rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
        return (int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1]))

    top, bottom, left, right = box(kept)
    edge = max(_EDGE_PIXELS * max(scale, 1), _EDGE_SHARE * max(bottom - top, right - left))
    if np.abs(np.subtract(box(found), box(kept))).max() <= edge:
        return ()
    return (
        "A faint haze around the object was cut off before it was framed; if a part of it is "
        "missing, send the photo with its own alpha channel.",
    )
