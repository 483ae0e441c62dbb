"""What the janitor removes, and what it leaves alone, on a real store."""

import asyncpg
import pytest

from deployments.jobs import janitor as janitors
from deployments.jobs.commits import LivePreview
from deployments.jobs.janitor import Janitor, JanitorSettings
from deployments.jobs.paths import AttemptPaths, edit_path
from deployments.jobs.photo_rows import NewPhoto
from deployments.jobs.rows import Bucket, JobError, JobKind, JobState, NewJob
from deployments.jobs.store import Store
from pipeline.errors import NotFound, Unavailable
from tests.deployments.jobs.attempts import PROJECT, generated, lease_of, new_project, run
from tests.fakes import FakeModels
from tests.serve_app.stores.fixtures import on_server
from tests.serve_app.stores.rows import add_project

pytestmark = pytest.mark.usefixtures("small_pictures")

FAILED = JobError("model_failed", "It failed.", "views", False)


def janitor(store: Store, **settings) -> Janitor:
    return Janitor(store, JanitorSettings(**settings))


async def files_of(store: Store, project: str = PROJECT) -> set[str]:
    return {
        f"{bucket}/{path}"
        for bucket in Bucket
        for path in await store.blobs.list_prefix(bucket, f"{project}/")
    }


def long_ago(dsn: str, *changes: str) -> None:
    """Run updates that make something old."""

    async def change(connection: asyncpg.Connection) -> None:
        for sql in changes:
            await connection.execute(sql)

    on_server(dsn, change)


async def test_files_of_an_attempt_that_was_killed_go_when_its_job_has_ended(store: Store):
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE)
    left = f"{PROJECT}/views/00.png"
    await store.blobs.put(Bucket.VIEWS, left, b"of the first attempt", "image/png")
    # Named by an event and by no row.
    live = AttemptPaths.of(lease.job, lease.fence).live(0)
    await store.blobs.put(Bucket.MODELS, live, b"so far", "application/octet-stream")
    preview = LivePreview("splats", "half", live, 1)
    await store.records.publish_preview(lease.job.id, lease.fence, preview)
    await store.records.release_job(lease.job.id, lease.fence)
    again = await store.records.claim_job("test", 30)
    assert again is not None
    await janitor(store).tidy()
    assert f"{Bucket.VIEWS}/{left}" in await files_of(store), "the job still runs"

    await run(store, FakeModels(), again)
    # A picture for a view, whose row is about to come.
    await store.blobs.put(Bucket.VIEWS, edit_path(PROJECT, "a"), b"picture", "image/png")
    before = await files_of(store)
    await janitor(store).tidy()
    gone = {f"{Bucket.VIEWS}/{left}", f"{Bucket.MODELS}/{live}"}
    assert gone <= before
    assert await files_of(store) == before - gone
    assert await store.records.jobs_to_sweep() == ()


async def test_nothing_that_a_row_names_is_removed(store: Store):
    await generated(store)
    await run(store, FakeModels(qualities=[0.5, 0.6]), await lease_of(store, JobKind.REFINE))
    await run(store, FakeModels(), await lease_of(store, JobKind.EXPORT, format="glb"))
    lease = await lease_of(store, JobKind.EXPORT, format="ply")
    await store.records.finish_job(lease.job.id, lease.fence, state=JobState.FAILED, error=FAILED)
    before = await files_of(store)
    assert any("enhanced" in path for path in before)
    assert [job.id for job in await store.records.jobs_to_sweep()] == [lease.job.id]
    await janitor(store).tidy()
    assert await files_of(store) == before
    assert await store.records.jobs_to_sweep() == ()


async def test_a_deleted_project_goes_with_every_byte(store: Store):
    await generated(store)
    assert await store.records.delete_project(PROJECT) is None
    await janitor(store).tidy()
    assert await files_of(store) == set()
    with pytest.raises(NotFound):
        await store.records.get_project(PROJECT)


async def test_a_deleted_project_waits_for_its_running_job(store: Store):
    await generated(store)
    lease = await lease_of(store, JobKind.REFINE)
    await store.records.delete_project(PROJECT)
    await janitor(store).tidy()
    assert await files_of(store) != set()
    await store.records.finish_job(lease.job.id, lease.fence, state=JobState.CANCELLED)
    await janitor(store).tidy()
    assert await files_of(store) == set()


async def test_what_a_frozen_driver_wrote_after_the_deletion_goes_later(
    store: Store, clean_dsn: str
):
    await generated(store)
    await store.records.delete_project(PROJECT)
    await janitor(store).tidy()
    await store.blobs.put(Bucket.MODELS, f"{PROJECT}/models/late.ply", b"late", "x/y")
    await janitor(store).tidy()
    assert len(await files_of(store)) == 1, "not looked for at once"
    long_ago(clean_dsn, "update deletions set purged_at = purged_at - interval '1 hour'")
    await janitor(store).tidy()
    assert await files_of(store) == set()
    assert await store.records.due_deletions(0) == (), "the mark is gone, too"


async def test_projects_expire_after_their_last_job(store: Store, clean_dsn: str):
    await generated(store)
    hour_ago = "now() - interval '1 hour'"
    long_ago(
        clean_dsn,
        f"update projects set created_at = {hour_ago}, updated_at = {hour_ago}",
        f"update project_photos set created_at = {hour_ago}",
    )
    await janitor(store, project_ttl_s=1800).tidy()
    assert (await store.records.get_project(PROJECT)).id == PROJECT, "its job ended just now"
    long_ago(
        clean_dsn,
        f"update jobs set finished_at = {hour_ago}",
        f"update projects set updated_at = {hour_ago}",
    )
    await janitor(store).tidy()
    assert (await store.records.get_project(PROJECT)).id == PROJECT, "nothing expires by default"
    await janitor(store, project_ttl_s=1800).tidy()
    assert await files_of(store) == set()


async def test_history_goes_after_a_week(store: Store, clean_dsn: str):
    await generated(store)
    (job,) = [found.job for found in await store.records.project_jobs(PROJECT)]
    events = await store.records.job_events(job.id)
    await janitor(store).tidy()
    assert await store.records.job_events(job.id) == events
    long_ago(clean_dsn, "update jobs set finished_at = finished_at - interval '6.9 days'")
    await janitor(store).tidy()
    assert await store.records.job_events(job.id) == events
    long_ago(clean_dsn, "update jobs set finished_at = finished_at - interval '0.2 days'")
    await janitor(store).tidy()
    assert await store.records.job_events(job.id) == events[-1:]


async def test_an_upload_that_broke_off_goes_after_a_while(store: Store, clean_dsn: str):
    await store.blobs.put(Bucket.UPLOADS, "half/original.png", b"x", "image/png")
    half = NewPhoto("half", "half/original.png", "p", "none")
    await store.records.begin_upload("half", [half])
    await janitor(store).tidy()
    assert len(await files_of(store, "half")) == 1
    ago = "now() - interval '1 hour'"
    long_ago(clean_dsn, f"update projects set created_at = {ago}, updated_at = {ago}")
    await janitor(store).tidy()
    assert await files_of(store, "half") == set()


# -- what cannot be removed now ------------------------------------------------------------------


async def marked(store: Store, *names: str) -> None:
    """Projects with a file each that are to be deleted."""
    for name in names:
        await add_project(
            store.records,
            name,
            original_path=f"{name}/o",
            processed_path=f"{name}/p",
            background_engine="none",
        )
        await store.blobs.put(Bucket.UPLOADS, f"{name}/o", b"photo", "image/png")
        await store.records.delete_project(name)


def unreadable(store: Store, monkeypatch, *names: str, error: Exception) -> list[str]:
    """Folders of these projects raise in every bucket; the tries are listed."""
    tried: list[str] = []
    for method in ("delete_prefix", "list_prefix"):
        plain = getattr(type(store.blobs), method)

        async def refusing(blobs, bucket, prefix, plain=plain):
            if prefix.removesuffix("/") in names:
                if bucket is Bucket.UPLOADS:
                    tried.append(prefix.removesuffix("/"))
                raise error
            return await plain(blobs, bucket, prefix)

        monkeypatch.setattr(type(store.blobs), method, refusing)
    return tried


async def test_one_project_that_cannot_be_removed_stops_no_other(store: Store, monkeypatch, caplog):
    await marked(store, "bad", "good")
    await store.records.begin_upload("unfinished", [NewPhoto("u", "u/o", "u/p", "none")])
    tried = unreadable(store, monkeypatch, "bad", error=PermissionError("denied"))
    one = janitor(store, upload_ttl_s=0, grace_s=0)
    with caplog.at_level("WARNING", "ray.serve"):
        for _ in range(3):
            await one.tidy()
    assert await files_of(store, "good") == set()
    with pytest.raises(NotFound):
        await store.records.get_project("unfinished")
    assert set(await store.records.due_deletions(0)) == {"bad"}
    assert tried == ["bad"], "it waits before it is tried again"
    assert len([r for r in caplog.records if "bad" in r.getMessage()]) == 1


async def test_what_failed_is_tried_again_after_a_pause(store: Store, monkeypatch):
    monkeypatch.setattr(janitors, "_PAUSE_S", (0.0, 0.0))
    await marked(store, "bad")
    one = janitor(store, grace_s=0)
    with monkeypatch.context() as broken:
        tried = unreadable(store, broken, "bad", error=Unavailable("away"))
        for _ in range(3):
            await one.tidy()
    assert tried == ["bad"] * 3
    await one.tidy()
    assert await store.records.due_deletions(0) == ()


async def test_many_that_fail_are_passed_by(store: Store, monkeypatch):
    monkeypatch.setattr(janitors, "_AT_ONCE", 2)
    bad = [f"bad-{i}" for i in range(5)]
    await marked(store, *bad, "good")
    unreadable(store, monkeypatch, *bad, error=PermissionError("denied"))
    one = janitor(store, grace_s=0)
    for _ in range(4):
        await one.tidy()
    assert set(await store.records.due_deletions(0)) == set(bad)


async def test_a_store_that_is_away_is_not_asked_for_every_project(store: Store, monkeypatch):
    names = [f"p-{i}" for i in range(9)]
    await marked(store, *names)
    tried = unreadable(store, monkeypatch, *names, error=Unavailable("away"))
    await janitor(store, grace_s=0).tidy()
    assert len(tried) == 3


async def test_a_chore_that_fails_stops_no_other(store: Store, monkeypatch):
    await marked(store, "good")

    async def broken(*_args):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(type(store.blobs), "tidy", broken)
    for method in ("jobs_to_sweep", "expire_uploads", "forget", "expire_projects"):
        monkeypatch.setattr(type(store.records), method, broken)
    await janitor(store, project_ttl_s=1, grace_s=0).tidy()
    assert await files_of(store, "good") == set()
    assert await store.records.due_deletions(0) == ()


async def test_files_that_cannot_be_listed_stop_no_other_sweep(store: Store, monkeypatch):
    for name in ("bad", "good"):
        await add_project(
            store.records,
            name,
            original_path=f"{name}/o",
            processed_path=f"{name}/p",
            background_engine="none",
        )
        await store.records.submit_job(NewJob(name, JobKind.GENERATE, {}, fingerprint=name))
        lease = await store.records.claim_job("test", 30)
        assert lease is not None
        await store.blobs.put(Bucket.VIEWS, f"{name}/left.png", b"left", "image/png")
        await store.records.finish_job(
            lease.job.id, lease.fence, state=JobState.FAILED, error=FAILED
        )
    unreadable(store, monkeypatch, "bad", error=PermissionError("denied"))
    await janitor(store, grace_s=0).tidy()
    assert [job.project_id for job in await store.records.jobs_to_sweep()] == ["bad"]
    assert await files_of(store, "good") == set()
