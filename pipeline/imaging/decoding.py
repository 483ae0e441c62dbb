"""Turns the bytes of a photo into pixels, and the product's own pictures into PNG and back.

It does not know who sent the bytes or what the pictures show.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from pipeline.errors import InvalidImage, ModelFailed
from pipeline.imaging.colour_profiles import opaque_share, shrink, to_srgb, upright
from pipeline.types import UInt8Array

MAX_BYTES = 20 * 1024 * 1024
#: Admits the 50-megapixel sensors of telephones. Pillow decodes them to 4 bytes a pixel, 256 MB.
MAX_PIXELS = 64_000_000
#: WebP's decoder holds several such copies at once: these pixels peak at 370 MB, 64 million at over
#: 1 GB, whatever is done with them afterwards.
MAX_WEBP_PIXELS = 20_000_000
MIN_SIDE = 32
#: Longest side kept. The background remover looks at 320 px and the texture at 512 px.
WORK_SIDE = 2048

#: Only these decoders run on a stranger's bytes: no vector formats, no icons, no raw dumps.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

#: An object smaller than this share of the photo cannot be told from dirt on the lens.
MIN_OBJECT_SHARE = 0.002
#: Less see-through area than this is a rounded screenshot corner, not a cut-out.
MIN_TRANSPARENT_SHARE = 0.01

#: The last chunk of every PNG, with its checksum.
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


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
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise InvalidImage(
            f"The file is not an image that can be read ({', '.join(FORMATS)})."
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
            raise InvalidImage(f"The image is damaged or truncated: {error}") from error
    array = np.ascontiguousarray(np.asarray(pixels))
    if pixels.mode == "RGB":
        return Photo(array, None, source_format, size, notes)
    rgb, alpha = np.ascontiguousarray(array[..., :3]), array[..., 3].copy()
    return Photo(rgb, alpha, source_format, size, notes)


def _check_header(image: ImageFile.ImageFile, *, max_pixels: int, min_side: int) -> None:
    """Refuse by what the header says. Costs no decoding."""
    width, height = image.size
    if image.format == "WEBP":
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
    image.load()
    keep_alpha = _has_meaningful_alpha(image)
    small = shrink(image, _fitted(image.size), keep_alpha=keep_alpha)
    turned, unturned = upright(small, image)
    pixels, uncoloured = to_srgb(turned, image.info.get("icc_profile"))
    return pixels, (*unturned, *uncoloured)


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) with the longest side brought down to `WORK_SIDE`."""
    scale = min(1.0, WORK_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _has_meaningful_alpha(image: Image.Image) -> bool:
    """Whether an alpha separates an object from a ground; False if it is opaque or absent.

    Raises:
        InvalidImage: everything is transparent.
    """
    share = opaque_share(image)
    if share is None:
        return False
    if share < MIN_OBJECT_SHARE:
        raise InvalidImage("The image has no foreground: it is transparent everywhere.")
    return 1.0 - share >= MIN_TRANSPARENT_SHARE


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
    """
    try:
        if not data.endswith(_PNG_END):
            raise ValueError("its end is missing")
        # Loading alone accepts wrong checksums.
        with Image.open(io.BytesIO(data), formats=("PNG",)) as copy:
            copy.verify()
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            image.load()
            return np.array(image, np.uint8)
    except Exception as error:
        damaged = "The stored PNG is damaged"
        raise ModelFailed(f"{damaged}: {error}", public=f"{damaged}.") from error
