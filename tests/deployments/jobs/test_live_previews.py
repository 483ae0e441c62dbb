"""Small models of what a stage has so far: told of in order, bounded, gone with the attempt."""

import asyncio

import pytest

from deployments.jobs import live_previews
from deployments.jobs.janitor import Janitor, JanitorSettings
from deployments.jobs.live_previews import KEPT, LivePreviews
from deployments.jobs.rows import Bucket, EventKind, JobKind, JobState
from deployments.jobs.stage_progress import StageProgress
from deployments.jobs.store import Store
from pipeline.control import Progress, ignore_progress
from pipeline.errors import Unavailable
from pipeline.formats.splat import read_splat
from tests.deployments.jobs.attempts import PROJECT, lease_of, new_project, run
from tests.fakes import FakeModels, some_model

pytestmark = pytest.mark.usefixtures("small_pictures")


async def told(store: Store, job_id: str) -> list[dict]:
    events = await store.records.job_events(job_id)
    return [dict(event.data) for event in events if event.kind is EventKind.PREVIEW]


async def files(store: Store) -> list[str]:
    paths = await store.blobs.list_prefix(Bucket.MODELS, f"{PROJECT}/")
    return [path for path in paths if "/live/" in path]


async def until_told(store: Store, job_id: str, count: int) -> None:
    async with asyncio.timeout(20):
        while len(await told(store, job_id)) < count:
            await asyncio.sleep(0.01)


async def test_the_newest_is_told_of_and_a_few_files_are_there_at_once(store: Store):
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    progress, previews = StageProgress(), LivePreviews(store, lease, pause_s=0.0)
    await progress.enter("splats", 0.0, 1.0)
    async with previews.shown(progress):
        for number in range(KEPT + 2):
            progress.report(Progress(0.1, f"step {number}", preview=some_model(5000, seed=number)))
            await until_told(store, lease.job.id, number + 1)
        seen = await told(store, lease.job.id)
        there = await files(store)
        newest = await store.blobs.get(Bucket.MODELS, seen[-1]["path"])
    assert [data["step"] for data in seen] == [f"step {n}" for n in range(KEPT + 2)]
    assert {data["stage"] for data in seen} == {"splats"}
    assert {data["splat_count"] for data in seen} == {4096}
    assert len(newest) == 4096 * 32
    assert len(read_splat(newest)) == 4096
    assert len(there) <= KEPT + 1
    assert await files(store) == [], "they are gone with the attempt"


async def test_what_comes_too_fast_is_left_out(store: Store):
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    progress, previews = StageProgress(), LivePreviews(store, lease, pause_s=60.0)
    async with previews.shown(progress):
        for number in range(50):
            progress.report(Progress(0.1, f"step {number}", preview=some_model(20)))
            await asyncio.sleep(0.005)
        await until_told(store, lease.job.id, 1)
    assert len(await told(store, lease.job.id)) == 1


async def test_there_are_never_more_than_so_many(store: Store, monkeypatch):
    monkeypatch.setattr(live_previews, "MOST", 2)
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    progress, previews = StageProgress(), LivePreviews(store, lease, pause_s=0.0)
    async with previews.shown(progress):
        for number in range(6):
            progress.report(Progress(0.1, f"step {number}", preview=some_model(20)))
            await asyncio.sleep(0.05)
    assert len(await told(store, lease.job.id)) <= 2


class Watched(FakeModels):
    """Shows what the fit has at its half, and waits a moment for that to be told of."""

    async def reconstruct(self, request, report=ignore_progress):
        report(Progress(0.5, "half", {"splats": 7.0}, some_model(7)))
        await asyncio.sleep(0.3)
        return await super().reconstruct(request, report)


async def test_a_job_shows_what_its_fit_has_and_keeps_no_file_of_it(store: Store):
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    await run(store, Watched(), lease)
    (data,) = await told(store, lease.job.id)
    assert (data["stage"], data["step"], data["splat_count"]) == ("splats", "half", 7)
    assert await files(store) == []
    job = await store.records.get_job(lease.job.id)
    assert job.state is JobState.SUCCEEDED


async def test_a_store_that_takes_no_file_costs_the_job_nothing(store: Store, monkeypatch):
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    put = type(store.blobs).put

    async def full(self, bucket, path, data, content_type):
        if "/live/" in path:
            raise Unavailable("The disk is full.")
        await put(self, bucket, path, data, content_type)

    monkeypatch.setattr(type(store.blobs), "put", full)
    await run(store, Watched(), lease)
    assert await told(store, lease.job.id) == []
    assert (await store.records.get_job(lease.job.id)).state is JobState.SUCCEEDED


async def test_a_newer_attempt_is_not_spoken_over(store: Store):
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    await store.records.release_job(lease.job.id, lease.fence)
    newer = None
    while newer is None:
        newer = await store.records.claim_job("test", 30)
        await asyncio.sleep(0.02)
    previews = LivePreviews(store, lease, pause_s=0.0)
    previews.offer("splats", "late", some_model(5))
    await asyncio.wait_for(previews.run(), 20)
    await previews.close()
    assert await told(store, lease.job.id) == []
    assert await files(store) == []


async def test_a_file_that_is_on_its_way_at_the_end_does_not_stay(store: Store, monkeypatch):
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    put, begun = type(store.blobs).put, asyncio.Event()

    async def slowly(self, bucket, path, data, content_type):
        async def later():
            begun.set()
            await asyncio.sleep(0.2)
            await put(self, bucket, path, data, content_type)

        # A thread goes on, whoever waits for it.
        await asyncio.shield(asyncio.ensure_future(later()))

    monkeypatch.setattr(type(store.blobs), "put", slowly)
    progress = StageProgress()
    async with LivePreviews(store, lease, pause_s=0.0).shown(progress):
        progress.report(Progress(0.1, "late", preview=some_model(5)))
        await begun.wait()
    await asyncio.sleep(0.4)
    assert await files(store) == []


@pytest.mark.parametrize("error", [Unavailable("The disk is away."), RuntimeError("a bug")])
async def test_a_file_that_cannot_be_deleted_fails_no_job_and_goes_later(
    store: Store, monkeypatch, error
):
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)

    async def refuses(self, bucket, paths):
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(type(store.blobs), "delete", refuses)
        await run(store, Watched(), lease)
    assert (await store.records.get_job(lease.job.id)).state is JobState.SUCCEEDED
    assert len(await files(store)) == 1
    await Janitor(store, JanitorSettings()).tidy()
    assert await files(store) == []


async def test_an_old_file_that_could_not_be_deleted_goes_with_the_others(store: Store):
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    progress, delete, calls = StageProgress(), type(store.blobs).delete, []

    async def once_away(self, bucket, paths):
        calls.append(paths)
        if len(calls) == 1:
            raise Unavailable("The disk is away.")
        return await delete(self, bucket, paths)

    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(type(store.blobs), "delete", once_away)
        async with LivePreviews(store, lease, pause_s=0.0).shown(progress):
            for number in range(KEPT + 1):
                progress.report(Progress(0.1, f"step {number}", preview=some_model(5)))
                await until_told(store, lease.job.id, number + 1)
            async with asyncio.timeout(20):
                while not calls:
                    await asyncio.sleep(0.01)
    assert await files(store) == []
