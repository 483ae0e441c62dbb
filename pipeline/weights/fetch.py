"""Brings bundles of weights from the model hub into the model directory, checked byte by byte.

It does not know what an engine does with them and reads no settings by itself; the library of the
hub heeds the user's HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE. An interrupted fetch leaves what has
arrived in `WORK_NAME` and no lock file, and the next one goes on there.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.control import Control
from pipeline.errors import Conflict, InvalidOption, Unavailable
from pipeline.weights.catalogue import Weights, size_for_people
from pipeline.weights.folders import Condition, refuse_unnamed, state_of, verify
from pipeline.weights.hub import Remote, checked, listing
from pipeline.weights.locks import (
    LOCK_NAME,
    ByteCount,
    LockedFile,
    read_lock,
    record,
    sha256_of,
    write_lock,
)

#: Folder inside a bundle's folder for what is on its way: parts of files, results of a conversion.
WORK_NAME = ".fetch"
#: Left free on the disk beyond what is fetched.
SPARE_BYTES = 100_000_000


def fetch(
    bundle: Weights,
    model_dir: Path,
    *,
    control: Control | None = None,
    allow: Collection[str] = (),
    offline: bool = False,
    endpoint: str | None = None,
    revision: str | None = None,
    repair: bool = False,
    precision: str | None = None,
) -> Path:
    """Bring a bundle that is not there whole, and record it.

    Args:
        allow: names of bundles that are taken although their licence forbids commercial use, and
            of those whose terms are agreed to.
        offline: open no connection; the library's own HF_HUB_OFFLINE says the same.
        endpoint: of a mirror of the hub; None is the library's (HF_ENDPOINT).
        revision: instead of the pinned one: a commit, tag or branch. What the pinned one is known
            to contain is not asked of it.
        repair: read every file, also of a bundle that looks whole, and bring what has changed.
        precision: of a bundle that is converted; None is the converter's default.

    Returns:
        the bundle's folder.

    Raises:
        InvalidOption: it is taken only by those who ask for it by name, and it is not in `allow`.
        Conflict: another fetch into the same folder is under way.
        Unavailable: the hub, the package for it, the revision, a file or room on the disk is
            missing, what arrived is not what the hub had announced, or a checkpoint is not usable.
        Cancelled: a stop was asked for; the next call goes on.
    """
    control = control or Control()
    refuse_unnamed(bundle, allow)
    chosen = _precision(precision)
    state = state_of(bundle, model_dir)
    folder = model_dir / bundle.name
    if repair and bundle.converted and state.condition is Condition.READY:
        # It can only be made anew as a whole: not unless something has changed.
        repair = bool(verify(bundle, model_dir, control=control))
    if state.condition is Condition.READY and not repair and revision is None:
        return folder
    wanted = revision or bundle.hub.revision or _kept_revision(folder)
    offered = listing(bundle, wanted, endpoint, offline=offline)
    if revision is None:
        offered.agree_with_what_is_known()
    with _alone(folder) as work:
        known = () if bundle.converted else offered.remotes
        present = _present(folder, known, control.part(0.0, 0.1))
        absent = [remote for remote in offered.remotes if remote.path not in present]
        _check_room(folder, work, absent, bundle)
        # From here on the folder is between two states, and nobody must take it for a model.
        (folder / LOCK_NAME).unlink(missing_ok=True)
        received = offered.receive(work, absent, control.part(0.1, 0.9))
        if bundle.converted:
            # In the order of the bundle's files, which are all absent.
            parts = [part for part, _ in received.values()]
            origin = {Path(path).name: file for path, (_, file) in received.items()}
            _convert(
                bundle, parts, folder, work, origin, offered.commit, chosen, control.part(0.9, 1.0)
            )
        else:
            for path, (part, _) in received.items():
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                part.replace(target)
            files = {**present, **{path: file for path, (_, file) in received.items()}}
            write_lock(folder, bundle, origin="fetched", revision=offered.commit, files=files)
        shutil.rmtree(work)
    return folder


def convert(
    bundle: Weights,
    sources: Sequence[Path],
    model_dir: Path,
    *,
    precision: str | None = None,
    trust: bool = False,
    allow: Collection[str] = (),
    control: Control | None = None,
) -> Path:
    """Make a bundle's folder from released checkpoints, and record it.

    Args:
        sources: the checkpoints, in any order.
        precision: a `pipeline.device.Precision`; None is the converter's default.
        trust: take a checkpoint that is not the released one, such as a training of one's own.
        allow: as of `fetch`.

    Raises:
        InvalidOption: it is not one that is converted, it is made of another number of files, the
            precision is unknown, or its terms are not agreed to.
        Unavailable: the checkpoint is missing, is not the released one or is not usable, or there
            is no room on the disk.
        Conflict: a fetch into the same folder is under way.
        Cancelled: a stop was asked for.
    """
    control = control or Control()
    if not bundle.converted:
        raise InvalidOption(
            f"{bundle.name!r} is not converted: run `glimpse3d weights fetch {bundle.name}`."
        )
    refuse_unnamed(bundle, allow)
    chosen = _precision(precision)
    if len(sources) != len(bundle.files):
        names = ", ".join(Path(file.path).name for file in bundle.files)
        raise InvalidOption(f"{bundle.name!r} is made of {names}; name all of them, and no more.")
    for source in sources:
        if not source.is_file():
            raise Unavailable(f"There is no file {source}. {bundle.hub.by_hand}")
    origin = {}
    count = ByteCount(control.part(0.0, 0.3), sum(s.stat().st_size for s in sources), "checked")
    for source in sources:
        file = LockedFile(source.stat().st_size, sha256_of(source, count.add))
        _refuse_another(bundle, source, file, trust=trust)
        origin[source.name] = file
    folder = model_dir / bundle.name
    with _alone(folder) as work:
        _check_room(folder, work, [], bundle)
        (folder / LOCK_NAME).unlink(missing_ok=True)
        _convert(bundle, sources, folder, work, origin, None, chosen, control.part(0.3, 1.0))
        shutil.rmtree(work)
    return folder


def _refuse_another(bundle: Weights, source: Path, file: LockedFile, *, trust: bool) -> None:
    """Raise Unavailable for a checkpoint that is none of the released ones, as far as their
    checksums are known; where they are not, its tensors decide."""
    known = [wanted.sha256 for wanted in bundle.files]
    if trust or None in known or file.sha256 in known:
        return
    raise Unavailable(
        f"{source} is damaged or not the released checkpoint: its sha256 is {file.sha256}, not "
        f"{' or '.join(map(str, known))}. If it is meant, say `--trust`. {bundle.hub.by_hand}"
    )


def _convert(
    bundle: Weights,
    sources: Sequence[Path],
    folder: Path,
    work: Path,
    origin: Mapping[str, LockedFile],
    commit: str | None,
    chosen: Mapping[str, Any],
    control: Control,
) -> None:
    """Convert beside the folder's files, then replace them and write the lock."""
    converter = bundle.hub.convert
    assert converter is not None, f"{bundle.name} is not converted"
    made = work / "converted"
    shutil.rmtree(made, ignore_errors=True)
    converter(sources, made, control=control.part(0.0, 0.8), **chosen)
    paths = [p.relative_to(made).as_posix() for p in sorted(made.rglob("*")) if p.is_file()]
    files = record(made, paths, control.part(0.8, 1.0), "recorded")
    for old in folder.glob("*.safetensors"):
        old.unlink()  # parts of an earlier conversion may have other names
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).replace(folder / path)
    write_lock(folder, bundle, origin="converted", revision=commit, files=files, source=origin)


def _precision(name: str | None) -> dict[str, Any]:
    """The argument for the converter, checked."""
    if name is None:
        return {}
    from pipeline.device import Precision

    if name not in tuple(Precision):
        raise InvalidOption(f"precision must be one of {[*Precision]}, got {name!r}")
    return {"dtype": Precision(name).dtype}


def _kept_revision(folder: Path) -> str:
    """A bundle without a pin keeps the commit it was first fetched at; "main" before that."""
    try:
        lock = read_lock(folder)
    except Unavailable:
        return "main"
    return (lock.revision if lock else None) or "main"


@contextmanager
def _alone(folder: Path) -> Iterator[Path]:
    """The work folder, held by one process at a time."""
    work = folder / WORK_NAME
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = (work / "lock").open("w")
    except OSError as error:
        raise Unavailable(f"{folder} cannot be written: {error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Conflict(f"Another process is writing weights to {folder}.") from None
        yield work


def _present(folder: Path, remotes: Sequence[Remote], control: Control) -> dict[str, LockedFile]:
    """The files that are there already with the right content."""
    there = [
        remote
        for remote in remotes
        if (folder / remote.path).is_file() and (folder / remote.path).stat().st_size == remote.size
    ]
    count = ByteCount(control, sum(remote.size for remote in there), "checked")
    found = {remote.path: checked(folder / remote.path, remote, count) for remote in there}
    return {path: file for path, file in found.items() if file is not None}


def _check_room(folder: Path, work: Path, absent: list[Remote], bundle: Weights) -> None:
    """Raise Unavailable unless the disk has room for what is still to come."""
    arrived = {part.name: part.stat().st_size for part in work.iterdir() if part.is_file()}
    needed = sum(max(r.size - arrived.get(r.part_name, 0), 0) for r in absent)
    if bundle.converted:
        needed += bundle.size_bytes  # of the result, at most
    free = shutil.disk_usage(folder).free
    if needed and free < needed + SPARE_BYTES:
        more = size_for_people(needed + SPARE_BYTES)
        raise Unavailable(
            f"The weights {bundle.name!r} need {more} more on the disk of {folder}, and "
            f"{size_for_people(free)} are free."
        )
