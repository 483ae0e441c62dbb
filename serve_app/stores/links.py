"""Signed, expiring URLs of blobs, and which paths a blob may have.

It does not know where the bytes are: a route checks a URL with `verify` and asks a store for them.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import time
from urllib.parse import quote

from deployments.jobs.rows import Bucket
from pipeline.errors import GlimpseError, InvalidInput

#: Least length of a signing key.
KEY_BYTES = 32
#: Of a part between two slashes: a name in a file system.
LONGEST_PART_BYTES = 255
#: Of a whole path: S3's limit of 1024, less what Supabase Storage puts around it (project, bucket,
#: version). Far from a file system's 4096.
LONGEST_PATH_BYTES = 900


def check_path(path: str) -> None:
    """Refuse paths that are not relative, plain and portable to every store.

    Raises:
        InvalidInput: what is wrong with it.
    """
    try:
        encoded = path.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"A blob's path must be Unicode text, not {path!r}.") from error
    if any(byte < 0x20 or byte == 0x7F for byte in encoded) or "\\" in path:
        raise InvalidInput(f"A blob's path has no control characters or \\: {path!r}.")
    for component in path.split("/"):
        if component in ("", ".", ".."):
            raise InvalidInput(
                f"A blob's path is relative and without empty parts, . and ..: {path!r}."
            )
        if len(component.encode()) > LONGEST_PART_BYTES:
            raise InvalidInput(f"A part of a blob's path is too long: {path!r}.")
    if len(encoded) > LONGEST_PATH_BYTES:
        raise InvalidInput(f"A blob's path is too long: {path!r}.")


class LinkSigner:
    """Makes URLs of the service's own `/files` route.

    Args:
        key: at least 32 bytes; who has it can read every blob.
        base_url: prefix of the URLs, without a slash at its end.
        lifetime_s: how long a URL works at most; at least half of it.
    """

    def __init__(self, key: bytes, base_url: str = "/files", *, lifetime_s: float = 3600.0) -> None:
        if len(key) < KEY_BYTES:
            raise GlimpseError(f"A signing key has at least {KEY_BYTES} bytes.")
        if not lifetime_s >= 2:
            raise GlimpseError(f"url_lifetime_s must be at least 2, not {lifetime_s}.")
        self._key = key
        self._base_url = base_url.rstrip("/")
        self._step_s = int(lifetime_s) // 2
        # An answer of /status has some forty links, and clients ask for it every second.
        self._url = functools.lru_cache(maxsize=20_000)(self._signed_url)

    def url(self, bucket: Bucket, path: str) -> str:
        """The same for half a lifetime, so that browsers may cache the file."""
        return self._url(bucket, path, (int(time.time()) // self._step_s + 2) * self._step_s)

    def _signed_url(self, bucket: Bucket, path: str, expires: int) -> str:
        check_path(path)
        signature = self._sign(bucket, path, expires)
        return f"{self._base_url}/{bucket}/{quote(path)}?expires={expires}&signature={signature}"

    def verify(
        self, bucket: str, path: str, expires: str, signature: str, now: float | None = None
    ) -> bool:
        """Whether the parts of a URL are of one that we gave out and that has not expired.

        Args:
            path: decoded, as the router gives it.
            expires: from the query; seconds since 1970.
            signature: from the query.
            now: seconds since 1970, for tests; the clock's when left out.
        """
        if bucket not in set(Bucket):
            return False
        try:
            expires_s = int(expires)
            expected = self._sign(Bucket(bucket), path, expires_s)
        except ValueError:  # not a number, or a path that is not Unicode
            return False
        genuine = hmac.compare_digest(expected.encode(), signature.encode(errors="replace"))
        return genuine and (time.time() if now is None else now) < expires_s

    def _sign(self, bucket: Bucket, path: str, expires: int) -> str:
        # No path holds a line break (`check_path`), so different parts never give the same message.
        message = f"{bucket}\n{path}\n{expires}".encode()
        digest = hmac.digest(self._key, message, hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
