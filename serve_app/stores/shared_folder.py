"""Whether the folder of files that this node sees is the one that the database's rows speak of.

A marker file in the folder holds an id, and so does a row of the database. It does not know what
the files are.
"""

from __future__ import annotations

import asyncio
import socket
import uuid
from pathlib import Path
from typing import Any

from deployments.jobs.rows import Bucket
from pipeline.errors import Unavailable
from serve_app.stores.durable import make_once
from serve_app.stores.records import CallRecords

MARKER = ".store-id"


class ForeignFolder(Unavailable):
    """The files of this node are not the database's; nothing was read or written."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} on {socket.gethostname()} is not the folder in which the database's files "
            "lie: mount the shared folder there, or correct ASSET_DIR (asset_dir). If the files "
            "are lost for good, write what `select id from file_store` answers into "
            f"{MARKER} there.",
            public="The files of a node are not the database's: its ASSET_DIR is another folder.",
        )


class SharedFolder:
    """The agreement between a folder and a database, made once, by whoever opens them first.

    Where one of the two is missing, one of the newest files of the database must be there: so was a
    folder that is older than markers. Without a row and without files any folder is good.

    Args:
        folder: where the buckets are.
    """

    def __init__(self, folder: Path, records: CallRecords) -> None:
        self._folder = folder
        self._records = records
        self._id: str | None = None

    async def confirm(self) -> None:
        """Come to the agreement, and later see that it still holds: a mount can go away.

        Raises:
            ForeignFolder: this is another folder.
            Unavailable: the database is away, or the folder cannot be read.
        """
        if self._id is None:
            self._id = await self._agree()
        elif await asyncio.to_thread(self._marker) != self._id:
            raise ForeignFolder(self._folder)

    async def _agree(self) -> str:
        known: dict[str, Any] = await self._records.call("file_store_v1")
        marker, named = await asyncio.to_thread(self._marker), known["id"]
        if marker is None or named is None:
            uploads = self._folder / Bucket.UPLOADS
            originals = [uploads / path for path in known["originals"]]
            # With a row there was a marker: a folder without both files and marker is another one,
            # as of a node whose mount is missing while nobody has uploaded anything yet.
            is_first = named is None and not originals
            if not is_first and not await asyncio.to_thread(_is_any_there, originals):
                raise ForeignFolder(self._folder)
            if marker is None:
                marker = await asyncio.to_thread(self._mark, named or uuid.uuid4().hex)
            # The marker first: a row without one would be of a folder that nobody has.
            named = await self._records.call("name_file_store_v1", p_id=marker)
        if marker != named:
            raise ForeignFolder(self._folder)
        return marker

    def _marker(self) -> str | None:
        try:
            return (self._folder / MARKER).read_text(encoding="utf-8").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise Unavailable(f"The marker of the files cannot be read: {error}") from error

    def _mark(self, new: str) -> str:
        """The id in the marker that is there now."""
        try:
            make_once(self._folder / MARKER, new.encode())
        except OSError as error:
            raise Unavailable(f"The folder of the files cannot be marked: {error}") from error
        return self._marker() or new


def _is_any_there(paths: list[Path]) -> bool:
    return any(path.is_file() for path in paths)
