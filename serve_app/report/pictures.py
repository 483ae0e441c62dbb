"""The pictures of a report as data URIs, small enough for one page.

It knows blobs and image files; not what the pictures show.
"""

from __future__ import annotations

import asyncio
import base64
import io
from collections import Counter
from collections.abc import Mapping

from PIL import Image

from deployments.jobs.rows import Bucket
from deployments.jobs.store import Blobs
from pipeline.errors import NotFound
from serve_app.report.assemble import Picture
from serve_app.report.lately import Lately

#: Pictures read and made smaller at once, by one process, whoever asks: it serves everybody.
_AT_ONCE = 4

#: Of data URIs that are kept, a few hundred pages' worth of single pictures.
_KEPT_CHARS = 32 * 1024 * 1024

_JPEG_QUALITY = 85


#: Bucket, path and size: the URL of a picture is another one for each client, and by the hour.
_Key = tuple[Bucket, str, int]


def _key(picture: Picture, size: int) -> _Key:
    return picture.bucket, picture.path, size


class SmallPictures:
    """Pictures for pages of one process; what was made lately is not made again."""

    def __init__(self) -> None:
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._made = Lately(_KEPT_CHARS)
        self._making: dict[_Key, asyncio.Task[str | None]] = {}
        self._waiting: Counter[_Key] = Counter()

    async def data_uris(self, blobs: Blobs, sizes: Mapping[Picture, int]) -> dict[Picture, str]:
        """JPEG on white of every picture that is there.

        Args:
            sizes: longest side in pixels.
        """
        uris = await asyncio.gather(
            *(self._one(blobs, picture, size) for picture, size in sizes.items())
        )
        return {picture: uri for picture, uri in zip(sizes, uris, strict=True) if uri is not None}

    async def _one(self, blobs: Blobs, picture: Picture, size: int) -> str | None:
        key = _key(picture, size)
        if (uri := self._made.get(key)) is not None:
            return uri
        task = self._making.get(key)
        if task is None:
            task = self._making[key] = asyncio.create_task(self._make(blobs, picture, size))
        self._waiting[key] += 1
        try:
            # Whoever waits for the same picture gets it, though the first one goes away.
            return await asyncio.shield(task)
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]

    async def _make(self, blobs: Blobs, picture: Picture, size: int) -> str | None:
        key = _key(picture, size)
        try:
            async with self._gate:
                if key not in self._waiting:
                    return None  # all have gone away: others shall not wait behind it
                try:
                    data = await blobs.get(picture.bucket, picture.path)
                except NotFound:
                    return None
                uri = await asyncio.to_thread(_data_uri, data, size)
            self._made.keep(key, uri)
            return uri
        finally:
            del self._making[key]


def _data_uri(data: bytes, size: int) -> str:
    with Image.open(io.BytesIO(data)) as stored:
        image = stored.convert("RGBA")
    image.thumbnail((size, size))
    page = Image.new("RGB", image.size, "white")
    page.paste(image, mask=image.getchannel("A"))
    buffer = io.BytesIO()
    page.save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
