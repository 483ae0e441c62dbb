import pytest

from pipeline.errors import InvalidOption
from pipeline.file_types import FORMATS
from pipeline.options import (
    ExportOptions,
    GenerateOptions,
    RefineOptions,
)
from pipeline.seeds import SEED_LIMIT, random_seed


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 10**400}, "seed"),
        ({"preset": "ultra"}, "preset"),
        ({"elevation_deg": 61}, r"elevation_deg must be between -10 and 60"),
        ({"elevation_deg": -10.5}, "elevation_deg"),
        ({"elevation_deg": float("nan")}, "elevation_deg"),
        ({"num_gaussians": 10}, "num_gaussians"),
        ({"steps": 0}, "steps"),
        ({"candidates": 0}, "candidates"),
        ({"candidates": 9}, "candidates"),
        ({"guidance_scale": -1.0}, "guidance_scale"),
    ],
)
def test_a_bad_generate_option_is_named(changes, told):
    with pytest.raises(InvalidOption, match=told):
        GenerateOptions(**{"seed": 0, **changes})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"num_iterations": 0}, "num_iterations"),
        ({"num_iterations": 101}, "num_iterations"),
        ({"learning_rate": -0.1}, "learning_rate"),
        ({"views_to_refine": ()}, "at least one view"),
        ({"views_to_refine": (16,)}, "0..15"),
        ({"views_to_refine": (1, 1)}, "twice"),
        ({"views_to_refine": (0, 5)}, "must not name 5"),
        ({"strength": 1.5}, "strength"),
    ],
)
def test_a_bad_refine_option_is_named(changes, told):
    with pytest.raises(InvalidOption, match=told):
        RefineOptions(**{"seed": 0, **changes})


def test_options_survive_json_and_unknown_names_do_not():
    options = RefineOptions(seed=3, views_to_refine=(1, 2), prompt="a cup")
    assert RefineOptions.from_json(options.to_json()) == options
    with pytest.raises(InvalidOption, match="'colour'"):
        GenerateOptions.from_json({"seed": 1, "colour": "red"})


def test_an_elevation_nobody_gave_stays_open_in_what_is_kept():
    assert GenerateOptions(seed=0).to_json()["elevation_deg"] is None
    for elevation in (None, -10, 60.0):
        options = GenerateOptions(seed=0, elevation_deg=elevation)
        assert GenerateOptions.from_json(options.to_json()) == options


def test_jobs_of_an_earlier_release_have_one_candidate():
    assert GenerateOptions.from_json({"seed": 1}).candidates == 1


def test_presets_fill_what_was_not_chosen():
    draft, high = GenerateOptions(seed=0, preset="draft"), GenerateOptions(seed=0, preset="high")
    assert draft.splat_count < high.splat_count
    assert draft.fit_iterations < high.fit_iterations
    assert GenerateOptions(seed=0, preset="draft", num_gaussians=777).splat_count == 777


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": "docx"}, "ply, splat, spz, glb, obj, usdz, stl, 3mf, glb-splat; got 'docx'"),
        ({"face_limit": 99}, "face_limit"),
        ({"face_limit": 200_001}, "face_limit"),
        ({"texture_size": 63}, "texture_size"),
        ({"texture_size": 4097}, "texture_size"),
        ({"height_m": 0}, "height_m must be between 0.001 and 1000, got 0"),
        ({"height_m": -1.0}, "height_m"),
        ({"height_m": 1000.5}, "height_m"),
        ({"height_m": "tall"}, "height_m must be a number"),
        ({"unlit": 1}, "unlit must be true or false"),
    ],
)
def test_a_bad_export_option_is_named(changes, told):
    with pytest.raises(InvalidOption, match=told):
        ExportOptions(**{"format": "glb", **changes})


@pytest.mark.parametrize("name", FORMATS)
def test_options_that_make_the_same_file_are_canonically_equal(name):
    odd = ExportOptions(name, optimize=True, face_limit=500, texture_size=128, unlit=True)
    plain = ExportOptions(name, optimize=True)
    assert (odd.canonical() == plain.canonical()) is not FORMATS[name].is_mesh
    assert odd.canonical().canonical() == odd.canonical()
    assert ExportOptions.from_json(odd.to_json()) == odd
    # Jobs that an earlier release queued have but these two.
    assert ExportOptions.from_json({"format": name, "optimize": True}) == plain
    # A height makes another file of any format.
    high = ExportOptions(name, height_m=0.3)
    assert high.canonical() == high != ExportOptions(name)


@pytest.mark.parametrize(
    ("kind", "values", "told"),
    [
        (GenerateOptions, {"seed": "7"}, "seed must be a whole number, got '7'"),
        (GenerateOptions, {"seed": 1.5}, "seed must be a whole number, got 1.5"),
        (GenerateOptions, {"seed": True}, "seed must be a whole number, got True"),
        (GenerateOptions, {"seed": None}, "seed must be a whole number, got None"),
        (GenerateOptions, {}, "The option seed is missing"),
        (GenerateOptions, {"seed": 1, "steps": 2.0}, "steps must be a whole number, got 2.0"),
        (GenerateOptions, {"seed": 1, "steps": [2]}, "steps must be a whole number"),
        (GenerateOptions, {"seed": 1, "elevation_deg": "30"}, "elevation_deg must be a number"),
        (GenerateOptions, {"seed": 1, "elevation_deg": False}, "elevation_deg must be a number"),
        (GenerateOptions, {"seed": 1, "preset": 3}, "preset must be a text, got 3"),
        (RefineOptions, {"seed": 1, "strength": float("inf")}, "strength must be a number"),
        (RefineOptions, {"seed": 1, "prompt": 7}, "prompt must be a text, got 7"),
        (
            RefineOptions,
            {"seed": 1, "views_to_refine": [1, "2"]},
            r"views_to_refine must be a list of whole numbers, got \(1, '2'\)",
        ),
        (RefineOptions, {"seed": 1, "views_to_refine": 5}, "views_to_refine must be a list"),
        (ExportOptions, {"format": 3}, "format must be a text, got 3"),
        (ExportOptions, {"format": "ply", "optimize": "no"}, "optimize must be true or false"),
        (
            ExportOptions,
            {"format": "ply", "face_limit": 500.0},
            "face_limit must be a whole number",
        ),
    ],
)
def test_a_value_of_another_type_is_named_with_what_it_must_be(kind, values, told):
    with pytest.raises(InvalidOption, match=told):
        kind.from_json(values)


def test_a_whole_number_is_a_number():
    assert GenerateOptions(seed=1, elevation_deg=30, guidance_scale=2) == GenerateOptions(
        seed=1, elevation_deg=30.0, guidance_scale=2.0
    )


def test_a_seed_nobody_chose_is_in_range_and_gives_the_first_of_what_an_engine_ranks():
    seeds = [random_seed() for _ in range(200)]
    assert len(set(seeds)) > 100
    for seed in seeds:
        assert 0 <= seed < SEED_LIMIT
        assert all(seed % count == 0 for count in range(1, 7))
