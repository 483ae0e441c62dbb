"""The documented endpoints answer with exactly the documented names."""

import asyncio
import io
import re

import numpy as np
import pytest
from PIL import Image

from pipeline.formats import read_ply

API = "/api/v1"


def photo(size=(64, 48), mode="RGB", **save) -> bytes:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, save.pop("format", "PNG"), **save)
    return buffer.getvalue()


async def upload(service, data: bytes | None = None, **form) -> str:
    files = {"file": ("photo.png", photo() if data is None else data)}
    answer = await service.http.post(f"{API}/upload", files=files, data=form)
    assert answer.status_code == 200, answer.text
    return answer.json()["project_id"]


async def test_upload_answers_with_urls_that_work(service):
    files = {"file": ("photo.png", photo())}
    answer = await service.http.post(f"{API}/upload", files=files)
    body = answer.json()
    assert set(body) >= {"project_id", "original_url", "processed_url"}
    original = await service.http.get(body["original_url"])
    assert original.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(original.content)).size == (64, 48)
    processed = await service.http.get(body["processed_url"])
    assert Image.open(io.BytesIO(processed.content)).mode == "RGBA"


async def test_the_whole_way_with_exactly_the_documented_names(service):
    project_id = await upload(service)
    generated = await service.http.post(f"{API}/generate/{project_id}")
    body = generated.json()
    assert generated.status_code == 200, body
    assert body["status"] == "completed"
    assert body["views_generated"] == 16
    assert body["depth_maps_generated"] == 16
    assert len(read_ply((await service.http.get(body["model_url"])).content)) == 20

    options = {"num_iterations": 3, "learning_rate": 0.01, "views_to_refine": [0, 4, 8]}
    refined = (await service.http.post(f"{API}/refine/{project_id}", json=options)).json()
    assert refined["status"] == "refined"
    assert refined["iterations_completed"] == 2
    assert refined["converged"] is True
    assert refined["final_model_url"]
    for metric in refined["metrics"]:
        assert set(metric) >= {"iteration", "overall_quality", "psnr", "ssim", "lpips"}

    exported = (
        await service.http.get(f"{API}/export/{project_id}", params={"format": "splat"})
    ).json()
    assert exported["format"] == "splat"
    content = (await service.http.get(exported["download_url"])).content
    assert exported["file_size_mb"] == round(len(content) / 1e6, 3)

    status = (await service.http.get(f"{API}/status/{project_id}")).json()
    assert set(status["project"]) >= {"status", "current_step", "progress_percentage"}
    assert status["project"]["status"] == "completed"
    assert status["project"]["progress_percentage"] == 100
    progress = status["pipeline_progress"]
    assert progress["multiview_images"] == {"completed": 16, "total": 16}
    assert progress["depth_maps"] == {"completed": 16, "total": 16}
    assert progress["model_versions"] == 3
    assert progress["refinement_iterations"] == 2
    assert [i["iteration_number"] for i in status["iterations"]] == [0, 1, 2]
    assert all("overall_quality" in i for i in status["iterations"])


async def test_asking_twice_for_an_export_answers_with_the_stored_file(service):
    project_id = await upload(service)
    await service.http.post(f"{API}/generate/{project_id}")
    first = (await service.http.get(f"{API}/export/{project_id}?format=ply")).json()
    again = (await service.http.get(f"{API}/export/{project_id}?format=ply")).json()
    assert again == first
    other = (await service.http.get(f"{API}/export/{project_id}?format=ply&optimize=true")).json()
    assert other["download_url"] != first["download_url"]
    status = (await service.http.get(f"{API}/status/{project_id}")).json()
    assert len(status["exports"]) == 2


async def test_respond_async_answers_202_with_the_job(service):
    project_id = await upload(service)
    answer = await service.http.post(
        f"{API}/generate/{project_id}", headers={"Prefer": "respond-async"}
    )
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.headers["retry-after"]
    job = (await service.http.get(answer.headers["location"], params={"wait": 20})).json()
    assert job["state"] == "succeeded"
    assert job["progress"] == 1
    assert job["result"]["views_generated"] == 16, "what a call that waits would have answered"
    assert (await service.http.get(job["result"]["model_url"])).status_code == 200
    assert set(job) >= {
        "id", "project_id", "kind", "state", "stage", "progress", "eta_s", "queue_position",
        "attempt", "timings", "error", "result",
    }  # fmt: skip


async def test_a_wait_that_is_too_short_answers_202(idle_service):
    project_id = await upload(idle_service)
    answer = await idle_service.http.post(
        f"{API}/generate/{project_id}", headers={"Prefer": "wait=0"}
    )
    assert answer.status_code == 202
    body = answer.json()
    assert (body["state"], body["queue_position"]) == ("queued", 1)


async def test_a_seed_is_echoed_and_drawn_when_absent(service):
    project_id = await upload(service)
    body = (await service.http.post(f"{API}/generate/{project_id}", json={"seed": 42})).json()
    assert body["seed"] == 42
    assert service.models.fits[0].seed == 42
    again = (await service.http.post(f"{API}/generate/{project_id}")).json()
    assert again["seed"] == service.models.fits[1].seed


async def test_the_same_idempotency_key_returns_the_first_answer(service):
    project_id = await upload(service)
    headers = {"Idempotency-Key": "key-1"}
    url = f"{API}/generate/{project_id}"
    first = (await service.http.post(url, headers=headers)).json()
    again = (await service.http.post(url, headers=headers)).json()
    assert again["job_id"] == first["job_id"]
    assert len(service.models.fits) == 1
    other = await service.http.post(url, headers=headers, json={"seed": 1})
    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_key_reused"


async def test_cancel_ends_a_queued_job_and_is_harmless_afterwards(idle_service):
    project_id = await upload(idle_service)
    answer = await idle_service.http.post(
        f"{API}/generate/{project_id}", headers={"Prefer": "respond-async"}
    )
    job_url = answer.headers["location"]
    for _ in range(2):
        cancelled = await idle_service.http.post(f"{job_url}/cancel")
        assert cancelled.status_code == 202
        assert cancelled.json()["state"] == "cancelled"


async def test_a_waiting_client_is_told_that_its_job_was_cancelled(service):
    project_id = await upload(service)
    service.models.hold_at = "depth"
    waiting = asyncio.create_task(service.http.post(f"{API}/generate/{project_id}"))
    await service.models.holding.wait()
    async with asyncio.timeout(10):
        status = (await service.http.get(f"{API}/status/{project_id}")).json()
        while status["project"]["status"] != "depth_estimating":
            await asyncio.sleep(0.02)
            status = (await service.http.get(f"{API}/status/{project_id}")).json()
    await service.http.post(f"{API}/jobs/{status['job']['id']}/cancel")
    answer = await waiting
    assert (answer.status_code, answer.json()["code"]) == (409, "cancelled")


async def test_files_have_ranges_and_their_links_cannot_be_changed(service):
    project_id = await upload(service)
    status = (await service.http.get(f"{API}/status/{project_id}")).json()
    url = status["project"]["original_url"]
    part = await service.http.get(url, headers={"Range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, b"PNG")
    for changed in (url.replace("original", "processed"), url.partition("?")[0], url[:-2] + "xx"):
        refused = await service.http.get(changed)
        assert (refused.status_code, refused.json()["code"]) == (403, "bad_signature")


@pytest.mark.parametrize("path", ["/health", "/docs", "/openapi.json"])
async def test_root_pages_answer(service, path):
    assert (await service.http.get(path)).status_code == 200


async def test_the_documentation_page_needs_no_other_site(service):
    page = (await service.http.get("/docs")).text
    assert "https://" not in page
    for asset in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert (await service.http.get(asset)).status_code == 200, asset


async def test_ready_says_what_is_missing(service):
    assert (await service.http.get("/ready")).json() == {"ready": True, "checks": {"store": "ok"}}
    service.not_ready["Splats"] = "No C++ compiler was found."
    answer = await service.http.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["checks"]["Splats"] == "No C++ compiler was found."
