"""Resumable uploads (TUS 1.0) to Supabase Storage, for files that are too large for one request.

It knows the protocol and what Storage asks beyond it: parts of exactly 6 MiB and the object's name
in the metadata. Not which file is large, nor how paths become object names.
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from pipeline.errors import GlimpseError, Unavailable
from serve_app.stores.supabase.supabase_errors import storage_error

#: Storage takes no other size of parts, but for the last.
PART_BYTES = 6 * 1024 * 1024

_VERSION = {"Tus-Resumable": "1.0.0"}
#: So often in a row a part may fail.
_TRIES = 5
_PAUSE_S = 0.5


class _Lost(Exception):
    """The upload is gone, or ended and nobody knows how: only a new one helps."""


@dataclass(frozen=True)
class Resumable:
    """Uploads whole files in parts; a part that is lost is sent again, not the file.

    Attributes:
        http: shared with the client; its transport repeats what may be repeated.
        url: of the project.
        headers: the key.
    """

    http: httpx.AsyncClient
    url: str
    headers: dict[str, str] = field(repr=False)

    async def upload(
        self, bucket: str, name: str, data: bytes, content_type: str, cache_s: int
    ) -> None:
        """Store an object, or replace it when the last part has come.

        Raises errors of our tree, and httpx's when the network fails for good.
        """
        for last in (False, True):
            try:
                location = await self._create(bucket, name, len(data), content_type, cache_s)
                await self._send(location, bucket, name, data)
            except _Lost as error:
                if last:
                    raise Unavailable(f"{name} could not be stored in {bucket}.") from error
            else:
                return

    async def _create(
        self, bucket: str, name: str, size: int, content_type: str, cache_s: int
    ) -> str:
        metadata = {
            "bucketName": bucket,
            "objectName": name,
            "contentType": content_type,
            "cacheControl": str(cache_s),
        }
        encoded = ",".join(
            f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in metadata.items()
        )
        response = await self.http.post(
            f"{self.url}/storage/v1/upload/resumable",
            headers={
                **self.headers,
                **_VERSION,
                "Upload-Length": str(size),
                "Upload-Metadata": encoded,
                "x-upsert": "true",
            },
        )
        if response.status_code != 201:
            raise storage_error(response, bucket, name)
        # Only the last part of the path is the server's to choose: the key goes to no other host.
        upload_id = urlsplit(response.headers["Location"]).path.rpartition("/")[2]
        return f"{self.url}/storage/v1/upload/resumable/{upload_id}"

    async def _send(self, location: str, bucket: str, name: str, data: bytes) -> None:
        offset, failures = 0, 0
        while offset < len(data):
            part = data[offset : offset + PART_BYTES]
            try:
                offset = await self._send_part(location, bucket, name, part, offset)
                failures = 0
            except (httpx.TransportError, Unavailable):
                failures += 1
                if failures == _TRIES:
                    raise
                await asyncio.sleep(_PAUSE_S * failures)
                offset = await self._offset(location)
                if offset == len(data):
                    raise _Lost from None

    async def _send_part(
        self, location: str, bucket: str, name: str, part: bytes, offset: int
    ) -> int:
        response = await self.http.patch(
            location,
            content=part,
            headers={
                **self.headers,
                **_VERSION,
                "Upload-Offset": str(offset),
                "Content-Type": "application/offset+octet-stream",
                "x-upsert": "true",
            },
        )
        if response.status_code in (404, 410):
            raise _Lost
        if response.status_code == 409:  # another part has come in between: ask where we are
            raise Unavailable("The upload is at another place.")
        if response.status_code != 204:
            raise storage_error(response, bucket, name)
        return int(response.headers["Upload-Offset"])

    async def _offset(self, location: str) -> int:
        response = await self.http.head(location, headers={**self.headers, **_VERSION})
        if response.status_code in (404, 410):
            raise _Lost
        if response.status_code not in (200, 204):
            raise GlimpseError(f"Storage does not know the upload: HTTP {response.status_code}.")
        return int(response.headers["Upload-Offset"])
