"""Contract of the rows: what a stage commits, what a project's detail shows."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from deployments.jobs.commits import StageCommit
from deployments.jobs.rows import JobKind, JobState, ProjectStatus
from deployments.jobs.store import Store
from pipeline.errors import Conflict, InvalidInput, NotFound

from .rows import (
    DEPTH,
    LEASE_S,
    PREVIEWS,
    SHEET,
    SPLATS,
    VIEWS,
    claimed,
    depth,
    enhanced,
    export,
    generated,
    iteration,
    model,
    preview,
    project,
    sheet,
    submit,
    view,
)

ITERATIONS = (
    StageCommit("iteration-0", 0.5, iterations=(iteration(0, version=0),)),
    StageCommit(
        "iteration-1",
        9.0,
        models=(model(1, psnr=30.0),),
        iterations=(iteration(1, version=1, quality=0.75),),
        enhanced=(enhanced(1, 0), enhanced(1, 5)),
        detail={"gain": 0.25, "targets": [0, 5], "nothing": None},
    ),
    StageCommit("iteration-2", 9.5, iterations=(iteration(2, version=None, quality=0.6),)),
)


async def test_committed_rows_come_back_as_they_were(store: Store) -> None:
    records = store.records
    name = await generated(records)
    lease = await claimed(records, name, JobKind.REFINE)
    for commit in ITERATIONS:
        await records.commit_stage(lease.job.id, lease.fence, commit)
    assert await records.committed(lease.job.id) == ITERATIONS

    await records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)
    lease = await claimed(records, name, JobKind.EXPORT)
    commit = StageCommit("export", 0.75, exports=(export(1), export(0, format="glb-splat")))
    await records.commit_stage(lease.job.id, lease.fence, commit)
    assert await records.committed(lease.job.id) == (commit,)


async def test_commit_replaces_what_the_stage_had_committed(store: Store) -> None:
    records = store.records
    lease = await claimed(records, await project(records))
    for commit in (VIEWS, DEPTH, SPLATS):
        await records.commit_stage(lease.job.id, lease.fence, commit)
    better = replace(VIEWS, seconds=3.5, views=(view(7),), detail={"engine": "syncdreamer"})
    for _ in range(2):
        await records.commit_stage(lease.job.id, lease.fence, better)
    assert await records.committed(lease.job.id) == (better, DEPTH, SPLATS)
    timings = (await records.get_job(lease.job.id)).timings
    assert timings == {"views": 3.5, "depth": 1.25, "splats": 4.0}


async def test_iteration_is_replaced_with_its_model(store: Store) -> None:
    records = store.records
    lease = await claimed(records, await generated(records), JobKind.REFINE)
    for _ in range(2):
        for commit in ITERATIONS:
            await records.commit_stage(lease.job.id, lease.fence, commit)
    assert await records.committed(lease.job.id) == ITERATIONS


async def test_refused_commit_leaves_nothing(store: Store) -> None:
    records = store.records
    lease = await claimed(records, await project(records))
    await records.commit_stage(lease.job.id, lease.fence, VIEWS)
    twice_the_same_view = replace(VIEWS, seconds=9.0, views=(view(0), view(0)))
    with pytest.raises(Conflict):
        await records.commit_stage(lease.job.id, lease.fence, twice_the_same_view)
    assert await records.committed(lease.job.id) == (VIEWS,)


@pytest.mark.parametrize(
    "bad",
    [
        replace(VIEWS, stage=""),
        replace(VIEWS, seconds=-1.0),
        replace(VIEWS, views=(replace(view(0), view_index=-1),)),
        replace(VIEWS, views=(replace(view(0), image_path=""),)),
        replace(VIEWS, views=(replace(view(0), elevation_deg=100.0),)),
        replace(VIEWS, detail={"not": {"json": math.nan}}),
        replace(VIEWS, detail={"not": object()}),
        replace(VIEWS, detail={"nul": "\0"}),
        replace(DEPTH, depths=(replace(depth(0), min_depth=3.0),)),
        replace(SPLATS, models=(replace(model(0), ssim=1.5),)),
        replace(SPLATS, models=(replace(model(0), psnr=math.nan),)),
        StageCommit("export", 1.0, exports=(export(3),)),
        replace(PREVIEWS, previews=(preview(3),)),
        replace(PREVIEWS, previews=(replace(preview(0), thumbnail_path=""),)),
        replace(SHEET, sheets=(sheet(3),)),
        replace(SHEET, sheets=(replace(sheet(0), image_path=""),)),
        StageCommit("iteration-1", 1.0, iterations=(iteration(1, version=9),)),
        replace(SPLATS, models=(replace(model(0), scores=[0.5]),)),
        replace(SPLATS, models=(replace(model(0), scores={"extra": {"x": math.nan}}),)),
        StageCommit("iteration-1", 1.0, enhanced=(replace(enhanced(1, 5), weight=1.5),)),
        StageCommit("iteration-1", 1.0, enhanced=(replace(enhanced(1, 5), after_path=""),)),
    ],
    ids=lambda commit: repr(commit)[:120],
)
async def test_values_that_cannot_be_are_refused(store: Store, bad: StageCommit) -> None:
    lease = await claimed(store.records, await project(store.records))
    with pytest.raises(InvalidInput):
        await store.records.commit_stage(lease.job.id, lease.fence, bad)
    assert await store.records.committed(lease.job.id) == ()


async def test_infinite_psnr_of_equal_images_is_kept(store: Store) -> None:
    lease = await claimed(store.records, await project(store.records))
    commit = replace(SPLATS, models=(model(0, psnr=math.inf),))
    await store.records.commit_stage(lease.job.id, lease.fence, commit)
    assert await store.records.committed(lease.job.id) == (commit,)


async def test_detail_shows_everything_of_a_project(store: Store) -> None:
    records = store.records
    name = await generated(records)
    lease = await claimed(records, name, JobKind.REFINE)
    for commit in ITERATIONS:
        await records.commit_stage(lease.job.id, lease.fence, commit)
    await records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)
    lease = await claimed(records, name, JobKind.EXPORT)
    await records.commit_stage(
        lease.job.id, lease.fence, StageCommit("export", 1.0, exports=(export(1),))
    )

    detail = await records.project_detail(name)
    assert detail.project == await records.get_project(name)
    assert detail.project.status is ProjectStatus.EXPORTING
    assert detail.views == VIEWS.views
    assert detail.depths == DEPTH.depths
    assert detail.models == (model(0), model(1, psnr=30.0))
    assert detail.newest_model == model(1, psnr=30.0)
    assert [row.iteration_number for row in detail.iterations] == [0, 1, 2]
    assert detail.iterations[1] == ITERATIONS[1].iterations[0]
    assert detail.exports == (export(1),)
    assert (detail.previews, detail.contact_sheet) == ((), None)
    assert detail.job == await records.get_job(lease.job.id)


async def test_all_jobs_of_a_project_come_with_what_they_committed(store: Store) -> None:
    records = store.records
    name = await generated(records)
    await generated(records, "another")
    cancelled = await claimed(records, name, JobKind.REFINE)
    for commit in ITERATIONS[:2]:
        await records.commit_stage(cancelled.job.id, cancelled.fence, commit)
    await records.finish_job(cancelled.job.id, cancelled.fence, state=JobState.CANCELLED)
    queued = await submit(records, name, JobKind.REFINE)

    generate, refine, waiting = await records.project_jobs(name)
    assert generate.job.kind is JobKind.GENERATE
    assert generate.commits == (VIEWS, DEPTH, SPLATS)
    assert refine.job == await records.get_job(cancelled.job.id)
    assert refine.commits == ITERATIONS[:2]
    assert (waiting.job.id, waiting.commits) == (queued.id, ())


async def test_a_project_without_jobs_has_none_and_an_unknown_one_is_told(store: Store) -> None:
    assert await store.records.project_jobs(await project(store.records)) == ()
    with pytest.raises(NotFound):
        await store.records.project_jobs("nobody")


async def test_pictures_come_back_with_their_version_and_the_sheet_of_the_current_one_counts(
    store: Store,
) -> None:
    records = store.records
    name = await generated(records)
    lease = await claimed(records, name, JobKind.REFINE)
    newer = (
        replace(PREVIEWS, stage="previews-v1", previews=(preview(1),)),
        replace(SHEET, sheets=(sheet(1),)),
    )
    for commit in (ITERATIONS[0], ITERATIONS[1], PREVIEWS, *newer):
        await records.commit_stage(lease.job.id, lease.fence, commit)
    assert await records.committed(lease.job.id) == (*ITERATIONS[:2], PREVIEWS, *newer)
    detail = await records.project_detail(name)
    assert detail.previews == (preview(0), preview(1))
    assert detail.contact_sheet == sheet(1)

    await records.finish_job(lease.job.id, lease.fence, state=JobState.CANCELLED)
    lease = await claimed(records, name, JobKind.REFINE)
    latest = replace(SHEET, sheets=(replace(sheet(1), image_path="p/models/other.png"),))
    await records.commit_stage(lease.job.id, lease.fence, latest)
    assert (await records.project_detail(name)).contact_sheet == latest.sheets[0]

    await records.finish_job(lease.job.id, lease.fence, state=JobState.CANCELLED)
    await records.restore_version(name, 0)
    assert (await records.project_detail(name)).contact_sheet is None, "it has none yet"
    lease = await claimed(records, name, JobKind.EXPORT)
    await records.commit_stage(lease.job.id, lease.fence, SHEET)
    assert (await records.project_detail(name)).contact_sheet == sheet(0)
    await records.finish_job(lease.job.id, lease.fence, state=JobState.CANCELLED)
    await records.restore_version(name, 1)
    assert (await records.project_detail(name)).contact_sheet == latest.sheets[0]


async def test_a_version_has_one_row_of_pictures(store: Store) -> None:
    records = store.records
    lease = await claimed(records, await generated(records), JobKind.REFINE)
    for _ in range(2):
        await records.commit_stage(lease.job.id, lease.fence, PREVIEWS)
    with pytest.raises(Conflict):
        await records.commit_stage(
            lease.job.id, lease.fence, replace(PREVIEWS, stage="previews-again")
        )


async def test_detail_of_a_new_project_is_empty(store: Store) -> None:
    name = await project(store.records)
    detail = await store.records.project_detail(name)
    assert (detail.views, detail.models, detail.iterations, detail.exports) == ((), (), (), ())
    assert detail.newest_model is None
    assert detail.job is None


async def test_detail_shows_the_newest_job_when_none_is_active(store: Store) -> None:
    records = store.records
    name = await generated(records)
    newest = await submit(records, name)
    await records.cancel_job(newest.id)
    detail = await records.project_detail(name)
    assert detail.job is not None
    assert detail.job.id == newest.id


async def test_failed_second_generate_does_not_hide_the_model_in_use(store: Store) -> None:
    records = store.records
    name = await generated(records)
    lease = await claimed(records, name)
    await records.commit_stage(lease.job.id, lease.fence, replace(VIEWS, views=(view(9),)))
    assert (await records.project_detail(name)).views == (view(9),)

    await records.finish_job(lease.job.id, lease.fence, state=JobState.CANCELLED)
    detail = await records.project_detail(name)
    assert detail.views == VIEWS.views
    assert detail.newest_model == model(0)


async def test_model_version_is_taken_once(store: Store) -> None:
    records = store.records
    lease = await claimed(records, await generated(records))
    with pytest.raises(Conflict):
        await records.commit_stage(lease.job.id, lease.fence, SPLATS)
    await records.commit_stage(lease.job.id, lease.fence, replace(SPLATS, models=(model(1),)))


async def test_projects_do_not_see_each_other(store: Store) -> None:
    records = store.records
    await generated(records, "one")
    await project(records, "two")
    lease = await claimed(records, "two")
    await records.heartbeat(lease.job.id, lease.fence, lease_s=LEASE_S, stage="depth", progress=0.5)
    assert (await records.get_project("one")).status is ProjectStatus.COMPLETED
    assert (await records.project_detail("two")).models == ()
