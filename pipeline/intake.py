"""An uploaded file to a photo and its cut-out, ready to be stored.

It asks a port for the foreground and does not know HTTP or where the results are kept.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np

from pipeline.images import GIVEN_ALPHA, Photo, decode_photo, encode_png, frame_object
from pipeline.ports import BackgroundRemover
from pipeline.types import UInt8Array

__all__ = ["Upload", "prepare_upload"]

#: `Upload.engine` when the client wanted the whole photo.
WHOLE_PHOTO = "none"


@dataclass(frozen=True)
class Upload:
    """A checked photo.

    Attributes:
        original_png: the photo, upright, sRGB, scaled down where it was huge.
        processed_png: RGBA; alpha is the object.
        engine: who found the object: a background remover, "given" or "none".
    """

    original_png: bytes
    processed_png: bytes
    engine: str


async def prepare_upload(
    data: bytes, background: BackgroundRemover, *, remove_background: bool
) -> Upload:
    """Decode, find the object, encode.

    Raises:
        InvalidImage: the file is no usable photo, or holds no object; the text says why.
    """
    photo = await asyncio.to_thread(decode_photo, data)
    if photo.alpha is not None:
        alpha, engine = photo.alpha, GIVEN_ALPHA
    elif remove_background:
        found = await background.remove_background(photo.rgb)
        alpha, engine = found.alpha, found.engine
    else:
        alpha, engine = np.full(photo.rgb.shape[:2], 255, np.uint8), WHOLE_PHOTO
    return await asyncio.to_thread(_encode, photo, alpha, engine)


def _encode(photo: Photo, alpha: UInt8Array, engine: str) -> Upload:
    # Framing raises when there is no object worth the name: before anything is stored.
    frame_object(photo.rgb, alpha, engine=engine)
    original = photo.rgb if photo.alpha is None else np.dstack([photo.rgb, photo.alpha])
    return Upload(encode_png(original), encode_png(np.dstack([photo.rgb, alpha])), engine)
