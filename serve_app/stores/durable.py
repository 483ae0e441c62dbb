"""Files whose names survive a power cut: a rename alone is lost with its folder's page.

It does not know what is in the files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

#: What file systems answer that cannot synchronise a folder, most of them network ones: names are
#: safe there when the call that made them returns, or not at all.
_NO_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


def sync_folders(folder: Path, top: Path) -> None:
    """Make the names in `folder` durable, and its own name and those of its parents up to `top`.

    Always all of them: a folder that is there may have been made by somebody who has not come to
    this call yet. A folder that somebody deleted meanwhile has no names to keep.
    """
    for parent in (folder, *folder.parents):
        with contextlib.suppress(FileNotFoundError):
            _sync(parent)
        if parent == top:
            return


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
def _written(path: Path, data: bytes) -> Iterator[Path]:
    """A private file beside `path`, for the block to give it its name; durable after it."""
    make_folder(path.parent)
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
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
