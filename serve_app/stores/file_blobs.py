"""The blobs port as files below one directory, with URLs that are signed and expire.

It does not know HTTP: a route checks a URL with `verify` and serves what `locate` names.

    {root}/{bucket}/{path}      one file per blob; its suffix says its content type
    {root}/.incoming/           half-written files; one rename makes a file appear, whole
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from deployments.jobs.rows import Bucket
from pipeline.errors import GlimpseError, InvalidInput, NotFound, Unavailable
from serve_app.stores.durable import DurableNames, make_folder, make_once, whole_file
from serve_app.stores.links import KEY_BYTES, LinkSigner, check_path

_INCOMING = ".incoming"
#: What clients read where the file system refuses.
_AWAY = "The files cannot be read or written now; try again later."
#: How often a file is moved into a folder that somebody else deletes at the same time.
_MOVES = 20

T = TypeVar("T")


def load_signing_key(path: Path) -> bytes:
    """The key in a file, made on first use; processes that race for it get the same one.

    Raises:
        GlimpseError: the file is too short to be a key.
        Unavailable: it can be neither read nor made.
    """
    try:
        if not path.exists():
            make_once(path, secrets.token_hex(KEY_BYTES).encode())
        key = path.read_bytes().strip()
    except OSError as error:
        raise Unavailable(
            f"The signing key {path} can be neither read nor made: {error.strerror}. ASSET_DIR "
            "must be a directory that the service may write to.",
            public=_AWAY,
        ) from error
    if len(key) < KEY_BYTES:
        raise GlimpseError(f"{path} holds no signing key: delete it, and a new one is made.")
    return key


class FileBlobs:
    """`deployments.jobs.store.Blobs` on a file system that all replicas see.

    Args:
        root: created when missing.
        signing_key: at least 32 bytes; who has it can read every blob.
        base_url: prefix of the URLs, without a slash at its end.
        url_lifetime_s: how long a URL works at most; at least half of it.
        confirm: raises Unavailable when this is not the folder that all replicas see. Asked before
            anything is written or deleted, and before a file is said not to be there.
    """

    def __init__(
        self,
        root: Path,
        signing_key: bytes,
        base_url: str = "/files",
        *,
        url_lifetime_s: float = 3600.0,
        confirm: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        links = LinkSigner(signing_key, base_url, lifetime_s=url_lifetime_s)
        self.url, self.verify = links.url, links.verify
        self._confirm = confirm or _nothing
        try:
            make_folder(root)
        except OSError as error:
            raise Unavailable(f"{root} cannot be made: {error.strerror}.", public=_AWAY) from error
        self._root = root.resolve()
        self._names = DurableNames(self._root)

    async def put(self, bucket: Bucket, path: str, data: bytes, content_type: str) -> None:
        """The suffix keeps the content type; `content_type` is not stored."""
        del content_type
        check_path(path)
        await self._confirm()
        await asyncio.to_thread(self._write, bucket, path, data)

    async def get(self, bucket: Bucket, path: str) -> bytes:
        def read() -> bytes:
            try:
                return self.open_path(bucket, path).read_bytes()
            except FileNotFoundError as error:
                raise NotFound(f"There is no {path} in {bucket}.") from error

        return await self._found(read)

    async def delete_prefix(self, bucket: Bucket, prefix: str) -> int:
        home = self._root / Bucket(bucket)

        def delete() -> int:
            return _delete_folder(self._locate(bucket, prefix.removesuffix("/")), home)

        await self._confirm()
        return await asyncio.to_thread(_on_disk, delete)

    async def delete(self, bucket: Bucket, paths: Sequence[str]) -> int:
        """Folders that are empty then go too."""
        home = self._root / Bucket(bucket)

        def delete() -> int:
            targets = [self._locate(bucket, path) for path in paths]  # all, or nothing is deleted
            return sum(_delete_file(target, home) for target in targets)

        await self._confirm()
        return await asyncio.to_thread(_on_disk, delete)

    async def list_prefix(self, bucket: Bucket, prefix: str) -> tuple[str, ...]:
        home = self._root / Bucket(bucket)

        def find() -> tuple[str, ...]:
            target = self._locate(bucket, prefix.removesuffix("/"))
            found = [target] if target.is_file() else _files(target)
            return tuple(sorted(path.relative_to(home).as_posix() for path in found))

        await self._confirm()
        return await asyncio.to_thread(_on_disk, find)

    async def tidy(self, older_than_s: float) -> int:
        """What lies in `.incoming`."""
        before = time.time() - older_than_s

        def tidy() -> int:
            count, failure = 0, None
            for path in _files(self._root / _INCOMING):
                try:
                    if path.stat().st_mtime <= before:
                        path.unlink()
                        count += 1
                except FileNotFoundError:
                    continue
                except OSError as error:  # one file must not keep the others
                    failure = error
            if failure is not None:
                raise failure
            return count

        return await asyncio.to_thread(_on_disk, tidy)

    async def ping(self) -> None:
        """The directory is there, is the right one and can be written to."""
        await self._confirm()
        if not await asyncio.to_thread(os.access, self._root, os.W_OK):
            said = f"{self._root} is not there, or cannot be written to."
            raise Unavailable(said, public=_AWAY)

    async def locate(self, bucket: Bucket, path: str) -> Path:
        return await self._found(lambda: self.open_path(bucket, path))

    async def _found(self, look: Callable[[], T]) -> T:
        """What is found, in a thread. In the wrong folder nothing is missing: it is elsewhere."""
        try:
            return await asyncio.to_thread(_on_disk, look)
        except NotFound:
            await self._confirm()
            raise

    def open_path(self, bucket: Bucket, path: str) -> Path:
        """Where the file is, for a route to serve. Asks the file system, which may be slow.

        Raises:
            NotFound: there is no such file.
            InvalidInput: the path is malformed or leaves the bucket.
        """
        target = self._locate(bucket, path)
        if not target.is_file():
            raise NotFound(f"There is no {path} in {bucket}.")
        return target

    def _locate(self, bucket: Bucket, path: str) -> Path:
        check_path(path)
        home = self._root / Bucket(bucket)
        target = home / path
        # Nothing of ours makes links, but somebody may have put one there.
        if not target.resolve().is_relative_to(home):
            raise InvalidInput(f"The path leaves the bucket {bucket}: {path!r}.")
        return target

    def _write(self, bucket: Bucket, path: str, data: bytes) -> None:
        target = self._locate(bucket, path)
        incoming = self._root / _INCOMING
        try:
            incoming.mkdir(exist_ok=True)
            # A committed row must never name a file that a power cut emptied, or took away.
            with whole_file(incoming, data) as temporary:
                temporary.chmod(0o644)
                _move(temporary, target)
                self._names.sync(target.parent)
        except OSError as error:
            said = f"{target.name} cannot be written: {error}"
            raise Unavailable(said, public=_AWAY) from error


def _on_disk(work: Callable[[], T]) -> T:
    """What the file system refuses is `Unavailable`."""
    try:
        return work()
    except OSError as error:
        said = f"The files cannot be read or deleted: {error}"
        raise Unavailable(said, public=_AWAY) from error


async def _nothing() -> None:
    """Nobody asked whether the folder is the right one."""


def _move(temporary: Path, target: Path) -> None:
    """Let the file appear; its folders may be deleted at the same time."""
    for _ in range(_MOVES):
        # The second: `mkdir` found the folder, looked what it is, and it was gone.
        with contextlib.suppress(FileNotFoundError, FileExistsError):
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
