"""The blobs port as files below one directory, with URLs that are signed and expire.

It does not know HTTP: a route checks the signature with `verify` and serves `open_path`.

    {root}/{bucket}/{path}      one file per blob; its suffix says its content type
    {root}/.incoming/           half-written files; one rename makes a file appear, whole
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import hmac
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from deployments.store import Bucket
from pipeline.errors import GlimpseError, InvalidInput, NotFound, Unavailable

__all__ = ["FileBlobs", "load_signing_key"]

_INCOMING = ".incoming"
_KEY_BYTES = 32
_LONGEST_COMPONENT_BYTES = 255
#: How often a file is moved into a folder that somebody else deletes at the same time.
_MOVES = 20

T = TypeVar("T")


def load_signing_key(path: Path) -> bytes:
    """The key in a file, made on first use; processes that race for it get the same one.

    Raises:
        GlimpseError: the file is too short to be a key.
    """
    with contextlib.suppress(FileNotFoundError):
        return _read_key(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(_KEY_BYTES).encode())
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            # A link, unlike a rename, leaves the key that another process put there first.
            os.link(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    key = path.read_bytes().strip()
    if len(key) < _KEY_BYTES:
        raise GlimpseError(f"{path} holds no signing key: delete it, and a new one is made.")
    return key


class FileBlobs:
    """`deployments.store.Blobs` on a file system that all replicas see.

    Args:
        root: created when missing.
        signing_key: at least 32 bytes; who has it can read every blob.
        base_url: prefix of the URLs, without a slash at its end.
        url_lifetime_s: how long a URL works at most; at least half of it.
    """

    def __init__(
        self,
        root: Path,
        signing_key: bytes,
        base_url: str = "/files",
        *,
        url_lifetime_s: float = 3600.0,
    ) -> None:
        if len(signing_key) < _KEY_BYTES:
            raise GlimpseError(f"A signing key has at least {_KEY_BYTES} bytes.")
        if not url_lifetime_s >= 2:
            raise GlimpseError(f"url_lifetime_s must be at least 2, not {url_lifetime_s}.")
        root.mkdir(parents=True, exist_ok=True)
        self._root = root.resolve()
        self._key = signing_key
        self._base_url = base_url.rstrip("/")
        self._step_s = int(url_lifetime_s) // 2
        # An answer of /status has some forty links, and clients ask for it every second.
        self._url = functools.lru_cache(maxsize=20_000)(self._signed_url)

    async def put(self, bucket: Bucket, path: str, data: bytes, content_type: str) -> None:
        """See `Blobs.put`. The suffix keeps the content type; `content_type` is not stored."""
        del content_type
        target = self._locate(bucket, path)
        await asyncio.to_thread(self._write, target, data)

    async def get(self, bucket: Bucket, path: str) -> bytes:
        """See `Blobs.get`."""

        def read() -> bytes:
            try:
                return self.open_path(bucket, path).read_bytes()
            except FileNotFoundError as error:
                raise NotFound(f"There is no {path} in {bucket}.") from error
            except OSError as error:
                raise Unavailable(f"{path} in {bucket} cannot be read: {error}") from error

        return await asyncio.to_thread(read)

    async def delete_prefix(self, bucket: Bucket, prefix: str) -> int:
        """See `Blobs.delete_prefix`: the folder `prefix`, or the one file of that name."""
        target = self._locate(bucket, prefix.removesuffix("/"))
        home = self._root / Bucket(bucket)
        return await asyncio.to_thread(_told, _delete_folder, target, home)

    async def delete(self, bucket: Bucket, paths: Sequence[str]) -> int:
        """See `Blobs.delete`. Folders that are empty then go too."""
        home = self._root / Bucket(bucket)

        def delete() -> int:
            targets = [self._locate(bucket, path) for path in paths]  # all, or nothing is deleted
            return _told(lambda: sum(_delete_file(target, home) for target in targets))

        return await asyncio.to_thread(delete)

    async def list_prefix(self, bucket: Bucket, prefix: str) -> tuple[str, ...]:
        """See `Blobs.list_prefix`: of the folder `prefix`, or the one file of that name."""
        home = self._root / Bucket(bucket)

        def find() -> tuple[str, ...]:
            target = self._locate(bucket, prefix.removesuffix("/"))
            found = [target] if target.is_file() else _files(target)
            return tuple(sorted(path.relative_to(home).as_posix() for path in found))

        return await asyncio.to_thread(_told, find)

    async def tidy(self, older_than_s: float) -> int:
        """See `Blobs.tidy`: what lies in `.incoming`."""
        before = time.time() - older_than_s

        def tidy() -> int:
            count = 0
            for path in _files(self._root / _INCOMING):
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime <= before:
                        path.unlink()
                        count += 1
            return count

        return await asyncio.to_thread(_told, tidy)

    def url(self, bucket: Bucket, path: str) -> str:
        """See `Blobs.url`. The same for half a lifetime, so that browsers may cache the file."""
        return self._url(bucket, path, (int(time.time()) // self._step_s + 2) * self._step_s)

    def _signed_url(self, bucket: Bucket, path: str, expires: int) -> str:
        self._check(path)
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

    def open_path(self, bucket: Bucket, path: str) -> Path:
        """Where the file is, for a route to serve.

        Raises:
            NotFound: there is no such file.
            InvalidInput: the path is malformed or leaves the bucket.
        """
        target = self._locate(bucket, path)
        if not target.is_file():
            raise NotFound(f"There is no {path} in {bucket}.")
        return target

    def _sign(self, bucket: Bucket, path: str, expires: int) -> str:
        # No path holds a line break (`_check`), so different parts never give the same message.
        message = f"{bucket}\n{path}\n{expires}".encode()
        digest = hmac.digest(self._key, message, hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    @staticmethod
    def _check(path: str) -> None:
        """Refuse paths that are not relative, plain and portable to other stores."""
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
            if len(component.encode()) > _LONGEST_COMPONENT_BYTES:
                raise InvalidInput(f"A part of a blob's path is too long: {path!r}.")

    def _locate(self, bucket: Bucket, path: str) -> Path:
        self._check(path)
        home = self._root / Bucket(bucket)
        target = home / path
        # Nothing of ours makes links, but somebody may have put one there.
        if not target.resolve().is_relative_to(home):
            raise InvalidInput(f"The path leaves the bucket {bucket}: {path!r}.")
        return target

    def _write(self, target: Path, data: bytes) -> None:
        incoming = self._root / _INCOMING
        try:
            incoming.mkdir(exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=incoming)
        except OSError as error:
            raise Unavailable(f"Nothing can be written to {incoming}: {error}") from error
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                # A committed row must never name a file that a power cut emptied.
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            _move(temporary, target)
        except OSError as error:
            raise Unavailable(f"{target.name} cannot be written: {error}") from error
        finally:
            temporary.unlink(missing_ok=True)


def _told(work: Callable[..., T], *arguments: Path) -> T:
    """What the file system refuses is `Unavailable`."""
    try:
        return work(*arguments)
    except OSError as error:
        raise Unavailable(f"The files cannot be read or deleted: {error}") from error


def _move(temporary: Path, target: Path) -> None:
    """Let the file appear; its folders may be deleted at the same time."""
    for _ in range(_MOVES):
        with contextlib.suppress(FileNotFoundError):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(target)
            return
    temporary.replace(target)


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _files(folder: Path) -> list[Path]:
    """Files at any depth, none when there is no such folder; links are not followed nor named."""
    found = (
        Path(parent) / name
        for parent, _, names in os.walk(folder, onerror=_unless_gone)
        for name in names
    )
    return [path for path in found if not path.is_symlink()]


def _delete_file(target: Path, home: Path) -> int:
    if not target.is_file():
        return 0
    try:
        target.unlink()
    except FileNotFoundError:
        return 0  # somebody else was faster
    _prune(target.parent, home)
    return 1


def _delete_folder(target: Path, home: Path) -> int:
    """Delete a folder with all that is in it, or the one file."""
    if target.is_file():
        return _delete_file(target, home)
    count = 0
    for parent, folders, names in os.walk(target, topdown=False, onerror=_unless_gone):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in (*names, *links):
            (Path(parent) / name).unlink(missing_ok=True)
        count += len(names)
        with contextlib.suppress(OSError):  # a file was put there meanwhile
            Path(parent).rmdir()
    _prune(target.parent, home)
    return count


def _prune(folder: Path, home: Path) -> None:
    """Delete a folder of a bucket and its parents as far as they are empty."""
    while folder != home:
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            return  # not empty
        folder = folder.parent
