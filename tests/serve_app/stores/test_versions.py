"""Contract of versions: what each was made from, which is the current one, where jobs begin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from deployments.jobs.commits import StageCommit
from deployments.jobs.job_errors import ProjectBusy
from deployments.jobs.photo_rows import NewPhoto, PlacedPhoto
from deployments.jobs.rows import Job, JobKind, JobState, NewJob
from deployments.jobs.store import Records, Store
from pipeline.errors import Conflict, InvalidInput, NotFound, NotGeneratedYet

from .rows import (
    DEPTH,
    SPLATS,
    VIEWS,
    add_project,
    claim,
    claimed,
    generated,
    model,
    project,
    submit,
    view,
)


async def ask(records: Records, name: str, kind: JobKind = JobKind.REFINE, **options: Any) -> Job:
    return (await records.submit_job(NewJob(name, kind, options, "f"))).job


async def refined(records: Records, name: str, version: int, parent: int) -> str:
    """A refinement of the current version that made one; its job."""
    lease = await claimed(records, name, JobKind.REFINE)
    row = replace(model(version), origin="refine", parent=parent)
    commit = StageCommit("iteration-1", 1.0, models=(row,))
    await records.commit_stage(lease.job.id, lease.fence, commit)
    await records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)
    return lease.job.id


async def current(records: Records, name: str) -> int | None:
    return (await records.get_project(name)).current_version


async def test_the_newest_version_is_current_until_another_is_restored(store: Store) -> None:
    records = store.records
    assert await current(records, await project(records, "new")) is None
    name = await generated(records)
    assert await current(records, name) == 0
    job = await refined(records, name, 1, 0)
    detail = await records.project_detail(name)
    assert [(row.version, row.parent) for row in detail.models] == [(0, None), (1, 0)]
    assert detail.made_by[1] == job
    assert detail.current_model == detail.newest_model

    restored = await records.restore_version(name, 0)
    assert restored == await records.get_project(name)
    assert restored.current_version == 0
    detail = await records.project_detail(name)
    assert (detail.current_model, detail.newest_model) == (detail.model(0), detail.model(1))
    await refined(records, name, 2, 0)
    assert await current(records, name) == 2, "what is made from it is the newest again"


async def test_a_job_begins_with_the_version_that_was_current_when_it_was_asked_for(
    store: Store,
) -> None:
    records = store.records
    name = await generated(records)
    await refined(records, name, 1, 0)
    await records.restore_version(name, 0)
    job = await ask(records, name, num_iterations=2)
    assert job.options == {"num_iterations": 2, "version": 0}
    await records.cancel_job(job.id)
    job = await ask(records, name, JobKind.EXPORT, format="ply", version=1)
    assert job.options["version"] == 1
    await records.cancel_job(job.id)
    job = await ask(records, name, JobKind.GENERATE, from_stage="depth", version=None)
    assert job.options["version"] == 0
    await records.cancel_job(job.id)
    job = await ask(records, name, JobKind.GENERATE, from_stage=None, version=None)
    assert job.options["version"] is None, "it begins with the photo"


async def test_a_generation_from_a_stage_works_with_the_photos_of_its_version(store: Store) -> None:
    records = store.records
    name = await generated(records)
    (first,) = (await records.project_detail(name)).photos
    other = NewPhoto("other", "o.png", "p.png", "u2netp")
    await records.begin_photo(name, other)
    revision = (await records.get_project(name)).photos_revision
    await records.arrange_photos(name, revision, [PlacedPhoto("other", side="back")])
    await refined(records, name, 1, 0)

    job = await ask(records, name, JobKind.GENERATE, from_stage="views")
    assert job.photos == (first,), "of the generation that the current version comes from"
    await records.cancel_job(job.id)
    job = await ask(records, name, JobKind.GENERATE)
    assert [photo.id for photo in job.photos] == ["other"]


async def test_what_was_never_made_is_refused_before_there_is_a_job(store: Store) -> None:
    records = store.records
    name = await project(records, "new")
    with pytest.raises(NotGeneratedYet, match="no version yet whose stages could be kept"):
        await ask(records, name, JobKind.GENERATE, from_stage="depth")
    other = await generated(records)
    for kind, options in (
        (JobKind.REFINE, {}),
        (JobKind.EXPORT, {}),
        (JobKind.GENERATE, {"from_stage": "splats"}),
    ):
        with pytest.raises(NotFound, match="has no model version 7: it has 0"):
            await ask(records, other, kind, version=7, **options)
    for each in (name, other):
        with pytest.raises(NotFound, match="has no model version 3"):
            await records.restore_version(each, 3)
    with pytest.raises(NotFound):
        await records.restore_version("nobody", 0)
    assert (await records.queue()).queued == {}


async def test_nothing_is_restored_beside_a_job_or_an_upload(store: Store) -> None:
    records = store.records
    name = await generated(records)
    job = await submit(records, name, JobKind.REFINE)
    with pytest.raises(ProjectBusy) as caught:
        await records.restore_version(name, 0)
    assert caught.value.job_id == job.id
    await records.begin_upload("coming", [NewPhoto("coming", "o", "p", "x")])
    with pytest.raises(Conflict, match="not uploaded yet"):
        await records.restore_version("coming", 0)
    await records.delete_project(name)
    with pytest.raises(NotFound):
        await records.restore_version(name, 0)


async def test_the_detail_shows_the_views_that_the_current_version_comes_from(
    store: Store,
) -> None:
    records = store.records
    name = await generated(records)
    await refined(records, name, 1, 0)
    lease = await claimed(records, name)
    for commit in (
        replace(VIEWS, views=(view(7),)),
        DEPTH,
        replace(SPLATS, models=(model(2),)),
    ):
        await records.commit_stage(lease.job.id, lease.fence, commit)
    await records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)
    assert (await records.project_detail(name)).views == (view(7),)
    await records.restore_version(name, 1)
    assert (await records.project_detail(name)).views == VIEWS.views


@pytest.mark.parametrize("parent", [1, 2])
async def test_a_parent_is_an_older_version_that_is_there(store: Store, parent: int) -> None:
    records = store.records
    name = await generated(records)
    await submit(records, name, JobKind.REFINE)
    lease = await claim(records)
    commit = replace(SPLATS, models=(replace(model(3 if parent == 2 else 1), parent=parent),))
    with pytest.raises(InvalidInput):
        await records.commit_stage(lease.job.id, lease.fence, commit)
    assert await current(records, name) == 0


async def test_versions_go_with_their_project(store: Store) -> None:
    records = store.records
    name = await generated(records)
    await refined(records, name, 1, 0)
    await records.delete_project(name)
    assert await records.purge_project(name)
    await records.end_deletion(name, 0.0)
    again = await add_project(
        records, name, original_path="o", processed_path="p", background_engine="x"
    )
    assert again.current_version is None
