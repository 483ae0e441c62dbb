"""Attempts of jobs on a real store with fake models, for the tests beside this module."""

from deployments.jobs.rows import Bucket, JobKind, Lease, NewJob
from deployments.jobs.runner import JobRunner, RunnerSettings
from deployments.jobs.store import Store
from pipeline.imaging.decoding import encode_png
from tests.fakes import FakeModels, some_cutout
from tests.serve_app.stores.rows import add_project

SETTINGS = RunnerSettings(lease_s=30, heartbeat_s=0.05)
PROJECT = "project-1"


async def new_project(store: Store) -> None:
    path = f"{PROJECT}/processed.png"
    for bucket in (Bucket.UPLOADS, Bucket.PROCESSED):
        await store.blobs.put(bucket, path, encode_png(some_cutout().rgba), "image/png")
    await add_project(
        store.records,
        PROJECT,
        original_path=path,
        processed_path=path,
        background_engine="fake-background",
    )


async def lease_of(store: Store, kind: JobKind, **options) -> Lease:
    values = {"seed": 1, **options} if kind is not JobKind.EXPORT else options
    await store.records.submit_job(NewJob(PROJECT, kind, values, fingerprint=kind.value))
    lease = await store.records.claim_job("test", 30)
    assert lease is not None
    return lease


async def run(store: Store, models: FakeModels, lease: Lease) -> None:
    await JobRunner(store, models.ports(), SETTINGS).run(lease)


async def generated(store: Store) -> None:
    await new_project(store)
    await run(store, FakeModels(), await lease_of(store, JobKind.GENERATE))
