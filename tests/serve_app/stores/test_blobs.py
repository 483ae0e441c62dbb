"""Contract of the blobs, and the signed URLs of `FileBlobs`."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from deployments.jobs.janitor import delete_files
from deployments.jobs.rows import Bucket
from deployments.jobs.store import Store
from pipeline.errors import GlimpseError, InvalidInput, NotFound, Unavailable
from pipeline.file_types import media_type
from serve_app.stores.file_blobs import FileBlobs, load_signing_key

KEY = b"k" * 32


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "files", KEY)


@pytest.mark.parametrize(
    "path", ["p/original.png", "p/views/00.png", "ünï cødé/写真 ?#%&.png", "a", "p/..hidden"]
)
async def test_blob_comes_back_as_it_was(store: Store, path: str) -> None:
    for data in (b"first", b"", b"\0" * 100_000):
        await store.blobs.put(Bucket.UPLOADS, path, data, "image/png")
        assert await store.blobs.get(Bucket.UPLOADS, path) == data


@pytest.mark.slow
async def test_two_hundred_megabytes_come_back(store: Store) -> None:
    data = random.Random(3).randbytes(200 * 2**20)
    await store.blobs.put(Bucket.MODELS, "p/v0.ply", data, "")
    found = await store.blobs.get(Bucket.MODELS, "p/v0.ply")
    assert hashlib.sha256(found).digest() == hashlib.sha256(data).digest()


async def test_every_byte_of_a_project_is_deleted(store: Store) -> None:
    for bucket in Bucket:
        for path in ("p/a.png", "p/deep/er/写真.png", "other/a.png"):
            await store.blobs.put(bucket, path, b"x", "image/png")
    await delete_files(store, "p")
    for bucket in Bucket:
        assert await store.blobs.list_prefix(bucket, "p") == ()
        assert await store.blobs.list_prefix(bucket, "other") == ("other/a.png",)
        with pytest.raises(NotFound):
            await store.blobs.get(bucket, "p/deep/er/写真.png")


async def test_ping_answers_when_files_can_be_stored(store: Store) -> None:
    await store.blobs.ping()


async def test_buckets_are_apart(store: Store) -> None:
    await store.blobs.put(Bucket.VIEWS, "p/a.png", b"view", "image/png")
    with pytest.raises(NotFound):
        await store.blobs.get(Bucket.DEPTH, "p/a.png")


async def test_missing_blob_is_not_found(store: Store) -> None:
    await store.blobs.put(Bucket.VIEWS, "p/folder/a.png", b"view", "image/png")
    for path in ("p/b.png", "p/folder", "p/folder/a.png/b"):
        with pytest.raises(NotFound):
            await store.blobs.get(Bucket.VIEWS, path)


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/etc/passwd", "..", "../x", "a/../../x", "a/./b", "a//b", "a/", "a\0b", "a\nb",
        "a\\b", "\ud800", "x" * 256,
        "/".join(["x" * 225] * 4),
    ],
)  # fmt: skip
async def test_paths_that_escape_or_are_malformed_are_refused(store: Store, path: str) -> None:
    with pytest.raises(InvalidInput):
        await store.blobs.put(Bucket.VIEWS, path, b"", "image/png")
    with pytest.raises(InvalidInput):
        await store.blobs.get(Bucket.VIEWS, path)
    with pytest.raises(InvalidInput):
        store.blobs.url(Bucket.VIEWS, path)


async def test_delete_prefix_deletes_one_folder(store: Store) -> None:
    for path in ("p1/a.png", "p1/views/00.png", "p10/a.png"):
        await store.blobs.put(Bucket.VIEWS, path, b"x", "image/png")
    assert await store.blobs.delete_prefix(Bucket.VIEWS, "p1/") == 2
    assert await store.blobs.delete_prefix(Bucket.VIEWS, "p1") == 0
    assert await store.blobs.get(Bucket.VIEWS, "p10/a.png") == b"x"
    for everything in ("", "/"):
        with pytest.raises(InvalidInput):
            await store.blobs.delete_prefix(Bucket.VIEWS, everything)


async def test_files_are_listed_by_folder(store: Store) -> None:
    blobs = store.blobs
    paths = ("p/a.png", "p/deep/er/b c.png", "p/deep/写真.png", "p/z.png")
    for path in (*paths, "p1/a.png", "q"):
        await blobs.put(Bucket.VIEWS, path, b"x", "image/png")
    for prefix in ("p", "p/"):
        assert await blobs.list_prefix(Bucket.VIEWS, prefix) == tuple(sorted(paths))
    assert await blobs.list_prefix(Bucket.VIEWS, "p/deep/er") == ("p/deep/er/b c.png",)
    assert await blobs.list_prefix(Bucket.VIEWS, "q") == ("q",)
    for nowhere in ("none", "p/none/deeper", "p/a.png/x"):
        assert await blobs.list_prefix(Bucket.VIEWS, nowhere) == ()
    assert await blobs.list_prefix(Bucket.DEPTH, "p") == ()
    for everything in ("", "/", "../x"):
        with pytest.raises(InvalidInput):
            await blobs.list_prefix(Bucket.VIEWS, everything)


async def test_named_files_are_deleted_and_others_stay(store: Store) -> None:
    blobs = store.blobs
    for path in ("p/a.png", "p/deep/b.png", "p/deep/c.png"):
        await blobs.put(Bucket.VIEWS, path, b"x", "image/png")
    assert await blobs.delete(Bucket.VIEWS, ()) == 0
    gone = ("p/a.png", "p/a.png", "p/deep/b.png", "p/none.png", "p/deep", "none/x", "p/a.png/x")
    assert await blobs.delete(Bucket.VIEWS, gone) == 2
    assert await blobs.list_prefix(Bucket.VIEWS, "p") == ("p/deep/c.png",)
    with pytest.raises(InvalidInput):
        await blobs.delete(Bucket.VIEWS, ("p/deep/c.png", "../x"))
    assert await blobs.delete(Bucket.VIEWS, ("p/deep/c.png",)) == 1
    assert await blobs.list_prefix(Bucket.VIEWS, "p") == ()


async def test_deletions_leave_no_empty_folder(blobs: FileBlobs, tmp_path: Path) -> None:
    for path in ("p/a/b/1.png", "p/a/2.png", "q/1/2/3.png", "q/1/4.png"):
        await blobs.put(Bucket.VIEWS, path, b"x", "image/png")
    home = blobs.open_path(Bucket.VIEWS, "p/a/2.png").parents[2]
    await blobs.delete(Bucket.VIEWS, ("p/a/b/1.png",))
    assert [path.name for path in (home / "p" / "a").iterdir()] == ["2.png"]
    await blobs.delete(Bucket.VIEWS, ("p/a/2.png",))
    assert [path.name for path in home.iterdir()] == ["q"]
    assert await blobs.delete_prefix(Bucket.VIEWS, "q/1/2") == 1
    assert await blobs.delete_prefix(Bucket.VIEWS, "q/1") == 1
    assert list(home.iterdir()) == []


async def test_files_that_are_put_beside_a_deletion_of_their_folder_stay(store: Store) -> None:
    for number in range(20):
        await store.blobs.put(Bucket.MODELS, "p/a/b/old", b"old", "")
        await asyncio.gather(
            store.blobs.put(Bucket.MODELS, f"p/a/b/{number}", b"new", ""),
            store.blobs.delete(Bucket.MODELS, ("p/a/b/old",)),
        )
        assert await store.blobs.delete(Bucket.MODELS, (f"p/a/b/{number}",)) == 1


async def test_links_are_neither_listed_nor_followed(blobs: FileBlobs, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    await blobs.put(Bucket.VIEWS, "p/a.png", b"", "image/png")
    folder = blobs.open_path(Bucket.VIEWS, "p/a.png").parent
    (folder / "folder").symlink_to(tmp_path / "outside")
    (folder / "file").symlink_to(tmp_path / "outside" / "secret")
    assert await blobs.list_prefix(Bucket.VIEWS, "p") == ("p/a.png",)
    await blobs.delete_prefix(Bucket.VIEWS, "p")
    assert not folder.exists()
    assert (tmp_path / "outside" / "secret").read_text() == "secret"


async def test_half_written_files_go_when_they_are_old(blobs: FileBlobs, tmp_path: Path) -> None:
    assert await blobs.tidy(0.0) == 0
    incoming = tmp_path / "files" / ".incoming"
    incoming.mkdir()
    for name, age_s in (("old", 4000.0), ("new", 10.0)):
        (incoming / name).touch()
        os.utime(incoming / name, (time.time() - age_s, time.time() - age_s))
    assert await blobs.tidy(3600.0) == 1
    assert [path.name for path in incoming.iterdir()] == ["new"]


async def test_readers_see_the_old_file_or_the_new_one(store: Store) -> None:
    whole = [bytes([value]) * 300_000 for value in (1, 2)]
    await store.blobs.put(Bucket.MODELS, "p/v0.ply", whole[0], "")

    async def write() -> None:
        for turn in range(10):
            await store.blobs.put(Bucket.MODELS, "p/v0.ply", whole[turn % 2], "")

    async def read() -> None:
        for _ in range(30):
            assert await store.blobs.get(Bucket.MODELS, "p/v0.ply") in whole

    await asyncio.gather(write(), read())


async def test_put_beside_delete_keeps_the_new_file(store: Store) -> None:
    for _ in range(20):
        await store.blobs.put(Bucket.MODELS, "p/deep/old.ply", b"old", "")
        await asyncio.gather(
            store.blobs.put(Bucket.MODELS, "q/deep/new.ply", b"new", ""),
            store.blobs.delete_prefix(Bucket.MODELS, "p"),
        )
    assert await store.blobs.get(Bucket.MODELS, "q/deep/new.ply") == b"new"


async def test_links_out_of_the_bucket_are_refused(blobs: FileBlobs, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    await blobs.put(Bucket.VIEWS, "p/a.png", b"", "image/png")
    folder = blobs.open_path(Bucket.VIEWS, "p/a.png").parent
    (folder / "file").symlink_to(tmp_path / "secret")
    (folder / "folder").symlink_to(tmp_path)
    for path in ("p/file", "p/folder/secret"):
        with pytest.raises(InvalidInput):
            await blobs.get(Bucket.VIEWS, path)
        with pytest.raises(InvalidInput):
            await blobs.put(Bucket.VIEWS, path, b"", "image/png")
    assert (tmp_path / "secret").read_text() == "secret"


async def test_failed_write_is_unavailable_and_leaves_nothing(
    blobs: FileBlobs, tmp_path: Path
) -> None:
    await blobs.put(Bucket.VIEWS, "p/a.png", b"", "image/png")
    with pytest.raises(Unavailable):
        await blobs.put(Bucket.VIEWS, "p/a.png/b.png", b"", "image/png")
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == [
        blobs.open_path(Bucket.VIEWS, "p/a.png")
    ]


def parts(url: str) -> dict[str, Any]:
    """What the HTTP route hands to `verify`."""
    split = urlsplit(url)
    _, _, bucket, path = unquote(split.path).split("/", 3)
    query = parse_qs(split.query, strict_parsing=True)
    return {
        "bucket": bucket,
        "path": path,
        "expires": query["expires"][0],
        "signature": query["signature"][0],
    }


def test_url_is_verified_and_stable(blobs: FileBlobs) -> None:
    url = blobs.url(Bucket.MODELS, "p/写真 v0.ply")
    assert url.startswith("/files/3d-models/p/")
    assert url.isascii()
    assert blobs.verify(**parts(url))
    assert blobs.verify(**parts(blobs.url(Bucket.MODELS, "p/写真 v0.ply")))


@pytest.mark.parametrize(
    "change",
    [
        {"bucket": "depth-maps"},
        {"bucket": "no-bucket"},
        {"path": "p/v1.ply"},
        {"path": "p/\ud800"},
        {"expires": "99999999999"},
        {"expires": "soon"},
        {"expires": ""},
        {"signature": ""},
        {"signature": "A" * 43},
        {"signature": "é\ud800"},
    ],
)
def test_tampered_url_is_refused(blobs: FileBlobs, change: dict[str, str]) -> None:
    assert not blobs.verify(**{**parts(blobs.url(Bucket.MODELS, "p/v0.ply")), **change})


def test_url_expires_within_its_lifetime(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path, KEY, url_lifetime_s=100.0)
    asked = parts(blobs.url(Bucket.MODELS, "p/v0.ply"))
    now = time.time()
    assert blobs.verify(**asked, now=now + 45)
    assert not blobs.verify(**asked, now=now + 101)


def test_url_of_another_key_is_refused(blobs: FileBlobs, tmp_path: Path) -> None:
    other = FileBlobs(tmp_path / "files", b"o" * 32)
    assert not blobs.verify(**parts(other.url(Bucket.MODELS, "p/v0.ply")))


def test_url_may_be_absolute(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path, KEY, "https://example.org/files/")
    assert blobs.url(Bucket.VIEWS, "p/a.png").startswith(
        "https://example.org/files/multiview-images/p/a.png?expires="
    )


def test_signing_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "signing.key"
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(load_signing_key, [path] * 16))
    assert len(keys) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_damaged_signing_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("short")
    with pytest.raises(GlimpseError, match="delete it"):
        load_signing_key(tmp_path / "key")
    with pytest.raises(GlimpseError):
        FileBlobs(tmp_path, b"")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("p/00.PNG", "image/png"),
        ("p/v0.glb", "model/gltf-binary"),
        ("p/v0.ply", "application/octet-stream"),
        ("p/manifest.json", "application/json"),
        ("p/none", "application/octet-stream"),
    ],
)
def test_media_type_follows_the_suffix(path: str, expected: str) -> None:
    assert media_type(path) == expected
