"""Engines by name, and their options."""

import pytest

from pipeline.device import Device
from pipeline.engines.depth.depth_engines import make_depth_engine
from pipeline.engines.engine_options import with_options
from pipeline.engines.enhance.enhancer_engines import make_enhancer_engine
from pipeline.engines.registry import ENGINES, NATIVE, ON_DEVICE, PRESETS, EngineChoice
from pipeline.engines.views.view_engines import make_view_engine
from pipeline.errors import InvalidOption, Unavailable
from pipeline.flow.local import build_ports
from pipeline.ports import PortName
from tests.tiny.model_dir import TINY_OPTIONS, write_tiny_bundle, write_tiny_models

CPU = Device.choose("cpu")


def test_presets_name_an_engine_for_every_port():
    for name, engines in PRESETS.items():
        assert set(engines) == set(PortName)
        assert all(engine in ENGINES[port] for port, engine in engines.items())
        assert EngineChoice.preset(name).engine(PortName.VIEWS) == engines[PortName.VIEWS]
    assert EngineChoice.preset("embedded") == EngineChoice()
    every = {name for names in ENGINES.values() for name in names}
    assert every >= ON_DEVICE | NATIVE


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: EngineChoice.preset("magic"), "no 'magic' engines"),
        (lambda: EngineChoice(views="magic"), "no views engine 'magic'"),
        (
            lambda: EngineChoice(options={PortName.VIEWS: {"views_at_once": 1}}),
            "'relief' takes no options",
        ),
        (lambda: make_view_engine("magic", None, CPU, {}), "choose relief or syncdreamer"),
        (
            lambda: make_enhancer_engine("sdxl", None, 1, CPU, {"controlnet": "magic"}),
            r"controlnet must be one of \['controlnet-depth-sdxl', ",
        ),
        (lambda: make_enhancer_engine("magic"), "choose auto, realesrgan, unsharp or sdxl"),
    ],
)
def test_what_does_not_exist_is_refused(make, told):
    with pytest.raises(InvalidOption, match=told):
        make()


@pytest.mark.parametrize(
    ("make", "bundle"),
    [
        (lambda folder: make_view_engine("syncdreamer", folder, CPU, {}), "syncdreamer"),
        (lambda folder: make_depth_engine("midas-large", folder, CPU, {}), "midas-large"),
        (lambda folder: make_enhancer_engine("sdxl", folder, 1, CPU), "sdxl-lightning-8step"),
    ],
)
def test_missing_weights_are_told_with_the_command_that_brings_them(make, bundle, tmp_path):
    with pytest.raises(Unavailable, match=f"glimpse3d weights fetch {bundle}"):
        make(tmp_path)
    with pytest.raises(Unavailable, match="MODEL_DIR"):
        make(None)


def test_everything_that_an_engine_lacks_is_told_at_once(tmp_path):
    write_tiny_models(tmp_path)
    (tmp_path / "sdxl-base").rename(tmp_path / "a")
    with pytest.raises(Unavailable, match=r"'sdxl-base'.*weights fetch sdxl-base`"):
        make_enhancer_engine("sdxl", tmp_path, 1, CPU)
    (tmp_path / "sdxl-vae-fp16-fix").rename(tmp_path / "b")
    with pytest.raises(Unavailable, match="weights fetch sdxl-base sdxl-vae-fp16-fix`"):
        make_enhancer_engine("sdxl", tmp_path, 1, CPU)


def test_options_reach_the_engine_and_unknown_ones_are_listed(tmp_path):
    write_tiny_bundle(tmp_path, "syncdreamer")
    engine = make_view_engine("syncdreamer", tmp_path, CPU, {"views_at_once": 4})
    assert engine.views_at_once == 4
    with pytest.raises(InvalidOption, match=r"no option 'views'; it has .*'views_at_once'"):
        make_view_engine("syncdreamer", tmp_path, CPU, {"views": 4})


def test_what_the_caller_decides_is_no_option():
    def make(device, *, name, size=1):
        return device, name, size

    assert with_options(make, "it", {"size": 2}, "cpu", name="x") == ("cpu", "x", 2)
    for taken in ("device", "name"):
        with pytest.raises(InvalidOption, match=r"it has \['size'\]"):
            with_options(make, "it", {taken: 1}, "cpu", name="x")


def test_the_gpu_engines_are_built_and_warm_on_a_cpu(tmp_path):
    write_tiny_models(tmp_path)
    choice = EngineChoice(
        background="grabcut",
        views="syncdreamer",
        depth="midas-large",
        splats="gsplat",
        enhancer="sdxl",
        model_dir=tmp_path,
        device="cpu",
        threads=1,
        options={PortName.ENHANCER: TINY_OPTIONS["enhancer"]},
    )
    built = build_ports(choice)
    built.warm_up()
    ports = (built.views, built.depth, built.splats, built.enhancer)
    names = [port.engine.name for port in ports if port is not None]
    assert names == ["syncdreamer", "midas-large", "gsplat-on-cpu", "sdxl"]
