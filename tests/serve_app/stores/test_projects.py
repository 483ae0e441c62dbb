"""Contract of projects: uploads in two steps, lists, deletion, expiry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

import pytest

from deployments.jobs.commits import StageCommit
from deployments.jobs.edit_rows import NewViewEdit
from deployments.jobs.job_errors import IdempotencyMismatch, StaleAttempt
from deployments.jobs.photo_rows import NewPhoto
from deployments.jobs.rows import JobKind, JobState, Lease, ProjectStatus
from deployments.jobs.store import Records, Store
from pipeline.errors import Conflict, InvalidInput, NotFound
from pipeline.flow.view_edits import EditKind

from .rows import (
    LEASE_S,
    PREVIEWS,
    SHEET,
    VIEWS,
    claim,
    claimed,
    enhanced,
    expire,
    export,
    generated,
    iteration,
    project,
    sql,
    submit,
)


async def begin(records: Records, project_id: str) -> str:
    original, processed = f"{project_id}/original.png", f"{project_id}/processed.png"
    await records.begin_upload(project_id, [NewPhoto(project_id, original, processed, "grabcut")])
    return project_id


async def age(dsn: str, seconds: float) -> None:
    """Everything happened so much earlier."""
    for table in ("projects", "project_photos"):
        await sql(
            dsn, f"update {table} set created_at = created_at - make_interval(secs => $1)", seconds
        )
    await sql(dsn, "update jobs set finished_at = finished_at - make_interval(secs => $1)", seconds)
    await sql(
        dsn,
        "update deletions set purged_at = purged_at - make_interval(secs => $1), "
        "requested_at = requested_at - make_interval(secs => $1)",
        seconds,
    )


async def lapse(dsn: str) -> None:
    """Every lease has expired."""
    await sql(dsn, "update jobs set lease_expires_at = created_at where state = 'running'")


# --- uploads -------------------------------------------------------------------------------------


async def test_upload_is_hidden_until_it_is_finished(store: Store) -> None:
    records = store.records
    name = await begin(records, "p")
    assert (await records.get_project(name)).status is ProjectStatus.UPLOADING
    assert (await records.list_projects()).projects == ()
    with pytest.raises(Conflict):
        await submit(records, name)
    with pytest.raises(Conflict):
        await begin(records, name)

    uploaded = await records.finish_upload(name)
    assert uploaded.created
    assert uploaded.project == await records.get_project(name)
    assert uploaded.project.status is ProjectStatus.READY
    assert (await records.list_projects()).projects == (uploaded.project,)
    await submit(records, name)
    assert (await records.finish_upload(name)).created, "the answer was not heard"


async def test_upload_with_a_known_key_gives_the_first_project(store: Store) -> None:
    records = store.records
    assert await records.find_upload("key", "photo") is None
    first = await records.finish_upload(
        await begin(records, "first"), idempotency_key="key", fingerprint="photo"
    )
    assert await records.find_upload("key", "photo") == first.project
    again = await records.finish_upload(
        await begin(records, "again"), idempotency_key="key", fingerprint="photo"
    )
    assert (again.project, again.created) == (first.project, False)
    assert await records.due_deletions(0.0) == ("again",)
    with pytest.raises(NotFound):
        await records.finish_upload("again")


async def test_upload_with_the_key_of_another_photo_is_given_up(store: Store) -> None:
    records = store.records
    await records.finish_upload(
        await begin(records, "first"), idempotency_key="key", fingerprint="photo"
    )
    with pytest.raises(IdempotencyMismatch):
        await records.find_upload("key", "other")
    with pytest.raises(IdempotencyMismatch):
        await records.finish_upload(
            await begin(records, "second"), idempotency_key="key", fingerprint="other"
        )
    assert await records.due_deletions(0.0) == ("second",)


@pytest.mark.parametrize("same", [True, False])
async def test_of_uploads_at_once_with_one_key_one_wins(store: Store, same: bool) -> None:
    records = store.records
    names = [await begin(records, f"p{number}") for number in range(5)]
    answers = await asyncio.gather(
        *(
            records.finish_upload(
                name, idempotency_key="key", fingerprint="f" if same else f"f-{name}"
            )
            for name in names
        ),
        return_exceptions=True,
    )
    (winner,) = (await records.list_projects()).projects
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    accepted = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert {answer.project.id for answer in accepted} == {winner.id}
    assert sum(answer.created for answer in accepted) == 1
    assert [type(error) for error in refused] == ([] if same else [IdempotencyMismatch] * 4)
    assert set(await records.due_deletions(0.0)) == set(names) - {winner.id}


async def test_key_of_a_deleted_project_is_free(store: Store) -> None:
    records = store.records
    first = await begin(records, "first")
    await records.finish_upload(first, idempotency_key="key", fingerprint="one")
    await records.delete_project(first)
    assert await records.find_upload("key", "two") is None
    second = await records.finish_upload(
        await begin(records, "second"), idempotency_key="key", fingerprint="two"
    )
    assert (second.project.id, second.created) == ("second", True)


async def test_uploads_of_different_clients_with_one_key_are_different_projects(
    store: Store,
) -> None:
    records = store.records
    for client, photo in (("ann", "cat"), ("bob", "dog"), ("eve", "cat")):
        uploaded = await records.finish_upload(
            await begin(records, client), idempotency_key="1", fingerprint=photo, client=client
        )
        assert (uploaded.project.id, uploaded.created) == (client, True)
        assert await records.find_upload("1", photo, client=client) == uploaded.project
    assert await records.find_upload("1", "cat", client="nobody") is None
    with pytest.raises(IdempotencyMismatch):
        await records.find_upload("1", "cat", client="bob")
    assert (
        await records.finish_upload("ann", idempotency_key="1", fingerprint="cat", client="ann")
    ).created, "the answer was not heard"
    with pytest.raises(Conflict):
        await records.finish_upload("ann", idempotency_key="1", fingerprint="cat", client="bob")


@pytest.mark.parametrize("bad", ["", "x" * 256])
async def test_key_has_1_to_255_characters(store: Store, bad: str) -> None:
    name = await begin(store.records, "p")
    with pytest.raises(InvalidInput):
        await store.records.finish_upload(name, idempotency_key=bad)
    assert (await store.records.get_project(name)).status is ProjectStatus.UPLOADING


async def test_upload_of_nobody_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.records.finish_upload("none")


async def test_upload_that_never_ends_is_marked(store: Store, clean_dsn: str) -> None:
    records = store.records
    await begin(records, "old")
    await project(records, "ready")
    await age(clean_dsn, 1000.0)
    await begin(records, "new")
    assert await records.expire_uploads(500.0) == ("old",)
    assert await records.expire_uploads(500.0) == ()
    with pytest.raises(NotFound):
        await records.finish_upload("old")
    assert await records.purge_project("old")
    with pytest.raises(NotFound):
        await records.get_project("old")
    assert (await records.finish_upload("new")).created


# --- lists ---------------------------------------------------------------------------------------


async def pages(
    records: Records, limit: int, status: ProjectStatus | None = None
) -> AsyncIterator[list[str]]:
    after: tuple[datetime, str] | None = None
    while True:
        page = await records.list_projects(status=status, after=after, limit=limit)
        yield [shown.id for shown in page.projects]
        if (after := page.next_after) is None:
            return


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_pages_show_every_project_once_newest_first(
    store: Store, clean_dsn: str, limit: int
) -> None:
    records = store.records
    for number in range(7):
        await project(records, f"p{number}")
    # Three of one moment lie across every border of pages.
    await sql(
        clean_dsn,
        "update projects set created_at = '2026-01-02 03:04:05.678901Z' "
        "where id in ('p2', 'p3', 'p4')",
    )
    seen = [page async for page in pages(records, limit)]
    assert [name for page in seen for name in page] == ["p6", "p5", "p1", "p0", "p4", "p3", "p2"]
    assert [len(page) for page in seen[:-1]] == [limit] * (len(seen) - 1)
    assert seen[-1], "the last page says so itself"


async def test_pages_go_on_where_they_were_while_projects_come_and_go(store: Store) -> None:
    records = store.records
    for number in range(4):
        await project(records, f"p{number}")
    first = await records.list_projects(limit=2)
    await project(records, "newer")
    await records.delete_project("p2")
    second = await records.list_projects(limit=2, after=first.next_after)
    assert [shown.id for shown in second.projects] == ["p1", "p0"]
    assert second.next_after is None


async def test_list_is_filtered_by_status(store: Store) -> None:
    records = store.records
    for name in ("a", "b", "c"):
        await generated(records, name)
    for name in ("d", "e"):
        await project(records, name)
    await begin(records, "f")
    await records.delete_project("b")
    completed = [page async for page in pages(records, 1, ProjectStatus.COMPLETED)]
    assert completed == [["c"], ["a"]]
    assert [page async for page in pages(records, 5, ProjectStatus.READY)] == [["e", "d"]]
    assert (await records.list_projects(status=ProjectStatus.UPLOADING)).projects == ()
    assert (await records.list_projects(limit=2)).projects == (
        await records.get_project("e"),
        await records.get_project("d"),
    )


async def test_list_takes_reasonable_limits(store: Store) -> None:
    for wrong in (0, -1, 1_000_000):
        with pytest.raises(InvalidInput):
            await store.records.list_projects(limit=wrong)


# --- deletion ------------------------------------------------------------------------------------


async def test_idle_project_is_marked_and_purged(store: Store) -> None:
    records = store.records
    name = await generated(records)
    with pytest.raises(Conflict):
        await records.purge_project(name)
    for _ in range(2):
        assert await records.delete_project(name) is None
    assert (await records.list_projects()).projects == ()
    with pytest.raises(NotFound):
        await submit(records, name)
    for _ in range(2):
        assert await records.purge_project(name)
    with pytest.raises(NotFound):
        await records.get_project(name)
    assert await records.delete_project(name) is None, "its files may be there"
    with pytest.raises(Conflict):
        await project(records, name)


async def test_deletion_cancels_a_queued_job(store: Store) -> None:
    records = store.records
    job = await submit(records, await project(records))
    assert await records.delete_project(job.project_id) is None
    assert (await records.get_job(job.id)).state is JobState.CANCELLED
    assert await records.claim_job("w", LEASE_S) is None
    assert await records.purge_project(job.project_id)
    with pytest.raises(NotFound):
        await records.get_job(job.id)


async def test_deletion_waits_for_a_running_job_to_stop(store: Store) -> None:
    records = store.records
    lease = await claimed(records, await project(records))
    name = lease.job.project_id
    for _ in range(2):
        asked = await records.delete_project(name)
        assert asked is not None
        assert (asked.id, asked.state, asked.cancel_requested) == (
            lease.job.id,
            JobState.RUNNING,
            True,
        )
        assert not await records.purge_project(name)
    assert await records.due_deletions(1000.0) == (name,)
    beat = await records.heartbeat(
        lease.job.id, lease.fence, lease_s=LEASE_S, stage="views", progress=0.1
    )
    assert beat.cancel_requested
    await records.finish_job(lease.job.id, lease.fence, state=JobState.CANCELLED)
    assert await records.delete_project(name) is None
    assert await records.purge_project(name)


async def test_deletion_cancels_a_job_that_nobody_works_on(store: Store) -> None:
    records = store.records
    lease = await claimed(records, await project(records))
    await expire(records, lease)
    assert await records.delete_project(lease.job.project_id) is None
    assert (await records.get_job(lease.job.id)).state is JobState.CANCELLED


async def test_attempt_that_lost_its_lease_finds_its_job_gone(store: Store, clean_dsn: str) -> None:
    records = store.records
    lease = await claimed(records, await project(records))
    name = lease.job.project_id
    assert await records.delete_project(name) is not None
    await lapse(clean_dsn)
    waiter = asyncio.create_task(records.wait_for_job(lease.job.id, 1000.0))
    await asyncio.sleep(0.05)
    assert await records.purge_project(name)
    with pytest.raises(NotFound):
        await asyncio.wait_for(waiter, 10.0)
    beat = await records.heartbeat(
        lease.job.id, lease.fence, lease_s=LEASE_S, stage="views", progress=0.1
    )
    assert not beat.owned
    with pytest.raises(NotFound):
        await records.commit_stage(lease.job.id, lease.fence, VIEWS)
    with pytest.raises(NotFound):
        await records.release_job(lease.job.id, lease.fence)


async def test_watcher_of_a_project_hears_of_its_purge(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = store.records
    monkeypatch.setattr(type(records), "announced_poll_s", 1000.0, raising=False)
    name = await project(records)
    await records.delete_project(name)
    await asyncio.sleep(0.05)
    with records.watch_project(name) as changed:
        waiting = asyncio.ensure_future(changed(1000.0))
        await asyncio.sleep(0.01)
        await records.purge_project(name)
        await asyncio.wait_for(waiting, 10.0)


async def test_purge_leaves_no_row_anywhere(store: Store, clean_dsn: str) -> None:
    records = store.records
    await generated(records, "bystander")
    name = await generated(records)
    lease = await claimed(records, name, JobKind.REFINE)
    refined = StageCommit(
        "iteration-0", 1.0, iterations=(iteration(0, version=0),), enhanced=(enhanced(0, 1),)
    )
    for commit in (refined, PREVIEWS, SHEET, StageCommit("e", 1.0, exports=(export(0),))):
        await records.commit_stage(lease.job.id, lease.fence, commit)
    await records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)
    await records.put_view_edit(name, NewViewEdit(0, 3, EditKind.STRIKE))
    await submit(records, name, webhook_url="https://example.org/hook")
    await records.delete_project(name)

    tables = await sql(
        clean_dsn,
        "select table_name, max(column_name) as column_name from information_schema.columns "
        "join information_schema.tables using (table_schema, table_name) "
        "where table_schema = 'public' and table_type = 'BASE TABLE' "
        "and (column_name in ('project_id', 'job_id') or (table_name, column_name) = "
        "('projects', 'id')) group by table_name",
    )

    async def counted() -> dict[str, int]:
        counts = {}
        for table, column in tables:
            rows = await sql(
                clean_dsn,
                f"select count(*) from {table} where {column} = $1 or {column} in "
                "(select id from jobs where project_id = $1)",
                name,
            )
            counts[table] = rows[0]["count"]
        return counts

    before = await counted()
    assert len(before) == 17
    assert all(before.values()), before
    assert await records.purge_project(name)
    assert {table for table, count in (await counted()).items() if count} == {"deletions"}
    assert (await records.project_detail("bystander")).models


async def test_mark_goes_a_while_after_the_rows(store: Store, clean_dsn: str) -> None:
    records = store.records
    name = await project(records)
    await records.delete_project(name)
    await records.end_deletion(name, 0.0)
    assert await records.due_deletions(100.0) == (name,), "the rows are still there"
    await records.purge_project(name)
    assert await records.due_deletions(100.0) == ()
    await records.end_deletion(name, 100.0)
    assert await records.due_deletions(0.0) == (name,)
    await age(clean_dsn, 101.0)
    assert await records.due_deletions(100.0) == (name,)
    await records.end_deletion(name, 100.0)
    assert await records.due_deletions(0.0) == ()
    with pytest.raises(NotFound):
        await records.delete_project(name)
    assert await records.purge_project(name)
    await project(records, name)


async def test_due_deletions_are_the_oldest(store: Store) -> None:
    for name in ("b", "c", "a"):
        await project(store.records, name)
        await store.records.delete_project(name)
    assert await store.records.due_deletions(0.0, 2) == ("b", "c")


async def test_deletion_of_nobody_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.records.delete_project("none")


async def test_submission_beside_deletion_leaves_no_job_behind(store: Store) -> None:
    records = store.records
    for number in range(10):
        name = await project(records, f"p{number}")
        await asyncio.gather(
            records.delete_project(name), submit(records, name), return_exceptions=True
        )
        assert await records.claim_job("w", LEASE_S) is None
        assert await records.purge_project(name)


async def test_deletion_beside_a_busy_attempt_never_deadlocks(store: Store) -> None:
    records = store.records

    async def work(lease: Lease) -> None:
        for step in range(6):
            await records.heartbeat(
                lease.job.id, lease.fence, lease_s=LEASE_S, stage=f"s{step}", progress=0.1
            )
            await records.commit_stage(lease.job.id, lease.fence, VIEWS)
        await records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)

    async def remove(name: str) -> None:
        await records.delete_project(name)
        while not await records.purge_project(name):
            await asyncio.sleep(0)

    for number in range(5):
        name = await project(records, f"p{number}")
        answers = await asyncio.gather(
            work(await claimed(records, name)), remove(name), remove(name), return_exceptions=True
        )
        for answer in answers:
            assert answer is None or isinstance(answer, NotFound | StaleAttempt), answer


# --- expiry --------------------------------------------------------------------------------------


async def test_forgotten_projects_expire(store: Store, clean_dsn: str) -> None:
    records = store.records
    await generated(records, "done")
    await project(records, "untouched")
    await begin(records, "uploading")
    await project(records, "fresh-job")
    await project(records, "busy")
    await project(records, "waiting")
    await age(clean_dsn, 1000.0)
    job = await submit(records, "fresh-job")
    await records.cancel_job(job.id)
    await submit(records, "busy")
    await claim(records)
    await submit(records, "waiting")
    await project(records, "fresh")

    assert await records.expire_projects(500.0, 1) == ("done",)
    assert await records.expire_projects(500.0) == ("untouched",)
    assert await records.expire_projects(500.0) == ()
    assert await records.due_deletions(0.0) == ("done", "untouched")
    with pytest.raises(NotFound):
        await submit(records, "done")
    await age(clean_dsn, 1000.0)
    assert await records.expire_projects(500.0) == ("fresh-job", "fresh")


async def test_expiry_wants_a_number_of_seconds(store: Store) -> None:
    for wrong in (float("nan"), float("inf"), -1e300):
        with pytest.raises(InvalidInput):
            await store.records.expire_projects(wrong)
