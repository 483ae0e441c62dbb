"""Which way a generation goes, and what may be asked of each."""

import pytest

from pipeline.engines.registry import EngineChoice
from pipeline.errors import InvalidOption
from pipeline.options import GenerateOptions, RefineOptions
from tests.fakes import with_fake_generator

GENERATOR = "fake-generator"


@pytest.fixture
def choice():
    with with_fake_generator() as found:
        yield found


@pytest.mark.parametrize(
    ("asked", "engine"),
    [
        ({}, GENERATOR),
        ({"engine": "views"}, "views"),
        ({"from_stage": "views"}, "views"),
        ({"from_stage": "splats"}, "views"),
        ({"from_stage": "latent"}, GENERATOR),
    ],
)
def test_the_engine_is_named_where_there_is_a_choice(choice, asked, engine):
    assert choice.settled(GenerateOptions(seed=0, **asked)).engine == engine


def test_without_a_generator_options_stay_as_they_were():
    options = GenerateOptions(seed=0)
    assert EngineChoice().settled(options) is options
    assert not options.by_generator
    assert EngineChoice().settled(RefineOptions(seed=0)) == RefineOptions(seed=0)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"sampler": "ddim"}, "sampler is of a model made by views"),
        ({"elevation_deg": 10.0}, "elevation_deg is of a model made by views"),
        ({"fit_steps": 10}, "fit_steps is of"),
        ({"candidates": 2}, "candidates are of models made by views"),
        ({"engine": "other"}, r"engine must be one of \['fake-generator', 'views'\]"),
        ({"engine": GENERATOR, "from_stage": "depth"}, "leave out engine, or from"),
        ({"engine": "views", "shift": 3.0}, "shift is of an engine that makes the model in one"),
        ({"engine": "views", "image_type": "real"}, "image_type is of"),
        ({"engine": "views", "decode_seed": 3}, "decode_seed is of"),
        ({"engine": "views", "num_gaussians": 500_001}, "num_gaussians of a model made by views"),
        ({"engine": "views", "from_stage": "latent"}, "there is none here"),
    ],
)
def test_what_does_not_go_together_is_refused(choice, asked, told):
    with pytest.raises(InvalidOption, match=told):
        choice.check(GenerateOptions(seed=0, **asked))


@pytest.mark.parametrize(
    "asked",
    [
        {"num_gaussians": 1_048_576, "steps": 10, "guidance_scale": 3.0, "shift": 3.0},
        {"engine": "views", "num_gaussians": 500_000, "elevation_deg": 10.0, "candidates": 2},
        {"from_stage": "latent", "num_gaussians": 40_000, "decode_seed": 2},
        {"from_stage": "depth"},
    ],
)
def test_what_goes_together_is_not(choice, asked):
    choice.check(GenerateOptions(seed=0, **asked))


def test_a_service_without_a_generator_names_what_it_has():
    with pytest.raises(InvalidOption, match=r"engine must be one of \['views'\]"):
        EngineChoice().check(GenerateOptions(seed=0, engine="triposplat"))
    with pytest.raises(InvalidOption, match="shift"):
        EngineChoice().check(GenerateOptions(seed=0, shift=2.0))


def test_a_pass_has_splats_of_its_own_by_preset():
    one, views = {"seed": 0, "engine": GENERATOR}, {"seed": 0}
    assert GenerateOptions(**one).splat_count == 262_144
    assert GenerateOptions(**one, preset="draft").splat_count == 32_768
    assert GenerateOptions(**views).splat_count == 20_000


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"shift": 0.0}, "shift must be between"),
        ({"image_type": "drawing"}, "image_type must be one of"),
        ({"decode_seed": -1}, "decode_seed"),
        ({"num_gaussians": 1_048_577}, "num_gaussians must be between 500 and 1.04858e"),
        ({"from_stage": "latent", "steps": 3}, "steps is of what from=latent keeps"),
        ({"from_stage": "latent", "shift": 3.0}, "begin with the photo"),
    ],
)
def test_a_bad_option_is_named(asked, told):
    with pytest.raises(InvalidOption, match=told):
        GenerateOptions(seed=0, **asked)
