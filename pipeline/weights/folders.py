"""Whether the bundles lie in the model directory whole, as their records say.

It does not know what an engine does with a model, it reads no settings by itself and it never
opens a connection: `pipeline.weights.fetch` brings the files, and a missing model is `Unavailable`
with the command that does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipeline.control import Control
from pipeline.errors import InvalidOption, Unavailable
from pipeline.weights.catalogue import BUNDLES, Bundle, bundle_named, size_for_people

__all__ = [
    "LOCK_NAME",
    "WORK_NAME",
    "BundleState",
    "ByteCount",
    "Condition",
    "Lock",
    "LockedFile",
    "adopt",
    "condition_of",
    "find_bundle",
    "find_bundles",
    "found_bundles",
    "read_lock",
    "record",
    "sha256_of",
    "verify",
    "write_lock",
]

#: Written last: a folder without it is not a model.
LOCK_NAME = "weights-lock.json"
#: Folder inside a bundle's folder for what is on its way: parts of files, results of a conversion.
WORK_NAME = ".fetch"

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
    bundle: Bundle,
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
        repo=bundle.repo,
        revision=revision,
        licence=bundle.licence,
        recorded_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files=dict(sorted(files.items())),
        source=dict(source or {}),
    )
    draft = folder / f"{LOCK_NAME}.new"
    draft.write_text(json.dumps(asdict(lock), indent=2) + "\n")
    draft.replace(folder / LOCK_NAME)


class Condition(StrEnum):
    """What lies in the folder of a bundle."""

    READY = "ready"
    #: Nothing, or only a part of it.
    MISSING = "missing"
    #: Recorded as whole, and is not any more.
    DAMAGED = "damaged"
    #: Whole, but of another commit than this version of the product was made for.
    OTHER_REVISION = "other revision"


@dataclass(frozen=True)
class BundleState:
    """Outcome of a look at a bundle that costs no reading of its files.

    Attributes:
        folder: None where no model directory is set.
        fault: what is wrong, a sentence; empty where nothing is.
    """

    condition: Condition
    folder: Path | None
    fault: str = ""


def condition_of(bundle: Bundle, model_dir: Path | None) -> BundleState:
    """Whether the files are there with their recorded sizes."""
    if model_dir is None:
        return BundleState(Condition.MISSING, None, "No model directory is set.")
    folder = model_dir / bundle.folder
    try:
        lock = read_lock(folder)
    except Unavailable as error:
        return BundleState(Condition.DAMAGED, folder, error.detail)
    if lock is None:
        there = "holds no complete model" if folder.is_dir() else "is not there"
        return BundleState(Condition.MISSING, folder, f"{folder} {there}.")
    if damage := _damage(bundle, folder, lock):
        return BundleState(Condition.DAMAGED, folder, damage)
    if bundle.revision and lock.revision not in (None, bundle.revision):
        fault = f"{folder} is of commit {lock.revision}, not {bundle.revision}."
        return BundleState(Condition.OTHER_REVISION, folder, fault)
    return BundleState(Condition.READY, folder)


def _damage(bundle: Bundle, folder: Path, lock: Lock) -> str:
    """The first file that is not as recorded, a sentence; empty where all are."""
    lost = [] if bundle.converted else [f.path for f in bundle.files if f.path not in lock.files]
    if lost:
        return f"{folder} is recorded without {lost}."
    for path, file in lock.files.items():
        size = _size(folder / path)
        if size is None:
            return f"{folder / path} is missing."
        if size != file.bytes:
            return f"{folder / path} has {size:,} bytes, not {file.bytes:,}."
    return ""


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def find_bundle(name: str, model_dir: Path | None) -> Path:
    """The folder of a bundle. It looks at names and sizes only and never downloads.

    Another revision than the pinned one is accepted: `fetch --revision` asks for one.

    Raises:
        InvalidOption: there is no bundle of that name.
        Unavailable: it is not there whole; the text says how to get it.
    """
    bundle = bundle_named(name)
    state = condition_of(bundle, model_dir)
    if state.folder is not None and state.condition in (Condition.READY, Condition.OTHER_REVISION):
        return state.folder
    setting = "" if model_dir else "Set MODEL_DIR to a folder and run "
    run = setting or "Run "
    allow = "" if bundle.commercial else f" --allow {name}"
    raise Unavailable(
        f"The weights {name!r} ({bundle.about}) were not found. {state.fault} {run}"
        f"`glimpse3d weights fetch {name}{allow}`."
    )


def find_bundles(names: Iterable[str], model_dir: Path | None) -> dict[str, Path]:
    """Folders of several bundles, by name, for an engine that needs them all.

    Raises:
        InvalidOption: there is no bundle of one of the names.
        Unavailable: some are not there whole; the text says which and how to get all of them.
    """
    found: dict[str, Path] = {}
    lacking: dict[str, Unavailable] = {}
    for name in names:
        try:
            found[name] = find_bundle(name, model_dir)
        except Unavailable as error:
            lacking[name] = error
    if len(lacking) > 1:
        listed = ", ".join(f"{name} ({bundle_named(name).about})" for name in lacking)
        setting = "Run" if model_dir else "Set MODEL_DIR to a folder and run"
        raise Unavailable(
            f"Weights were not found: {listed}. {setting} "
            f"`glimpse3d weights fetch {' '.join(lacking)}`."
        )
    if lacking:
        raise next(iter(lacking.values()))
    return found


def found_bundles(model_dir: Path | None) -> dict[str, str]:
    """A digest of each bundle that is there whole, by name: of its recorded checksums."""
    found: dict[str, str] = {}
    for name, bundle in BUNDLES.items():
        state = condition_of(bundle, model_dir)
        if state.folder is None or state.condition in (Condition.MISSING, Condition.DAMAGED):
            continue
        lock = read_lock(state.folder)
        if lock is not None:
            lines = "".join(f"{file.sha256} {path}\n" for path, file in sorted(lock.files.items()))
            found[name] = f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
    return found


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


def verify(name: str, model_dir: Path | None, *, control: Control | None = None) -> list[str]:
    """Read every file of a bundle and compare it with its recorded checksum.

    Returns:
        a sentence for each fault; empty where there is none.

    Raises:
        InvalidOption: there is no bundle of that name.
        Unavailable: the bundle is not there.
        Cancelled: a stop was asked for.
    """
    bundle = bundle_named(name)
    state = condition_of(bundle, model_dir)
    if state.folder is None or state.condition is Condition.MISSING:
        find_bundle(name, model_dir)
    assert state.folder is not None
    try:
        lock = read_lock(state.folder)
    except Unavailable:
        lock = None
    if lock is None:
        return [state.fault]
    there = [path for path in lock.files if (state.folder / path).is_file()]
    now = record(state.folder, there, control or Control(), "checked")
    faults = [] if state.condition is Condition.READY else [state.fault]
    for path, file in now.items():
        if file.bytes == lock.files[path].bytes and file.sha256 != lock.files[path].sha256:
            faults.append(f"{state.folder / path} has changed: its checksum is another one.")
    return faults


def adopt(name: str, model_dir: Path | None, *, control: Control | None = None) -> Path:
    """Record a folder that somebody filled by hand, on a machine without a network.

    Files whose checksum is known must have it; what the others contain is taken as it is.

    Raises:
        InvalidOption: there is no such bundle, or it is one that is converted.
        Unavailable: a file is missing or not the one that is known, or there is no model
            directory.
        Cancelled: a stop was asked for.
    """
    bundle = bundle_named(name)
    if bundle.converted:
        raise InvalidOption(
            f"{name!r} is made from a checkpoint: run `glimpse3d weights convert {name} FILE`, or "
            f"copy a converted folder with its {LOCK_NAME}."
        )
    if model_dir is None:
        raise Unavailable("Set MODEL_DIR to the folder that holds the models.")
    folder = model_dir / bundle.folder
    missing = [file.path for file in bundle.files if not (folder / file.path).is_file()]
    if missing:
        raise Unavailable(f"{folder} lacks {missing}. They are in {bundle.repo} on the model hub.")
    files = record(folder, [f.path for f in bundle.files], control or Control(), "recorded")
    for file in bundle.files:
        if file.sha256 and files[file.path].sha256 != file.sha256:
            raise Unavailable(
                f"{folder / file.path} is damaged or another version: its sha256 is "
                f"{files[file.path].sha256}, not {file.sha256}."
            )
    write_lock(folder, bundle, origin="adopted", revision=None, files=files)
    return folder
