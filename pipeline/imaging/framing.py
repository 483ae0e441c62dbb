"""An object with its alpha to a centred cut-out, and a cut-out to a picture on white.

It does not know how the alpha was found or what is made of the cut-out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from pipeline.errors import InvalidImage
from pipeline.imaging.nearest import nearest_known
from pipeline.imaging.object_alpha import BODY_ALPHA, BOX_ALPHA, MIN_OBJECT_SHARE, clean, solid
from pipeline.imaging.rounding import to_bytes
from pipeline.types import Cutout, UInt8Array

#: `Cutout.engine` of a photo that came with its own alpha channel.
GIVEN_ALPHA = "given"
#: The same of a photo for which somebody sent a mask.
MASK_ALPHA = "mask"

#: Side of a cut-out of a small object, pixels; twice the size of a view, so that an engine that
#: textures a surface with it does not lose detail. Others scale it down.
CUTOUT_SIZE = 512
#: Side of the largest cut-out: 1000 pixels of object, as many as a photo target can use.
LARGEST_CUTOUT = 1280
#: The object's longest side is 200 of 256 pixels (SyncDreamer's preparation).
OBJECT_SHARE = 200 / 256
MIN_OBJECT_SIDE = 8

#: A pixel at least this opaque shows the object's own colour, once the rim is eroded.
SURE_ALPHA = 240


def frame_object(
    rgb: UInt8Array, alpha: UInt8Array, *, engine: str, size: int | None = CUTOUT_SIZE
) -> Cutout:
    """Scale and centre the object as the view synthesisers expect it.

    What is not the object goes first (`object_alpha.clean`), and given glass becomes solid. The
    bounding box of what is left, alpha > 8/255, is scaled (bicubic) so that its longest side is
    200/256 of `size`, and centred. Colours and alpha are resampled apart, colours only from
    pixels that surely show the object, so that neither the old background nor the new one leaves
    a fringe.

    Args:
        rgb: uint8 [H, W, 3].
        alpha: uint8 [H, W].
        engine: who made the alpha; `GIVEN_ALPHA` keeps the colours of half-transparent pixels,
            which are mixed with the ground in a photo with a mask.
        size: side of the cut-out in pixels; None: at which the object has as many pixels as in the
            photo, and is not resampled, within `CUTOUT_SIZE` and `LARGEST_CUTOUT`.

    Returns:
        A cut-out whose transparent pixels carry the nearest object colour.

    Raises:
        InvalidImage: no foreground, or too little of it.
    """
    if alpha.shape != rgb.shape[:2]:
        raise ValueError(f"alpha {alpha.shape} does not cover rgb {rgb.shape}")
    given = engine in (GIVEN_ALPHA, MASK_ALPHA)
    alpha = clean(rgb, solid(rgb, alpha) if given else alpha, given=given).alpha
    inside = alpha > BOX_ALPHA
    if float((alpha >= BODY_ALPHA).mean()) < MIN_OBJECT_SHARE:
        raise InvalidImage(
            "The image has no foreground object, or one that is too small: let it fill the frame."
        )
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    height, width = int(bottom - top), int(right - left)
    if max(height, width) < MIN_OBJECT_SIDE:
        raise InvalidImage(f"The image has no foreground object larger than {width} x {height} px.")
    if size is None:
        own = round(max(height, width) / OBJECT_SHARE)
        size = min(max(own, CUTOUT_SIZE), LARGEST_CUTOUT)
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
    rgba[..., :3] = nearest_known(rgba[..., :3], everywhere)
    return Cutout(to_bytes(rgba), engine)


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


def picture_on_white(cutout: Cutout, size: int) -> tuple[UInt8Array, UInt8Array]:
    """A cut-out over white, uint8 [size, size, 3], and its alpha, uint8 [size, size].

    Area averages where it shrinks. Neither way overshoots: colour and alpha stay in step.
    """
    shrinks = size <= cutout.rgba.shape[0]
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR

    def resized(image: UInt8Array) -> UInt8Array:
        return np.array(Image.fromarray(np.ascontiguousarray(image)).resize((size, size), method))

    return resized(composite_on_white(cutout.rgba)), resized(cutout.rgba[..., 3])


def composite_on_white(rgba: UInt8Array) -> UInt8Array:
    """uint8 [..., 4] with straight alpha -> uint8 [..., 3] over white."""
    alpha = rgba[..., 3:].astype(np.float32) / 255.0
    return to_bytes(rgba[..., :3].astype(np.float32) * alpha + 255.0 * (1.0 - alpha))
