"""The product over real HTTP on a real local Ray cluster, with the embedded engines."""

import hashlib
import io
import subprocess
import sys
import time

import httpx
import numpy as np
import psutil
import pytest
import trimesh
from PIL import Image, ImageOps

from pipeline.file_types import FORMATS
from pipeline.formats.ply import read_ply
from pipeline.ports import PortName
from serve_app.cli.demo import default_photo

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

API = "/api/v1"
QUICK = {"preset": "draft", "num_gaussians": 2000, "seed": 5}
#: A fit that takes far longer than any test waits.
ENDLESS = {"preset": "high", "num_gaussians": 500_000, "seed": 1}


def upload(http: httpx.Client) -> str:
    with default_photo().open("rb") as photo:
        answer = http.post(f"{API}/upload", files={"file": ("coffee.png", photo)})
    assert answer.status_code == 200, answer.text
    return answer.json()["project_id"]


def start(http: httpx.Client, project_id: str, **options) -> str:
    answer = http.post(
        f"{API}/generate/{project_id}", json=options, headers={"Prefer": "respond-async"}
    )
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


def wait_for_stage(http: httpx.Client, job_url: str, stage: str) -> dict:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        job = http.get(job_url).json()
        if job["stage"] == stage and job["state"] == "running":
            return job
        assert job["state"] in ("queued", "running"), job
        time.sleep(0.05)
    raise AssertionError(f"the job never reached {stage}: {job}")


def ended(http: httpx.Client, job_url: str) -> dict:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        job = http.get(job_url, params={"wait": 10}).json()
        if job["state"] not in ("queued", "running"):
            return job
    raise AssertionError(f"the job did not end: {job}")


def test_photo_to_refined_model_over_http(http):
    project_id = upload(http)
    generated = http.post(f"{API}/generate/{project_id}", json=QUICK).json()
    assert generated["status"] == "completed", generated
    assert (generated["views_generated"], generated["depth_maps_generated"]) == (16, 16)
    assert generated["engines"]["background"] in ("rembg-u2netp", "grabcut")
    assert generated["engines"]["views"] == "prior"
    assert any("guess" in note for note in generated["notes"])
    model = read_ply(http.get(generated["model_url"]).content)
    assert 500 < len(model) <= 2000
    assert np.abs(model.means).max() < 0.75, "the object fills [-0.5, 0.5]^3"

    refined = http.post(f"{API}/refine/{project_id}", json={"num_iterations": 1, "seed": 5}).json()
    assert refined["status"] == "refined", refined
    assert refined["iterations_completed"] == 1
    before, after = refined["metrics"]
    assert after["view_agreement"] > before["view_agreement"] or not after["accepted"]

    for name in FORMATS:
        exported = http.get(f"{API}/export/{project_id}", params={"format": name}).json()
        assert exported.get("format") == name, exported
        file = http.get(exported["download_url"])
        assert len(file.content) == exported["file_size_bytes"]
        assert file.headers["content-type"] == exported["media_type"]

    status = http.get(f"{API}/status/{project_id}").json()
    assert status["project"]["status"] == "completed"
    assert len(status["exports"]) == len(FORMATS)
    assert status["pipeline_progress"]["multiview_images"] == {"completed": 16, "total": 16}
    view = Image.open(io.BytesIO(http.get(status["view_urls"][4]).content))
    assert view.size == (256, 256)


def test_two_photos_become_a_model_and_the_manifest_names_both(http):
    front, mirrored = default_photo().read_bytes(), io.BytesIO()
    with Image.open(io.BytesIO(front)) as photo:
        ImageOps.mirror(photo).save(mirrored, "PNG")
    files = [("file", ("front.png", front)), ("file", ("back.png", mirrored.getvalue()))]
    answer = http.post(f"{API}/upload", files=files, data={"side": ["", "back"]})
    assert answer.status_code == 200, answer.text
    project_id = answer.json()["project_id"]
    generated = http.post(f"{API}/generate/{project_id}", json=QUICK).json()
    assert generated["status"] == "completed", generated
    place = f"{API}/projects/{project_id}"
    assert http.delete(f"{place}/photos/1").status_code == 200
    assert len(http.get(f"{place}/photos").json()["photos"]) == 1
    manifest = http.get(f"{place}/manifest").json()
    (step,) = manifest["steps"]
    assert [photo["side"] for photo in step["photos"]] == [None, "back"]
    back = http.get(answer.json()["photos"][1]["original_url"])
    assert back.status_code == 200, "the version still has it"
    digest = f"sha256:{hashlib.sha256(back.content).hexdigest()}"
    assert manifest["photos"][0]["sha256"] == digest


def test_a_version_is_gone_on_from_with_a_view_struck_out(http):
    project_id = upload(http)
    first = http.post(f"{API}/generate/{project_id}", json=QUICK).json()
    assert first["status"] == "completed", first
    struck = http.delete(f"{API}/projects/{project_id}/views/8")
    assert struck.status_code == 200, struck.text
    body = {**QUICK, "from": "depth", "version": 0}
    second = http.post(f"{API}/generate/{project_id}", json=body).json()
    assert (second["model_version"], second["parent"]) == (1, 0), second
    assert "View 8 is struck out." in second["notes"]
    assert second["engines"]["views"] == first["engines"]["views"]
    status = http.get(f"{API}/status/{project_id}").json()
    assert [view["edit"] for view in status["views"]] == [""] * 8 + ["struck"] + [""] * 7
    assert set(http.get(f"{API}/jobs/{second['job_id']}").json()["timings"]) >= {"views", "depth"}
    back = http.post(f"{API}/projects/{project_id}/versions/0/restore").json()
    assert back["current_version"] == 0
    status = http.get(f"{API}/status/{project_id}").json()
    assert {view["edit"] for view in status["views"]} == {""}
    refined = http.post(f"{API}/refine/{project_id}", json={"num_iterations": 1, "seed": 5}).json()
    assert refined["status"] == "refined", refined


def test_a_project_reports_on_itself_and_its_manifest_has_the_hashes_of_its_files(http):
    project_id = upload(http)
    options = {**QUICK, "candidates": 2}
    generated = http.post(f"{API}/generate/{project_id}", json=options).json()
    assert len(generated["ranking"]) == 2, generated
    refined = http.post(f"{API}/refine/{project_id}", json={"num_iterations": 1, "seed": 5}).json()
    assert refined["status"] == "refined", refined

    report = http.get(f"{API}/projects/{project_id}/report").json()
    stages = [stage for job in report["jobs"] for stage in job["stages"]]
    assert all(stage["peak_memory_bytes"] > 50e6 for stage in stages)
    measured = {name for stage in stages for name in stage["replica_peak_memory_bytes"]}
    assert measured == {"Background", "Vision", "Splats"}
    # Nothing makes whole models here.
    ports = set(PortName) - {PortName.GENERATOR}
    devices = {**dict.fromkeys(ports, "cpu"), PortName.VIEWS: "cpu, fp32"}
    assert report["jobs"][0]["environment"]["devices"] == devices
    assert report["models"][-1]["scores"]["silhouette_iou"] > 0.5
    (refinement,) = report["refinements"]
    assert refinement["stop_reason"] == refined["stop_reason"]
    assert len(refinement["iterations"][1]["targets"]) == 14

    page = http.get(f"{API}/projects/{project_id}/report", headers={"Accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert page.text.count("data:image/jpeg") >= 3 * 14

    manifest = http.get(f"{API}/projects/{project_id}/manifest").json()
    assert [step["kind"] for step in manifest["steps"]] == ["generate", "refine"]
    file = http.get(generated["model_url"]).content
    sha256 = manifest["steps"][0]["artefacts"]["models/v0.ply"]
    assert sha256 == f"sha256:{hashlib.sha256(file).hexdigest()}"


def test_what_the_service_made_is_made_again_bit_by_bit(http, tmp_path):
    project_id = upload(http)
    assert http.post(f"{API}/generate/{project_id}", json=QUICK).json()["status"] == "completed"
    refined = http.post(f"{API}/refine/{project_id}", json={"num_iterations": 1, "seed": 5}).json()
    assert refined["iterations_completed"] == 1, refined
    photo = http.get(f"{API}/status/{project_id}").json()["project"]["original_url"]
    (tmp_path / "original.png").write_bytes(http.get(photo).content)
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(http.get(f"{API}/projects/{project_id}/manifest").content)
    replayed = subprocess.run(
        [sys.executable, "-m", "serve_app.cli.main", "replay", str(manifest)],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


def test_a_mesh_is_made_once_and_every_version_has_pictures(http):
    project_id = upload(http)
    assert http.post(f"{API}/generate/{project_id}", json=QUICK).json()["status"] == "completed"
    wanted = {"format": "glb", "face_limit": 1500, "texture_size": 256}
    exported = http.get(f"{API}/export/{project_id}", params=wanted).json()
    assert exported["contents"]["texture_size"] == 256, exported
    data = http.get(exported["download_url"]).content
    mesh = trimesh.load(io.BytesIO(data), file_type="glb", force="mesh")
    assert 100 < len(mesh.faces) <= 1500
    assert len(mesh.faces) == exported["contents"]["faces"]
    assert np.abs(mesh.vertices).max() < 0.75, "the object fills [-0.5, 0.5]^3"
    assert mesh.visual.material.baseColorTexture.size == (256, 256)

    jobs_before = http.get(f"{API}/status/{project_id}").json()["job"]["id"]
    assert http.get(f"{API}/export/{project_id}", params=wanted).json() == exported
    status = http.get(f"{API}/status/{project_id}").json()
    assert status["job"]["id"] == jobs_before, "no further job"

    (model,) = status["models"]
    thumbnail, turntable, sheet = (
        http.get(url)
        for url in (model["thumbnail_url"], model["turntable_url"], status["contact_sheet_url"])
    )
    assert [f.headers["content-type"] for f in (thumbnail, turntable, sheet)] == [
        "image/png",
        "video/mp4",
        "image/png",
    ]
    picture = np.asarray(Image.open(io.BytesIO(thumbnail.content)))
    assert picture.shape == (512, 512, 3)
    assert picture.std() > 20, "not an empty picture"
    assert turntable.content[4:8] == b"ftyp"
    assert Image.open(io.BytesIO(sheet.content)).size[0] > 1000


def test_the_service_is_ready_and_documents_itself(http):
    ready = http.get("/ready")
    assert ready.status_code == 200, ready.text
    assert set(ready.json()["checks"]) >= {"store", "Ingress", "Driver", "Dispatcher"}
    assert http.get("/health").json() == {"status": "ok"}
    assert "/api/v1/generate/{project_id}" in http.get("/openapi.json").json()["paths"]


def test_names_pages_and_heads_are_judged_behind_serves_proxy(http):
    assert http.get("/health", headers={"Host": "evil.example"}).status_code == 421
    assert http.get("/health", headers={"Host": "localhost"}).status_code == 200
    for path in ("/-/healthz", "/-/routes"):  # Serve's own
        assert http.get(path).status_code == 200
    page = {"Origin": "https://evil.example"}
    assert http.post(f"{API}/jobs/x/cancel", headers=page).status_code == 403
    assert http.post(f"{API}/jobs/x/cancel").status_code == 404
    for path in ("/health", "/docs", f"{API}/queue"):
        head = http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) > 0
    said = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
    assert http.get("/", headers=said).headers["location"].startswith("http://127.0.0.1:")


def test_the_service_listens_on_loopback_only(http):
    open_to_all = []
    for process in psutil.Process().children(recursive=True):
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                loopback = connection.laddr.ip.removeprefix("::ffff:") in ("127.0.0.1", "::1")
                # Serve opens a port per replica on all interfaces, whatever it is told.
                if not loopback and "ServeReplica" not in process.cmdline()[0]:
                    open_to_all.append((process.cmdline()[0], connection.laddr))
    assert open_to_all == []


def test_files_over_20_mb_or_80_mb_together_are_refused_while_they_are_sent(http):
    def body():  # chunked: no length is declared
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="p"\r\n\r\n'
        for _ in range(120):
            yield bytes(1024 * 1024)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    chunked = http.post(f"{API}/upload", content=body(), headers=headers)
    declared = http.post(f"{API}/upload", files={"file": ("p", bytes(21 * 1024 * 1024))})
    for answer in (chunked, declared):
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_an_image_without_an_object_is_refused(http):
    buffer = io.BytesIO()
    Image.new("RGB", (300, 200), (250, 250, 250)).save(buffer, "PNG")
    answer = http.post(f"{API}/upload", files={"file": ("white.png", buffer.getvalue())})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_image"), answer.text


def test_a_running_job_is_cancelled_and_the_model_is_free_again(http):
    project_id = upload(http)
    job_url = start(http, project_id, **ENDLESS)
    wait_for_stage(http, job_url, "splats")
    assert http.post(f"{job_url}/cancel").status_code == 202
    job = ended(http, job_url)
    assert job["state"] == "cancelled"
    status = http.get(f"{API}/status/{project_id}").json()
    assert status["project"]["status"] == "cancelled"
    assert status["pipeline_progress"]["multiview_images"]["completed"] == 16
    # The lane takes one fit after the other: this one ends only if the other has stopped.
    assert http.post(f"{API}/generate/{project_id}", json=QUICK).json()["status"] == "completed"
