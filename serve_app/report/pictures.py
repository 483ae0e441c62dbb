"""The pictures of a report as data URIs, small enough for one page.

It knows blobs and image files; not what the pictures show.
"""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Mapping

from PIL import Image

from deployments.jobs.store import Blobs
from pipeline.errors import NotFound
from serve_app.report.assemble import Picture

#: Pictures read and made smaller at once.
_AT_ONCE = 4

_JPEG_QUALITY = 85


async def data_uris(blobs: Blobs, sizes: Mapping[Picture, int]) -> dict[Picture, str]:
    """JPEG on white of every picture that is there.

    Args:
        sizes: longest side in pixels.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def load(picture: Picture, size: int) -> str | None:
        async with gate:
            try:
                data = await blobs.get(picture.bucket, picture.path)
            except NotFound:
                return None
            return await asyncio.to_thread(_data_uri, data, size)

    uris = await asyncio.gather(*(load(picture, size) for picture, size in sizes.items()))
    return {picture: uri for picture, uri in zip(sizes, uris, strict=True) if uri is not None}


def _data_uri(data: bytes, size: int) -> str:
    with Image.open(io.BytesIO(data)) as stored:
        image = stored.convert("RGBA")
    image.thumbnail((size, size))
    page = Image.new("RGB", image.size, "white")
    page.paste(image, mask=image.getchannel("A"))
    buffer = io.BytesIO()
    page.save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
