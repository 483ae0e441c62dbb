"""A node whose folder of files is not the database's is refused, and a folder is agreed on once."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.jobs.rows import Bucket
from pipeline.errors import NotFound, Unavailable
from serve_app.ingress import store_state
from serve_app.stores import StoreSettings
from serve_app.stores.shared_folder import MARKER, ForeignFolder, SharedFolder

from .fixtures import on_server
from .rows import project

PHOTO = "p/original.png"


@pytest.fixture
def here(fresh_dsn: str, tmp_path: Path) -> StoreSettings:
    """A new database, and a folder that is not there yet."""
    return StoreSettings(tmp_path / "here", fresh_dsn)


@pytest.fixture
def elsewhere(here: StoreSettings, tmp_path: Path) -> StoreSettings:
    """The same database, seen by a node with another folder."""
    return replace(here, data_dir=tmp_path / "elsewhere")


def named(settings: StoreSettings) -> str | None:
    assert settings.database_url is not None
    found: str | None = on_server(
        settings.database_url, lambda c: c.fetchval("select id from file_store")
    )
    return found


def marked(settings: StoreSettings) -> str:
    return (settings.files_dir / MARKER).read_text()


def forget(settings: StoreSettings) -> None:
    """As a database that is older than markers."""
    assert settings.database_url is not None
    on_server(settings.database_url, lambda c: c.execute("delete from file_store"))


async def used(settings: StoreSettings) -> None:
    """A photo and its row."""
    async with settings.open() as store:
        await store.blobs.put(Bucket.UPLOADS, PHOTO, b"photo", "image/png")
        await project(store.records, "p")


async def test_the_first_start_agrees_on_a_folder(here: StoreSettings) -> None:
    async with here.open() as store:
        assert await store_state(store) is None
    assert marked(here) == named(here)
    async with here.open() as store:
        assert await store_state(store) is None


async def test_an_empty_folder_beside_a_database_with_files_is_refused(
    here: StoreSettings, elsewhere: StoreSettings
) -> None:
    await used(here)
    with pytest.raises(ForeignFolder, match="mount the shared folder there, or correct ASSET_DIR"):
        async with elsewhere.open():
            pass
    with pytest.raises(ForeignFolder):
        await asyncio.to_thread(elsewhere.prepare)
    assert not elsewhere.data_dir.exists(), "no folder, no key"
    async with here.open() as store:
        assert await store.blobs.get(Bucket.UPLOADS, PHOTO) == b"photo"


async def test_an_empty_folder_beside_a_database_without_files_is_refused(
    here: StoreSettings, elsewhere: StoreSettings
) -> None:
    async with here.open():
        pass
    with pytest.raises(ForeignFolder):
        async with elsewhere.open():
            pass
    assert not elsewhere.data_dir.exists(), "no folder, no key"


async def test_the_folder_of_another_database_is_refused(
    here: StoreSettings, elsewhere: StoreSettings
) -> None:
    await used(here)
    elsewhere.files_dir.mkdir(parents=True)
    (elsewhere.files_dir / MARKER).write_text("another")
    with pytest.raises(ForeignFolder):
        async with elsewhere.open():
            pass


async def test_two_folders_at_the_first_start_are_not_both_taken(
    here: StoreSettings, elsewhere: StoreSettings
) -> None:
    async def opened(settings: StoreSettings) -> bool:
        try:
            async with settings.open():
                return True
        except ForeignFolder:
            return False

    assert sorted(await asyncio.gather(opened(here), opened(elsewhere))) == [False, True]


async def test_many_openers_of_one_folder_agree(here: StoreSettings) -> None:
    async def opened() -> object:
        async with here.open() as store:
            return await store_state(store)

    assert set(await asyncio.gather(*(opened() for _ in range(8)))) == {None}
    assert marked(here) == named(here)


@pytest.mark.parametrize("lost", ["row", "marker", "both"])
async def test_a_folder_with_the_databases_files_is_taken_over(
    here: StoreSettings, lost: str
) -> None:
    await used(here)
    if lost != "marker":
        await asyncio.to_thread(forget, here)
    if lost != "row":
        (here.files_dir / MARKER).unlink()
    async with here.open() as store:
        assert await store_state(store) is None
    assert marked(here) == await asyncio.to_thread(named, here)


@pytest.mark.parametrize("has_marker", [True, False])
async def test_an_old_database_takes_no_folder_without_its_files(
    here: StoreSettings, elsewhere: StoreSettings, has_marker: bool
) -> None:
    await used(here)
    await asyncio.to_thread(forget, here)
    elsewhere.files_dir.mkdir(parents=True)
    if has_marker:
        (elsewhere.files_dir / MARKER).write_text("another")
    with pytest.raises(ForeignFolder):
        async with elsewhere.open():
            pass
    async with here.open() as store:
        assert await store_state(store) is None


async def test_a_folder_that_goes_away_while_it_is_used_is_told(here: StoreSettings) -> None:
    await used(here)
    async with here.open() as store:
        moved = here.data_dir / "unmounted"
        here.files_dir.rename(moved)
        here.files_dir.mkdir()  # the mount point
        assert isinstance(lack := await store_state(store), ForeignFolder)
        assert "ASSET_DIR" in lack.public
        assert str(here.data_dir) not in lack.public
        for work in (
            store.blobs.put(Bucket.UPLOADS, "p/new.png", b"", "image/png"),
            store.blobs.get(Bucket.UPLOADS, PHOTO),
            store.files.locate(Bucket.UPLOADS, PHOTO),
            store.blobs.delete(Bucket.UPLOADS, (PHOTO,)),
            store.blobs.delete_prefix(Bucket.UPLOADS, "p"),
            store.blobs.list_prefix(Bucket.UPLOADS, "p"),
        ):
            with pytest.raises(ForeignFolder):
                await work
        shutil.rmtree(here.files_dir)
        moved.rename(here.files_dir)
        assert await store_state(store) is None
        assert await store.blobs.get(Bucket.UPLOADS, PHOTO) == b"photo"
        with pytest.raises(NotFound):
            await store.blobs.get(Bucket.UPLOADS, "p/none.png")


async def test_a_folder_is_looked_at_when_the_database_is_back(
    here: StoreSettings, elsewhere: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await used(here)
    agree = SharedFolder._agree

    async def away(_folder: SharedFolder) -> str:
        raise Unavailable("The database cannot be reached: it is away")

    monkeypatch.setattr(SharedFolder, "_agree", away)
    async with elsewhere.open() as store, here.open() as right:
        assert "cannot be reached" in str(await store_state(store))
        monkeypatch.setattr(SharedFolder, "_agree", agree)
        assert isinstance(await store_state(store), ForeignFolder)
        with pytest.raises(ForeignFolder):
            await store.blobs.put(Bucket.UPLOADS, "p/new.png", b"", "image/png")
        assert await store_state(right) is None
