"""What a power cut leaves: names are durable before anybody is told that a file is there."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments.jobs.rows import Bucket
from pipeline.errors import NotFound, Unavailable
from serve_app.stores import StoreSettings
from serve_app.stores.durable import make_folder, make_once
from serve_app.stores.file_blobs import FileBlobs, load_signing_key

KEY = b"k" * 32

#: Stores a photo and then its row, and is killed when the photo's name is to be made durable.
_DIES = """
import asyncio, os, signal, sys
from pathlib import Path
from deployments.jobs.rows import Bucket
from serve_app.stores import StoreSettings, durable
from tests.serve_app.stores.rows import project

async def work():
    async with StoreSettings(Path(sys.argv[1]), sys.argv[2]).open() as store:
        await store.blobs.put(Bucket.UPLOADS, "first/original.png", b"photo", "image/png")
        await project(store.records, "first")
        durable._sync = lambda folder: os.kill(os.getpid(), signal.SIGKILL)
        await store.blobs.put(Bucket.UPLOADS, "second/original.png", b"photo", "image/png")
        await project(store.records, "second")

asyncio.run(work())
"""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """What is made, renamed to and synchronised, in order."""
    seen: list[tuple[str, Path]] = []

    def recorded(name: str, path: Callable[..., Path]) -> None:
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            answer = real(*arguments, **options)
            seen.append((name, path(*arguments)))
            return answer

        monkeypatch.setattr(os, name, call)

    recorded("fsync", lambda descriptor: Path(f"/proc/self/fd/{descriptor}").readlink())
    for name in ("replace", "link"):
        recorded(name, lambda _from, to: Path(to))
    recorded("mkdir", lambda path, *_: Path(path))
    return seen


def is_durable(seen: list[tuple[str, Path]], path: Path, top: Path) -> bool:
    """Each folder from `top` down was synchronised after the name in it was made."""
    made = {path: max(i for i, (call, to) in enumerate(seen) if call != "fsync" and to == path)}
    made |= {to: i for i, (call, to) in enumerate(seen) if call == "mkdir"}
    synced = {to: i for i, (call, to) in enumerate(seen) if call == "fsync"}
    chain = [path, *path.parents]
    chain = chain[: chain.index(top)]
    return all(synced.get(name.parent, -1) > made.get(name, -1) for name in chain)


async def test_a_stored_file_has_durable_names_when_it_is_acknowledged(
    tmp_path: Path, calls: list[tuple[str, Path]]
) -> None:
    blobs = FileBlobs(tmp_path / "new" / "files", KEY)
    for path in ("p/a/deep/1.png", "p/a/deep/2.png", "p/b.png", "p/a/deep/1.png"):
        calls.clear()
        await blobs.put(Bucket.VIEWS, path, b"view", "image/png")
        target = tmp_path / "new" / "files" / Bucket.VIEWS / path
        assert is_durable(calls, target, tmp_path / "new" / "files")
        rename = calls.index(("replace", target))
        assert [call for call, to in calls[:rename] if ".incoming" in to.parts].count("fsync") == 1


async def test_a_folder_that_another_writer_made_is_synchronised_too(
    tmp_path: Path, calls: list[tuple[str, Path]]
) -> None:
    blobs = FileBlobs(tmp_path / "files", KEY)
    (tmp_path / "files" / Bucket.VIEWS / "p").mkdir(parents=True)  # and its writer was killed
    calls.clear()
    await blobs.put(Bucket.VIEWS, "p/1.png", b"view", "image/png")
    synced = [to for call, to in calls if call == "fsync"]
    home = tmp_path / "files" / Bucket.VIEWS
    assert {home / "p", home, tmp_path / "files"} <= set(synced)


async def test_folders_that_did_not_change_are_not_synchronised_again(
    tmp_path: Path, calls: list[tuple[str, Path]]
) -> None:
    files = tmp_path / "files"
    blobs, home = FileBlobs(files, KEY), files / Bucket.VIEWS
    above = [home / "p", home, files]

    async def synced(path: str) -> list[Path]:
        calls.clear()
        await blobs.put(Bucket.VIEWS, path, b"view", "image/png")
        return [to for call, to in calls if call == "fsync" and ".incoming" not in to.parts]

    await blobs.put(Bucket.VIEWS, "p/a/1.png", b"view", "image/png")
    assert await synced("p/a/2.png") == [home / "p" / "a", *above], "they changed just now"
    for folder in above:
        os.utime(folder, (1e9, 1e9))  # long ago
    assert await synced("p/a/3.png") == [home / "p" / "a", *above], "somebody else may have"
    assert await synced("p/a/4.png") == [home / "p" / "a"]
    (home / "p" / "b").mkdir()  # by another process
    assert await synced("p/b/1.png") == [home / "p" / "b", home / "p"]
    assert await synced("q/1.png") == [home / "q", home]


def test_folders_and_keys_are_durable(tmp_path: Path, calls: list[tuple[str, Path]]) -> None:
    make_folder(tmp_path / "a" / "b")
    assert is_durable(calls, tmp_path / "a" / "b", tmp_path)
    load_signing_key(tmp_path / "c" / "d" / "signing.key")
    assert is_durable(calls, tmp_path / "c" / "d" / "signing.key", tmp_path)
    make_once(tmp_path / "a" / "once", b"first")
    make_once(tmp_path / "a" / "once", b"second")
    assert (tmp_path / "a" / "once").read_bytes() == b"first"


def test_a_power_cut_before_a_name_is_durable_leaves_no_row_of_it(
    fresh_dsn: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    ended = subprocess.run([sys.executable, "-c", _DIES, data, fresh_dsn], check=False)
    assert ended.returncode == -signal.SIGKILL
    # What the disk may have kept of the second file: nothing.
    (data / "files" / Bucket.UPLOADS / "second" / "original.png").unlink()

    async def named() -> list[str]:
        async with StoreSettings(data, fresh_dsn).open() as store:
            projects = (await store.records.list_projects()).projects
            for found in projects:
                path = f"{found.id}/original.png"
                assert await store.blobs.get(Bucket.UPLOADS, path) == b"photo"
            return [found.id for found in projects]

    assert asyncio.run(named()) == ["first"]


@pytest.mark.parametrize(
    "work",
    [
        lambda blobs: blobs.put(Bucket.VIEWS, "p/b.png", b"", "image/png"),
        lambda blobs: blobs.get(Bucket.VIEWS, "p/a.png"),
        lambda blobs: blobs.locate(Bucket.VIEWS, "p/a.png"),
        lambda blobs: blobs.list_prefix(Bucket.VIEWS, "p"),
        lambda blobs: blobs.delete(Bucket.VIEWS, ("p/a.png",)),
        lambda blobs: blobs.delete_prefix(Bucket.VIEWS, "p"),
        lambda blobs: blobs.ping(),
    ],
    ids=["put", "get", "locate", "list_prefix", "delete", "delete_prefix", "ping"],
)
async def test_a_file_system_that_hangs_does_not_stop_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[FileBlobs], Any]
) -> None:
    blobs = FileBlobs(tmp_path / "files", KEY)
    await blobs.put(Bucket.VIEWS, "p/a.png", b"view", "image/png")
    asked, answered = threading.Event(), threading.Event()
    stood_still = threading.Event()

    def hanging(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            asked.set()
            # Not for ever: on the loop it would never be let go.
            if not answered.wait(3):
                stood_still.set()
                answered.set()
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as slow:
        for name in ("stat", "lstat", "access", "open", "scandir"):
            slow.setattr(os, name, hanging(getattr(os, name)))
        task = asyncio.create_task(work(blobs))
        while not asked.is_set():
            await asyncio.sleep(0.001)
        answered.set()
        await task
    assert not stood_still.is_set()


def test_a_signing_key_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "signing.key", tmp_path):
        with pytest.raises(Unavailable, match="signing key"):
            load_signing_key(path)


def test_missing_files_are_still_missing(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "files", KEY)
    with pytest.raises(NotFound):
        asyncio.run(blobs.locate(Bucket.VIEWS, "p/none.png"))
