"""Turns the bytes of a photo into pixels, and an object with its alpha into a centred cut-out.

It does not know who sent the bytes, how the background is found or what is made of the cut-out.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError
from scipy import ndimage

from pipeline.errors import InvalidImage
from pipeline.imaging.colour_profiles import opaque_share, shrink, to_srgb, upright
from pipeline.types import Cutout, UInt8Array

__all__ = [
    "CUTOUT_SIZE",
    "GIVEN_ALPHA",
    "MAX_BYTES",
    "MAX_PIXELS",
    "MIN_SIDE",
    "WORK_SIDE",
    "Photo",
    "composite_on_white",
    "decode_photo",
    "decode_png",
    "encode_png",
    "frame_object",
]

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

#: `Cutout.engine` of a photo that came with its own alpha channel.
GIVEN_ALPHA = "given"

CUTOUT_SIZE = 256
#: The object's longest side is 200 of 256 pixels (SyncDreamer's preparation).
OBJECT_SHARE = 200 / 256
#: Pixels with more alpha than this belong to the bounding box.
BOX_ALPHA = 8
#: An object smaller than this share of the photo cannot be told from dirt on the lens.
MIN_OBJECT_SHARE = 0.002
MIN_OBJECT_SIDE = 8
#: Less see-through area than this is a rounded screenshot corner, not a cut-out.
MIN_TRANSPARENT_SHARE = 0.01

#: A pixel at least this opaque shows the object's own colour, once the rim is eroded.
SURE_ALPHA = 240


@dataclass(frozen=True)
class Photo:
    """A decoded photo, upright, in sRGB.

    Attributes:
        rgb: uint8 [H, W, 3], sRGB; longest side at most `WORK_SIDE`.
        alpha: uint8 [H, W] if the sender had cut the object out already, else None.
        source_format: "JPEG", "PNG", ...
        source_size: (width, height) of the file before turning and scaling, pixels.
    """

    rgb: UInt8Array
    alpha: UInt8Array | None
    source_format: str
    source_size: tuple[int, int]


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
            pixels = _load(image, data)
        except InvalidImage:
            raise
        except MemoryError:
            raise InvalidImage("The image needs too much memory to decode.") from None
        except Exception as error:  # truncated files: OSError, SyntaxError, struct.error, ...
            raise InvalidImage(f"The image is damaged or truncated: {error}") from error
    array = np.ascontiguousarray(np.asarray(pixels))
    if pixels.mode == "RGB":
        return Photo(array, None, source_format, size)
    return Photo(np.ascontiguousarray(array[..., :3]), array[..., 3].copy(), source_format, size)


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


def _load(image: ImageFile.ImageFile, data: bytes) -> Image.Image:
    """Decode every byte; upright sRGB of mode RGB, or RGBA where the alpha cuts an object out.

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
    return to_srgb(upright(small, image), image.info.get("icc_profile"))


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


def frame_object(
    rgb: UInt8Array, alpha: UInt8Array, *, engine: str, size: int = CUTOUT_SIZE
) -> Cutout:
    """Scale and centre the object as the view synthesisers expect it.

    The bounding box of alpha > 8/255 is scaled (bicubic) so that its longest side is 200/256 of
    `size`, and centred. Colours and alpha are resampled apart, colours only from pixels that
    surely show the object, so that neither the old background nor the new one leaves a fringe.

    Args:
        rgb: uint8 [H, W, 3].
        alpha: uint8 [H, W].
        engine: who made the alpha; `GIVEN_ALPHA` keeps the colours of half-transparent pixels.
        size: side of the cut-out in pixels.

    Returns:
        A cut-out whose transparent pixels carry the nearest object colour.

    Raises:
        InvalidImage: no foreground, or too little of it.
    """
    if alpha.shape != rgb.shape[:2]:
        raise ValueError(f"alpha {alpha.shape} does not cover rgb {rgb.shape}")
    inside = alpha > BOX_ALPHA
    if float((alpha >= 128).mean()) < MIN_OBJECT_SHARE:
        raise InvalidImage(
            "The image has no foreground object, or one that is too small: let it fill the frame."
        )
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    height, width = int(bottom - top), int(right - left)
    if max(height, width) < MIN_OBJECT_SIDE:
        raise InvalidImage(f"The image has no foreground object larger than {width} x {height} px.")
    scale = round(size * OBJECT_SHARE) / max(height, width)
    new_h, new_w = max(1, round(height * scale)), max(1, round(width * scale))

    crop_rgb = rgb[top:bottom, left:right].astype(np.float32)
    crop_alpha = alpha[top:bottom, left:right].astype(np.float32) / 255.0
    weight = _colour_weight(crop_alpha, trust_soft_pixels=engine == GIVEN_ALPHA)
    new_alpha = np.clip(_resize(crop_alpha, new_w, new_h), 0.0, 1.0)
    new_weight = _resize(weight, new_w, new_h)
    known = new_weight > 0.05
    if not known.any():
        known = new_weight >= new_weight.max()
    planes = [_resize(crop_rgb[..., c] * weight, new_w, new_h) for c in range(3)]
    colours = np.stack(planes, -1) / np.where(known, new_weight, 1.0)[..., None]

    rgba = np.zeros((size, size, 4), np.float32)
    y, x = (size - new_h) // 2, (size - new_w) // 2
    rgba[y : y + new_h, x : x + new_w, :3] = colours
    rgba[y : y + new_h, x : x + new_w, 3] = new_alpha * 255.0
    everywhere = np.zeros((size, size), bool)
    everywhere[y : y + new_h, x : x + new_w] = known
    nearest = ndimage.distance_transform_edt(
        ~everywhere, return_distances=False, return_indices=True
    )
    rgba[..., :3] = rgba[nearest[0], nearest[1], :3]
    return Cutout(np.rint(np.clip(rgba, 0, 255)).astype(np.uint8), engine)


def _colour_weight(
    alpha: npt.NDArray[np.float32], *, trust_soft_pixels: bool
) -> npt.NDArray[np.float32]:
    """How much each pixel's colour may be believed, float32 [H, W] in 0..1.

    An estimated matte is uncertain by about one pixel of the remover's 320 px input, so opaque
    pixels within 1/150 of the object's longest side of the rim, at least 1.5, are not believed
    either: with opaque pixels alone a brown disc on white kept a seam 19 of 255 too light, with
    the margin 1.
    """
    if trust_soft_pixels:
        return alpha
    sure = alpha * 255.0 >= SURE_ALPHA
    radius = max(1.5, max(alpha.shape) / 150.0)
    distance = ndimage.distance_transform_edt(np.pad(sure, 1))[1:-1, 1:-1]
    eroded = distance > radius
    # A part thinner than the margin keeps its innermost colours.
    thin = sure & ~ndimage.binary_dilation(eroded, iterations=2 * int(np.ceil(radius)) + 1)
    weight = (eroded | (thin & (distance >= ndimage.maximum_filter(distance, 3)))).astype(
        np.float32
    )
    return weight if weight.any() else alpha


def _resize(plane: npt.NDArray[np.float32], width: int, height: int) -> npt.NDArray[np.float32]:
    """Bicubic resampling with anti-aliasing, float32 [H, W] -> [height, width]."""
    image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def composite_on_white(rgba: UInt8Array) -> UInt8Array:
    """uint8 [..., 4] with straight alpha -> uint8 [..., 3] over white."""
    alpha = rgba[..., 3:].astype(np.float32) / 255.0
    over = rgba[..., :3].astype(np.float32) * alpha + 255.0 * (1.0 - alpha)
    composite: UInt8Array = np.rint(over).astype(np.uint8)
    return composite


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
        InvalidImage: the bytes are not a complete PNG.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            image.load()
            return np.array(image, np.uint8)
    except Exception as error:
        raise InvalidImage(f"The stored PNG is damaged: {error}") from error
