"""Contract of edits of views: what waits, what takes its place, and what a generation has done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deployments.jobs.edit_rows import NewViewEdit
from deployments.jobs.job_errors import ProjectBusy
from deployments.jobs.rows import Bucket, JobKind, JobState
from deployments.jobs.store import Store
from pipeline.errors import Conflict, InvalidInput, NotFound
from pipeline.flow.view_edits import EditKind

from .rows import SPLATS, VIEWS, claimed, generated, model, project, submit, view

PICTURE = NewViewEdit(
    0, 3, EditKind.REPLACE, "p/edits/a.png", "sha256:1", "rembg", ("It was resampled.",)
)
STRIKE = NewViewEdit(0, 7, EditKind.STRIKE)


async def test_an_edit_waits_until_it_is_taken_back_or_another_takes_its_place(
    store: Store,
) -> None:
    records = store.records
    name = await generated(records)
    first = await records.put_view_edit(name, PICTURE)
    assert first.replaced is None
    assert first.edit.applied_by is None
    assert {field: getattr(first.edit, field) for field in vars(PICTURE)} == vars(PICTURE)
    second = await records.put_view_edit(name, STRIKE)
    assert (await records.project_detail(name)).edits == (first.edit, second.edit)
    other = await records.put_view_edit(name, replace(PICTURE, image_path="p/edits/b.png"))
    assert other.replaced == first.edit
    assert await records.take_view_edit(name, 0, 7) == second.edit
    assert await records.take_view_edit(name, 0, 7) is None
    assert (await records.project_detail(name)).edits == (other.edit,)


async def test_an_edit_beside_others_than_were_seen_is_refused(store: Store) -> None:
    records = store.records
    name = await generated(records)
    first = (await records.put_view_edit(name, replace(STRIKE, seen=()))).edit
    other = replace(STRIKE, view_index=8)
    with pytest.raises(Conflict, match="changed meanwhile"):
        await records.put_view_edit(name, replace(other, seen=()))
    assert (await records.project_detail(name)).edits == (first,)
    second = (await records.put_view_edit(name, replace(other, seen=(first.id,)))).edit
    assert (await records.project_detail(name)).edits == (first, second)


async def test_what_a_stage_has_done_waits_no_more_and_stays(store: Store) -> None:
    records = store.records
    name = await generated(records)
    picture = (await records.put_view_edit(name, PICTURE)).edit
    later = (await records.put_view_edit(name, STRIKE)).edit
    lease = await claimed(records, name)
    views = replace(VIEWS, views=(replace(view(3), edit="replaced"),))
    splats = replace(
        SPLATS,
        models=(replace(model(1), parent=0),),
        detail={"applied_edits": [picture.id]},
    )
    for commit in (views, splats, splats):
        await records.commit_stage(lease.job.id, lease.fence, commit)
    assert await records.committed(lease.job.id) == (views, splats)
    await records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)
    detail = await records.project_detail(name)
    assert detail.edits == (replace(picture, applied_by=lease.job.id), later)
    assert detail.views[0].edit == "replaced"
    again = await records.put_view_edit(name, PICTURE)
    assert again.replaced is None, "what was done is not what waits"
    assert len((await records.project_detail(name)).edits) == 3
    named = await records.referenced_paths(name)
    assert named is not None
    assert "p/edits/a.png" in named[Bucket.VIEWS]


async def test_nothing_is_edited_beside_a_job_or_where_there_is_no_version(store: Store) -> None:
    records = store.records
    with pytest.raises(NotFound):
        await records.put_view_edit("nobody", STRIKE)
    name = await project(records, "new")
    with pytest.raises(NotFound, match="no model version 0: it has none yet, generate"):
        await records.put_view_edit(name, STRIKE)
    name = await generated(records)
    with pytest.raises(NotFound, match="no model version 9"):
        await records.put_view_edit(name, replace(STRIKE, version=9))
    await records.put_view_edit(name, STRIKE)
    job = await submit(records, name, JobKind.REFINE)
    for work in (
        records.put_view_edit(name, PICTURE),
        records.take_view_edit(name, 0, 7),
    ):
        with pytest.raises(ProjectBusy) as caught:
            await work
        assert caught.value.job_id == job.id
    assert len((await records.project_detail(name)).edits) == 1


@pytest.mark.parametrize(
    "bad",
    [
        replace(STRIKE, view_index=-1),
        replace(STRIKE, image_path="p/edits/a.png"),
        replace(PICTURE, sha256=None),
        replace(PICTURE, image_path=""),
        replace(STRIKE, kind=EditKind.RESTORE),
        replace(STRIKE, source_version=0),
    ],
    ids=repr,
)
async def test_edits_that_cannot_be_are_refused(store: Store, bad: NewViewEdit) -> None:
    name = await generated(store.records)
    waiting = (await store.records.put_view_edit(name, replace(STRIKE, view_index=3))).edit
    with pytest.raises(InvalidInput):
        await store.records.put_view_edit(name, replace(bad, view_index=min(bad.view_index, 3)))
    assert (await store.records.project_detail(name)).edits == (waiting,)
