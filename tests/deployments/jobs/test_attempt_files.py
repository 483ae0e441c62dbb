"""What an attempt stores, and what it takes back, over blobs in memory."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from deployments.jobs.attempt_files import AttemptFiles
from deployments.jobs.job_errors import StaleAttempt
from deployments.jobs.paths import AttemptPaths
from deployments.jobs.rows import Bucket
from pipeline.errors import NotFound, Unavailable
from pipeline.flow.manifest import content_hash

PATHS = AttemptPaths("project", tag="job-2", picture_tag="job-2")


@dataclass
class Blobs:
    """Buckets in memory. A path in `refused` cannot be put; puts wait for `gate`.

    `deletions` lists what was asked to go.
    """

    files: dict[tuple[Bucket, str], bytes] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    away: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    deletions: list[tuple[Bucket, tuple[str, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    async def put(self, bucket: Bucket, path: str, data: bytes, content_type: str) -> None:
        await self.gate.wait()
        if path in self.refused:
            raise Unavailable(f"{path} is refused")
        self.files[bucket, path] = data

    async def get(self, bucket: Bucket, path: str) -> bytes:
        if (bucket, path) not in self.files:
            raise NotFound(path)
        return self.files[bucket, path]

    async def delete(self, bucket: Bucket, paths: list[str]) -> int:
        if self.away:
            raise Unavailable("away")
        self.deletions.append((bucket, tuple(paths)))
        return sum(self.files.pop((bucket, path), None) is not None for path in paths)


def over(blobs: Any) -> AttemptFiles:
    return AttemptFiles(blobs, PATHS, "job")


VIEW, DEPTH = PATHS.view("00.png"), PATHS.depth("00.npy")


async def test_files_come_back_by_name():
    files = over(Blobs())
    await files.put_all(Bucket.VIEWS, {VIEW: b"view", PATHS.view("01.png"): b"other"})
    assert await files.get(Bucket.VIEWS, VIEW) == b"view"
    found = await files.get_all(Bucket.VIEWS, {"b": VIEW, "a": PATHS.view("01.png")})
    assert found == {"b": b"view", "a": b"other"}
    with pytest.raises(NotFound):
        await files.get_all(Bucket.VIEWS, {"a": VIEW, "b": DEPTH})


async def test_a_commit_gets_the_hashes_since_the_last_one_by_documented_name():
    files = over(Blobs())
    await files.put_all(Bucket.VIEWS, {VIEW: b"view"})
    await files.put_all(Bucket.DEPTH, {DEPTH: b"depth"})
    with files.committing() as hashes:
        assert list(hashes.items()) == [
            ("depth/00.npy", content_hash(b"depth")),
            ("views/00.png", content_hash(b"view")),
        ]
    with files.committing() as hashes:
        assert hashes == {}


async def test_what_was_not_committed_is_deleted_bucket_by_bucket():
    blobs = Blobs()
    files = over(blobs)
    await files.put_all(Bucket.VIEWS, {VIEW: b"view"})
    with files.committing():
        pass
    more = PATHS.view("01.png")
    await files.put_all(Bucket.VIEWS, {more: b"late"})
    await files.put_all(Bucket.DEPTH, {DEPTH: b"depth"})
    await files.discard()
    assert set(blobs.files) == {(Bucket.VIEWS, VIEW)}
    assert blobs.deletions == [(Bucket.VIEWS, (more,)), (Bucket.DEPTH, (DEPTH,))]
    await files.discard()
    assert len(blobs.deletions) == 2, "nothing is deleted twice"


@pytest.mark.parametrize("refusal", [StaleAttempt("old"), NotFound("no project")])
async def test_a_refused_commit_leaves_its_files_to_be_deleted(refusal):
    blobs = Blobs()
    files = over(blobs)
    await files.put_all(Bucket.VIEWS, {VIEW: b"view"})
    with pytest.raises(type(refusal)), files.committing():
        raise refusal
    await files.discard()
    assert blobs.files == {}


@pytest.mark.parametrize("end", [Unavailable("no answer"), asyncio.CancelledError()])
async def test_files_of_a_commit_without_an_answer_stay_and_keep_their_hashes(end):
    """Rows may name them."""
    blobs = Blobs()
    files = over(blobs)
    await files.put_all(Bucket.VIEWS, {VIEW: b"view"})
    with pytest.raises(type(end)), files.committing():
        raise end
    await files.discard()
    assert set(blobs.files) == {(Bucket.VIEWS, VIEW)}
    with files.committing() as hashes:
        assert set(hashes) == {"views/00.png"}


async def test_the_stores_own_error_comes_out_and_what_was_stored_beside_it_goes():
    blobs = Blobs(refused={PATHS.view("01.png")})
    files = over(blobs)
    with pytest.raises(Unavailable, match=r"01\.png is refused"):
        await files.put_all(Bucket.VIEWS, {VIEW: b"view", PATHS.view("01.png"): b"other"})
    await files.discard()
    assert blobs.files == {}
    with files.committing() as hashes:
        assert hashes == {}


async def test_a_cancelled_upload_waits_for_its_files_so_that_none_appears_later():
    blobs = Blobs()
    blobs.gate.clear()
    files = over(blobs)
    task = asyncio.create_task(files.put_all(Bucket.VIEWS, {VIEW: b"view"}))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    blobs.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert set(blobs.files) == {(Bucket.VIEWS, VIEW)}
    await files.discard()
    assert blobs.files == {}


async def test_files_that_cannot_be_deleted_are_left_to_the_janitor():
    blobs = Blobs(away=True)
    files = over(blobs)
    await files.put_all(Bucket.VIEWS, {VIEW: b"view"})
    await files.discard()
    assert set(blobs.files) == {(Bucket.VIEWS, VIEW)}
