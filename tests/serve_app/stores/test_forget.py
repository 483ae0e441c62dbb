"""Contract of what is forgotten: the history of what ended, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deployments.jobs.photo_rows import NewPhoto
from deployments.jobs.rows import EventKind, JobKind, JobState
from deployments.jobs.store import Store
from pipeline.errors import InvalidInput

from .rows import claim, generated, project, submit

HOUR_S = 3600.0


async def test_of_an_ended_job_the_last_event_is_left(store: Store) -> None:
    records = store.records
    name = await generated(records)
    (job,) = [found.job for found in await records.project_jobs(name)]
    events = await records.job_events(job.id)
    assert await records.forget(HOUR_S) == 0
    assert await records.job_events(job.id) == events

    detail = await records.project_detail(name)
    assert await records.forget(0.0) == 1
    (last,) = await records.job_events(job.id)
    assert last == events[-1]
    assert (last.kind, last.data["state"]) == (EventKind.STATE, "succeeded")
    assert await records.project_events(name) == (last,)
    assert await records.project_detail(name) == detail, "everything else stays"
    assert await records.forget(0.0) == 0, "once"

    later = await submit(records, name, JobKind.REFINE)
    assert [event.seq for event in await records.job_events(later.id)] == [1]


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING])
async def test_a_job_that_has_not_ended_keeps_its_history(store: Store, state: JobState) -> None:
    records = store.records
    job = await submit(records, await project(records), key="key")
    if state is JobState.RUNNING:
        await claim(records)
    events = await records.job_events(job.id)
    await records.forget(0.0)
    assert await records.job_events(job.id) == events
    assert (await submit(records, job.project_id, key="key")).id == job.id


async def test_keys_are_free_again(store: Store) -> None:
    records = store.records
    await records.begin_upload("p", [NewPhoto("p", "p/o.png", "p/p.png", "grabcut")])
    uploaded = await records.finish_upload("p", idempotency_key="key", fingerprint="photo")
    first = await submit(records, "p", key="key", fingerprint="one")
    await records.cancel_job(first.id)
    assert (await submit(records, "p", key="key", fingerprint="one")).id == first.id
    await records.forget(HOUR_S)
    assert await records.find_upload("key", "photo") is not None

    before = await records.get_project("p")
    assert await records.forget(0.0) == 2
    assert await records.find_upload("key", "another") is None
    assert (await submit(records, "p", key="key", fingerprint="two")).id != first.id
    after = await records.get_project("p")
    assert replace(after, **_of_the_job(before)) == before
    assert uploaded.project.updated_at <= before.updated_at


def _of_the_job(project) -> dict[str, object]:
    names = ("status", "current_step", "progress_percentage", "error", "updated_at")
    return {name: getattr(project, name) for name in names}


async def test_messages_that_are_still_to_be_delivered_are_kept(store: Store) -> None:
    records = store.records
    for name in ("delivered", "given-up", "pending"):
        job = await submit(records, await project(records, name), webhook_url="https://a.example")
        await records.cancel_job(job.id)
    hooks = {}
    for _ in range(3):
        hook = await records.claim_webhook(HOUR_S)
        assert hook is not None
        hooks[hook.job.project_id] = hook
    await records.finish_webhook(hooks["delivered"].job.id, 1)
    await records.finish_webhook(hooks["given-up"].job.id, 1, error="no")
    await records.finish_webhook(hooks["pending"].job.id, 1, error="later", retry_in_s=0.0)
    assert await records.forget(0.0) == 3 + 2
    again = await records.claim_webhook(HOUR_S)
    assert again is not None
    assert again.job.project_id == "pending"
    assert await records.claim_webhook(HOUR_S) is None


async def test_it_goes_on_where_the_limit_was(store: Store) -> None:
    records = store.records
    for number in range(5):
        job = await submit(records, await project(records, f"p{number}"))
        await records.cancel_job(job.id)
    assert [await records.forget(0.0, limit=2) for _ in range(4)] == [2, 2, 1, 0]


@pytest.mark.parametrize("limit", [0, 10_001])
async def test_limits_are_checked(store: Store, limit: int) -> None:
    with pytest.raises(InvalidInput):
        await store.records.forget(0.0, limit=limit)
