"""The record beside the files of a bundle, and the checksums that it keeps.

It knows files and their bytes; not which bundles there are or what a record is compared with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.control import Control
from pipeline.errors import Unavailable
from pipeline.weights.catalogue import Weights, size_for_people

#: Written last: a folder without it is not a model.
LOCK_NAME = "weights-lock.json"

CHUNK_BYTES = 1 << 22


@dataclass(frozen=True)
class LockedFile:
    """What a file was when it was recorded."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Lock:
    """The record beside the files of a bundle: what they are and where they came from.

    Attributes:
        origin: "fetched", "adopted" or "converted".
        revision: commit of the repository; None where nobody knows it.
        recorded_at: ISO 8601, UTC.
        source: the checkpoint by file name, where `origin` is "converted".
    """

    bundle: str
    origin: str
    repo: str
    revision: str | None
    licence: str
    recorded_at: str
    files: Mapping[str, LockedFile]
    source: Mapping[str, LockedFile] = field(default_factory=dict)


def read_lock(folder: Path) -> Lock | None:
    """The record of a bundle's folder; None where there is none.

    Raises:
        Unavailable: it cannot be read.
    """
    path = folder / LOCK_NAME
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        return Lock(**{**found, **{k: _locked_files(found[k]) for k in ("files", "source")}})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Unavailable(f"{path} cannot be read: {error}") from error


def _locked_files(found: Mapping[str, Any]) -> dict[str, LockedFile]:
    return {path: LockedFile(**entry) for path, entry in found.items()}


def write_lock(
    folder: Path,
    bundle: Weights,
    *,
    origin: str,
    revision: str | None,
    files: Mapping[str, LockedFile],
    source: Mapping[str, LockedFile] | None = None,
) -> None:
    """Record a bundle's folder as whole, in one step: there is never half a record."""
    lock = Lock(
        bundle=bundle.name,
        origin=origin,
        repo=bundle.hub.repo,
        revision=revision,
        licence=bundle.licence,
        recorded_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files=dict(sorted(files.items())),
        source=dict(source or {}),
    )
    draft = folder / f"{LOCK_NAME}.new"
    draft.write_text(json.dumps(asdict(lock), indent=2) + "\n")
    draft.replace(folder / LOCK_NAME)


class ByteCount:
    """Turns bytes that were read or received into progress, in steps that a bar can show."""

    def __init__(self, control: Control, total: int, verb: str) -> None:
        self._control = control
        self._total = max(total, 1)
        self._verb = verb
        self._step = self._total / 400
        self._reported = 0
        self.done = 0

    def add(self, count: int) -> None:
        """Count. Raises Cancelled if a stop was asked for."""
        self.done += count
        self._control.check()
        if abs(self.done - self._reported) >= self._step or self.done >= self._total:
            self._reported = self.done
            amount = f"{size_for_people(self.done)} of {size_for_people(self._total)}"
            self._control.step(self.done / self._total, f"{self._verb} {amount}")


def sha256_of(path: Path, on_bytes: Callable[[int], None] = lambda _count: None) -> str:
    """Checksum of a file; `on_bytes` hears how much was read and may raise."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            on_bytes(len(chunk))
    return digest.hexdigest()


def record(
    folder: Path, paths: Iterable[str], control: Control, verb: str
) -> dict[str, LockedFile]:
    """Sizes and checksums of files as they are now."""
    sizes = {path: (folder / path).stat().st_size for path in paths}
    count = ByteCount(control, sum(sizes.values()), verb)
    return {p: LockedFile(size, sha256_of(folder / p, count.add)) for p, size in sizes.items()}
