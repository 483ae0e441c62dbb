"""A replay repeats branches: what the service made with the embedded engines, bit for bit."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.flow.local import build_ports
from pipeline.imaging.decoding import decode_png, encode_png
from pipeline.ports import Ports
from serve_app.cli.demo import default_photo
from serve_app.cli.main import app
from serve_app.cli.replay_inputs import ReplayInputs, read_manifest
from serve_app.http.dependencies import Limits
from serve_app.settings import Environment
from serve_app.stores import StoreSettings
from tests.serve_app.http.conftest import Service, running
from tests.serve_app.http.test_contract import API
from tests.serve_app.http.test_edited_views import picture

#: Fourteen steps with the embedded engines: beside other work they may take longer than a test is
#: given.
pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(1200),
    pytest.mark.usefixtures("small_pictures"),
]

#: As few splats as there may be: the fits take a second.
SMALL = {"preset": "draft", "num_gaussians": 500}


@dataclass
class Embedded:
    """The embedded engines where the tests of HTTP have fakes; the enhancer is the quick one."""

    every: Ports

    def ports(self) -> Ports:
        return self.every

    async def remove_background(self, rgb: Any) -> Any:
        return await self.every.background.remove_background(rgb)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = Environment.engine_choice
    monkeypatch.setattr(
        Environment, "engine_choice", lambda env: replace(chosen(env), enhancer="unsharp")
    )


async def post(service: Service, path: str, **body: Any) -> Any:
    answer = await service.http.post(f"{API}/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def branched(service: Service) -> str:
    """A project with every kind of branch."""
    photo = default_photo().read_bytes()
    answer = await service.http.post(f"{API}/upload", files={"file": ("cup.png", photo)})
    project: str = answer.json()["project_id"]
    await post(service, f"generate/{project}", seed=3, **SMALL)
    await post(service, f"refine/{project}", seed=3, num_iterations=1)
    again = await service.http.put(
        f"{API}/projects/{project}/views/7",
        files={"file": ("view.png", picture(size=300))},
        params={"version": 0},
    )
    assert again.status_code == 200, again.text
    await service.http.delete(f"{API}/projects/{project}/views/9", params={"version": 0})
    edited = await post(
        service, f"generate/{project}", **{"from": "depth"}, version=0, seed=4, **SMALL
    )
    for view in (7, 9):
        await post(
            service, f"projects/{project}/views/{view}/restore?version={edited['model_version']}"
        )
    await post(service, f"generate/{project}", **{"from": "depth"}, seed=4, **SMALL)
    await post(service, f"generate/{project}", **{"from": "splats"}, version=0, seed=5, **SMALL)
    await post(service, f"generate/{project}", **{"from": "views"}, version=0, seed=6, **SMALL)
    # Its photos are larger than those of version 0.
    larger = {**SMALL, "preset": "standard"}
    await post(service, f"generate/{project}", **{"from": "splats"}, version=0, seed=5, **larger)
    await post(service, f"refine/{project}", seed=3, num_iterations=1, version=0)
    masked = await service.http.put(
        f"{API}/projects/{project}/photos/0/mask", files={"file": ("mask.png", mask_of(photo))}
    )
    assert masked.status_code == 200, masked.text
    await post(service, f"generate/{project}", seed=3, **SMALL)
    return project


def mask_of(photo: bytes) -> bytes:
    """A disc in the middle."""
    high, wide = decode_png(photo).shape[:2]
    y, x = np.mgrid[:high, :wide]
    disc = np.hypot(x - wide / 2, y - high / 2) < min(high, wide) / 3
    return encode_png((disc * 255).astype(np.uint8))


async def test_a_replay_repeats_the_branches_of_the_service(
    store_settings: StoreSettings, tmp_path: Path, quick: None
) -> None:
    ports = build_ports(Environment().engine_choice()).complete()
    engines: Any = Embedded(ports)
    limits = Limits(max_wait_s=240)
    async with running(store_settings, engines, limits) as service:
        project = await branched(service)
        manifest = (await service.http.get(f"{API}/projects/{project}/manifest")).json()
        told = (await service.http.get(f"{API}/status/{project}")).json()
        original = await service.http.get(told["project"]["original_url"])
        processed = await service.http.get(told["project"]["processed_url"])
        # The same photo twice, the second time with a mask.
        (tmp_path / "photos" / "1").mkdir(parents=True)
        for name in ("original.png", "photos/1/original.png"):
            (tmp_path / name).write_bytes(original.content)
        (tmp_path / "photos" / "1" / "processed.png").write_bytes(processed.content)
        (tmp_path / "edits").mkdir()
        (image_url,) = [edit["image_url"] for edit in told["edits"] if edit["image_url"]]
        (replaced,) = [edit["sha256"] for edit in told["edits"] if edit["sha256"]]
        image = (await service.http.get(image_url)).content
    steps = manifest["steps"]
    assert [step["parent"] for step in steps][:2] == [None, 0]
    assert any(step["edits"] for step in steps)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))

    async def replay(*arguments: str) -> tuple[int, str]:
        # In a thread: the command has a loop of its own.
        command = ["replay", str(tmp_path / "manifest.json"), *arguments]
        result = await asyncio.to_thread(CliRunner().invoke, app, command)
        return result.exit_code, " ".join(result.output.split())

    code, said = await replay()
    assert code == 1
    name = f"edits/{replaced.removeprefix('sha256:')[:16]}.png"
    assert f"Save it as {name} beside the manifest" in said
    (tmp_path / name).write_bytes(image + b"x")
    code, said = await replay()
    assert (code, "another picture than the one that replaced view 7" in said) == (1, True)
    (tmp_path / name).write_bytes(image)
    again = tmp_path / "again"
    code, said = await replay("--out", str(again))
    assert code == 0, said
    assert "Bit-identical" in said
    assert (again / "views" / "07.png").read_bytes() != (
        again / "steps" / "3" / "views" / "07.png"
    ).read_bytes()
    assert decode_png((again / "steps" / "3" / "views" / "07.png").read_bytes()).shape[0] == 256

    # What it leaves can be replayed itself.
    assert (again / name).read_bytes() == image
    assert (again / "photos" / "1" / "processed.png").read_bytes() == processed.content
    values = read_manifest(again / "manifest.json")
    inputs = ReplayInputs.read(values, again / "manifest.json")
    assert [*inputs.pictures] == [replaced]
    assert [*inputs.cutouts] == ["photos/1/original.png"]

    # A branch that begins with what no step has made.
    manifest["steps"][-1]["options"]["version"] = 77
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    code, said = await replay()
    assert code == 1
    assert "Step 9 begins with version 77, which no step before it has made" in said
