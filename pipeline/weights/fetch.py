"""Brings bundles of weights from the model hub into the model directory, checked byte by byte.

It does not know what an engine does with them and reads no settings by itself; the library of the
hub heeds the user's HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE.

That library goes on with a file only within one call of it, so parts are kept here: an interrupted
fetch leaves what has arrived in `WORK_NAME` and no lock file, and the next one goes on there.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from pipeline.control import Control
from pipeline.errors import Conflict, InvalidOption, Unavailable
from pipeline.weights.catalogue import (
    Bundle,
    bundle_named,
    size_for_people,
)
from pipeline.weights.folders import (
    CHUNK_BYTES,
    LOCK_NAME,
    WORK_NAME,
    ByteCount,
    Condition,
    Lock,
    LockedFile,
    condition_of,
    read_lock,
    record,
    sha256_of,
    verify,
    write_lock,
)

__all__ = ["convert", "fetch"]

#: Left free on the disk beyond what is fetched.
SPARE_BYTES = 100_000_000
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class _Remote:
    """A file at one commit of the hub. `sha256` is known for large files, `blob_id` for others."""

    path: str
    size: int
    sha256: str | None
    blob_id: str | None

    @property
    def part_name(self) -> str:
        """Of this file with this content: a part of another content is never continued."""
        content = (self.sha256 or self.blob_id or "")[:16]
        return f"{content}-{self.path.replace('/', '-')}"


def fetch(
    bundle: Bundle,
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
        allow: names of bundles that are taken although their licence forbids commercial use.
        offline: open no connection; the library's own HF_HUB_OFFLINE says the same.
        endpoint: of a mirror of the hub; None is the library's (HF_ENDPOINT).
        revision: instead of the pinned one: a commit, tag or branch. What the pinned one is known
            to contain is not asked of it.
        repair: read every file, also of a bundle that looks whole, and bring what has changed.
        precision: of a bundle that is converted; None is the converter's default.

    Returns:
        the bundle's folder.

    Raises:
        InvalidOption: the licence forbids commercial use and the name is not in `allow`.
        Conflict: another fetch into the same folder is under way.
        Unavailable: the hub, the package for it, the revision, a file or room on the disk is
            missing, what arrived is not what the hub had announced, or a checkpoint is not usable.
        Cancelled: a stop was asked for; the next call goes on.
    """
    control = control or Control()
    if not bundle.commercial and bundle.name not in allow:
        raise InvalidOption(
            f"The licence of {bundle.name!r}, {bundle.licence}, forbids commercial use. Where that "
            f"is no hindrance, add `--allow {bundle.name}`."
        )
    chosen = _precision(precision)
    state = condition_of(bundle, model_dir)
    folder = model_dir / bundle.folder
    if repair and bundle.converted and state.condition is Condition.READY:
        # It can only be made anew as a whole: not unless something has changed.
        repair = bool(verify(bundle.name, model_dir, control=control))
    if state.condition is Condition.READY and not repair and revision is None:
        return folder
    remotes, commit = _listing(
        bundle, revision or bundle.revision or _kept_revision(folder), endpoint, offline
    )
    if revision is None:
        _agree_with_what_is_known(bundle, remotes)
    with _alone(folder) as work:
        known = [] if bundle.converted else remotes
        present = _present(folder, known, control.part(0.0, 0.1))
        absent = [remote for remote in remotes if remote.path not in present]
        _check_room(folder, work, absent, bundle)
        # From here on the folder is between two states, and nobody must take it for a model.
        (folder / LOCK_NAME).unlink(missing_ok=True)
        received = _receive(bundle, work, absent, commit, endpoint, control.part(0.1, 0.9))
        if bundle.converted:
            ((part, file),) = received.values()
            origin = {Path(bundle.files[0].path).name: file}
            _convert(bundle, part, folder, work, origin, commit, chosen, control.part(0.9, 1.0))
        else:
            for path, (part, _) in received.items():
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                part.replace(target)
            files = {**present, **{path: file for path, (_, file) in received.items()}}
            write_lock(folder, bundle, origin="fetched", revision=commit, files=files)
        shutil.rmtree(work)
    return folder


def convert(
    name: str,
    source: Path,
    model_dir: Path,
    *,
    precision: str | None = None,
    trust: bool = False,
    control: Control | None = None,
) -> Path:
    """Make a bundle's folder from a released checkpoint, and record it.

    Args:
        source: the checkpoint.
        precision: a `pipeline.device.Precision`; None is the converter's default.
        trust: take a checkpoint that is not the released one, such as a training of one's own.

    Raises:
        InvalidOption: there is no such bundle, it is not one that is converted, or the precision
            is unknown.
        Unavailable: the checkpoint is missing, is not the released one or is not usable, or there
            is no room on the disk.
        Conflict: a fetch into the same folder is under way.
        Cancelled: a stop was asked for.
    """
    control = control or Control()
    bundle = bundle_named(name)
    if not bundle.converted:
        raise InvalidOption(f"{name!r} is not converted: run `glimpse3d weights fetch {name}`.")
    chosen = _precision(precision)
    if not source.is_file():
        raise Unavailable(f"There is no file {source}. {bundle.by_hand}")
    size = source.stat().st_size
    count = ByteCount(control.part(0.0, 0.3), size, "checked")
    file = LockedFile(size, sha256_of(source, count.add))
    known = bundle.files[0].sha256
    if file.sha256 != known and not trust:
        raise Unavailable(
            f"{source} is damaged or not the released checkpoint: its sha256 is {file.sha256}, not "
            f"{known}. If it is meant, say `--trust`. {bundle.by_hand}"
        )
    folder = model_dir / bundle.folder
    with _alone(folder) as work:
        _check_room(folder, work, [], bundle)
        (folder / LOCK_NAME).unlink(missing_ok=True)
        origin = {source.name: file}
        _convert(bundle, source, folder, work, origin, None, chosen, control.part(0.3, 1.0))
        shutil.rmtree(work)
    return folder


def _convert(
    bundle: Bundle,
    source: Path,
    folder: Path,
    work: Path,
    origin: Mapping[str, LockedFile],
    commit: str | None,
    chosen: Mapping[str, Any],
    control: Control,
) -> None:
    """Convert beside the folder's files, then replace them and write the lock."""
    from pipeline.engines.views.syncdreamer.checkpoint import convert_checkpoint

    made = work / "converted"
    shutil.rmtree(made, ignore_errors=True)
    convert_checkpoint(source, made, control=control.part(0.0, 0.8), **chosen)
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
        lock: Lock | None = read_lock(folder)
    except Unavailable:
        lock = None
    return (lock.revision if lock else None) or "main"


def _listing(
    bundle: Bundle, revision: str, endpoint: str | None, offline: bool
) -> tuple[list[_Remote], str]:
    """The bundle's files as the hub describes them, and the commit that a revision stands for."""
    with _hub_errors(bundle, revision):
        from huggingface_hub import HfApi, constants

        if offline or constants.HF_HUB_OFFLINE:
            raise Unavailable(
                f"The weights {bundle.name!r} ({bundle.about}) are missing or incomplete, and no "
                "connection may be opened (--offline or HF_HUB_OFFLINE). Fetch them on another "
                "machine and copy the folder with its lock file, or fill it by hand and run "
                f"`glimpse3d weights adopt {bundle.name}`."
            )
        info: Any = HfApi(endpoint=endpoint, library_name="glimpse3d").repo_info(
            bundle.repo,
            revision=revision,
            repo_type="space" if bundle.space else "model",
            files_metadata=True,
            timeout=TIMEOUT_S,
        )
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
    remotes = []
    for file in bundle.files:
        found = siblings.get(file.path)
        if found is None or found.size is None or not (found.lfs or found.blob_id):
            raise Unavailable(
                f"{bundle.repo} at {info.sha or revision} does not describe a file {file.path}."
            )
        sha256 = found.lfs.sha256 if found.lfs else None
        remotes.append(_Remote(file.path, found.size, sha256, found.blob_id))
    if info.sha is None:
        raise Unavailable(f"The hub did not say which commit {revision} of {bundle.repo} is.")
    return remotes, info.sha


def _agree_with_what_is_known(bundle: Bundle, remotes: list[_Remote]) -> None:
    known = {file.path: file.sha256 for file in bundle.files}
    for remote in remotes:
        if known[remote.path] and remote.sha256 != known[remote.path]:
            raise Unavailable(
                f"{bundle.repo} offers another {remote.path} than the one that is known: sha256 "
                f"{remote.sha256} instead of {known[remote.path]}. Nothing was fetched."
            )


@contextmanager
def _hub_errors(bundle: Bundle, revision: str) -> Iterator[None]:
    """What the library raises leaves the block as `Unavailable` with what a user can do."""
    try:
        import httpx2
        from huggingface_hub import errors
    except ImportError as error:
        raise Unavailable(
            "Fetching needs the package huggingface-hub: run `pip install -e '.[models]'` in the "
            "project's folder."
        ) from error
    again = f"Run `glimpse3d weights fetch {bundle.name}` again: it goes on where it stopped."
    try:
        yield
    except errors.GatedRepoError as error:
        raise Unavailable(
            f"{bundle.repo} is open only to those who accept its terms on the hub: do, and set "
            "HF_TOKEN."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise Unavailable(
            f"{bundle.repo} has no revision {revision} (any more). `--revision main` takes the "
            "newest."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise Unavailable(f"The hub has no public repository {bundle.repo}.") from error
    except (errors.HfHubHTTPError, httpx2.HTTPError, httpx2.InvalidURL) as error:
        said = str(error).partition("\n")[0]
        raise Unavailable(f"{bundle.repo} could not be reached: {said}. {again}") from error
    except OSError as error:
        raise Unavailable(f"{bundle.repo} did not arrive: {error}. {again}") from error


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


def _present(folder: Path, remotes: list[_Remote], control: Control) -> dict[str, LockedFile]:
    """The files that are there already with the right content."""
    there = [
        remote
        for remote in remotes
        if (folder / remote.path).is_file() and (folder / remote.path).stat().st_size == remote.size
    ]
    count = ByteCount(control, sum(remote.size for remote in there), "checked")
    checked = {remote.path: _checked(folder / remote.path, remote, count) for remote in there}
    return {path: file for path, file in checked.items() if file is not None}


def _checked(path: Path, remote: _Remote, count: ByteCount) -> LockedFile | None:
    """What a file is if the hub's checksum is its own, else None."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    git = hashlib.sha1(b"blob %d\0" % size)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            if remote.sha256 is None:
                git.update(chunk)
            count.add(len(chunk))
    found = digest.hexdigest()
    right = found == remote.sha256 if remote.sha256 else git.hexdigest() == remote.blob_id
    return LockedFile(size, found) if right else None


def _check_room(folder: Path, work: Path, absent: list[_Remote], bundle: Bundle) -> None:
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


def _receive(
    bundle: Bundle,
    work: Path,
    absent: list[_Remote],
    commit: str,
    endpoint: str | None,
    control: Control,
) -> dict[str, tuple[Path, LockedFile]]:
    """Every absent file as a checked part, by its path."""
    if not absent:
        return {}
    # Each byte is counted twice: when it arrives and when it is checked.
    count = ByteCount(control, 2 * sum(remote.size for remote in absent), "fetched")
    received = {}
    for remote in absent:
        part = work / remote.part_name
        if part.is_file() and part.stat().st_size > remote.size:
            part.unlink()
        with _hub_errors(bundle, commit):
            _download(bundle, remote, part, commit, endpoint, count)
        file = _checked(part, remote, count)
        if file is None:
            part.unlink()
            raise Unavailable(
                f"{remote.path} of {bundle.repo} arrived with another content than the hub "
                f"announces; it was thrown away. Run `glimpse3d weights fetch {bundle.name}` again."
            )
        received[remote.path] = (part, file)
    return received


class _Ticks:
    """What the library calls in place of a tqdm bar: it counts, and stops when it must."""

    def __init__(self, count: ByteCount) -> None:
        self._count = count

    def __call__(self, **_: Any) -> _Ticks:
        return self

    def __enter__(self) -> _Ticks:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        pass

    def update(self, received: float) -> None:
        self._count.add(int(received))


def _download(
    bundle: Bundle,
    remote: _Remote,
    part: Path,
    commit: str,
    endpoint: str | None,
    count: ByteCount,
) -> None:
    """Append to a part what it lacks."""
    from huggingface_hub import get_token, hf_hub_url
    from huggingface_hub.file_download import http_get

    url = hf_hub_url(
        bundle.repo,
        remote.path,
        repo_type="space" if bundle.space else "model",
        revision=commit,
        endpoint=endpoint,
    )
    # Compressed bytes could not be continued at an offset.
    headers = {"Accept-Encoding": "identity"}
    if token := get_token():
        headers["Authorization"] = f"Bearer {token}"
    with part.open("ab") as file:
        arrived = file.tell()
        count.add(arrived)
        http_get(
            url,
            file,
            resume_size=arrived,
            headers=headers,
            expected_size=remote.size,
            displayed_filename=remote.path,
            tqdm_class=cast(Any, _Ticks(count)),
        )
