"""Every GPU engine on a GPU, with tiny models: `pytest -m gpu`. Skipped where there is none."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.engines.registry import EngineChoice
from pipeline.flow.local import LocalPorts, build_ports
from pipeline.geometry.cameras import rig_cameras
from pipeline.ports import PortName
from pipeline.requests import (
    EnhanceSettings,
    FitRequest,
    Generated,
    GeneratorRequest,
    ViewRequest,
    WholePhoto,
)
from pipeline.rig import HELD_OUT_VIEWS
from pipeline.types import Cutout, ViewSet
from tests.oracles.objects import photograph, torus
from tests.tiny.model_dir import TINY_OPTIONS, write_tiny_generator, write_tiny_models

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_tiny_models(folder)
    return folder


def built(model_dir: Path, device: str, precision: str | None = None) -> LocalPorts:
    return build_ports(
        EngineChoice(
            background="grabcut",
            views="syncdreamer",
            depth="midas-large",
            splats="gsplat",
            enhancer="sdxl",
            model_dir=model_dir,
            device=device,
            precision=precision,
            options={PortName.ENHANCER: TINY_OPTIONS["enhancer"]},
        )
    )


@pytest.fixture(scope="module")
def gpu(model_dir: Path) -> LocalPorts:
    ports = built(model_dir, "cuda")
    ports.warm_up()
    return ports


def disc() -> Cutout:
    y, x = np.mgrid[:256, :256] - 128
    rgba = np.zeros((256, 256, 4), np.uint8)
    rgba[x**2 + y**2 < 100**2] = (200, 100, 50, 255)
    return Cutout(rgba, "given")


def known_views() -> ViewSet:
    views, _ = photograph(torus(), rig_cameras(128))
    return views


async def test_views_repeat_and_are_those_of_the_cpu(gpu, model_dir):
    request = ViewRequest(disc(), 30.0, seed=1, steps=2)
    exact = built(model_dir, "cuda", "fp32")
    on_gpu = await exact.views.synthesize_views(request)
    again = await exact.views.synthesize_views(request)
    on_cpu = await built(model_dir, "cpu").views.synthesize_views(request)
    assert np.array_equal(on_gpu.images, again.images)
    difference = np.abs(on_gpu.images.astype(int) - on_cpu.images)
    assert np.percentile(difference, 99) <= 4
    short = await gpu.views.synthesize_views(request)
    assert short.images.shape == on_cpu.images.shape


async def test_depth_is_that_of_the_cpu(gpu, model_dir):
    views = known_views()
    on_gpu = await gpu.depth.estimate_depth(views)
    on_cpu = await built(model_dir, "cpu").depth.estimate_depth(views)
    both = (on_gpu.confidence > 0) & (on_cpu.confidence > 0)
    assert both.any()
    assert np.median(np.abs(on_gpu.depth - on_cpu.depth)[both]) < 0.02


async def test_a_known_object_is_fitted_enhanced_and_scored(gpu):
    views, depths = photograph(torus(), rig_cameras(128))
    request = FitRequest(views, depths, HELD_OUT_VIEWS, 4000, 150, 0)
    model = await gpu.splats.reconstruct(request)
    assert await gpu.splats.engine_name() == "gsplat"
    held_out = list(HELD_OUT_VIEWS)
    renders = await gpu.splats.render(model, views.cameras.select(held_out), with_depth=True)
    error = (renders.images / 255.0 - views.images[held_out] / 255.0) ** 2
    # The same fit on the CPU reaches 37.9 dB.
    assert -10 * np.log10(error.mean()) > 34
    settings = EnhanceSettings(strength=0.25, seed=1)
    first = await gpu.enhancer.enhance(renders, settings)
    second = await gpu.enhancer.enhance(renders, settings)
    assert np.array_equal(first.images, second.images)


def test_a_model_in_one_pass_is_the_same_on_both_devices(tmp_path: Path) -> None:
    """In fp32, and finite in 16 bits: with a fused kernel in place of the CPU's."""
    write_tiny_generator(tmp_path)
    y, x = np.mgrid[:96, :96] - 48
    rgba = np.full((96, 96, 4), 128, np.uint8)
    rgba[..., 3] = np.where(x**2 + y**2 < 30**2, 255, 0)
    request = GeneratorRequest((WholePhoto(rgba, 0.0),), 32_768, 0, steps=10)

    def generated(device: str, precision: str) -> Generated:
        choice = EngineChoice(
            generator="triposplat", model_dir=tmp_path, device=device, precision=precision
        )
        port = build_ports(choice, [PortName.GENERATOR]).generator
        assert port is not None
        return asyncio.run(port.generate_model(request))

    here, there = generated("cpu", "fp32"), generated("cuda", "fp32")
    error = np.abs(here.latent.latent - there.latent.latent).max()
    assert error < 1e-3 * np.abs(here.latent.latent).max()
    for precision in ("fp16", "bf16"):
        assert np.isfinite(generated("cuda", precision).model.means).all()
