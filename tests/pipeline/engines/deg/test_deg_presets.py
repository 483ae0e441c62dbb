"""What each preset allows, known where no torch is."""

import subprocess
import sys

import pytest

from pipeline.engines.deg.deg_presets import DEG_PRESETS
from pipeline.engines.deg.flow_settings import SamplerSettings
from pipeline.options import GenerateOptions, RefineOptions


def faults(engine: str, **asked) -> str:
    options = GenerateOptions(seed=0, engine=engine, **asked)
    return " ".join(DEG_PRESETS[engine].check(options))


@pytest.mark.parametrize(
    ("engine", "settings"),
    [
        ("triposplat", SamplerSettings(20, 3.0, 3.0)),
        ("idol", SamplerSettings(50, 3.0, 3.0)),
        ("idol-turbo", SamplerSettings(5, 1.0, 3.0)),
    ],
)
def test_what_is_not_said_is_the_presets(engine, settings):
    assert DEG_PRESETS[engine].settings(None, None, None) == settings
    assert faults(engine) == ""


@pytest.mark.parametrize(
    ("engine", "asked", "told"),
    [
        ("triposplat", {"num_gaussians": 262_145}, "between 32768 and 262144"),
        ("idol", {"num_gaussians": 32_767}, "between 32768 and 1048576"),
        ("idol-turbo", {"guidance_scale": 3.0}, "do without guidance"),
        ("idol-turbo", {"steps": 20}, "must be 4 to 8"),
        ("idol", {"steps": 5}, "at least 10 with guidance"),
        ("triposplat", {"steps": 4, "guidance_scale": 2.0}, "at least 10 with guidance"),
        ("triposplat", {"image_type": "real"}, "knows one crop alone"),
        ("idol", {"steps": 1000}, "steps must be 1 to 200"),
    ],
)
def test_what_it_cannot_do_is_told(engine, asked, told):
    assert told in faults(engine, **asked)


@pytest.mark.parametrize(
    ("engine", "asked"),
    [
        ("triposplat", {"num_gaussians": 262_144, "steps": 10, "shift": 5.0}),
        ("triposplat", {"steps": 4, "guidance_scale": 1.0}),
        ("idol", {"num_gaussians": 1_048_576, "image_type": "real"}),
        ("idol-turbo", {"steps": 8, "guidance_scale": 1.0}),
    ],
)
def test_what_it_can_do_is_not_refused(engine, asked):
    assert faults(engine, **asked) == ""


def test_other_jobs_are_none_of_its():
    for preset in DEG_PRESETS.values():
        assert preset.check(RefineOptions(seed=0)) == ()
        assert preset.check(GenerateOptions(seed=0, num_gaussians=500)) == ()


def test_reading_presets_loads_no_torch():
    code = "import sys; import pipeline.engines.deg.deg_presets; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
