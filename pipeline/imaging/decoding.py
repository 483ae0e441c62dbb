"""Turns the bytes of a photo into pixels, and the product's own pictures into PNG and back.

It does not know who sent the bytes or what the pictures show.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError, features

from pipeline.errors import InvalidImage, ModelFailed, OutOfMemory
from pipeline.imaging.colour_profiles import alpha_histogram, shrink, to_srgb, upright
from pipeline.imaging.photo_files import (
    PNG_END,
    avif_notes,
    foreign_kind,
    jpeg_with_its_end,
    mended_png,
)
from pipeline.imaging.rounding import to_bytes
from pipeline.types import UInt8Array

MAX_BYTES = 20 * 1024 * 1024
#: Admits the 50-megapixel sensors of telephones. Pillow decodes them to 4 bytes a pixel, 256 MB.
MAX_PIXELS = 64_000_000
#: WebP's decoder holds several such copies at once: these pixels peak at 370 MB, 64 million at over
#: 1 GB, whatever is done with them afterwards. AVIF's peaks at 240 MB.
MAX_WEBP_PIXELS = 20_000_000
MIN_SIDE = 32
#: Longest side kept. The background remover looks at 320 px, a photo target at 1024 px.
WORK_SIDE = 2048

#: Only these decoders run on a stranger's bytes: no vector formats, no icons, no raw dumps.
#: Wheels of Pillow decode AVIF, one that a distribution built may not.
FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"),
    *(("AVIF",) if features.check("avif") else ()),
)

#: An object smaller than this share of the photo cannot be told from dirt on the lens.
MIN_OBJECT_SHARE = 0.002
#: Pixels with more alpha than this belong to the object.
BOX_ALPHA = 8
#: An object of which so large a share has an alpha below this is made of glass, all of it. One with
#: solid parts is not: its faint ones may be its shadow.
_SOLID_SHARE, _GLASS_ALPHA = 0.98, 160
#: Less see-through area than this is a rounded screenshot corner, not a cut-out.
MIN_TRANSPARENT_SHARE = 0.01


@dataclass(frozen=True)
class Photo:
    """A decoded photo, upright, in sRGB.

    Attributes:
        rgb: uint8 [H, W, 3], sRGB; longest side at most `WORK_SIDE`.
        alpha: uint8 [H, W] if the sender had cut the object out already, else None.
        source_format: "JPEG", "PNG", ...
        source_size: (width, height) of the file before turning and scaling, pixels.
        notes: sentences a user should read: what of the file could not be used.
    """

    rgb: UInt8Array
    alpha: UInt8Array | None
    source_format: str
    source_size: tuple[int, int]
    notes: tuple[str, ...] = ()


def decode_photo(
    data: bytes,
    *,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    min_side: int = MIN_SIDE,
) -> Photo:
    """Decode one photo completely, or say why it cannot be used.

    Size limits are checked against the header before any pixel is decoded. Orientation (EXIF),
    colour profile, bit depth, palette and CMYK are resolved here and nowhere else.

    Raises:
        InvalidImage: not one of `FORMATS`, damaged, truncated, animated, too small, too large,
            or wholly transparent.
    """
    if not data:
        raise InvalidImage("The file is empty (zero bytes).")
    if len(data) > max_bytes:
        raise InvalidImage(
            f"The file has {len(data) / 2**20:.1f} MB; at most {max_bytes / 2**20:.0f} MB are read."
        )
    data, mended = mended_png(data)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise InvalidImage(
            foreign_kind(data)
            or f"The file is not an image that can be read ({', '.join(FORMATS)})."
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InvalidImage(f"The image has more than {max_pixels:,} pixels.") from None
    except Exception as error:  # decoders raise anything on hostile headers
        raise InvalidImage(f"The image header is damaged: {error}") from error

    with image:
        size = image.size
        _check_header(image, max_pixels=max_pixels, min_side=min_side)
        source_format = "JPEG" if image.format == "MPO" else str(image.format)
        try:
            pixels, notes = _load(image, data)
            if image.format == "AVIF":
                notes = (*avif_notes(data), *notes)
        except InvalidImage:
            raise
        except MemoryError:
            raise InvalidImage("The image needs too much memory to decode.") from None
        except Exception as error:  # truncated files: OSError, SyntaxError, struct.error, ...
            raise InvalidImage(f"The image is damaged or truncated: {error}") from error
    notes = (*mended, *notes)
    array = np.ascontiguousarray(np.asarray(pixels))
    if pixels.mode == "RGB":
        return Photo(array, None, source_format, size, notes)
    rgb, alpha = np.ascontiguousarray(array[..., :3]), array[..., 3].copy()
    alpha, lifted = _solid(alpha)
    return Photo(rgb, alpha, source_format, size, (*notes, *lifted))


def _check_header(image: ImageFile.ImageFile, *, max_pixels: int, min_side: int) -> None:
    """Refuse by what the header says. Costs no decoding."""
    width, height = image.size
    if image.format in ("WEBP", "AVIF"):
        max_pixels = min(max_pixels, MAX_WEBP_PIXELS)
    if width * height > max_pixels:
        raise InvalidImage(
            f"The {image.format} has {width} x {height} pixels; "
            f"at most {max_pixels:,} pixels are read."
        )
    if min(width, height) < min_side:
        raise InvalidImage(
            f"The image has {width} x {height} pixels; each side needs at least {min_side}."
        )
    if min(width, height) * WORK_SIDE < min_side * max(width, height):
        raise InvalidImage(f"The image is too narrow: {width} x {height} pixels.")
    # "MPO" is a telephone's JPEG with more pictures (depth, gain map) behind the photo.
    if image.format != "MPO":
        try:
            frames = int(getattr(image, "n_frames", 1))
        except Exception as error:
            raise InvalidImage(f"The image is damaged or truncated: {error}") from error
        if frames > 1:
            raise InvalidImage(
                f"The {image.format} has {frames} frames; send one still picture, not an animation."
            )


def _load(image: ImageFile.ImageFile, data: bytes) -> tuple[Image.Image, tuple[str, ...]]:
    """Decode every byte; upright sRGB of mode RGB, or RGBA where the alpha cuts an object out,
    and notes on what could not be used.

    The longest side is at most `WORK_SIDE`. Beside the decoded pixels only strips of them and the
    small picture are held: 64 million RGBA pixels peak at 0.4 GB, 1.3 GB when converted whole.
    """
    if image.format == "PNG":
        # Loading alone accepts a PNG whose checksums are wrong; `verify` spoils its own copy.
        with Image.open(io.BytesIO(data), formats=("PNG",)) as copy:
            copy.verify()
    if image.format in ("JPEG", "MPO"):
        image.draft("", _fitted(image.size))  # decodes at 1/2, 1/4, 1/8 where that suffices
    try:
        image.load()
    except OSError:
        image = _without_end_mark(image, data)
    keep_alpha = _has_meaningful_alpha(image)
    small = shrink(image, _fitted(image.size), keep_alpha=keep_alpha)
    turned, unturned = upright(small, image)
    pixels, uncoloured = to_srgb(turned, image.info.get("icc_profile"))
    return pixels, (*unturned, *uncoloured)


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) with the longest side brought down to `WORK_SIDE`."""
    scale = min(1.0, WORK_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _without_end_mark(image: ImageFile.ImageFile, data: bytes) -> ImageFile.ImageFile:
    """The decoded photo where only the mark at the end of a JPEG is missing.

    Raises:
        OSError: it is no JPEG, or pixels are missing.
    """

    def opened(candidate: bytes) -> ImageFile.ImageFile:
        again = Image.open(io.BytesIO(candidate), formats=("JPEG",))
        again.draft("", _fitted(again.size))
        again.load()
        return again

    whole = None
    if image.format == "JPEG":
        whole = jpeg_with_its_end(data, lambda candidate: opened(candidate).tobytes())
    if whole is None:
        raise OSError("the file ends before its last pixel")
    return opened(whole)


def _has_meaningful_alpha(image: Image.Image) -> bool:
    """Whether an alpha separates an object from a ground; False if it is opaque or absent.

    Raises:
        InvalidImage: everything is transparent.
    """
    counts = alpha_histogram(image)
    if counts is None:
        return False
    total = counts.sum()
    opaque = counts[128:].sum() / total
    if _glass_alpha(counts) is not None:
        opaque = counts[BOX_ALPHA + 1 :].sum() / total
    if opaque < MIN_OBJECT_SHARE:
        raise InvalidImage("The image has no foreground: it is transparent everywhere.")
    return bool(1.0 - opaque >= MIN_TRANSPARENT_SHARE)


def _glass_alpha(counts: npt.NDArray[np.int64]) -> int | None:
    """The alpha that stands for solid where nearly all of an object is see-through, else None.

    Args:
        counts: how many pixels have each alpha, int64 [256].
    """
    visible = counts.copy()
    visible[: BOX_ALPHA + 1] = 0
    if visible.sum() < MIN_OBJECT_SHARE * counts.sum():
        return None
    upto = np.cumsum(visible)
    most = int(np.searchsorted(upto, _SOLID_SHARE * upto[-1]))
    return most if most < _GLASS_ALPHA else None


def _solid(alpha: UInt8Array) -> tuple[UInt8Array, tuple[str, ...]]:
    """An object of glass becomes solid, as what comes after knows only solid ones; and a note."""
    most = _glass_alpha(np.bincount(alpha.ravel(), minlength=256))
    if most is None:
        return alpha, ()
    lifted = to_bytes(alpha.astype(np.float32) * np.float32(255 / most))
    return lifted, (
        f"The object in the photo is see-through (its alpha is {most} of 255 or less); it is made "
        "solid, in the colours that the photo gives it.",
    )


def encode_png(array: UInt8Array) -> bytes:
    """PNG bytes of a uint8 [H, W], [H, W, 3] or [H, W, 4] image."""
    if array.dtype != np.uint8:
        raise ValueError(f"a PNG is written from uint8, got {array.dtype}")
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def decode_png(data: bytes) -> UInt8Array:
    """The pixels of a PNG that this product wrote, uint8 [H, W] or [H, W, C].

    Raises:
        ModelFailed: the bytes are not a complete PNG, or a checksum is wrong. Not InvalidImage:
            whoever asks has sent no picture.
        OutOfMemory: there is too little for its pixels.
    """
    try:
        if not data.endswith(PNG_END):
            raise ValueError("its end is missing")
        # Loading alone accepts wrong checksums.
        with Image.open(io.BytesIO(data), formats=("PNG",)) as copy:
            copy.verify()
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            image.load()
            return np.array(image, np.uint8)
    except MemoryError as error:
        raise OutOfMemory.openly("A stored PNG did not fit into this machine's memory.") from error
    except Exception as error:
        damaged = "The stored PNG is damaged"
        raise ModelFailed(f"{damaged}: {error}", public=f"{damaged}.") from error
