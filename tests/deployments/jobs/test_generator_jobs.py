"""Jobs by a generator on a real store with fake models: rows, files, attempts, a kept latent."""

import asyncio

import numpy as np
import pytest

from deployments.jobs.rows import Bucket, JobKind, JobState
from deployments.jobs.store import Store
from pipeline.errors import OutOfMemory, ReplicaDied
from pipeline.flow.artifacts import decode_latent
from pipeline.formats.ply import read_ply
from serve_app.report.project_manifest import PhotoHashes, manifest_document
from tests.deployments.jobs.attempts import PROJECT, lease_of, new_project, run
from tests.fakes import FakeModels

pytestmark = pytest.mark.usefixtures("small_pictures")

OPTIONS = {"engine": "fake-generator", "num_gaussians": 40_000}


async def test_a_version_names_the_file_that_the_pass_stored(store: Store):
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE, **OPTIONS)
    await run(store, FakeModels(), lease)
    detail = await store.records.project_detail(PROJECT)
    assert detail.job is not None and detail.job.state is JobState.SUCCEEDED, detail.job
    (model,) = detail.models
    assert (model.engine, model.splat_count) == ("fake-generator", 40)
    data = await store.blobs.get(Bucket.MODELS, model.model_path)
    assert (len(read_ply(data)), model.file_size_bytes) == (40, len(data))
    commits = {c.stage: c for c in await store.records.committed(lease.job.id)}
    assert list(commits)[:5] == ["generator", "views", "depth", "photos", "splats"]
    assert set(commits["generator"].detail["hashes"]) == {"models/v0.ply", "models/latent.npz"}
    assert commits["splats"].detail["hashes"] == {}
    assert detail.job.result["engines"] == {
        "background": "fake-background",
        "generator": "fake-generator",
        "splats": "fake-splats",
    }
    document = await manifest_document(store.records, store.blobs, PROJECT, PhotoHashes())
    (step,) = document["steps"]
    assert {"models/v0.ply", "models/latent.npz", "views/00.png"} <= set(step["artefacts"])
    assert step["options"]["engine"] == "fake-generator"
    assert step["engines"]["generator"] == "fake-generator"


@pytest.mark.parametrize("stage", ["views", "depth", "photos", "splats"])
async def test_a_driver_that_dies_between_the_stages_costs_no_second_pass(store: Store, stage):
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE, **OPTIONS)
    commit = type(store.records).commit_stage

    async def broken(self, job_id, fence, made):
        if made.stage == stage:
            raise ReplicaDied("gone")
        await commit(self, job_id, fence, made)

    with pytest.MonkeyPatch.context() as dying:
        dying.setattr(type(store.records), "commit_stage", broken)
        await run(store, FakeModels(), lease)
    again = await store.records.claim_job("test", 30)
    assert again is not None
    models = FakeModels()
    await run(store, models, again)
    assert models.generated == []
    detail = await store.records.project_detail(PROJECT)
    assert detail.job is not None and detail.job.state is JobState.SUCCEEDED, detail.job
    (model,) = detail.models
    assert len(read_ply(await store.blobs.get(Bucket.MODELS, model.model_path))) == 40


async def test_another_density_comes_from_what_was_kept(store: Store):
    await new_project(store)
    await run(store, FakeModels(), await lease_of(store, JobKind.GENERATE, **OPTIONS))
    dense = {**OPTIONS, "num_gaussians": 90_000, "from_stage": "latent"}
    models = FakeModels()
    lease = await lease_of(store, JobKind.GENERATE, **dense)
    await run(store, models, lease)
    detail = await store.records.project_detail(PROJECT)
    _first, second = detail.models
    assert (second.version, second.parent, second.splat_count) == (1, 0, 90)
    commits = {c.stage: c for c in await store.records.committed(lease.job.id)}
    path = commits["generator"].detail["files"]["latent.npz"]
    again = decode_latent({"latent.npz": await store.blobs.get(Bucket.MODELS, path)})
    kept = models.generated[0].kept
    np.testing.assert_array_equal(kept.latent, again.latent)
    named = await store.records.referenced_paths(PROJECT)
    assert named is not None and path in named[Bucket.MODELS], "no sweep takes it"


async def test_a_pass_that_runs_out_of_memory_makes_half_as_many_splats(store: Store):
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE, engine="fake-generator", num_gaussians=50_000)
    await run(store, FakeModels(fail_at="generator", failure=OutOfMemory("full")), lease)
    models = FakeModels()
    await run_when_it_is_due(store, models)
    (request,) = models.generated
    assert request.num_gaussians == 32_768, "an engine makes no fewer"


async def test_a_model_that_was_kept_is_not_said_to_be_smaller(store: Store):
    await new_project(store)
    lease = await lease_of(store, JobKind.GENERATE, engine="fake-generator", num_gaussians=80_000)
    await run(store, FakeModels(fail_at="evaluate", failure=OutOfMemory("full")), lease)
    models = FakeModels()
    await run_when_it_is_due(store, models)
    assert models.generated == []
    job = await store.records.get_job(lease.job.id)
    assert job.state is JobState.SUCCEEDED
    assert job.result["splat_count"] == 80
    assert not any("ran out of memory" in note for note in job.result["notes"])


async def run_when_it_is_due(store: Store, models: FakeModels) -> None:
    again = None
    while again is None:
        await asyncio.sleep(0.05)
        again = await store.records.claim_job("test", 30)
    await run(store, models, again)


async def test_a_model_by_views_may_go_on_from_what_was_drawn_of_a_pass(store: Store):
    await new_project(store)
    await run(store, FakeModels(), await lease_of(store, JobKind.GENERATE, **OPTIONS))
    for stage, called in (("depth", "depth"), ("splats", "splats")):
        models = FakeModels()
        by_views = {"engine": "views", "from_stage": stage, "version": 0}
        await run(store, models, await lease_of(store, JobKind.GENERATE, **by_views))
        assert models.calls[0] == called
        assert models.generated == []
        (fit,) = models.fits
        assert fit.views.engine == "fake-generator"
        if stage == "splats":
            assert fit.views.photos is not None
            assert fit.views.photos.engine == "fake-generator", "from the camera that was found"
    detail = await store.records.project_detail(PROJECT)
    assert [(row.version, row.parent) for row in detail.models] == [(0, None), (1, 0), (2, 0)]
