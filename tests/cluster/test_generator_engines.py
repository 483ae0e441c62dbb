"""`serve_config.triposplat.yaml` as it is, with tiny networks and the CPU for weights and GPU.

The same deployments and the same way of deploying as on a GPU, from upload to export.
"""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from pipeline.formats.ply import read_ply
from pipeline.formats.splat import read_splat
from serve_app.cli.client import Client
from serve_app.cli.demo import default_photo
from serve_app.server import RunningService
from tests.cluster.configurations import deployed
from tests.tiny.model_dir import write_tiny_enhancer, write_tiny_generator

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.configurations]

FILE, NAME = "deploy/serve_config.triposplat.yaml", "one-pass"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_tiny_enhancer(folder)
    write_tiny_generator(folder)
    return folder


@pytest.fixture(scope="module")
def client(service: RunningService, models: Path) -> Iterator[httpx.Client]:
    with deployed(FILE, NAME, service.url, models) as client:
        yield client


@pytest.fixture(scope="module")
def project(client: httpx.Client) -> str:
    with default_photo().open("rb") as photo:
        answer = client.post("/api/v1/upload", files={"file": ("coffee.png", photo)})
    assert answer.status_code == 200, answer.text
    identity: str = answer.json()["project_id"]
    return identity


def test_a_photo_becomes_a_model_in_one_pass_and_a_refined_one_and_a_file(client, project):
    assert client.get("/ready").json()["checks"]["Generator"] == "ok"
    options = {"preset": "draft", "steps": 1, "guidance_scale": 1, "seed": 3}
    answer = client.post(f"/api/v1/generate/{project}", json=options)
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert made["engines"]["generator"] == "triposplat"
    model = read_ply(client.get(made["model_url"]).content)
    assert len(model) == 32_768
    assert np.isfinite(model.means).all()

    body = {"num_iterations": 1, "strength": 0.25, "seed": 3}
    answer = client.post(f"/api/v1/refine/{project}", json=body)
    assert answer.status_code == 200, answer.text
    final_url = answer.json()["final_model_url"]

    answer = client.get(f"/api/v1/export/{project}", params={"format": "splat"})
    assert answer.status_code == 200, answer.text
    file = client.get(answer.json()["download_url"]).content
    assert len(read_splat(file)) == len(read_ply(client.get(final_url).content))

    manifest = client.get(f"/api/v1/projects/{project}/manifest").json()
    engines = {k: v for step in manifest["steps"] for k, v in step["engines"].items()}
    assert engines["generator"] == "triposplat"
    assert engines["enhancer"] == "sdxl"
    weights = manifest["environment"]["weights"]
    assert {"triposplat", "dinov3-vith16plus", "flux2-vae"} <= set(weights)


def test_another_density_needs_no_further_pass(client, project):
    options = {"from": "latent", "num_gaussians": 65_536}
    answer = client.post(f"/api/v1/generate/{project}", json=options)
    assert answer.status_code == 200, answer.text
    assert len(read_ply(client.get(answer.json()["model_url"]).content)) == 65_536


def test_more_than_the_engine_makes_is_refused_before_there_is_a_job(client, project):
    answer = client.post(f"/api/v1/generate/{project}", json={"num_gaussians": 1_048_576})
    assert answer.status_code == 422, answer.text
    assert "num_gaussians of the triposplat engine" in answer.json()["detail"]


def test_a_pass_is_watched_through_the_events_of_its_job(client, project):
    options = {"preset": "draft", "steps": 4, "guidance_scale": 1, "seed": 4}
    answer = client.post(f"/api/v1/generate/{project}", json=options)
    assert answer.status_code == 200, answer.text
    job_id = answer.json()["job_id"]
    events = list(Client.of(str(client.base_url).rstrip("/")).events(job_id))
    shown = [event for event in events if event.kind == "preview"]
    assert shown, "a pass is shown while it goes on"
    assert shown[0].data["stage"] == "generator"
    assert 0 < shown[0].data["splat_count"] <= 4096
    assert client.get(shown[-1].data["url"]).status_code == 404, "gone with the job"
