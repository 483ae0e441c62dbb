"""Thumbnails, films and contact sheets of a job, on a real store with fake models."""

import asyncio
import io

import numpy as np
import pytest
from PIL import Image

from deployments.jobs import model_pictures as previews
from deployments.jobs.commits import PreviewRow, SheetRow
from deployments.jobs.rows import Bucket, JobKind, JobState, ProjectStatus
from deployments.jobs.store import Store
from pipeline.control import ignore_progress
from pipeline.errors import ModelFailed, ReplicaDied
from tests.deployments.jobs.attempts import PROJECT, generated, lease_of, new_project, run
from tests.fakes import FakeModels, some_model

pytestmark = pytest.mark.usefixtures("small_pictures")


async def test_the_contact_sheet_shows_what_the_registered_photos_saw(store: Store, monkeypatch):
    asked = []

    async def seen(model, cameras, photos, splats):
        asked.append((len(cameras), len(photos)))
        return [np.zeros((8, 8, 3), np.uint8)] * len(cameras)

    monkeypatch.setattr(previews, "seen_pictures", seen)
    await generated(store)
    assert asked == [(8, 1)]


async def test_every_version_gets_pictures_and_the_project_a_contact_sheet(store: Store):
    await generated(store)
    detail = await store.records.project_detail(PROJECT)
    (first,) = detail.previews
    assert first == PreviewRow(0, f"{PROJECT}/models/v0.png", f"{PROJECT}/models/v0.mp4")
    assert detail.contact_sheet == SheetRow(0, f"{PROJECT}/models/contact_sheet.png")
    thumbnail = await store.blobs.get(Bucket.MODELS, first.thumbnail_path)
    assert Image.open(io.BytesIO(thumbnail)).size == (64, 64)
    assert (await store.blobs.get(Bucket.MODELS, first.turntable_path))[4:8] == b"ftyp"

    await run(
        store,
        FakeModels(qualities=[0.5, 0.6, 0.7]),
        await lease_of(store, JobKind.REFINE, num_iterations=2),
    )
    detail = await store.records.project_detail(PROJECT)
    assert [row.version for row in detail.previews] == [0, 1, 2]
    assert detail.previews[0] == first, "what is there is not made again"
    assert detail.contact_sheet is not None
    assert detail.contact_sheet.model_version == 2
    assert detail.contact_sheet.image_path != f"{PROJECT}/models/contact_sheet.png"
    small, large = [
        np.asarray(Image.open(io.BytesIO(await store.blobs.get(Bucket.MODELS, path))))
        for path in (f"{PROJECT}/models/contact_sheet.png", detail.contact_sheet.image_path)
    ]
    assert small.shape == large.shape, "one row of versions"
    assert small.shape[1] > 1000
    assert (small != large).any()


async def test_a_refinement_without_a_new_version_has_nothing_to_draw(store: Store):
    await generated(store)
    models = FakeModels(qualities=[0.5, 0.4, 0.3])
    before = await store.records.project_detail(PROJECT)
    await run(store, models, await lease_of(store, JobKind.REFINE))
    detail = await store.records.project_detail(PROJECT)
    assert (detail.previews, detail.contact_sheet) == (before.previews, before.contact_sheet)


async def test_a_failure_in_the_pictures_is_named_and_keeps_the_model(store: Store):
    await new_project(store)
    models = FakeModels(fail_at="render", failure=ModelFailed.openly("no light"))
    await run(store, models, await lease_of(store, JobKind.GENERATE))
    detail = await store.records.project_detail(PROJECT)
    assert detail.job is not None
    assert detail.job.error is not None
    assert (detail.job.error.stage, detail.job.error.detail) == ("previews", "no light")
    assert [row.version for row in detail.models] == [0]

    # The next job of the project makes up for it.
    await run(store, FakeModels(), await lease_of(store, JobKind.REFINE))
    detail = await store.records.project_detail(PROJECT)
    assert [row.version for row in detail.previews] == [row.version for row in detail.models]
    assert detail.previews[0].thumbnail_path != f"{PROJECT}/models/v0.png"


async def test_a_model_that_cannot_be_drawn_is_our_fault_not_the_clients(store: Store):
    class Nothing(FakeModels):
        async def reconstruct(self, request, report=ignore_progress):
            return some_model(0)

    await new_project(store)
    await run(store, Nothing(), await lease_of(store, JobKind.GENERATE))
    job = (await store.records.project_detail(PROJECT)).job
    assert job is not None
    assert job.error is not None
    assert (job.error.code, job.error.stage) == ("model_failed", "previews")
    assert job.error.detail.startswith("Version 0 cannot be drawn")


async def test_an_old_version_that_cannot_be_drawn_does_not_fail_later_jobs(
    store: Store, monkeypatch
):
    warnings: list[str] = []
    # Not caplog: Ray, once it runs in this process, keeps its loggers' records to itself.
    monkeypatch.setattr(
        previews.log, "warning", lambda text, *values: warnings.append(text % values)
    )

    class Nothing(FakeModels):
        async def reconstruct(self, request, report=ignore_progress):
            return some_model(0)

    await new_project(store)
    await run(store, Nothing(), await lease_of(store, JobKind.GENERATE))
    await run(store, FakeModels(), await lease_of(store, JobKind.GENERATE))
    detail = await store.records.project_detail(PROJECT)
    assert detail.job is not None
    assert detail.job.state is JobState.SUCCEEDED
    assert [row.version for row in detail.models] == [0, 1]
    assert [row.version for row in detail.previews] == [1]
    assert detail.contact_sheet is not None
    assert any("Version 0 cannot be drawn" in line for line in warnings)


async def test_a_new_attempt_makes_only_the_pictures_that_are_missing(store: Store, monkeypatch):
    await generated(store)
    make, made = previews.make_previews, []

    async def one_of_two(model, *args):
        made.append(model)
        if len(made) == 2:
            raise ReplicaDied("gone")
        return await make(model, *args)

    monkeypatch.setattr(previews, "make_previews", one_of_two)
    lease = await lease_of(store, JobKind.REFINE, num_iterations=2)
    await run(store, FakeModels(qualities=[0.5, 0.6, 0.7]), lease)
    again = await store.records.claim_job("test", 30)
    assert again is not None, "the job was released"
    first = (await store.records.project_detail(PROJECT)).previews
    assert [row.version for row in first] == [0, 1]

    models = FakeModels()
    await run(store, models, again)
    assert set(models.calls) == {"render"}
    detail = await store.records.project_detail(PROJECT)
    assert len(made) == 3
    assert [row.version for row in detail.previews] == [0, 1, 2]
    assert detail.previews[:2] == first
    assert detail.job is not None
    assert detail.job.state is JobState.SUCCEEDED
    assert set(detail.job.timings) >= {"previews-v1", "previews-v2", "contact-sheet"}


async def test_pictures_are_cancelled_between_their_renders(store: Store):
    await new_project(store)
    models = FakeModels(hold_at="render")
    lease = await lease_of(store, JobKind.GENERATE)
    task = asyncio.create_task(run(store, models, lease))
    await models.holding.wait()
    await store.records.cancel_job(lease.job.id)
    await task
    assert models.cancelled == ["render"]
    detail = await store.records.project_detail(PROJECT)
    assert detail.project.status is ProjectStatus.CANCELLED
    assert detail.previews == ()
