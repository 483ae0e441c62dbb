"""`serve_config.yaml` as it is, with tiny random models and the CPU in place of weights and GPU.

The same deployments and the same way of deploying as on a cluster with GPUs; only what the machine
has not is replaced.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from deployments.handles import reasons_of
from pipeline.formats.ply import read_ply
from pipeline.formats.splat import read_splat
from serve_app.cli.demo import default_photo
from serve_app.server import RunningService
from serve_app.stores import StoreSettings
from tests.serve_app.stores.fixtures import server_directory
from tests.tiny.model_dir import TINY_OPTIONS, write_tiny_models

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.configurations]

ROOT = Path(__file__).parents[2]
NAME, PREFIX = "gpu-engines", "/gpu"
#: Nine replicas that import torch, diffusers and transformers share two cores at the start.
START_LIMIT_S = 240


def config_for_this_machine(data: Path, models: Path) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    (application,) = config["applications"]
    application |= {"name": NAME, "route_prefix": PREFIX}
    application["args"] |= {
        "asset_dir": str(data),
        "model_dir": str(models),
        "device": "cpu",
        "precision": None,
        "engine_options": TINY_OPTIONS,
    }
    for deployment in application["deployments"]:
        deployment.get("ray_actor_options", {}).pop("num_gpus", None)
    # The cluster runs already, with a proxy of its own.
    del config["http_options"], config["proxy_location"]
    return config


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything but the depth network."""
    folder = tmp_path_factory.mktemp("models")
    write_tiny_models(folder)
    (folder / "midas-large").rename(folder / "elsewhere")
    return folder


@pytest.fixture(scope="module")
def gpu(service: RunningService, models: Path) -> Iterator[httpx.Client]:
    with server_directory() as data:
        config = ServeDeploySchema.model_validate(config_for_this_machine(data, models))
        _get_global_client().deploy_apps(config)
        try:
            with httpx.Client(base_url=f"{service.url}{PREFIX}", timeout=300) as client:
                wait_until_running()
                yield client
        finally:
            serve.delete(NAME)
            StoreSettings(data_dir=data, database_url=None).stop()


def wait_until_running() -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        status = serve.status().applications.get(NAME)
        if status is not None and status.status.value == "RUNNING":
            return
        assert status is None or status.status.value == "DEPLOYING", status
        time.sleep(0.5)
    raise AssertionError(serve.status().applications.get(NAME))


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
