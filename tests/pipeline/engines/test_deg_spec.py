"""The engines that make a model in one pass, from bundles of the catalogue to a model."""

import numpy as np
import pytest

from pipeline.control import Control
from pipeline.engines.registry import EngineChoice, spec_of
from pipeline.errors import InvalidOption, Unavailable
from pipeline.options import GenerateOptions
from pipeline.ports import PortName
from pipeline.requests import GeneratorRequest, WholePhoto
from tests.pipeline.engines.loading import load
from tests.tiny.model_dir import write_tiny_generator

ENGINES = ("triposplat", "idol", "idol-turbo")


def photo() -> WholePhoto:
    y, x = np.mgrid[:64, :64] - 32
    rgba = np.full((64, 64, 4), 128, np.uint8)
    rgba[..., 3] = np.where(x**2 + y**2 < 20**2, 255, 0)
    return WholePhoto(rgba, 0.0)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_is_loaded_from_its_bundles_and_makes_a_model(engine, tmp_path):
    write_tiny_generator(tmp_path, engine)
    loaded = load(PortName.GENERATOR, engine, tmp_path)
    assert loaded.name == engine
    steps = 4 if engine == "idol-turbo" else None
    scale = None if engine == "idol-turbo" else 1.0
    request = GeneratorRequest((photo(),), 32_768, 0, steps=steps or 1, guidance_scale=scale)
    made = loaded.generate(request, Control())
    assert len(made.model) == 32_768
    assert np.isfinite(made.model.means).all()
    assert made.notes[-1] == "Built with DINOv3"


def test_what_is_missing_is_told_at_once_with_what_is_agreed_to(tmp_path):
    with pytest.raises(Unavailable) as caught:
        load(PortName.GENERATOR, "idol-turbo", tmp_path)
    told = caught.value.public
    run = "weights fetch idol dinov3-vith16plus flux2-vae idol-turbo"
    assert f"{run} --allow dinov3-vith16plus --allow idol-turbo`" in told
    assert "licence unknown, not for commercial use" in told
    assert "licence DINOv3 License, with terms of its own" in told
    with pytest.raises(Unavailable, match="MODEL_DIR"):
        load(PortName.GENERATOR, "triposplat")


def test_other_files_of_the_same_networks_may_be_chosen(tmp_path):
    write_tiny_generator(tmp_path, "idol")
    (tmp_path / "idol").rename(tmp_path / "elsewhere")
    with pytest.raises(Unavailable, match="weights fetch idol-fp16`"):
        load(PortName.GENERATOR, "idol", tmp_path, weights="idol-fp16")
    with pytest.raises(Unavailable, match="weights fetch idol flux2-vae-dev --allow flux2-vae-dev"):
        load(PortName.GENERATOR, "idol", tmp_path, vae="flux2-vae-dev")
    with pytest.raises(InvalidOption, match=r"weights must be one of \['idol', 'idol-fp16'\]"):
        load(PortName.GENERATOR, "idol", tmp_path, weights="mine")
    with pytest.raises(InvalidOption, match=r"vae must be one of \['flux2-vae', "):
        load(PortName.GENERATOR, "triposplat", tmp_path, vae="mine")


def test_what_a_licence_wants_shown_is_known_of_every_engine():
    for engine in ENGINES:
        assert spec_of(PortName.GENERATOR, engine).shown == ("Built with DINOv3",)
    assert spec_of(PortName.VIEWS, "prior").shown == ()


def test_an_engine_is_commercial_where_what_it_loads_by_itself_is():
    commercial = {name: spec_of(PortName.GENERATOR, name).commercial for name in ENGINES}
    assert commercial == {"triposplat": True, "idol": True, "idol-turbo": False}


def test_what_a_preset_cannot_do_is_known_before_it_is_loaded():
    choice = EngineChoice.preset("triposplat")
    choice.check(GenerateOptions(seed=0))
    with pytest.raises(InvalidOption, match="num_gaussians of the triposplat engine"):
        choice.check(GenerateOptions(seed=0, num_gaussians=1_048_576))


def test_a_file_of_the_bundle_that_is_another_one_is_named(tmp_path):
    write_tiny_generator(tmp_path)
    flow = tmp_path / "triposplat/diffusion_models/triposplat_fp16.safetensors"
    dino = tmp_path / "dinov3-vith16plus/clip_vision/dino_v3_vit_h.safetensors"
    content = dino.read_bytes()
    flow.write_bytes(content[: flow.stat().st_size].ljust(flow.stat().st_size, b"\0"))
    with pytest.raises(Unavailable, match=r"triposplat_fp16\.safetensors"):
        load(PortName.GENERATOR, "triposplat", tmp_path)
