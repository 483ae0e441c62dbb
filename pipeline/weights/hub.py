"""The model hub: what a repository holds at a commit, and its files, part by part, checked.

The hub's library goes on with a file only within one call of it, so parts are kept here: what has
arrived stays in the work folder, and the next call goes on there. It does not know model
directories or records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

from pipeline.control import Control
from pipeline.errors import Unavailable
from pipeline.weights.catalogue import WeightFile, Weights
from pipeline.weights.locks import ByteCount, LockedFile, sha256_of

TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Remote:
    """A file at one commit of the hub.

    Attributes:
        path: where it goes in the bundle's folder.
        sha256: known for large files; `blob_id` for the others.
        name: its path in the repository.
    """

    path: str
    size: int
    sha256: str | None
    blob_id: str | None
    name: str

    @property
    def part_name(self) -> str:
        """Of this file with this content: a part of another content is never continued."""
        content = (self.sha256 or self.blob_id or "")[:16]
        return f"{content}-{self.path.replace('/', '-')}"


@dataclass(frozen=True)
class Listing:
    """What a repository of the hub holds of a bundle at one commit."""

    bundle: Weights
    commit: str
    remotes: tuple[Remote, ...]
    endpoint: str | None

    def agree_with_what_is_known(self) -> None:
        """Raises Unavailable where a file has another checksum than the bundle knows of it."""
        known = {file.path: file.sha256 for file in self.bundle.files}
        for remote in self.remotes:
            if known[remote.path] and remote.sha256 != known[remote.path]:
                raise Unavailable(
                    f"{self.bundle.hub.repo} offers another {remote.path} than the one that is "
                    f"known: sha256 {remote.sha256} instead of {known[remote.path]}. Nothing was "
                    "fetched."
                )

    def receive(
        self, work: Path, absent: list[Remote], control: Control
    ) -> dict[str, tuple[Path, LockedFile]]:
        """Every absent file as a checked part, by its path."""
        # Each byte is counted twice: when it arrives and when it is checked.
        count = ByteCount(control, 2 * sum(remote.size for remote in absent), "fetched")
        received = {}
        for remote in absent:
            part = work / remote.part_name
            if part.is_file() and part.stat().st_size > remote.size:
                part.unlink()
            with _hub_errors(self.bundle, self.commit):
                self._download(remote, part, count)
            file = checked(part, remote, count)
            if file is None:
                part.unlink()
                raise Unavailable(
                    f"{remote.path} of {self.bundle.hub.repo} arrived with another content than "
                    "the hub announces; it was thrown away. Run `glimpse3d weights fetch "
                    f"{self.bundle.name}` again."
                )
            received[remote.path] = (part, file)
        return received

    def _download(self, remote: Remote, part: Path, count: ByteCount) -> None:
        """Append to a part what it lacks."""
        from huggingface_hub import get_token, hf_hub_url
        from huggingface_hub.file_download import http_get

        hub = self.bundle.hub
        url = hf_hub_url(
            hub.repo,
            remote.name,
            repo_type=hub.repo_type,
            revision=self.commit,
            endpoint=self.endpoint,
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


def listing(bundle: Weights, revision: str, endpoint: str | None, *, offline: bool) -> Listing:
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
            bundle.hub.repo,
            revision=revision,
            repo_type=bundle.hub.repo_type,
            files_metadata=True,
            timeout=TIMEOUT_S,
        )
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
    remotes = []
    for file in bundle.files:
        name = _name_in(siblings, file, f"{bundle.hub.repo} at {info.sha or revision}")
        found = siblings.get(name)
        if found is None or found.size is None or not (found.lfs or found.blob_id):
            raise Unavailable(
                f"{bundle.hub.repo} at {info.sha or revision} does not describe a file {file.path}."
            )
        sha256 = found.lfs.sha256 if found.lfs else None
        remotes.append(Remote(file.path, found.size, sha256, found.blob_id, name))
    if info.sha is None:
        raise Unavailable(f"The hub did not say which commit {revision} of {bundle.hub.repo} is.")
    return Listing(bundle, info.sha, tuple(remotes), endpoint)


def _name_in(names: Collection[str], file: WeightFile, where: str) -> str:
    """The path of a file in a repository that has these."""
    if file.found_as is None:
        return file.path
    alike = sorted(name for name in names if fnmatchcase(name.lower(), file.found_as.lower()))
    if len(alike) != 1:
        found = ", ".join(alike[:6]) or "none"
        raise Unavailable(
            f"{where} must have one file {file.found_as} to become {file.path}, and has {found}. "
            "Download the right one by hand under that name, and run `glimpse3d weights adopt`."
        )
    return alike[0]


@contextmanager
def _hub_errors(bundle: Weights, revision: str) -> Iterator[None]:
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
            f"{bundle.hub.repo} is open only to those who accept its terms on the hub: do, and set "
            "HF_TOKEN."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise Unavailable(
            f"{bundle.hub.repo} has no revision {revision} (any more). `--revision main` takes the "
            "newest."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise Unavailable(f"The hub has no public repository {bundle.hub.repo}.") from error
    except (errors.HfHubHTTPError, httpx2.HTTPError, httpx2.InvalidURL) as error:
        said = str(error).partition("\n")[0]
        raise Unavailable(f"{bundle.hub.repo} could not be reached: {said}. {again}") from error
    except ImportError as error:  # of a proxy of the environment; it names the package
        raise Unavailable(f"{bundle.hub.repo} could not be reached: {error}") from error
    except OSError as error:
        raise Unavailable(f"{bundle.hub.repo} did not arrive: {error}. {again}") from error


def checked(path: Path, remote: Remote, count: ByteCount) -> LockedFile | None:
    """What a file is if the hub's checksum is its own, else None."""
    size, found = path.stat().st_size, sha256_of(path, count.add)
    if remote.sha256:
        right = found == remote.sha256
    else:  # a small file, known by its git id
        right = hashlib.sha1(b"blob %d\0" % size + path.read_bytes()).hexdigest() == remote.blob_id
    return LockedFile(size, found) if right else None


class _Ticks(nullcontext[Any]):
    """What the library calls in place of a tqdm bar: it counts, and stops when it must."""

    def __init__(self, count: ByteCount) -> None:
        super().__init__(self)
        self._count = count

    def __call__(self, **_: Any) -> _Ticks:
        return self

    def update(self, received: float) -> None:
        self._count.add(int(received))
