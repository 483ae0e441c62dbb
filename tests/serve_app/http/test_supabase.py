"""The whole service over the Supabase store: its rows and files travel over a network."""

import asyncio
from urllib.parse import urlsplit

import httpx
import pytest

from deployments.jobs.rows import Bucket, JobState
from deployments.jobs.runner import RunnerSettings
from pipeline.formats.ply import read_ply
from serve_app.http.dependencies import Limits
from serve_app.ingress import store_state
from tests.fakes import FakeModels
from tests.gateway import Gateway
from tests.serve_app.http.conftest import Service, running
from tests.serve_app.http.test_contract import API, upload
from tests.serve_app.stores.rows import sql


@pytest.fixture
def store_kind() -> str:
    return "supabase"


async def start(service: Service, project: str, kind: str = "generate") -> str:
    """The id of a new job."""
    answer = await service.http.post(
        f"{API}/{kind}/{project}", json={"seed": 1}, headers={"Prefer": "respond-async"}
    )
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


async def ended(service: Service, job_id: str) -> dict:
    job = await service.store.records.wait_for_job(job_id, 60)
    assert job.state.ended, job
    return (await service.http.get(f"{API}/jobs/{job_id}")).json()


async def files_of(service: Service, project: str) -> dict[Bucket, tuple[str, ...]]:
    found = {b: await service.store.blobs.list_prefix(b, project) for b in Bucket}
    return {bucket: paths for bucket, paths in found.items() if paths}


async def test_the_whole_way_from_a_photo_to_nothing_left(service, quiet_gateway: Gateway):
    project = await upload(service)
    generated = await service.http.post(f"{API}/generate/{project}")
    assert generated.status_code == 200, generated.text
    refined = await service.http.post(f"{API}/refine/{project}", json={"num_iterations": 1})
    assert refined.status_code == 200, refined.text
    exported = await service.http.get(f"{API}/export/{project}", params={"format": "glb"})
    assert exported.status_code == 200, exported.text

    # Links are of the service and lead on to Storage, which needs no key.
    link = generated.json()["model_url"]
    answer = await service.http.get(link)
    assert answer.status_code == 307
    assert answer.headers["Cache-Control"] == "private, max-age=600"
    assert answer.headers["Location"].startswith(quiet_gateway.url)
    async with httpx.AsyncClient() as browser:
        file = await browser.get(answer.headers["Location"])
    assert len(read_ply(file.content)) == 20
    assert (await service.http.get(link.replace("v0", "v1"))).status_code == 403

    status = (await service.http.get(f"{API}/status/{project}")).json()
    assert status["project"]["status"] == "completed"
    assert len(status["view_urls"]) == 16
    for url in status["view_urls"]:
        assert (await service.http.get(url)).status_code == 307

    assert set(await files_of(service, project)) == {*Bucket}
    assert (await service.http.delete(f"{API}/projects/{project}")).status_code == 204
    assert await files_of(service, project) == {}
    assert await sql(quiet_gateway.dsn, "select name from storage.objects") == []
    assert (await service.http.get(f"{API}/status/{project}")).status_code == 404


async def test_status_costs_one_request(service, quiet_gateway: Gateway):
    project = await upload(service)
    assert (await service.http.post(f"{API}/generate/{project}")).status_code == 200
    quiet_gateway.requests.clear()
    answer = await service.http.get(f"{API}/status/{project}")
    assert len(answer.json()["view_urls"]) == 16
    # The task that stands in for the dispatcher asks beside it.
    asked = [r.path for r in quiet_gateway.requests if not r.path.endswith("claim_job_v1")]
    assert asked == ["/rest/v1/rpc/project_detail_v1"]


@pytest.mark.slow
@pytest.mark.faults
async def test_a_project_that_is_away_for_a_while_costs_a_pause(service, quiet_gateway: Gateway):
    service.models.hold_at = "splats"
    project = await upload(service)
    job_id = await start(service, project)
    await service.models.holding.wait()
    quiet_gateway.faults.down(True)
    service.models.release.set()
    await asyncio.sleep(2)
    quiet_gateway.faults.down(False)
    job = await ended(service, job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 1)
    assert service.models.calls.count("splats") == 1


@pytest.mark.slow
@pytest.mark.faults
async def test_a_project_that_is_away_for_long_costs_an_attempt_and_no_stage(
    small_pictures, store_settings, quiet_gateway: Gateway
):
    models = FakeModels(qualities=[0.5], hold_at="splats")
    driver = RunnerSettings(lease_s=2, heartbeat_s=0.05, patience_s=1)
    async with running(store_settings, models, Limits(), driver=driver) as service:
        project = await upload(service)
        job_id = await start(service, project)
        await models.holding.wait()
        async with asyncio.timeout(20):
            while len(await service.store.records.committed(job_id)) < 2:
                await asyncio.sleep(0.05)
        quiet_gateway.faults.down(True)
        models.release.set()
        await asyncio.sleep(6)  # longer than its patience and its lease
        quiet_gateway.faults.down(False)
        job = await ended(service, job_id)
        assert (job["state"], job["attempt"]) == ("succeeded", 2)
        assert (models.calls.count("views"), models.calls.count("depth")) == (1, 1)
        named = await service.store.records.referenced_paths(project)
        files = await files_of(service, project)
        assert named is not None
        assert {bucket: set(paths) for bucket, paths in files.items()} == {
            bucket: set(paths) for bucket, paths in named.items() if paths
        }, "no file without a row, no row without a file"


@pytest.mark.slow
@pytest.mark.faults
async def test_slow_and_busy_services_are_sat_out(service, quiet_gateway: Gateway):
    project = await upload(service)
    quiet_gateway.faults.fail(status=429, path="/storage/v1/object/", times=5, retry_after="0.1")
    quiet_gateway.faults.fail(status=503, path="commit_stage_v1", times=2)
    quiet_gateway.faults.drop(path="heartbeat_v1", times=2)
    quiet_gateway.faults.fail(status=504, path="finish_job_v1", after_work=True)
    job = await ended(service, await start(service, project))
    assert (job["state"], job["attempt"]) == ("succeeded", 1)


@pytest.mark.slow
@pytest.mark.faults
async def test_a_job_whose_row_is_deleted_stops(service, quiet_gateway: Gateway):
    """Somebody cleans up in the table editor."""
    service.models.hold_at = "splats"
    project = await upload(service)
    job_id = await start(service, project)
    await service.models.holding.wait()
    await sql(quiet_gateway.dsn, "delete from projects where id = $1", project)
    async with asyncio.timeout(20):
        while service.models.cancelled != ["splats"]:
            await asyncio.sleep(0.02)
    assert (await service.http.get(f"{API}/jobs/{job_id}")).status_code == 404
    service.models.hold_at = None
    other = await start(service, await upload(service))
    assert (await ended(service, other))["state"] == JobState.SUCCEEDED, "the driver goes on"


async def test_ready_names_what_is_wrong(service, quiet_gateway: Gateway):
    assert await store_state(service.store) is None
    quiet_gateway.faults.down(True)
    away = await store_state(service.store)
    assert away is not None
    assert away.public == "Supabase cannot be reached."
    quiet_gateway.faults.down(False)
    quiet_gateway.faults.fail(status=540, body={"message": "Project paused"}, times=9)
    paused = await store_state(service.store)
    assert paused is not None
    assert "Project paused" in str(paused)
    assert paused.public == "A part of the service is not there now; try again later."


async def test_a_store_that_is_away_is_told_to_clients(idle_service, quiet_gateway: Gateway):
    project = await upload(idle_service)
    quiet_gateway.faults.down(True)
    for request in (
        idle_service.http.get(f"{API}/status/{project}"),
        idle_service.http.post(f"{API}/generate/{project}"),
        idle_service.http.get(f"{API}/projects"),
    ):
        answer = await request
        assert answer.status_code == 503
        assert answer.json()["code"] == "unavailable"
        assert urlsplit(quiet_gateway.url).netloc not in answer.text
