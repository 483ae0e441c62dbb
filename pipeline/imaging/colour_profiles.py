"""Brings a decoded picture of any mode and orientation to a small upright one in sRGB.

It works strip by strip, because a decoded photo is large enough without copies of it. It does not
know files or which sizes are admitted.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

from pipeline.errors import InvalidImage

if TYPE_CHECKING:
    from PIL import ImageCms

log = logging.getLogger(__name__)

#: Pixels that are converted at a time, so that a conversion costs 4 MB a copy and not 256 MB.
_STRIP_PIXELS = 1 << 20

#: Levels of 255 by which a transform from sRGB to sRGB may miss.
_ROUNDING = 2


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The picture in strips of `_STRIP_PIXELS`, each with its first row."""
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def shrink(image: Image.Image, size: tuple[int, int], *, keep_alpha: bool) -> Image.Image:
    """The picture of mode RGB, L, CMYK or RGBA and of `size` (width, height).

    Resampling is done rows first and columns after, as Pillow does it for a whole picture, so
    the result is the same.
    """
    width = size[0]
    narrow: Image.Image | None = None
    for top, strip in _strips(image):
        part = _to_plain_mode(strip, keep_alpha=keep_alpha)
        if part.mode == "RGBA" and size != image.size:
            # Premultiplied: the colour of a transparent pixel must not count. Not for nothing,
            # because it loses the colours of faint pixels.
            part = part.convert("RGBa")
        part = part.resize((width, part.height), Image.Resampling.BICUBIC)
        if narrow is None:
            narrow = Image.new(part.mode, (width, image.height))
        narrow.paste(part, (0, top))
    assert narrow is not None  # a picture has a row
    small = narrow.resize(size, Image.Resampling.BICUBIC)
    return small.convert("RGBA") if small.mode == "RGBa" else small


def _is_deep(image: Image.Image) -> bool:
    """Whether it is grey of 16 bits, 32 bits or float; Pillow's own conversion clips these."""
    return image.mode.startswith(("I", "F"))


def _to_plain_mode(image: Image.Image, *, keep_alpha: bool) -> Image.Image:
    """Mode RGB, L, CMYK or RGBA, 8 bits. Without `keep_alpha` hidden colours become visible."""
    if _is_deep(image):
        return _to_eight_bits(image)
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        return with_alpha if keep_alpha else with_alpha.convert("RGB")
    return image if image.mode in ("RGB", "L", "CMYK") else image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Deep grey scaled, never clipped, to mode L."""
    values = np.asarray(image)
    white = 1.0 if image.mode == "F" else 65535.0
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > white:
        raise InvalidImage(f"The image holds values outside 0..{white:g}.")
    if image.mode == "F":
        return Image.fromarray(np.rint(values * np.float32(255.0)).astype(np.uint8))
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


def alpha_histogram(image: Image.Image) -> npt.NDArray[np.int64] | None:
    """How many pixels have each alpha, int64 [256]; None where the picture has no alpha."""
    if _is_deep(image) or not image.has_transparency_data:
        return None
    counts = np.zeros(256, np.int64)
    for _, strip in _strips(image):
        counts += strip.convert("RGBA").getchannel("A").histogram()
    return counts


def upright(small: Image.Image, photo: Image.Image) -> tuple[Image.Image, list[str]]:
    """`small` turned as the EXIF block of `photo` says; notes where that cannot be read."""
    try:
        orientation = photo.getexif().get(ExifTags.Base.Orientation, 1)
        small.getexif()[ExifTags.Base.Orientation] = orientation
        return ImageOps.exif_transpose(small), []
    except Exception as error:  # a damaged EXIF block does not make the pixels worse
        log.info("ignored the orientation of a photo: %s", error)
        return small, ["How the camera was held cannot be read from the photo: it is not turned."]


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, list[str]]:
    """Mode RGB or RGBA, through the embedded colour profile where there is a usable one; notes
    where there is one that is not."""
    if image.mode == "RGBA":
        rgb, notes = _through_profile(image.convert("RGB"), profile)
        rgb.putalpha(image.getchannel("A"))
        return rgb, notes
    return _through_profile(image, profile)


def _through_profile(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, list[str]]:
    """RGB from an image of mode RGB, L or CMYK; a profile that does not fit is ignored."""
    if not profile:
        return image.convert("RGB"), []
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = str(source.profile.xcolor_space).strip()
        if {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(space) != image.mode:
            raise ValueError(f"it is for {space}, the picture is {image.mode}")
        srgb = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, srgb, image.mode, "RGB")
        if image.mode == "RGB" and _is_identity(transform):
            return image, []
        converted = ImageCms.applyTransform(image, transform)
        assert converted is not None  # it is, where the picture is changed in place
        return converted, []
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        log.info("ignored the colour profile of a photo: %s", error)
        note = "The photo's colour profile cannot be used: its colours were taken for sRGB."
        return image.convert("RGB"), [note]


def _is_identity(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether it leaves colours as they are, but for rounding.

    Tried, not read: a profile named "sRGB" may be one of linear light with sRGB's primaries, and
    sRGB's own goes by many names.
    """
    from PIL import ImageCms

    levels = np.linspace(0, 255, 18).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    converted = ImageCms.applyTransform(Image.fromarray(colours), transform)
    change = np.asarray(converted).astype(int) - colours
    return int(np.abs(change).max()) <= _ROUNDING
