"""A photo's way through a service with a generator, tiny networks on the CPU: a model in one pass,
another density, a refinement, an export; and a replay of all of it, bit for bit."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deployments.jobs.runner import RunnerSettings
from pipeline.engines.registry import EngineChoice
from pipeline.flow.local import build_ports
from pipeline.formats.ply import read_ply
from pipeline.formats.splat import read_splat
from serve_app.cli.demo import default_photo
from serve_app.cli.main import app
from serve_app.http.dependencies import Limits
from serve_app.settings import Environment
from serve_app.stores import StoreSettings
from tests.serve_app.cli.test_replay_branches import Embedded, post
from tests.serve_app.http.conftest import running
from tests.serve_app.http.test_contract import API
from tests.tiny.model_dir import write_tiny_generator

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(1200),
    pytest.mark.usefixtures("small_pictures"),
]

SPLATS = 32_768


@pytest.fixture
def choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineChoice:
    """The embedded engines, and TripoSplat of the golden run's sizes."""
    models = tmp_path / "models"
    models.mkdir()
    write_tiny_generator(models)
    found = replace(
        Environment().engine_choice(),
        generator="triposplat",
        enhancer="unsharp",
        model_dir=models,
        device="cpu",
    )
    monkeypatch.setattr(Environment, "engine_choice", lambda _env: found)
    return found


async def test_one_pass_from_the_upload_to_the_export_is_replayed(
    store_settings: StoreSettings, tmp_path: Path, choice: EngineChoice
) -> None:
    engines: Any = Embedded((await asyncio.to_thread(build_ports, choice)).complete())
    driver = RunnerSettings(lease_s=60, heartbeat_s=0.5, model_dir=choice.model_dir)
    limits = Limits(max_wait_s=400)
    async with running(store_settings, engines, limits, driver=driver) as service:
        service.app.state.services = replace(service.services, engines=choice)
        photo = {"file": ("cup.png", default_photo().read_bytes())}
        project = (await service.http.post(f"{API}/upload", files=photo)).json()["project_id"]
        refused = await service.http.post(
            f"{API}/generate/{project}", json={"num_gaussians": 300_000}
        )
        assert refused.status_code == 422, refused.text
        assert "num_gaussians of the triposplat engine" in refused.json()["detail"]

        asked = {"seed": 3, "steps": 10, "preset": "draft"}
        made = await post(service, f"generate/{project}", **asked)
        assert made["engines"]["generator"] == "triposplat"
        assert made["views_generated"] == made["depth_maps_generated"] == 16
        model = read_ply((await service.http.get(made["model_url"])).content)
        assert len(model) == SPLATS
        dense = {"from": "latent", "num_gaussians": 40_000}
        denser = await post(service, f"generate/{project}", **dense)
        assert (denser["splat_count"], denser["parent"]) == (40_000, 0)
        refined = await post(
            service, f"refine/{project}", seed=3, num_iterations=1, version=made["model_version"]
        )
        assert len(refined["metrics"]) == 2
        answer = await service.http.get(f"{API}/export/{project}", params={"format": "splat"})
        assert answer.status_code == 200, answer.text
        file = (await service.http.get(answer.json()["download_url"])).content
        assert len(read_splat(file)) > 1000
        report = await service.http.get(f"{API}/projects/{project}/report")
        assert report.status_code == 200, report.text

        manifest = (await service.http.get(f"{API}/projects/{project}/manifest")).json()
        told = (await service.http.get(f"{API}/status/{project}")).json()
        original = await service.http.get(told["project"]["original_url"])
    assert told["contact_sheet_url"] is not None
    assert [step["parent"] for step in manifest["steps"]] == [None, 0, 0]
    assert "models/latent.npz" in manifest["steps"][0]["artefacts"]
    assert "triposplat" in manifest["environment"]["weights"]
    (tmp_path / "original.png").write_bytes(original.content)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))

    command = ["replay", str(tmp_path / "manifest.json"), "--out", str(tmp_path / "again")]
    result = await asyncio.to_thread(CliRunner().invoke, app, command)
    said = " ".join(result.output.split())
    assert result.exit_code == 0, said
    assert "Bit-identical" in said
