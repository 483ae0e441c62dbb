"""The blobs port on Supabase Storage.

It knows object names, upload ways and links; what travels how is the client's and the transport's.

A client is given links of this service, as with the other store: they are made without asking
anybody, so `/status` costs one request however many files a project has. The route behind them
sends the client on to a signed URL of Storage, which serves the bytes. Files in a bucket that is
public have their public URL at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from urllib.parse import quote, unquote_to_bytes

from storage3.types import SearchV2Options
from supabase import AsyncClient

from deployments.jobs.rows import Bucket
from pipeline.errors import GlimpseError, InvalidInput, NotFound, Unavailable
from serve_app.stores.links import (
    LONGEST_PART_BYTES,
    LONGEST_PATH_BYTES,
    LinkSigner,
    check_path,
)
from serve_app.stores.opened import SENT_ON_FOR_S
from serve_app.stores.supabase.resumable import PART_BYTES, Resumable
from serve_app.stores.supabase.supabase_errors import translated

log = logging.getLogger("ray.serve")

#: Files that travel at once; rows must not wait behind them for a connection.
_AT_ONCE = 12
#: Most names that Storage lists or deletes in one request.
_PAGE = 1000
#: For who reads a file straight from Storage: names never change their contents.
_CACHE_S = 3600
#: Signed URLs that are remembered.
_REMEMBERED = 4096


def object_name(path: str) -> str:
    """The name of a blob in Storage, which takes few characters: others become `=` and hex.

    Raises:
        InvalidInput: the path is malformed, or its name would be longer than Storage takes. A
            character that is not ASCII takes six to twelve of the name.
    """
    check_path(path)
    name = quote(path).replace("~", "=7E").replace("%", "=")
    longest = max(map(len, name.split("/")))
    if len(name) > LONGEST_PATH_BYTES or longest > LONGEST_PART_BYTES:
        raise InvalidInput(
            f"A file's name is too long for Storage: at most {LONGEST_PATH_BYTES} characters, and "
            f"{LONGEST_PART_BYTES} between two slashes, where one that is not ASCII counts as six "
            f"to twelve: {path!r}."
        )
    return name


def object_path(name: str) -> str:
    """Inverse of `object_name`; a name that is none of ours stays as it is."""
    try:
        path = unquote_to_bytes(name.replace("=", "%")).decode()
        return path if object_name(path) == name else name
    except (UnicodeDecodeError, InvalidInput):
        return name


class SupabaseBlobs:
    """`deployments.jobs.store.Blobs` and `FileSource` on the buckets of a Supabase project.

    Args:
        client: of the service role.
        resumable: for large files.
        url: of the project.
        key: links are signed with a key made from it.
        files_url: prefix of links: a path of the service, or an absolute URL.
        url_lifetime_s: how long a link works at most; at least half of it.
    """

    def __init__(
        self,
        client: AsyncClient,
        resumable: Resumable,
        *,
        url: str,
        key: str,
        files_url: str = "/files",
        url_lifetime_s: float = 3600.0,
    ) -> None:
        self._client = client
        self._resumable = resumable
        self._url = url
        signing_key = hmac.digest(key.encode(), b"glimpse3d links", hashlib.sha256)
        self._links = LinkSigner(signing_key, files_url, lifetime_s=url_lifetime_s)
        self.verify = self._links.verify
        self._travelling = asyncio.Semaphore(_AT_ONCE)
        #: Names of buckets that anybody may read from, as far as we know.
        self._public: frozenset[str] = frozenset()
        self._signed: OrderedDict[tuple[Bucket, str], tuple[float, str]] = OrderedDict()

    async def ping(self) -> None:
        """Every bucket is there. Also learns which ones are public."""
        with translated():
            buckets = await self._client.storage.list_buckets()
        self._public = frozenset(bucket.id for bucket in buckets if bucket.public)
        missing = sorted({*Bucket} - {bucket.id for bucket in buckets})
        if missing:
            raise Unavailable.openly(
                f"There is no bucket {', '.join(missing)}. Run the SQL that `glimpse3d supabase "
                "sql` prints, and set SUPABASE_SERVICE_ROLE_KEY to the secret key."
            )

    async def put(self, bucket: Bucket, path: str, data: bytes, content_type: str) -> None:
        """Replaces what is there, so an upload may be repeated."""
        name = object_name(path)
        content_type = content_type or "application/octet-stream"
        async with self._travelling:
            with translated(bucket, path):
                if len(data) > PART_BYTES:
                    await self._resumable.upload(bucket, name, data, content_type, _CACHE_S)
                    return
                await self._client.storage.from_(bucket).upload(
                    name,
                    data,
                    {
                        "content-type": content_type,
                        "cache-control": str(_CACHE_S),
                        "upsert": "true",
                    },
                )

    async def get(self, bucket: Bucket, path: str) -> bytes:
        try:
            return await self._download(bucket, path)
        except NotFound:
            # Once more: Storage looks at the row, then for the bytes, and a file that is replaced
            # in between has gone from there.
            return await self._download(bucket, path)

    async def _download(self, bucket: Bucket, path: str) -> bytes:
        name = object_name(path)
        async with self._travelling:
            with translated(bucket, path):
                return await self._client.storage.from_(bucket).download(name)

    async def delete_prefix(self, bucket: Bucket, prefix: str) -> int:
        return await self._remove(bucket, await self._names(bucket, prefix))

    async def delete(self, bucket: Bucket, paths: Sequence[str]) -> int:
        return await self._remove(bucket, [object_name(path) for path in paths])

    async def _remove(self, bucket: Bucket, all_names: Sequence[str]) -> int:
        names = list(dict.fromkeys(all_names))
        count = 0
        for start in range(0, len(names), _PAGE):
            async with self._travelling:
                with translated(bucket):
                    gone = await self._client.storage.from_(bucket).remove(
                        names[start : start + _PAGE]
                    )
            count += len(gone)
        return count

    async def list_prefix(self, bucket: Bucket, prefix: str) -> tuple[str, ...]:
        return tuple(sorted(map(object_path, await self._names(bucket, prefix))))

    async def _names(self, bucket: Bucket, prefix: str) -> list[str]:
        """Names in Storage, also of files that somebody else put there."""
        name = object_name(prefix.removesuffix("/"))
        found: list[str] = []
        cursor: str | None = None
        while True:
            options: SearchV2Options = {"prefix": name, "limit": _PAGE, "with_delimiter": False}
            if cursor:
                options["cursor"] = cursor
            async with self._travelling:
                with translated(bucket):
                    page = await self._client.storage.from_(bucket).list_v2(options)
            # Without a delimiter `name` is the whole one.
            found += [item.name for item in page.objects]
            cursor = page.nextCursor
            if not page.hasNext or not cursor:
                break
        # Storage's prefix may end within a word: `p1` is one of `p10/a.png`, too.
        return [other for other in found if other == name or other.startswith(f"{name}/")]

    async def tidy(self, older_than_s: float) -> int:
        """Nothing to do, Storage forgets unfinished uploads after a day."""
        del older_than_s
        return 0

    def url(self, bucket: Bucket, path: str) -> str:
        """The public one, or a link of ours."""
        if bucket in self._public:
            name = quote(object_name(path))
            return f"{self._url}/storage/v1/object/public/{bucket}/{name}"
        return self._links.url(bucket, path)

    async def locate(self, bucket: Bucket, path: str) -> str:
        """A signed URL of Storage, the same for a while."""
        known = self._signed.get((bucket, path))
        now = time.monotonic()
        if known is not None and known[0] > now:
            return known[1]
        name = object_name(path)
        with translated(bucket, path):
            answer = await self._client.storage.from_(bucket).create_signed_url(
                name, 3 * SENT_ON_FOR_S
            )
        signed = answer["signedURL"]
        if signed is None:
            raise NotFound(f"There is no {path} in {bucket}.")
        self._signed[bucket, path] = (now + SENT_ON_FOR_S, signed)
        self._signed.move_to_end((bucket, path))
        while len(self._signed) > _REMEMBERED:
            self._signed.popitem(last=False)
        return signed

    async def learn(self) -> None:
        """Try to learn which buckets are public; until then, none is."""
        try:
            await self.ping()
        except GlimpseError as error:
            log.warning("the buckets cannot be looked at yet: %s", error)
