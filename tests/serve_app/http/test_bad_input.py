"""Bad input gets a problem document and leaves nothing behind."""

import asyncio
import io
import json
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from deployments.jobs.rows import Bucket, JobKind, NewJob
from pipeline.engines.registry import EngineChoice
from pipeline.errors import InvalidInput, ModelFailed, Unavailable
from pipeline.file_types import FORMATS
from serve_app.stores.shared_folder import MARKER
from tests.serve_app.http.test_contract import API, photo, upload


def png_header_only(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64))


def animated_gif() -> bytes:
    frames = [Image.new("RGB", (64, 64), (i * 60, 0, 0)) for i in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def plain() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (128, 128, 128)).save(buffer, "PNG")
    return buffer.getvalue()


def see_through() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA", (64, 64), (10, 10, 10, 0)).save(buffer, "PNG")
    return buffer.getvalue()


BAD = {
    "not an image": b"This is a letter, not a picture." * 20,
    "zero bytes": b"",
    "truncated": photo((200, 200), format="JPEG")[:-4000],
    "1x1": photo((1, 1)),
    "40,000 x 40,000 header": png_header_only(40_000, 40_000),
    "animated": animated_gif(),
    "no foreground": plain(),
    "fully transparent": see_through(),
}


async def left_behind(service) -> tuple[int, list[str]]:
    """Number of projects, and every file of one."""
    async with service.store.records._pool.acquire() as connection:
        projects = await connection.fetchval("select count(*) from projects")
    found = (path for path in service.files_dir.rglob("*") if path.is_file())
    files = [str(path) for path in found if path.name != MARKER]
    return projects, files


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_photo_is_refused_with_its_reason_and_leaves_nothing(service, kind):
    answer = await service.http.post(f"{API}/upload", files={"file": ("p", BAD[kind])})
    body = answer.json()
    assert answer.status_code == 422, body
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(body) >= {
        "type", "title", "status", "detail", "instance", "code", "retryable", "request_id",
    }  # fmt: skip
    assert body["code"] == "invalid_image"
    assert len(body["detail"]) > 15
    assert await left_behind(service) == (0, [])


@pytest.mark.parametrize(
    "data",
    [
        photo(mode="CMYK", format="JPEG"),
        photo(mode="L"),
        photo(mode="P"),
    ],
    ids=["CMYK", "grey", "palette"],
)
async def test_unusual_photos_are_accepted(service, data):
    await upload(service, data)


async def test_a_photo_with_16_bits_is_scaled_not_clipped(service):
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(ramp).save(buffer, "PNG")
    project_id = await upload(service, buffer.getvalue())
    stored = await service.store.blobs.get(Bucket.UPLOADS, f"{project_id}/original.png")
    seen = np.asarray(Image.open(io.BytesIO(stored)))[..., 0]
    assert abs(int(np.median(seen)) - 127) < 5


async def test_exif_rotation_is_honoured(service):
    exif = Image.Exif()
    exif[0x0112] = 6
    project_id = await upload(service, photo((64, 48), format="JPEG", exif=exif))
    stored = await service.store.blobs.get(Bucket.UPLOADS, f"{project_id}/original.png")
    assert Image.open(io.BytesIO(stored)).size == (48, 64)


async def test_alpha_given_by_the_user_is_kept(service):
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[16:48, 20:40] = (200, 30, 30, 255)
    buffer = io.BytesIO()
    Image.fromarray(rgba).save(buffer, "PNG")
    project_id = await upload(service, buffer.getvalue())
    assert "background" not in service.models.calls
    stored = await service.store.blobs.get(Bucket.PROCESSED, f"{project_id}/processed.png")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(stored)))[..., 3], rgba[..., 3])


async def test_remove_bg_false_takes_the_whole_photo(service):
    project_id = await upload(service, remove_bg="false")
    assert "background" not in service.models.calls
    stored = await service.store.blobs.get(Bucket.PROCESSED, f"{project_id}/processed.png")
    assert np.asarray(Image.open(io.BytesIO(stored)))[..., 3].min() == 255


async def test_a_file_that_is_too_large_is_refused_before_it_is_read_whole(service):
    read = 0

    async def body():
        nonlocal read
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="p"\r\n\r\n'
        for _ in range(1000):
            read += 64 * 1024
            yield bytes(64 * 1024)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = await service.http.post(f"{API}/upload", content=body(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    limit = service.limits.max_photos_bytes
    assert read < limit + 256 * 1024, "little more than the limit was taken from the client"
    declared = await service.http.post(
        f"{API}/upload", content=b"x", headers={**headers, "Content-Length": "999999999"}
    )
    assert declared.status_code == 413
    assert declared.headers["content-type"] == "application/problem+json"


async def test_an_upload_that_is_no_form_is_415(service):
    answer = await service.http.post(f"{API}/upload", content=photo())
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert (await service.http.post(f"{API}/upload", files={"other": photo()})).status_code == 422


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "generate/nobody"),
        ("POST", "refine/nobody"),
        ("GET", "export/nobody?format=ply"),
        ("GET", "status/nobody"),
        ("GET", "jobs/nobody"),
        ("POST", "jobs/nobody/cancel"),
    ],
)
async def test_an_unknown_id_is_404(service, method, path):
    answer = await service.http.request(method, f"{API}/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_an_id_that_no_project_can_have_is_refused(service):
    answer = await service.http.get(f"{API}/status/%00")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


@pytest.mark.parametrize("path", ["refine/{}", "export/{}?format=ply"])
async def test_refine_and_export_before_generate_are_409(service, path):
    project_id = await upload(service)
    method = "POST" if path.startswith("refine") else "GET"
    answer = await service.http.request(method, f"{API}/{path.format(project_id)}")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_generated_yet")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("generate", {"seed": "seven"}, "seed"),
        ("generate", {"colour": "red"}, "colour"),
        ("generate", {"preset": "ultra"}, "preset"),
        ("generate", {"elevation_deg": 60.5}, "elevation_deg"),
        ("generate", {"num_gaussians": 1.5}, "num_gaussians"),
        ("generate", {"candidates": 0}, "candidates"),
        ("generate", {"candidates": 9}, "candidates"),
        ("generate", {"candidates": "all"}, "candidates"),
        ("refine", {"num_iterations": 0}, "num_iterations"),
        ("refine", {"num_iterations": 101}, "num_iterations"),
        ("refine", {"num_iterations": 2.5}, "num_iterations"),
        ("refine", {"learning_rate": -1}, "learning_rate"),
        ("refine", {"learning_rate": 0}, "learning_rate"),
        ("refine", {"strength": 1.5}, "strength"),
        ("refine", {"strength": False}, "strength"),
        ("refine", {"strength": "0.5"}, "strength"),
        ("generate", {"elevation_deg": "30"}, "elevation_deg"),
        ("refine", {"views_to_refine": [-1]}, "views_to_refine"),
        ("refine", {"views_to_refine": [3, 3]}, "views_to_refine"),
        ("refine", {"steps_per_iteration": 1}, "steps_per_iteration"),
        ("refine", {"views_to_refine": []}, "views_to_refine"),
        ("refine", {"views_to_refine": [16]}, "views_to_refine"),
        ("refine", {"views_to_refine": [0, 11]}, "views_to_refine"),
        ("refine", {"views_to_refine": "all"}, "views_to_refine"),
    ],
)
async def test_a_bad_option_is_422_and_named(service, path, body, field):
    project_id = await upload(service)
    answer = await service.http.post(f"{API}/{path}/{project_id}", json=body)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "invalid_option"), problem
    assert field in problem["detail"]


async def test_what_the_engines_cannot_do_is_422_and_no_job(service):
    engines = EngineChoice(enhancer="sdxl", views="syncdreamer")
    project_id = await upload(service)
    await service.http.post(f"{API}/generate/{project_id}")
    service.app.state.services = replace(service.services, engines=engines)
    before = await service.store.records.project_jobs(project_id)
    for path, body, told in (
        ("refine", {"strength": 0}, "strength of the sdxl enhancer"),
        ("refine", {"negative_prompt": "blur"}, "negative_prompt has no effect"),
        ("generate", {"steps": 30}, "steps of the ddim sampler"),
        ("generate", {"elevation_deg": 50}, "elevation_deg of the syncdreamer engine"),
    ):
        answer = await service.http.post(f"{API}/{path}/{project_id}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_option")
        assert told in answer.json()["detail"]
    assert await service.store.records.project_jobs(project_id) == before


async def test_a_whole_number_may_be_written_with_a_point(service):
    project_id = await upload(service)
    body = {"seed": 7.0, "elevation_deg": 20, "num_gaussians": 1e3}
    answer = await service.http.post(f"{API}/generate/{project_id}", json=body)
    assert (answer.status_code, answer.json()["seed"]) == (200, 7)
    assert service.models.fits[0].num_gaussians == 1000


async def test_refine_of_a_cancelled_or_failed_generate_is_409(service):
    project_id = await upload(service)
    service.models.hold_at = "splats"
    waiting = asyncio.create_task(service.http.post(f"{API}/generate/{project_id}"))
    await service.models.holding.wait()
    job = (await service.http.get(f"{API}/status/{project_id}")).json()["job"]
    await service.http.post(f"{API}/jobs/{job['id']}/cancel")
    assert (await waiting).json()["code"] == "cancelled"
    service.models.hold_at = None
    refused = await service.http.post(f"{API}/refine/{project_id}")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_generated_yet")

    service.models.fail_at, service.models.failure = "splats", ModelFailed("no fit")
    assert (await service.http.post(f"{API}/generate/{project_id}")).status_code == 500
    refused = await service.http.post(f"{API}/refine/{project_id}")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_generated_yet")


async def test_json_that_is_none_is_422(service):
    project_id = await upload(service)
    answer = await service.http.post(
        f"{API}/generate/{project_id}", content=b"{", headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422


async def test_a_format_that_does_not_exist_is_422_and_names_those_that_do(service):
    project_id = await upload(service)
    answer = await service.http.get(f"{API}/export/{project_id}", params={"format": "docx"})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "invalid_option")
    for name in FORMATS:
        assert name in problem["detail"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("face_limit=99", "face_limit"),
        ("face_limit=200001", "face_limit"),
        ("face_limit=many", "face_limit"),
        ("face_limit=1.5", "face_limit"),
        ("texture_size=63", "texture_size"),
        ("texture_size=4097", "texture_size"),
        ("height_m=0", "height_m"),
        ("height_m=1001", "height_m"),
        ("height_m=nan", "height_m"),
        ("unlit=bright", "unlit"),
        ("optimize=perhaps", "optimize"),
        ("optimise=true", "optimise"),
        ("format=", "format"),
    ],
)
async def test_a_bad_option_of_an_export_is_422_and_named(service, query, field):
    project_id = await upload(service)
    answer = await service.http.get(f"{API}/export/{project_id}?{query}")
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "invalid_option"), problem
    assert field in problem["detail"]


async def test_a_model_with_nothing_to_export_is_a_refused_request(service):
    project_id = await upload(service)
    await service.http.post(f"{API}/generate/{project_id}")
    service.models.fail_at = "export"
    service.models.failure = InvalidInput("The model has no surface.")
    answer = await service.http.get(f"{API}/export/{project_id}?format=glb")
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["stage"]) == (
        422,
        "invalid_input",
        "export",
    )
    assert problem["detail"] == "The model has no surface."


async def test_a_second_job_on_a_busy_project_names_the_first(service):
    project_id = await upload(service)
    service.models.hold_at = "views"
    first = asyncio.create_task(service.http.post(f"{API}/generate/{project_id}"))
    await service.models.holding.wait()
    answer = await service.http.post(f"{API}/generate/{project_id}")
    job = (await service.http.get(f"{API}/status/{project_id}")).json()["job"]
    assert (answer.status_code, answer.json()["code"]) == (409, "project_busy")
    assert answer.json()["job_id"] == job["id"]
    service.models.release.set()
    assert (await first).status_code == 200


async def test_a_failed_job_names_stage_and_cause(service):
    project_id = await upload(service)
    service.models.fail_at = "depth"
    service.models.failure = ModelFailed.openly("no depth today")
    answer = await service.http.post(f"{API}/generate/{project_id}")
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["stage"]) == (500, "model_failed", "depth")
    assert problem["detail"] == "no depth today"
    service.models.fail_at = None
    assert (await service.http.post(f"{API}/generate/{project_id}")).status_code == 200


async def test_a_store_that_fails_in_an_upload_leaves_nothing(service, monkeypatch):
    put = type(service.store.blobs).put

    async def half_broken(self, bucket, *args):
        if bucket is Bucket.PROCESSED:
            raise Unavailable("The disk is full.")
        await put(self, bucket, *args)

    with monkeypatch.context() as broken:
        broken.setattr(type(service.store.blobs), "put", half_broken)
        answer = await service.http.post(f"{API}/upload", files={"file": ("p", photo())})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert await left_behind(service) == (0, [])


async def test_a_client_that_goes_away_in_an_upload_leaves_all_or_nothing(service, monkeypatch):
    put, storing = type(service.store.blobs).put, asyncio.Event()

    async def slow(self, *args):
        storing.set()
        await asyncio.sleep(0.05)
        await put(self, *args)

    monkeypatch.setattr(type(service.store.blobs), "put", slow)
    request = asyncio.create_task(
        service.http.post(f"{API}/upload", files={"file": ("p", photo())})
    )
    await storing.wait()
    request.cancel()
    await asyncio.wait({request})
    async with asyncio.timeout(10):
        while not (await service.http.get(f"{API}/projects")).json()["projects"]:
            await asyncio.sleep(0.02)
    projects, files = await left_behind(service)
    assert (projects, len(files)) == (1, 2)


async def test_a_background_remover_that_hangs_is_503(service, monkeypatch):
    hurried = replace(service.limits, upload_timeout_s=0.1)
    monkeypatch.setattr(service.app.state, "services", replace(service.services, limits=hurried))
    service.models.hold_at = "background"
    answer = await service.http.post(f"{API}/upload", files={"file": ("p", photo())})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert service.models.cancelled == ["background"]


async def test_a_full_queue_is_503_with_retry_after(idle_service):
    for _ in range(3):
        project_id = await upload(idle_service)
        await idle_service.store.records.submit_job(
            NewJob(project_id, JobKind.GENERATE, {"seed": 1}, fingerprint="x")
        )
    project_id = await upload(idle_service)
    answer = await idle_service.http.post(f"{API}/generate/{project_id}")
    assert (answer.status_code, answer.json()["code"]) == (503, "too_busy")
    assert answer.headers["retry-after"]


async def test_a_fault_of_ours_tells_no_secrets(service, monkeypatch):
    async def broken(*_args, **_kwargs):
        raise RuntimeError("the password is 1234")

    monkeypatch.setattr(type(service.store.records), "project_detail", broken)
    answer = await service.http.get(f"{API}/status/x", headers={"X-Request-ID": "my-id"})
    assert answer.status_code == 500
    assert "1234" not in answer.text
    assert answer.json()["request_id"] == "my-id"


async def test_unknown_paths_and_methods_are_problems_too(service):
    for method, path, status in (("GET", "/nowhere", 404), ("DELETE", f"{API}/upload", 405)):
        answer = await service.http.request(method, path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
async def test_a_prompt_that_no_table_can_hold_is_refused_by_name(service, text):
    project_id = await upload(service)
    await service.http.post(f"{API}/generate/{project_id}")
    content = json.dumps({"negative_prompt": text})
    answer = await service.http.post(
        f"{API}/refine/{project_id}", content=content, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"].startswith("negative_prompt: "), answer.text
