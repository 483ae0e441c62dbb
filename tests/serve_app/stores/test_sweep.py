"""Contract of what is done after jobs: sweeping files without rows, telling webhooks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deployments.jobs.commits import StageCommit
from deployments.jobs.edit_rows import NewViewEdit
from deployments.jobs.photo_rows import NewPhoto
from deployments.jobs.rows import Bucket, JobKind, JobState, Lease
from deployments.jobs.store import Records, Store
from pipeline.errors import InvalidInput
from pipeline.flow.view_edits import EditKind

from .rows import (
    LEASE_S,
    PREVIEWS,
    SHEET,
    claim,
    claimed,
    depth,
    enhanced,
    expire,
    export,
    generated,
    iteration,
    model,
    project,
    sql,
    submit,
    view,
)

HOOK = "https://example.org/hook"


async def finish(records: Records, lease: Lease, state: JobState = JobState.SUCCEEDED) -> None:
    await records.finish_job(lease.job.id, lease.fence, state=state)


# --- files ---------------------------------------------------------------------------------------


async def test_jobs_that_may_have_left_files_are_swept_once(store: Store) -> None:
    records = store.records
    await generated(records, "well")
    cancelled = await claimed(records, await project(records, "cancelled"))
    await finish(records, cancelled, JobState.CANCELLED)
    twice = await claimed(records, await project(records, "twice"))
    await expire(records, twice)
    twice = await claim(records)
    await finish(records, twice)
    await claimed(records, await project(records, "running"))

    found = await records.jobs_to_sweep()
    assert [job.id for job in found] == [cancelled.job.id, twice.job.id]
    assert found[1] == await records.get_job(twice.job.id)
    assert await records.jobs_to_sweep(1) == found[:1]
    for _ in range(2):
        await records.mark_swept(cancelled.job.id)
    assert await records.jobs_to_sweep() == found[1:]
    await records.mark_swept("none")


async def test_busy_and_deleted_projects_are_not_swept(store: Store) -> None:
    records = store.records
    jobs = []
    for name in ("a", "b", "c"):
        lease = await claimed(records, await project(records, name))
        await finish(records, lease, JobState.CANCELLED)
        jobs.append(lease.job.id)
    await submit(records, "a")
    await records.delete_project("b")
    assert [job.id for job in await records.jobs_to_sweep()] == [jobs[2]]
    assert await records.referenced_paths("a") is None
    assert await records.referenced_paths("b") is None
    await finish(records, await claim(records))
    assert [job.id for job in await records.jobs_to_sweep()] == [jobs[0], jobs[2]]


async def test_every_path_of_a_project_is_referenced(store: Store, clean_dsn: str) -> None:
    records = store.records
    await project(records, "bystander")
    name = await project(records)
    lease = await claimed(records, name)
    files = {"cameras.json": "p/views/cameras.json", "00.png": "p/views/00.png"}
    made = (
        StageCommit("views", 1.0, views=(view(0),), detail={"files": files}),
        StageCommit("depth", 1.0, depths=(depth(0),), detail={"files": {"x": "p/depth/x.npy"}}),
        StageCommit("splats", 1.0, models=(model(0),), detail={"files": {"y": "p/y"}}),
        PREVIEWS,
        SHEET,
        StageCommit("odd", 1.0, detail={"files": ["p/not/an/object"]}),
        StageCommit("export", 1.0, exports=(export(0),)),
        StageCommit(
            "iteration-0",
            1.0,
            iterations=(iteration(0, version=0),),
            enhanced=(enhanced(0, 0), enhanced(0, 1)),
        ),
    )
    for commit in made:
        await records.commit_stage(lease.job.id, lease.fence, commit)
    assert await records.referenced_paths(name) is None, "the job is running"
    await finish(records, lease)
    picture = NewViewEdit(0, 3, EditKind.REPLACE, "p/edits/a.png", "0" * 64)
    await records.put_view_edit(name, picture)

    found = await records.referenced_paths(name)
    assert found is not None
    everywhere = {"p/y"}  # of a stage that the function does not know
    assert found == {
        Bucket.UPLOADS: {"project-1/original.png"} | everywhere,
        Bucket.PROCESSED: {"project-1/processed.png"} | everywhere,
        Bucket.VIEWS: {"p/views/00.png", "p/views/cameras.json", "p/edits/a.png"} | everywhere,
        Bucket.DEPTH: {"p/depth/00.npy", "p/depth/00.png", "p/depth/x.npy"} | everywhere,
        Bucket.ENHANCED: {
            "p/enhanced/0/00.png",
            "p/enhanced/0/01.png",
            "p/enhanced/0/01.before.png",
            "p/enhanced/0/01.after.png",
        }
        | everywhere,
        Bucket.MODELS: {
            "p/models/v0.ply",
            "p/models/v0.png",
            "p/models/v0.mp4",
            "p/models/sheet-0.png",
            "p/models/final.glb",
        }
        | everywhere,
    }

    # A column that a later migration adds is to be in the function, and a value of it here.
    columns = await sql(
        clean_dsn,
        "select table_name, column_name from information_schema.columns "
        "join information_schema.tables using (table_schema, table_name) "
        "where table_schema = 'public' and table_type = 'BASE TABLE' "
        "and column_name like '%path%'",
    )
    assert len(columns) >= 14
    named = frozenset[str]().union(*found.values())
    for table, column in columns:
        key = "id" if table == "projects" else "project_id"
        rows = await sql(
            clean_dsn,
            f"select {column} as path from {table} where {key} = $1 and {column} is not null",
            name,
        )
        assert rows, f"{table}.{column} has no value in this test"
        assert {row["path"] for row in rows} <= named, f"{table}.{column}"


async def test_project_without_results_has_its_photo(store: Store) -> None:
    found = await store.records.referenced_paths(await project(store.records))
    assert found is not None
    assert set(found) == set(Bucket)
    assert found[Bucket.UPLOADS] == {"project-1/original.png"}
    assert found[Bucket.MODELS] == frozenset()


async def test_uploads_and_nobody_have_no_paths(store: Store) -> None:
    await store.records.begin_upload("p", [NewPhoto("p", "o", "p", "none")])
    for name in ("p", "none"):
        assert await store.records.referenced_paths(name) is None


# --- webhooks ------------------------------------------------------------------------------------


async def later(dsn: str, seconds: float) -> None:
    """So much time passes for the messages."""
    await sql(dsn, "update webhooks set next_at = next_at - make_interval(secs => $1)", seconds)


async def test_end_of_a_job_is_told_once(store: Store) -> None:
    records = store.records
    job = await submit(records, await project(records), webhook_url=HOOK)
    lease = await claim(records)
    assert await records.claim_webhook(60.0) is None
    await finish(records, lease)
    await finish(records, lease)

    found = await asyncio.gather(*(records.claim_webhook(60.0) for _ in range(4)))
    (hook,) = [hook for hook in found if hook is not None]
    assert (hook.job, hook.url, hook.attempt) == (await records.get_job(job.id), HOOK, 1)
    await records.finish_webhook(job.id, 1)
    await records.finish_webhook(job.id, 1, error="late", retry_in_s=0.0)
    assert await records.claim_webhook(60.0) is None


@pytest.mark.parametrize("how", ["cancelled", "failed", "exhausted"])
async def test_every_end_is_told(store: Store, clean_dsn: str, how: str) -> None:
    records = store.records
    job = await submit(records, await project(records), max_attempts=1, webhook_url=HOOK)
    if how == "cancelled":
        await records.cancel_job(job.id)
    elif how == "failed":
        lease = await claim(records)
        await finish(records, lease, JobState.CANCELLED)
    else:
        await expire(records, await claim(records))
        assert await records.claim_job("w", LEASE_S) is None
    hook = await records.claim_webhook(60.0)
    assert hook is not None
    assert hook.job.id == job.id
    assert hook.job.state.ended


async def test_jobs_without_a_url_tell_nobody(store: Store) -> None:
    await generated(store.records)
    assert await store.records.claim_webhook(60.0) is None
    name = await project(store.records, "other")
    with pytest.raises(InvalidInput):
        await submit(store.records, name, webhook_url="")


async def test_message_is_tried_again_until_it_is_given_up(store: Store, clean_dsn: str) -> None:
    records = store.records
    job = await submit(records, await project(records), webhook_url=HOOK)
    await records.cancel_job(job.id)
    assert await records.claim_webhook(60.0) is not None
    await later(clean_dsn, 61.0)  # whoever had it is gone
    hook = await records.claim_webhook(60.0)
    assert hook is not None
    assert hook.attempt == 2
    await records.finish_webhook(job.id, 2, error="HTTP 500", retry_in_s=100.0)
    await later(clean_dsn, 90.0)
    assert await records.claim_webhook(60.0) is None
    await later(clean_dsn, 11.0)
    hook = await records.claim_webhook(60.0)
    assert hook is not None
    assert hook.attempt == 3
    await records.finish_webhook(job.id, 3, error="HTTP 410")
    await later(clean_dsn, 1000.0)
    assert await records.claim_webhook(60.0) is None
    (row,) = await sql(clean_dsn, "select state, last_error from webhooks")
    assert tuple(row) == ("given_up", "HTTP 410")


@pytest.mark.parametrize(
    "late", [{}, {"error": "HTTP 500", "retry_in_s": 0.0}, {"error": "HTTP 410"}]
)
async def test_sender_that_wakes_up_after_its_lease_changes_nothing(
    store: Store, clean_dsn: str, late: dict[str, Any]
) -> None:
    records = store.records
    job = await submit(records, await project(records), webhook_url=HOOK)
    await records.cancel_job(job.id)
    assert await records.claim_webhook(60.0) is not None
    await later(clean_dsn, 61.0)
    newer = await records.claim_webhook(60.0)
    assert newer is not None
    await records.finish_webhook(job.id, 1, **late)
    assert await records.claim_webhook(60.0) is None, "the newer one has it"
    await records.finish_webhook(job.id, newer.attempt)
    (row,) = await sql(clean_dsn, "select state, last_error from webhooks")
    assert tuple(row) == ("delivered", None)


async def test_messages_are_taken_by_one_each_in_order(store: Store) -> None:
    records = store.records
    jobs = []
    for number in range(12):
        job = await submit(records, await project(records, f"p{number}"), webhook_url=HOOK)
        await records.cancel_job(job.id)
        jobs.append(job.id)
    first = await records.claim_webhook(60.0)
    assert first is not None
    found = await asyncio.gather(*(records.claim_webhook(60.0) for _ in range(20)))
    taken = [hook.job.id for hook in found if hook is not None]
    assert sorted([first.job.id, *taken]) == sorted(jobs)
    assert first.job.id == jobs[0]


async def test_message_goes_with_its_job(store: Store) -> None:
    records = store.records
    job = await submit(records, await project(records), JobKind.GENERATE, webhook_url=HOOK)
    await records.delete_project(job.project_id)
    await records.purge_project(job.project_id)
    assert await records.claim_webhook(60.0) is None
    await records.finish_webhook(job.id, 1, error="gone", retry_in_s=1.0)
