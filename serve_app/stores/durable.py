"""Files whose names survive a power cut: a rename alone is lost with its folder's page.

It does not know what is in the files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

#: What file systems answer that cannot synchronise a folder, most of them network ones: names are
#: safe there when the call that made them returns, or not at all.
_NO_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)

#: A folder that did not change for so long counts as settled; file systems count time in steps of
#: up to two seconds.
_SETTLED_NS = 3_000_000_000
#: Settled folders that are remembered.
_MOST_CLEAN = 4096


class DurableNames:
    """Makes names below one folder durable, and remembers where nothing has changed since.

    Synchronising a clean folder again takes as long as writing a small file (2 to 3 ms, ext4), and
    a file has three or four folders above its own.

    Args:
        top: the last folder that is synchronised.
    """

    def __init__(self, top: Path) -> None:
        self._top = top
        self._clean: dict[Path, tuple[int, int, int]] = {}

    def sync(self, folder: Path) -> None:
        """Make the names in `folder` durable, and its own name and those of its parents.

        Also of folders that were there: they may have been made by somebody who has not come to
        this call yet. A folder that somebody deleted meanwhile has no names to keep.
        """
        for parent in (folder, *folder.parents):
            with contextlib.suppress(FileNotFoundError):
                self._sync_changed(parent)
            if parent == self._top:
                return

    def _sync_changed(self, folder: Path) -> None:
        now = time.time_ns()
        found = folder.stat()
        # Each name that comes or goes changes the time, also of a folder made again under a number
        # that was free.
        state = (found.st_dev, found.st_ino, found.st_mtime_ns)
        if self._clean.get(folder) == state:
            return
        _sync(folder)
        # A clock that stands for some milliseconds hides a second change right after the first.
        if now - found.st_mtime_ns > _SETTLED_NS:
            if len(self._clean) >= _MOST_CLEAN:
                self._clean.clear()
            self._clean[folder] = state


def make_folder(folder: Path) -> None:
    """Make a folder and its parents where they are missing, durably. Raises OSError."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        _sync(made.parent)


def make_once(path: Path, data: bytes) -> None:
    """A small private file (0600) with these bytes, unless somebody was faster. Raises OSError.

    Whoever reads it finds all bytes of one of those who raced for it, also after a power cut.
    """
    # A link, unlike a rename, leaves what another process put there first.
    with _written(path, data) as temporary, contextlib.suppress(FileExistsError):
        os.link(temporary, path)


def replace(path: Path, data: bytes) -> None:
    """The same in place of what is there: at every moment there is one or the other."""
    with _written(path, data) as temporary:
        temporary.replace(path)


@contextlib.contextmanager
def whole_file(folder: Path, data: bytes, prefix: str = "") -> Iterator[Path]:
    """A private file in `folder` that holds `data` whatever happens; the block gives it its name,
    and has that name synchronised. Without one the file goes again. Raises OSError."""
    descriptor, name = tempfile.mkstemp(prefix=prefix, dir=folder)  # mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _written(path: Path, data: bytes) -> Iterator[Path]:
    """A private file beside `path`, for the block to give it its name; durable after it."""
    make_folder(path.parent)
    with whole_file(path.parent, data, prefix=f"{path.name}.") as temporary:
        yield temporary
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDERS:
            raise
    finally:
        os.close(descriptor)
