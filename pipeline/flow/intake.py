"""An uploaded file to a photo and its cut-out, ready to be stored.

It asks a port for the foreground and does not know HTTP or where the results are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np
from scipy import ndimage

from pipeline.errors import InvalidImage
from pipeline.flow.photo_list import Direction, angles_around, check_quarter_turn
from pipeline.imaging.decoding import decode_photo, decode_png, encode_png
from pipeline.imaging.framing import GIVEN_ALPHA, MASK_ALPHA, frame_object
from pipeline.imaging.masks import decode_mask
from pipeline.imaging.object_alpha import (
    BODY_ALPHA,
    BOX_ALPHA,
    PHOTO_ALPHA,
    clean,
    glass_note,
    glass_of,
    solid,
)
from pipeline.imaging.object_notes import notes_on_object
from pipeline.ports import BackgroundRemover
from pipeline.requests import WholePhoto
from pipeline.types import Cutout, UInt8Array

#: `Upload.engine` when the client wanted the whole photo.
WHOLE_PHOTO = "none"

#: Words for `Upload.engine` when no engine has looked for the object.
NOBODY = frozenset({GIVEN_ALPHA, MASK_ALPHA, WHOLE_PHOTO})

#: An outline that covers less of the frame disappears in some view. Random specks at 1.1% left one
#: of 16 views empty, in parts of one or two pixels; a bar of 400 x 8 pixels has 1.1%, in one part.
MIN_OUTLINE_SHARE = 0.01

#: A note says so from this share of a mask on, where its photo is transparent.
_HIDDEN_SHARE = 0.01

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Upload:
    """A checked photo.

    Attributes:
        original_png: the photo, upright, sRGB, scaled down where it was huge.
        processed_png: RGBA; alpha is the object.
        engine: who found the object: a background remover, "given", "mask" or "none".
        notes: sentences a user should read, of the photo and of the object in it.
    """

    original_png: bytes
    processed_png: bytes
    engine: str
    notes: tuple[str, ...] = ()


async def prepare_upload(
    data: bytes, background: BackgroundRemover, *, remove_background: bool
) -> Upload:
    """Decode, find the object, encode. Cancelled, it ends when nothing of it runs any more.

    Raises:
        InvalidImage: the file is no usable photo, or holds no object; the text says why.
    """
    photo = await _in_thread(decode_photo, data)
    if photo.alpha is not None:
        alpha, engine = photo.alpha, GIVEN_ALPHA
    elif remove_background:
        found = await background.remove_background(photo.rgb)
        alpha, engine = found.alpha, found.engine
    else:
        alpha, engine = np.full(photo.rgb.shape[:2], 255, np.uint8), WHOLE_PHOTO
    return await _in_thread(upload_of, photo.rgb, alpha, engine, notes=photo.notes)


async def masked_upload(original_png: bytes, mask: bytes) -> Upload:
    """A stored photo with another cut-out: the one that a mask tells. The photo stays, bit for bit.

    Args:
        original_png: `Upload.original_png`.
        mask: a file, see `pipeline.imaging.masks.decode_mask`.

    Raises:
        InvalidImage: the mask cannot be used; the text says why.
    """
    return await _in_thread(_masked, original_png, mask)


def _masked(original_png: bytes, mask: bytes) -> Upload:
    pixels = decode_png(original_png)
    rgb = np.ascontiguousarray(pixels[..., :3])
    alpha = decode_mask(mask, (rgb.shape[1], rgb.shape[0]))
    notes: tuple[str, ...] = ()
    if pixels.shape[-1] == 4:
        shown = alpha >= BODY_ALPHA
        hidden = float((pixels[..., 3] < BODY_ALPHA)[shown].mean())
        if hidden >= _HIDDEN_SHARE:
            notes = (
                f"{100 * hidden:.0f} % of what the mask shows are transparent in the photo: the "
                "colours that its file has there may be of anything.",
            )
    cleaned, about = _object_of(rgb, alpha, given=True, name="the mask")
    _check_object(rgb, cleaned, MASK_ALPHA)
    processed = encode_png(np.dstack([rgb, cleaned]))
    return Upload(original_png, processed, MASK_ALPHA, notes + about)


async def _in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns or raises. A thread cannot be cancelled, and a caller that is waits for
    it: whoever limits how many photos are in memory would else let the next one in too early."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    finally:
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({running})


def stored_cutout(processed_png: bytes, engine: str) -> Cutout:
    """What views are made of, from the cut-out as it was stored, at the photo's own resolution
    where its object is large (`frame_object` with size None)."""
    rgba = decode_png(processed_png)
    return frame_object(rgba[..., :3], rgba[..., 3], engine=engine, size=None)


def whole_photos(
    directions: Sequence[Direction], stored: Sequence[bytes]
) -> tuple[WholePhoto, ...]:
    """The photos of an object as a generator wants them.

    Args:
        directions: whence each was taken, the first photo's first.
        stored: their cut-outs as they were stored, RGBA PNG of the photos' own size.

    Raises:
        InvalidOption: one is from farther than a quarter turn from the first.
    """
    check_quarter_turn(directions)
    places = angles_around(directions)
    return tuple(
        WholePhoto(decode_png(png), *angles) for png, angles in zip(stored, places, strict=True)
    )


def upload_of(
    rgb: UInt8Array, alpha: UInt8Array, engine: str, *, notes: tuple[str, ...] = ()
) -> Upload:
    """A photo with the alpha of its object, checked and cleaned; how the alpha came matters not.

    Args:
        rgb: uint8 [H, W, 3].
        alpha: uint8 [H, W].
        engine: who made the alpha; what is cleaned away is told where it is `GIVEN_ALPHA`.
        notes: on the photo; those on its object come after them.

    Raises:
        InvalidImage: there is no object, or its outline falls to pieces.
    """
    given = engine == GIVEN_ALPHA
    about: tuple[str, ...] = ()
    cleaned = alpha
    if engine != WHOLE_PHOTO:
        cleaned, about = _object_of(rgb, alpha, given=given)
    _check_object(rgb, cleaned, engine)
    original = np.dstack([rgb, alpha]) if given else rgb
    processed = encode_png(np.dstack([rgb, cleaned]))
    return Upload(encode_png(original), processed, engine, notes + about)


def _object_of(
    rgb: UInt8Array, alpha: UInt8Array, *, given: bool, name: str = PHOTO_ALPHA
) -> tuple[UInt8Array, tuple[str, ...]]:
    """The cleaned alpha, and notes on the object that it shows.

    Args:
        given: by somebody, and not found; then `name` is what notes call it.
    """
    most = glass_of(alpha) if given else None
    if most is not None:
        # Judged as if it were solid, and kept as it was given.
        made = clean(rgb, solid(rgb, alpha), given=True)
        kept = np.where(made.alpha > BOX_ALPHA, alpha, 0).astype(np.uint8)
        about = notes_on_object(made.alpha, given=True, name=name)
        return kept, (glass_note(most), *made.notes_on(name), *about)
    made = clean(rgb, alpha, given=given)
    return made.alpha, (
        *(made.notes_on(name) if given else ()),
        *notes_on_object(solid(rgb, made.alpha) if given else made.alpha, given=given, name=name),
    )


def _check_object(rgb: UInt8Array, alpha: UInt8Array, engine: str) -> None:
    """Refuse, before anything is stored, what views could not be made of.

    Raises:
        InvalidImage: there is no object, or its outline falls to pieces.
    """
    # Imported here because it loads OpenCV and a process that serves HTTP starts without.
    from pipeline.engines.views.outline import silhouette

    cutout = frame_object(rgb, alpha, engine=engine)
    try:
        inside = silhouette(cutout.rgba[..., 3]).inside
        # Two pixels here are one of a view: what is not wider than that can vanish when it turns.
        share = float(ndimage.binary_opening(inside, np.ones((3, 3), bool)).mean())
    except InvalidImage:
        share = 0.0
    if share < MIN_OUTLINE_SHARE:
        raise InvalidImage(
            "The image has no foreground object with an outline: what is opaque is too thin or "
            "scattered in specks."
        )
