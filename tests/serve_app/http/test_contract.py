"""The documented endpoints answer with exactly the documented names."""

import asyncio
import io
import re

import numpy as np
import pytest
from PIL import Image

from pipeline.formats.ply import read_ply

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
        assert set(metric) >= {"iteration", "view_agreement", "psnr", "ssim", "lpips"}
        assert (metric["silhouette_iou"], metric["floaters"]) == (0.9, 0.002)
    assert refined["metrics"][1]["view_weights"]["0"] == 0.5
    assert refined["metrics"][1]["guards"] == []

    exported = (
        await service.http.get(
            f"{API}/export/{project_id}", params={"format": "glb", "optimize": "true"}
        )
    ).json()
    assert exported["format"] == "glb"
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
    assert all("view_agreement" in i for i in status["iterations"])
    for shown, metric in zip(status["iterations"], refined["metrics"], strict=True):
        for name in ("silhouette_iou", "consistency", "floaters", "guards", "view_weights"):
            assert shown[name] == metric[name], name
    assert [m["silhouette_iou"] for m in status["models"]] == [0.9, 0.9, 0.9]


async def test_asking_twice_for_an_export_answers_with_the_stored_file(service):
    project_id = await upload(service)
    await service.http.post(f"{API}/generate/{project_id}")

    async def export(query: str) -> dict:
        return (await service.http.get(f"{API}/export/{project_id}?{query}")).json()

    first = await export("format=glb&face_limit=500")
    assert await export("format=glb&face_limit=500") == first
    assert await export("format=glb&face_limit=500&texture_size=1024") == first, "the default"
    fewer = await export("format=glb&face_limit=400")
    optimised = await export("format=glb&face_limit=500&optimize=true")
    assert len({x["download_url"] for x in (first, fewer, optimised)}) == 3
    high = await export("format=glb&face_limit=500&height_m=.3")
    assert high["options"]["height_m"] == 0.3
    assert await export("format=glb&face_limit=500&height_m=0.30") == high
    unlit = await export("format=glb&face_limit=500&unlit=true")
    assert len({x["download_url"] for x in (first, high, unlit)}) == 3
    splats = await export("format=ply")
    assert await export("format=ply&face_limit=400&texture_size=64") == splats, "of no use for it"
    assert await export("format=ply&unlit=true") == splats, "never lit"
    assert [(o.format, o.optimize, o.face_limit) for o in service.models.exports] == [
        ("glb", False, 500),
        ("glb", False, 400),
        ("glb", True, 500),
        ("glb", False, 500),
        ("glb", False, 500),
        ("ply", False, 10_000),
    ]
    status = (await service.http.get(f"{API}/status/{project_id}")).json()
    assert len(status["exports"]) == 6

    # A newer model is another file.
    await service.http.post(f"{API}/generate/{project_id}")
    newer = await export("format=ply")
    assert (splats["model_version"], newer["model_version"]) == (0, 1)
    assert newer["download_url"] != splats["download_url"]


async def test_an_export_says_what_is_in_it(service):
    project_id = await upload(service)
    await service.http.post(f"{API}/generate/{project_id}")
    url = f"{API}/export/{project_id}?format=obj&optimize=true&face_limit=300&texture_size=256"
    body = (await service.http.get(url)).json()
    assert body.pop("download_url")
    assert body.pop("seconds") >= 0
    options = {"format": "obj", "optimize": True, "face_limit": 300, "texture_size": 256}
    options |= {"unlit": False, "height_m": None}
    told = {
        "format": "obj",
        "optimize": True,
        "model_version": 0,
        "file_size_bytes": 16,
        "options": options,
        "contents": {"splats": 20},
        "saved": {"bytes": 7},
        "notes": ["A fake file."],
    }
    assert body == told | {
        "file_size_mb": 0.0,
        "file_name": "final.obj.zip",
        "media_type": "application/zip",
    }
    status = (await service.http.get(f"{API}/status/{project_id}")).json()
    (row,) = status["exports"]
    file = await service.http.get(row.pop("download_url"))
    assert row == told
    assert file.headers["content-type"] == "application/zip"
    assert 'filename="final.obj.zip"' in file.headers["content-disposition"]


async def test_an_export_that_is_not_waited_for_has_the_same_answer_in_its_job(service):
    project_id = await upload(service)
    await service.http.post(f"{API}/generate/{project_id}")
    url = f"{API}/export/{project_id}?format=usdz"
    answer = await service.http.get(url, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    job = (await service.http.get(answer.headers["location"], params={"wait": 20})).json()
    assert job["result"] == (await service.http.get(url)).json()


async def test_status_shows_pictures_as_soon_as_they_are_there(service):
    project_id = await upload(service)

    async def status() -> dict:
        return (await service.http.get(f"{API}/status/{project_id}")).json()

    assert (await status())["contact_sheet_url"] is None
    service.models.hold_at = "render"
    waiting = asyncio.create_task(service.http.post(f"{API}/generate/{project_id}"))
    await service.models.holding.wait()
    before = await status()
    (model,) = before["models"]
    assert (model["thumbnail_url"], model["turntable_url"]) == (None, None)
    assert before["contact_sheet_url"] is None
    service.models.release.set()
    assert (await waiting).status_code == 200

    after = await status()
    (model,) = after["models"]
    for url, kind, name in (
        (model["thumbnail_url"], "image/png", "v0.png"),
        (model["turntable_url"], "video/mp4", "v0.mp4"),
        (after["contact_sheet_url"], "image/png", "contact_sheet.png"),
    ):
        file = await service.http.get(url)
        assert (file.status_code, file.headers["content-type"]) == (200, kind)
        assert f'filename="{name}"' in file.headers["content-disposition"]


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


async def test_the_best_of_several_candidates_is_kept_and_the_ranking_told(service):
    service.models.qualities = [0.4, 0.7, 0.5, 0.7]
    project_id = await upload(service)
    body = {"candidates": 3, "seed": 10}
    answer = (await service.http.post(f"{API}/generate/{project_id}", json=body)).json()
    *trials, last = [fit.seed for fit in service.models.fits]
    assert (sorted(trials), last) == ([10, 11, 12], 11)
    assert [c["view_agreement"] for c in answer["ranking"]] == [0.7, 0.5, 0.4]
    assert [c["chosen"] for c in answer["ranking"]] == [True, False, False]
    assert answer["view_agreement"] == 0.7
    other = await upload(service)
    alone = (await service.http.post(f"{API}/generate/{other}")).json()
    assert alone["ranking"] == []


async def test_results_of_the_release_before_are_still_answered(service):
    project_id = await upload(service)
    generated = await service.http.post(f"{API}/generate/{project_id}")
    assert generated.json()["camera"]["elevation_deg"] == 17.5
    answer = await service.http.post(f"{API}/refine/{project_id}")
    new = {"silhouette_iou", "consistency", "floaters", "guards", "view_weights"}
    async with service.store.records._pool.acquire() as connection:
        await connection.execute(
            "update jobs set result = result - 'engines' || jsonb_build_object('metrics', ("
            "select jsonb_agg(m - $1::text[]) from jsonb_array_elements(result -> 'metrics') m)) "
            "where id = $2",
            sorted(new),
            answer.json()["job_id"],
        )
    old = (await service.http.get(f"{API}/jobs/{answer.json()['job_id']}")).json()["result"]
    assert (old["engines"], old["metrics"][1]["silhouette_iou"]) == ({}, None)
    generate = generated.json()["job_id"]
    async with service.store.records._pool.acquire() as connection:
        await connection.execute(
            "update jobs set result = result - 'camera' where id = $1", generate
        )
    older = (await service.http.get(f"{API}/jobs/{generate}")).json()["result"]
    assert older["camera"] is None
    assert old["metrics"][1]["psnr"] == answer.json()["metrics"][1]["psnr"]


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
