"""Turns the bytes of a photo into pixels, and the product's own pictures into PNG and back.

It does not know who sent the bytes or what the pictures show.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pi_heif
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError, features

from pipeline.errors import InvalidImage, ModelFailed, OutOfMemory
from pipeline.imaging.coded_light import CodedLight, light_to_srgb
from pipeline.imaging.colour_profiles import alpha_histogram, shrink, to_srgb, upright
from pipeline.imaging.object_alpha import BOX_ALPHA, MIN_OBJECT_SHARE, glass_alpha
from pipeline.imaging.photo_files import (
    PNG_END,
    coded_as,
    coded_light,
    foreign_kind,
    jpeg_with_its_end,
    mended_png,
    turned_by_itself,
)
from pipeline.types import UInt8Array

MAX_BYTES = 20 * 1024 * 1024
#: Admits the 50-megapixel sensors of telephones. Pillow decodes them to 4 bytes a pixel, 256 MB.
MAX_PIXELS = 64_000_000
#: HEIF's decoder holds the pixels several times, too: these peak at 320 MB. It admits the 48
#: megapixels of telephones.
MAX_HEIF_PIXELS = 50_000_000
#: WebP's decoder holds several such copies at once: these pixels peak at 370 MB, 64 million at over
#: 1 GB, whatever is done with them afterwards. AVIF's peaks at 240 MB.
MAX_WEBP_PIXELS = 20_000_000
MIN_SIDE = 32
#: Longest side kept. The background remover looks at 320 px, a photo target at 1024 px.
WORK_SIDE = 2048

#: Only these decoders run on a stranger's bytes: no vector formats, no icons, no raw dumps.
#: Wheels of Pillow decode AVIF, one that a distribution built may not.
FORMATS = (
    *("JPEG", "PNG", "WEBP", "HEIF", "GIF", "BMP", "TIFF"),
    *(("AVIF",) if features.check("avif") else ()),
)
# HEIC is HEIF with pictures as HEVC codes them. Of such a file only the photo is looked at.
pi_heif.register_heif_opener(
    thumbnails=False, depth_images=False, aux_images=False, decode_threads=1
)

#: The most pixels of some formats.
_MOST_PIXELS = {"WEBP": MAX_WEBP_PIXELS, "AVIF": MAX_WEBP_PIXELS, "HEIF": MAX_HEIF_PIXELS}

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
    # Some files of boxes go by the brands of both; what they hold decides.
    coded = coded_as(data)
    if coded is not None and coded not in FORMATS:
        raise InvalidImage(f"{coded} cannot be read here: send the photo as JPEG or PNG.")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS if coded is None else (coded,))
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
        except InvalidImage:
            raise
        except MemoryError:
            raise InvalidImage("The image needs too much memory to decode.") from None
        except Exception as error:  # truncated files: OSError, SyntaxError, struct.error, ...
            raise InvalidImage(
                f"The image is damaged or truncated: {str(error).strip()}"
            ) from error
    notes = (*mended, *notes)
    array = np.ascontiguousarray(np.asarray(pixels))
    if pixels.mode == "RGB":
        return Photo(array, None, source_format, size, notes)
    rgb, alpha = np.ascontiguousarray(array[..., :3]), array[..., 3].copy()
    return Photo(rgb, alpha, source_format, size, notes)


def _check_header(image: ImageFile.ImageFile, *, max_pixels: int, min_side: int) -> None:
    """Refuse by what the header says. Costs no decoding."""
    width, height = image.size
    max_pixels = min(max_pixels, _MOST_PIXELS.get(str(image.format), max_pixels))
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
    # "MPO" is a telephone's JPEG with more pictures (depth, gain map) behind the photo; HEIF names
    # one of its pictures the primary one.
    if image.format not in ("MPO", "HEIF"):
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
    size = image.size
    try:
        image.load()
    except OSError:
        if image.format not in ("JPEG", "MPO"):
            raise
        image = _without_end_mark(image, data)
    if image.format == "HEIF" and image.size != size:
        raise OSError("its header tells another size than its pixels have")
    keep_alpha = _has_meaningful_alpha(image)
    if image.format == "HEIF" and not turned_by_itself(data):
        # Its reader takes the orientation out of the EXIF block, for it should be a property.
        told = image.info.get("original_orientation") or 1
        image.getexif()[ExifTags.Base.Orientation] = told
    small = shrink(image, _fitted(image.size), keep_alpha=keep_alpha)
    turned, unturned = upright(small, image)
    light, profile = coded_light(data), image.info.get("icc_profile")
    if light is not None and (light.is_hdr or not profile):
        return _in_srgb(turned, light), (*light.notes, *unturned)
    pixels, uncoloured = to_srgb(turned, profile)
    return pixels, (*unturned, *uncoloured)


def _in_srgb(image: Image.Image, light: CodedLight) -> Image.Image:
    """Mode RGB or RGBA in sRGB, of a picture whose light is coded so."""
    rgb = Image.fromarray(light_to_srgb(np.asarray(image.convert("RGB")), light))
    if image.mode == "RGBA":
        rgb.putalpha(image.getchannel("A"))
    return rgb


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
    if glass_alpha(counts) is not None:
        opaque = counts[BOX_ALPHA + 1 :].sum() / total
    if opaque < MIN_OBJECT_SHARE:
        raise InvalidImage("The image has no foreground: it is transparent everywhere.")
    return bool(1.0 - opaque >= MIN_TRANSPARENT_SHARE)


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
