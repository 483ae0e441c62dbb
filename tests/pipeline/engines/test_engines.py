"""Engines by name, and their options."""

import re
import subprocess
import sys

import pytest

from pipeline.device import Device
from pipeline.engines.engine_spec import Setup
from pipeline.engines.registry import PRESETS, EngineChoice, engine_names, engine_specs
from pipeline.errors import InvalidOption, Unavailable
from pipeline.flow.local import build_ports
from pipeline.options import ExportOptions, GenerateOptions, RefineOptions
from pipeline.ports import PortName
from tests.pipeline.engines.loading import load
from tests.tiny.model_dir import TINY_OPTIONS, write_tiny_bundle, write_tiny_models


def test_every_port_has_its_engines_and_the_first_is_the_default():
    assert {port.value: engine_names(port) for port in PortName} == {
        "background": ("auto", "rembg", "grabcut"),
        "views": ("prior", "relief", "syncdreamer"),
        "depth": (
            "surface",
            "midas-large",
            "midas-hybrid",
            "depth-anything-v2-small",
            "depth-anything-v2-base",
        ),
        "splats": ("cpu", "gsplat"),
        "enhancer": ("auto", "realesrgan", "unsharp", "sdxl"),
        "exporter": ("cpu",),
        "generator": ("none", "triposplat", "idol", "idol-turbo"),
    }
    names = [(spec.port, spec.name) for spec in engine_specs()]
    assert len(set(names)) == len(names)


def test_reading_the_registry_loads_no_engine():
    code = (
        "import sys; from pipeline.engines import registry; registry.weights_catalogue(); "
        "heavy = {'torch', 'cv2', 'onnxruntime', 'ncnn', 'rembg', 'diffusers', 'transformers'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_presets_name_an_engine_for_every_port():
    for name, engines in PRESETS.items():
        assert set(engines) == set(PortName)
        assert EngineChoice.preset(name).engine(PortName.VIEWS) == engines[PortName.VIEWS]
    assert EngineChoice.preset("embedded") == EngineChoice()
    assert PRESETS["embedded"] == {port: engine_names(port)[0] for port in PortName}
    on_device = [port for port in PortName if EngineChoice().spec(port).on_device]
    assert on_device == [PortName.VIEWS], "a small network, which takes a GPU where there is one"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: EngineChoice.preset("magic"), "no 'magic' engines"),
        (lambda: EngineChoice(views="magic"), r"no views engine 'magic'; there are \['prior', "),
        (
            lambda: EngineChoice(options={PortName.VIEWS: {"views_at_once": 1}}),
            "'prior' takes no options",
        ),
        (
            lambda: load(PortName.ENHANCER, "sdxl", controlnet="magic"),
            r"controlnet must be one of \['controlnet-depth-sdxl', ",
        ),
    ],
)
def test_what_does_not_exist_is_refused(make, told):
    with pytest.raises(InvalidOption, match=told):
        make()


@pytest.mark.parametrize(
    ("port", "engine", "bundle"),
    [
        (PortName.VIEWS, "syncdreamer", "syncdreamer"),
        (PortName.DEPTH, "midas-large", "midas-large"),
        (PortName.ENHANCER, "sdxl", "sdxl-lightning-8step"),
    ],
)
def test_missing_weights_are_told_with_the_command_that_brings_them(port, engine, bundle, tmp_path):
    with pytest.raises(Unavailable, match=f"glimpse3d weights fetch {bundle}"):
        load(port, engine, tmp_path)
    with pytest.raises(Unavailable, match="MODEL_DIR"):
        load(port, engine)


def test_everything_that_an_engine_lacks_is_told_at_once(tmp_path):
    write_tiny_models(tmp_path)
    (tmp_path / "sdxl-base").rename(tmp_path / "a")
    with pytest.raises(Unavailable, match=r"'sdxl-base'.*weights fetch sdxl-base`"):
        load(PortName.ENHANCER, "sdxl", tmp_path)
    (tmp_path / "sdxl-vae-fp16-fix").rename(tmp_path / "b")
    with pytest.raises(Unavailable, match="weights fetch sdxl-base sdxl-vae-fp16-fix`"):
        load(PortName.ENHANCER, "sdxl", tmp_path)


def test_options_reach_the_engine_and_unknown_ones_are_listed(tmp_path):
    write_tiny_bundle(tmp_path, "syncdreamer")
    engine = load(PortName.VIEWS, "syncdreamer", tmp_path, views_at_once=4)
    assert engine.views_at_once == 4
    with pytest.raises(InvalidOption, match=r"no option 'views'; it has .*'views_at_once'"):
        load(PortName.VIEWS, "syncdreamer", tmp_path, views=4)
    with pytest.raises(InvalidOption, match=r"no option 'net'; it has \['controlnet', 'contr"):
        load(PortName.ENHANCER, "sdxl", tmp_path, net="x", controlnet="controlnet-depth-sdxl")


SDXL = EngineChoice(enhancer="sdxl")
SYNCDREAMER = EngineChoice(views="syncdreamer")


@pytest.mark.parametrize(
    ("choice", "options", "told"),
    [
        (SDXL, RefineOptions(seed=0, strength=0), ["strength of the sdxl enhancer"]),
        (SDXL, RefineOptions(seed=0, strength=0.12), ["must be within 0.125..1"]),
        (SDXL, RefineOptions(seed=0, negative_prompt=""), ["negative_prompt has no effect"]),
        (
            SDXL,
            RefineOptions(seed=0, strength=0.1, negative_prompt="blur"),
            ["strength of the sdxl enhancer", "negative_prompt has no effect"],
        ),
        (SYNCDREAMER, GenerateOptions(seed=0, steps=30), ["steps of the ddim sampler"]),
        (
            SYNCDREAMER,
            GenerateOptions(seed=0, steps=30, elevation_deg=41),
            ["elevation_deg of the syncdreamer engine", "steps of the ddim sampler"],
        ),
        (SYNCDREAMER, GenerateOptions(seed=0, steps=1, sampler="dpm++"), ["dpm++ sampler"]),
    ],
)
def test_what_an_engine_cannot_do_is_known_before_it_is_loaded(choice, options, told):
    with pytest.raises(InvalidOption) as caught:
        choice.check(options)
    assert all(words in caught.value.detail for words in told)
    EngineChoice().check(options)


def test_what_an_engine_can_do_is_not_refused():
    for options in (
        GenerateOptions(seed=0),
        GenerateOptions(seed=0, steps=30, sampler="dpm++"),
        GenerateOptions(seed=0, steps=100, guidance_scale=0),
        RefineOptions(seed=0),
        RefineOptions(seed=0, strength=0.125, prompt="a mug"),
        ExportOptions("glb"),
    ):
        for choice in (SDXL, SYNCDREAMER, EngineChoice.preset("gpu"), EngineChoice()):
            choice.check(options)


def test_a_spec_names_the_options_that_its_engine_takes(tmp_path):
    write_tiny_models(tmp_path)
    write_tiny_bundle(tmp_path, "depth-anything-v2-small")
    for spec in engine_specs():
        if spec.options and spec.name not in ("midas-hybrid", "depth-anything-v2-base"):
            with pytest.raises(InvalidOption) as caught:
                load(spec.port, spec.name, tmp_path, nonsense=1)
            taken = re.findall(r"'(\w+)'", str(caught.value).split("it has")[1])
            assert set(taken) == set(spec.options), spec.name


def test_what_the_caller_decides_is_no_option():
    def make(device, *, name, size=1):
        return device, name, size

    def setup(**options):
        return Setup("it", None, Device.choose("cpu"), 1, options)

    assert setup(size=2).with_options(make, "cpu", name="x") == ("cpu", "x", 2)
    for taken in ("device", "name"):
        with pytest.raises(InvalidOption, match=r"it has \['size'\]"):
            setup(**{taken: 1}).with_options(make, "cpu", name="x")


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
