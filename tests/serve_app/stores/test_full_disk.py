"""A disk that is really full: a small file system, for the embedded database and for the files."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from deployments.jobs.rows import Bucket
from deployments.jobs.store import Records
from pipeline.errors import Unavailable
from serve_app.stores import EmbeddedPostgres, StoreSettings

from .fixtures import on_server, server_directory
from .rows import project

#: A new cluster is 40 MB, and its log grows in files of 16.
_DISK_MB = 128


@pytest.fixture
def small_disk() -> Iterator[Path]:
    with server_directory() as place:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m,mode=755", "tmpfs", str(place)]
        try:
            mounted = subprocess.run(mount, check=False, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("there is no mount here")
        if mounted.returncode:
            pytest.skip(f"no file system of its own: {mounted.stderr.strip()}")
        try:
            yield place
        finally:
            EmbeddedPostgres(place / "data" / "postgres").stop()
            subprocess.run(["umount", str(place)], check=True)


def fill(disk: Path) -> Path:
    """A file that leaves no byte."""
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**16))
    return filler


async def until_it_answers(records: Records) -> list[str]:
    while True:
        with suppress(Unavailable):
            return sorted(found.id for found in (await records.list_projects(limit=100)).projects)
        await asyncio.sleep(0.05)


@pytest.mark.faults
async def test_a_disk_that_is_full_under_the_database_costs_no_committed_row(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_app.stores._LOOK_S", 0.2)
    settings = await asyncio.to_thread(StoreSettings(small_disk / "data").prepare)
    assert settings.database_url is not None
    dsn = settings.database_url
    try:
        async with settings.for_keeper().open() as store:
            filler = await asyncio.to_thread(fill, small_disk)
            committed: list[str] = []
            with pytest.raises((Unavailable, OSError)):
                while True:
                    committed.append(await project(store.records, f"p{len(committed):02}"))
                    # The next row needs a new file of the log.
                    await asyncio.to_thread(
                        on_server, dsn, lambda c: c.execute("select pg_switch_wal()")
                    )
            filler.unlink()
            found = await until_it_answers(store.records)
            # The last one may have been committed without an answer.
            assert found[: len(committed)] == committed
            assert len(found) <= len(committed) + 1
            await project(store.records, "after")
    finally:
        settings.stop()


async def test_a_disk_that_is_full_under_the_files_leaves_no_half(small_disk: Path) -> None:
    from serve_app.stores.file_blobs import FileBlobs

    blobs = FileBlobs(small_disk / "files", b"k" * 32)
    await blobs.put(Bucket.MODELS, "p/v0.ply", b"whole", "")
    filler = await asyncio.to_thread(fill, small_disk)
    with pytest.raises(Unavailable, match="No space left"):
        await blobs.put(Bucket.MODELS, "p/v0.ply", os.urandom(2**20), "")
    with pytest.raises(Unavailable):
        await blobs.put(Bucket.MODELS, "p/v1.ply", os.urandom(2**20), "")
    assert await blobs.get(Bucket.MODELS, "p/v0.ply") == b"whole"
    assert await blobs.list_prefix(Bucket.MODELS, "p") == ("p/v0.ply",)
    assert [*(small_disk / "files" / ".incoming").iterdir()] == []
    filler.unlink()
    await blobs.put(Bucket.MODELS, "p/v1.ply", b"new", "")
