"""Contract of projects and submissions: one job per project, idempotency, order of kinds."""

from __future__ import annotations

import asyncio

import pytest

from deployments.jobs.job_errors import IdempotencyMismatch, ProjectBusy
from deployments.jobs.rows import JobKind, JobState, NewJob, ProjectStatus
from deployments.jobs.store import Store
from pipeline.errors import Conflict, InvalidInput, NotGeneratedYet

from .rows import add_project, project, submit


async def test_project_starts_ready(store: Store) -> None:
    made = await add_project(
        store.records,
        "abc",
        original_path="abc/original.png",
        processed_path="abc/p.png",
        background_engine="x",
    )
    assert made == await store.records.get_project("abc")
    assert made.status is ProjectStatus.READY
    assert made.progress_percentage == 0
    assert made.error is None
    assert made.created_at.tzinfo is not None


async def test_project_id_is_taken_once(store: Store) -> None:
    await project(store.records)
    with pytest.raises(Conflict):
        await project(store.records)


@pytest.mark.parametrize("bad", ["", "../up", "a/b", "-", "x" * 65])
async def test_project_id_must_be_a_path_component(store: Store, bad: str) -> None:
    with pytest.raises(InvalidInput):
        await project(store.records, bad)


async def test_project_has_one_job_at_a_time(store: Store) -> None:
    name = await project(store.records)
    job = await submit(store.records, name)
    with pytest.raises(ProjectBusy) as caught:
        await submit(store.records, name)
    assert caught.value.job_id == job.id


async def test_submissions_at_once_make_one_job(store: Store) -> None:
    name = await project(store.records)
    outcomes = await asyncio.gather(
        *(submit(store.records, name) for _ in range(5)), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert [type(error) for error in refused] == [ProjectBusy] * 4


async def test_same_key_and_request_return_the_first_job(store: Store) -> None:
    name = await project(store.records)
    new = NewJob(name, JobKind.GENERATE, {"seed": 1}, "digest", "key")
    answers = await asyncio.gather(*(store.records.submit_job(new) for _ in range(4)))
    assert len({answer.job.id for answer in answers}) == 1
    assert sorted(answer.created for answer in answers) == [False, False, False, True]

    await store.records.cancel_job(answers[0].job.id)
    again = await store.records.submit_job(new)
    assert (again.created, again.job.state) == (False, JobState.CANCELLED)


async def test_same_key_with_another_request_is_refused(store: Store) -> None:
    first = await project(store.records, "first")
    second = await project(store.records, "second")
    await submit(store.records, first, key="key", fingerprint="one")
    for name in (first, second):
        with pytest.raises(IdempotencyMismatch):
            await submit(store.records, name, key="key", fingerprint="two")


async def test_keys_of_different_clients_have_nothing_to_do_with_each_other(store: Store) -> None:
    records = store.records
    jobs = {}
    for client in ("ann", "bob"):
        name = await project(records, f"project-of-{client}")
        jobs[client] = await submit(records, name, key="1", fingerprint=client, client=client)
    assert jobs["ann"].id != jobs["bob"].id
    for client, job in jobs.items():
        again = await submit(records, job.project_id, key="1", fingerprint=client, client=client)
        assert again.id == job.id
        with pytest.raises(IdempotencyMismatch):
            await submit(records, job.project_id, key="1", fingerprint="other", client=client)


@pytest.mark.parametrize("kind", [JobKind.REFINE, JobKind.EXPORT])
async def test_model_comes_before_refine_and_export(store: Store, kind: JobKind) -> None:
    name = await project(store.records)
    with pytest.raises(NotGeneratedYet):
        await submit(store.records, name, kind)
