"""A small picture as a text that a page can show: JPEG in a `data:` URI.

It does not know which page shows it.
"""

from __future__ import annotations

import base64
import io

from PIL import Image

from pipeline.types import UInt8Array

_QUALITY = 85


def jpeg_uri(picture: UInt8Array, side: int = 160) -> str:
    """The picture, uint8 [H, W, 3], at most `side` pixels along each side; 3 to 8 kB."""
    image = Image.fromarray(picture)
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
