"""`serve_config.yaml` as it is, with tiny random models and the CPU in place of weights and GPU.

The same deployments and the same way of deploying as on a cluster with GPUs; only what the machine
has not is replaced.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from deployments.handles import reasons_of
from pipeline.formats.ply import read_ply
from pipeline.formats.splat import read_splat
from serve_app.cli.demo import default_photo
from serve_app.server import RunningService
from tests.cluster.configurations import deployed
from tests.tiny.model_dir import write_tiny_models

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.configurations]

NAME = "gpu-engines"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything but the depth network."""
    folder = tmp_path_factory.mktemp("models")
    write_tiny_models(folder)
    (folder / "midas-large").rename(folder / "elsewhere")
    return folder


@pytest.fixture(scope="module")
def gpu(service: RunningService, models: Path) -> Iterator[httpx.Client]:
    with deployed("serve_config.yaml", NAME, service.url, models) as client:
        yield client


def readiness(client: httpx.Client) -> tuple[int, dict[str, str]]:
    answer = client.get("/ready")
    return answer.status_code, answer.json()["checks"]


def test_a_missing_weight_is_told_by_ready_and_found_without_a_restart(gpu, models):
    code, checks = readiness(gpu)
    assert code == 503
    assert {name for name, told in checks.items() if told != "ok"} == {"Depth"}
    assert "midas-large" in checks["Depth"]
    assert "glimpse3d weights fetch midas-large" in checks["Depth"]
    assert str(models) not in checks["Depth"]
    reasons = reasons_of(NAME, 30)
    assert set(reasons) == {"Depth"}
    assert str(models) in reasons["Depth"], "who runs the service reads where it was sought"

    (models / "elsewhere").rename(models / "midas-large")
    deadline = time.monotonic() + 120
    while readiness(gpu)[0] != 200:
        assert time.monotonic() < deadline, readiness(gpu)
        time.sleep(0.5)


def test_a_photo_becomes_a_refined_model_and_a_file(gpu):
    with default_photo().open("rb") as photo:
        answer = gpu.post("/api/v1/upload", files={"file": ("coffee.png", photo)})
    assert answer.status_code == 200, answer.text
    project = answer.json()["project_id"]

    options = {"preset": "draft", "num_gaussians": 800, "steps": 2, "seed": 3}
    answer = gpu.post(f"/api/v1/generate/{project}", json=options)
    assert answer.status_code == 200, answer.text
    assert answer.json()["views_generated"] == 16
    model = read_ply(gpu.get(answer.json()["model_url"]).content)
    assert 100 < len(model) <= 800
    assert np.isfinite(model.means).all()

    body = {"num_iterations": 1, "strength": 0.25, "prompt": "a cup", "seed": 3}
    answer = gpu.post(f"/api/v1/refine/{project}", json=body)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["metrics"]) == 2
    final_url = answer.json()["final_model_url"]

    answer = gpu.get(f"/api/v1/export/{project}", params={"format": "splat"})
    assert answer.status_code == 200, answer.text
    file = gpu.get(answer.json()["download_url"]).content
    assert len(read_splat(file)) == len(read_ply(gpu.get(final_url).content))

    manifest = gpu.get(f"/api/v1/projects/{project}/manifest").json()
    engines = {k: v for step in manifest["steps"] for k, v in step["engines"].items()}
    assert engines["views"] == "syncdreamer"
    assert engines["depth"] == "midas-large"
    assert engines["splats"] == "gsplat-on-cpu"
    assert engines["enhancer"] == "sdxl"


def test_what_an_engine_cannot_do_fails_with_its_reason(gpu):
    with default_photo().open("rb") as photo:
        project = gpu.post("/api/v1/upload", files={"file": ("coffee.png", photo)}).json()[
            "project_id"
        ]
    answer = gpu.post(f"/api/v1/generate/{project}", json={"steps": 3, "seed": 1})
    assert answer.status_code == 422, answer.text
    assert "steps of the ddim sampler must be one of" in answer.json()["detail"]
    assert answer.json()["code"] == "invalid_option"
