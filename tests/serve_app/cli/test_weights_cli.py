"""`glimpse3d weights`: what people see and which exit codes programs get."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.engines import registry
from pipeline.engines.engine_spec import EngineSpec
from pipeline.engines.registry import weights_catalogue
from pipeline.ports import PortName
from pipeline.weights.catalogue import Carried, Hub, WeightFile, Weights
from pipeline.weights.locks import LOCK_NAME
from serve_app.cli import weights_command as weights_cli
from serve_app.cli.main import app
from serve_app.cli.weights_command import DAMAGED_EXIT_CODE
from tests.hub import COMMIT, FILES, REPO, running_hub
from tests.hub import Hub as Server

RUNNER = CliRunner()

TINY = Weights(
    name="tiny",
    files=tuple(WeightFile(path) for path in FILES),
    licence="CC-BY-NC-4.0",
    commercial=False,
    size_bytes=sum(map(len, FILES.values())),
    purpose="Tests.",
    source=Hub(REPO, COMMIT),
    engine="tests",
    needed=False,
)
CONTENT = b"seen"
MINE = Weights(
    name="mine",
    files=(WeightFile("mine.onnx", hashlib.sha256(CONTENT).hexdigest()),),
    licence="MIT",
    size_bytes=len(CONTENT),
    purpose="Tests.",
    source=Carried("Run `pip install mine`."),
)
SPEC = EngineSpec(PortName.VIEWS, "tests", lambda _setup: None, weights=(MINE, TINY))


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An engine with weights of this file is registered; no `.env`, no MODEL_DIR of the machine."""
    monkeypatch.setattr(registry, "ENGINE_PATHS", (*registry.ENGINE_PATHS, f"{__name__}:SPEC"))
    monkeypatch.delenv("MODEL_DIR", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hub() -> Iterator[Server]:
    with running_hub() as hub:
        yield hub


def run(*arguments: object) -> tuple[int, str]:
    """Exit code and output on one line."""
    result = RUNNER.invoke(app, ["weights", *map(str, arguments)])
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, " ".join(result.output.split())


def fetch(hub: Server, *arguments: object) -> tuple[int, str]:
    return run("fetch", "tiny", "--endpoint", hub.endpoint, "--allow", "tiny", *arguments)


def test_the_list_for_programs_has_every_file_and_bundle(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["weights", "list", "--json", "--model-dir", str(tmp_path)])
    assert result.exit_code == 0
    rows = {row["name"]: row for row in json.loads(result.output)}
    assert list(rows) == [weights.name for weights in weights_catalogue().weights]
    assert rows["sdxl-base"]["state"] == "missing"
    assert rows["sdxl-base"]["where"] is None
    assert rows["sdxl-base"]["revision"]
    assert rows["tiny"]["commercial"] is False
    assert all(row["purpose"] and row["licence"] and row["size_bytes"] for row in rows.values())


def test_the_list_for_people_needs_no_model_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    code, said = run("list")
    assert code == 0
    for word in ("syncdreamer", "5.57 GB", "MIT", "missing", "No model directory is set"):
        assert word in said
    assert "CC-BY-NC-4.0 *" in said


def test_the_list_for_people_fits_a_narrow_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_cli.console, "_width", 80)
    result = RUNNER.invoke(app, ["weights", "list", "--model-dir", str(tmp_path)])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    for bundle in weights_catalogue().bundles.values():
        (line,) = (line for line in lines if line.split()[:1] == [bundle.name])
        assert bundle.licence in line
        assert ("*" in line) is not bundle.commercial
    assert "* forbids commercial use" in result.output


def test_fetch_list_verify(hub: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("COLUMNS", "250")
    code, said = fetch(hub)
    assert code == 0, said
    folder = tmp_path / "models" / "tiny"
    assert f"tiny: {folder}" in said
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    assert "ready" in run("list")[1]
    assert run("verify")[0] == 0
    assert run("verify", "tiny")[0] == 0

    content = FILES["model.safetensors"]
    (folder / "model.safetensors").write_bytes(bytes([content[0] ^ 1]) + content[1:])
    code, said = run("verify")
    assert code == DAMAGED_EXIT_CODE
    assert "model.safetensors has changed" in said
    assert "weights fetch tiny --repair" in said
    assert fetch(hub, "--repair")[0] == 0
    assert run("verify")[0] == 0
    (folder / "config.json").unlink()
    assert "damaged" in run("list")[1]


def test_a_revision_and_another_directory_are_asked_for(hub: Server, tmp_path: Path) -> None:
    code, said = fetch(hub, "--revision", "main", "--model-dir", tmp_path / "m")
    assert code == 0, said
    lock = json.loads((tmp_path / "m" / "tiny" / LOCK_NAME).read_text())
    assert lock["revision"] == hub.branches["main"]
    code, said = run("fetch", "tiny", "sdxl-base", "--revision", "main", "--model-dir", tmp_path)
    assert code == 1
    assert "--revision goes with one name" in said


def test_a_licence_without_commercial_use_has_to_be_allowed(hub: Server, tmp_path: Path) -> None:
    code, said = run("fetch", "tiny", "--endpoint", hub.endpoint, "--model-dir", tmp_path)
    assert code == 1
    assert "invalid_option" in said
    assert "--allow tiny" in said
    assert hub.listings == 0


def test_offline_is_a_sentence(hub: Server, tmp_path: Path) -> None:
    code, said = fetch(hub, "--offline", "--model-dir", tmp_path)
    assert code == 1
    assert "unavailable" in said
    assert "no connection may be opened" in said
    assert hub.listings == 0


def test_without_a_model_directory_the_setting_is_named(hub: Server) -> None:
    for arguments in (["verify"], ["adopt", "tiny"], ["fetch", "tiny"]):
        code, said = run(*arguments)
        assert code == 2
        assert "MODEL_DIR" in said
        assert "--model-dir" in said


def test_a_name_or_engine_that_does_not_exist_is_named(tmp_path: Path) -> None:
    code, said = run("fetch", "bigger", "--model-dir", tmp_path)
    assert code == 1
    assert "no weights 'bigger'" in said
    code, said = run("fetch", "--engines", "tpu", "--model-dir", tmp_path)
    assert code == 1
    assert "no engines 'tpu'" in said
    code, said = run("fetch", "--model-dir", tmp_path)
    assert code == 2
    assert "--engines gpu" in said


def test_files_that_packages_carry_are_shown_or_the_package_is(tmp_path: Path) -> None:
    code, said = run("fetch", "mine", "--model-dir", tmp_path)
    assert code == 1
    assert "pip install mine" in said
    (tmp_path / "mine.onnx").write_bytes(CONTENT)
    code, said = run("fetch", "mine", "--model-dir", tmp_path)
    assert code == 0
    assert str(tmp_path / "mine.onnx") in said


def test_a_folder_filled_by_hand_is_adopted(tmp_path: Path) -> None:
    code, said = run("adopt", "tiny", "--model-dir", tmp_path)
    assert code == 1
    assert "lacks" in said
    for path, content in FILES.items():
        (tmp_path / "tiny" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tiny" / path).write_bytes(content)
    code, said = run("adopt", "tiny", "--model-dir", tmp_path)
    assert code == 0, said
    assert run("verify", "tiny", "--model-dir", tmp_path)[0] == 0


def test_nothing_to_verify_is_told(tmp_path: Path) -> None:
    code, said = run("verify", "--model-dir", tmp_path)
    assert code == 0
    assert "Nothing to verify" in said
    code, said = run("verify", "tiny", "--model-dir", tmp_path)
    assert code == 1
    assert "weights fetch tiny" in said


def test_a_checkpoint_is_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert_checkpoint(_source: Path, folder: Path, **options: Any) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(str(options["dtype"]).encode())

    module = types.ModuleType("pipeline.engines.views.syncdreamer.checkpoint")
    module.convert_checkpoint = convert_checkpoint  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    checkpoint = tmp_path / "own[1].ckpt"
    checkpoint.write_bytes(b"tensors")
    target = ["--model-dir", tmp_path, "--precision", "bf16"]
    code, said = run("convert", "syncdreamer", checkpoint, *target)
    assert code == 1
    assert "own[1].ckpt is damaged or not the released checkpoint" in said
    code, said = run("convert", "syncdreamer", checkpoint, *target, "--trust")
    assert code == 0, said
    made = tmp_path / "syncdreamer"
    assert (made / "model.safetensors").read_bytes() == b"torch.bfloat16"
    assert run("verify", "--model-dir", tmp_path)[0] == 0
    code, said = run("convert", "sdxl-base", checkpoint, *target)
    assert code == 1
    assert "is not converted" in said


@pytest.mark.slow
def test_ctrl_c_keeps_what_has_arrived(hub: Server, tmp_path: Path) -> None:
    hub.commits[COMMIT]["model.safetensors"] = bytes(30_000_000)
    hub.slow_after = 12_000_000
    # A shell may have told this process, and so its children, to ignore the signal.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from pipeline.engines import registry; from serve_app.cli.main import app;"
        "registry.ENGINE_PATHS += ('tests.serve_app.cli.test_weights_cli:SPEC',); app()"
    )
    arguments = ["weights", "fetch", "tiny", "--allow", "tiny", "--endpoint", hub.endpoint]
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code, *arguments, "--model-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "COLUMNS": "200", "FORCE_COLOR": "1"},
    )
    deadline = time.monotonic() + 60
    while not any(part.stat().st_size for part in tmp_path.glob("tiny/.fetch/*-model.safetensors")):
        assert time.monotonic() < deadline, "nothing arrives"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "goes on where it stopped" in said
    hub.slow_after = None
    hub.asked.clear()
    assert fetch(hub, "--model-dir", tmp_path)[0] == 0
    path, asked = hub.asked[-1]
    assert path == "model.safetensors"
    assert asked is not None
    assert int(asked.removeprefix("bytes=").rstrip("-")) >= 10_000_000
