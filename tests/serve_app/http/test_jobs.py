"""What a job's row keeps of a request, what the job resource tells, and the queue."""

import base64
import hashlib
from dataclasses import replace

import pytest

from deployments.jobs.commits import StageCommit
from deployments.jobs.outbox import WebhookRules
from deployments.jobs.rows import Heartbeat, JobKind, JobState, NewJob
from tests.serve_app.http.test_contract import API, upload

RULES = WebhookRules("whsec_" + base64.b64encode(bytes(range(24))).decode())
HOOK = "https://example.com/hook"


def with_services(service, monkeypatch, **changes) -> None:
    monkeypatch.setattr(service.app.state, "services", replace(service.services, **changes))


async def newest_row(service) -> dict:
    async with service.store.records._pool.acquire() as connection:
        row = await connection.fetchrow(
            "select id, client, shape, webhook_url, options from jobs "
            "order by queue_number desc limit 1"
        )
    return dict(row)


ASYNC = {"Prefer": "respond-async"}


@pytest.mark.parametrize(
    ("call", "body", "shape"),
    [
        ("generate", {}, "standard:-:1:-"),
        ("generate", {"preset": "draft", "num_gaussians": 900, "candidates": 2}, "draft:900:2:-"),
        ("generate", {"steps": 25}, "standard:-:1:25"),
        ("refine", {}, "3:all"),
        ("refine", {"num_iterations": 5, "views_to_refine": [0, 4]}, "5:2"),
    ],
)
async def test_a_job_keeps_what_its_time_depends_on(service, call, body, shape):
    project_id = await upload(service)
    if call == "refine":
        await service.http.post(f"{API}/generate/{project_id}")
    answer = await service.http.post(f"{API}/{call}/{project_id}", json=body, headers=ASYNC)
    assert answer.status_code == 202, answer.text
    row = await newest_row(service)
    assert (row["id"], row["shape"]) == (answer.json()["id"], shape)
    assert "webhook_url" not in row["options"]


async def test_an_export_keeps_its_shape_and_its_webhook(service, monkeypatch):
    with_services(service, monkeypatch, webhooks=RULES)
    project_id = await upload(service)
    await service.http.post(f"{API}/generate/{project_id}")
    url = f"{API}/export/{project_id}?format=glb&optimize=true"
    first = await service.http.get(f"{url}&webhook_url={HOOK}")
    assert first.status_code == 200, first.text
    row = await newest_row(service)
    assert (row["shape"], row["webhook_url"]) == ("glb:True", HOOK)
    assert (await service.http.get(url)).json() == first.json(), "the webhook is no option of it"


@pytest.mark.parametrize("call", ["generate", "refine"])
async def test_a_webhook_is_kept_and_is_part_of_the_request(service, monkeypatch, call):
    with_services(service, monkeypatch, webhooks=RULES)
    project_id = await upload(service)
    await service.http.post(f"{API}/generate/{project_id}")
    headers = {"Idempotency-Key": "k"}
    url, body = f"{API}/{call}/{project_id}", {"seed": 1, "webhook_url": HOOK}
    first = await service.http.post(url, json=body, headers=headers)
    assert first.status_code == 200, first.text
    assert (await newest_row(service))["webhook_url"] == HOOK
    again = await service.http.post(url, json=body, headers=headers)
    assert again.json()["job_id"] == first.json()["job_id"]
    other = await service.http.post(url, json={"seed": 1}, headers=headers)
    assert other.json()["code"] == "idempotency_key_reused"


@pytest.mark.parametrize(
    "bad",
    ["", "nonsense", "http://example.com/", "https://10.0.0.1/", "https://u:p@example.com/",
     "https://example.com/" + "x" * 2000],
)  # fmt: skip
async def test_a_bad_webhook_is_422_before_anything_is_done(service, monkeypatch, bad):
    with_services(service, monkeypatch, webhooks=RULES)
    project_id = await upload(service)
    await service.http.post(f"{API}/generate/{project_id}")
    before = await newest_row(service)
    for answer in (
        await service.http.post(f"{API}/generate/{project_id}", json={"webhook_url": bad}),
        await service.http.post(f"{API}/refine/{project_id}", json={"webhook_url": bad}),
        await service.http.get(f"{API}/export/{project_id}", params={"webhook_url": bad}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_option"), answer.text
    assert await newest_row(service) == before


async def test_a_webhook_of_a_service_without_them_is_422_and_says_so(idle_service):
    project_id = await upload(idle_service)
    answer = await idle_service.http.post(
        f"{API}/generate/{project_id}", json={"webhook_url": HOOK}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_option")
    assert "not configured" in answer.json()["detail"]


async def test_clients_are_told_apart_by_address_or_by_the_header_that_is_named(
    idle_service, monkeypatch
):
    def word(name: str) -> str:
        return hashlib.sha256(name.encode()).hexdigest()[:16]

    async def client(**headers: str) -> str:
        project_id = await upload(idle_service)
        answer = await idle_service.http.post(
            f"{API}/generate/{project_id}", headers=ASYNC | headers
        )
        await idle_service.http.post(f"{API}/jobs/{answer.json()['id']}/cancel")
        return (await newest_row(idle_service))["client"]

    by_address = word("127.0.0.1")
    assert await client() == by_address
    assert await client(**{"X-Api-User": "ann"}) == by_address, "anybody can say that"
    with_services(idle_service, monkeypatch, client_header="X-Api-User")
    assert await client(**{"X-Api-User": "ann"}) == word("ann")
    assert await client() == by_address


async def test_a_job_tells_what_it_does_and_what_it_took(idle_service):
    project_id = await upload(idle_service)
    answer = await idle_service.http.post(f"{API}/generate/{project_id}", headers=ASYNC)
    job = answer.json()
    assert (job["step"], job["memory"], job["cancel_requested"]) == ("", {}, False)
    assert job["events_url"] == f"http://test{API}/jobs/{job['id']}/events"
    records = idle_service.store.records
    lease = await records.claim_job("test", 30)
    assert lease is not None
    beat = await records.heartbeat(
        job["id"], lease.fence, lease_s=30, stage="views", progress=0.1, step="step 12 of 50"
    )
    assert beat == Heartbeat(owned=True, cancel_requested=False)
    memory = {"Driver": 1000, "Views": 2000}
    detail = {"peak_memory_bytes": 1000, "replica_peak_memory_bytes": {"Views": 2000}}
    await records.commit_stage(job["id"], lease.fence, StageCommit("views", 1.5, detail=detail))
    url = f"{API}/jobs/{job['id']}"
    job = (await idle_service.http.get(url)).json()
    assert (job["stage"], job["step"]) == ("views", "step 12 of 50")
    assert job["memory"] == {"views": memory}
    assert (await idle_service.http.post(f"{url}/cancel")).json()["cancel_requested"] is True


async def test_a_job_like_others_says_how_long_it_will_take(idle_service, monkeypatch):
    records = idle_service.store.records
    queue, asked = type(records).queue, []

    async def counted(self):
        asked.append(1)
        return await queue(self)

    monkeypatch.setattr(type(records), "queue", counted)
    jobs = []
    for _ in range(3):
        project_id = await upload(idle_service)
        answer = await idle_service.http.post(f"{API}/generate/{project_id}", headers=ASYNC)
        jobs.append(answer.json())
        assert jobs[-1]["eta_s"] is None, "nothing like it has been done yet"
    lease = await records.claim_job("test", 30)
    assert lease is not None
    assert lease.job.id == jobs[0]["id"]
    for stage, seconds in (("views", 20.0), ("splats", 40.0)):
        await records.commit_stage(lease.job.id, lease.fence, StageCommit(stage, seconds))
    result = {"model_path": "x", "views_generated": 16, "depth_maps_generated": 16,
              "model_version": 0, "engines": {}, "seed": 1, "splat_count": 1, "psnr": 1.0,
              "ssim": 1.0, "lpips": None, "view_agreement": 1.0, "notes": []}  # fmt: skip
    await records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED, result=result)

    async def job(number: int) -> dict:
        return (await idle_service.http.get(f"{API}/jobs/{jobs[number]['id']}")).json()

    assert asked == []
    assert ((await job(0))["eta_s"], (await job(1))["eta_s"]) == (None, 60)
    assert asked == [], "nobody is before it"
    assert (await job(2))["eta_s"] == 120
    assert asked == [1]
    lease = await records.claim_job("test", 30)
    assert lease is not None
    running = await job(1)
    assert running["state"] == "running"
    assert 0 < running["eta_s"] <= 60
    status = (await idle_service.http.get(f"{API}/status/{lease.job.project_id}")).json()
    assert 0 < status["job"]["eta_s"] <= running["eta_s"]
    assert asked == [1], "the status of a running job is one question"


async def test_the_queue_is_told_by_kind(service):
    url = f"{API}/queue"
    empty = {"generate": 0, "refine": 0, "export": 0}
    told = {
        "queued": 0,
        "running": 0,
        "max_running_jobs": 4,
        "queued_by_kind": empty,
        "running_by_kind": empty,
    }
    assert (await service.http.get(url)).json() == told
    service.models.hold_at = "views"
    for _ in range(3):
        project_id = await upload(service)
        await service.store.records.submit_job(
            NewJob(project_id, JobKind.GENERATE, {"seed": 1}, fingerprint="x")
        )
    await service.models.holding.wait()
    assert (await service.http.get(url)).json() == {
        "queued": 2,
        "running": 1,
        "max_running_jobs": 4,
        "queued_by_kind": {**empty, "generate": 2},
        "running_by_kind": {**empty, "generate": 1},
    }
