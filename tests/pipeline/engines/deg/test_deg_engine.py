"""The engine behind the port: what it composes, keeps, shows on the way and finds of the photo."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.control import Control, Showing
from pipeline.engines.deg.deg_canvas import prepare_photo
from pipeline.engines.deg.deg_decoder import decode
from pipeline.engines.deg.deg_encoders import encode_photo, vae_noise
from pipeline.engines.deg.deg_engine import LIVE_GAUSSIANS
from pipeline.engines.deg.flow_sampler import FlowNoise, sample
from pipeline.engines.deg.flow_settings import SamplerSettings
from pipeline.engines.deg.found_photos import on_white
from pipeline.errors import Cancelled, InvalidImage, InvalidInput, InvalidOption
from pipeline.formats.ply import read_ply, write_ply
from pipeline.requests import GeneratorRequest, WholePhoto
from tests.pipeline.engines.deg.golden_files import golden_config, golden_tensors
from tests.tiny.deg import tiny_deg


@pytest.fixture(scope="module")
def engine():
    return tiny_deg()


@pytest.fixture(scope="module")
def photo():
    return WholePhoto(golden_tensors()["in.rgba"].numpy(), 0.0)


@pytest.fixture(scope="module")
def request_of(photo):
    return GeneratorRequest((photo,), 800, seed=7, steps=10)


@pytest.fixture(scope="module")
def made(engine, request_of):
    return engine.generate(request_of, Control())


def test_it_composes_what_the_room_does(engine, photo, made):
    config = golden_config()
    prepared = prepare_photo(photo.rgba[..., :3], photo.rgba[..., 3], config.canvas)
    features = encode_photo(engine._encoders, prepared, vae_noise(config, 7))
    state = sample(
        engine._flow, (features,), SamplerSettings(10, 3.0, 3.0), FlowNoise.of_seed(config.flow, 7)
    )
    np.testing.assert_array_equal(made.latent.latent, state.latent[0].numpy())
    np.testing.assert_array_equal(made.latent.cameras, state.cameras[:, 0].numpy())
    bare = decode(engine._decoders, state.latent, state.cameras, num_gaussians=800, decode_seed=7)
    np.testing.assert_array_equal(made.model.means, bare.model.means)
    assert len(made.model) == 800
    assert made.engine == "triposplat"


def test_the_same_request_gives_the_same_bits_also_from_a_file(engine, request_of, made):
    again = engine.generate(request_of, Control())
    back = read_ply(write_ply(made.model))
    for name in ("means", "quats", "log_scales", "logit_opacities", "sh"):
        np.testing.assert_array_equal(getattr(again.model, name), getattr(made.model, name))
        np.testing.assert_array_equal(getattr(back, name), getattr(made.model, name))


def test_another_density_comes_from_what_was_kept_without_the_flow(engine, request_of, made):
    bare = tiny_deg()
    bare._flow = None
    request = replace(request_of, num_gaussians=1600, kept=made.latent)
    dense = bare.generate(request, Control())
    assert len(dense.model) == 1600
    np.testing.assert_array_equal(dense.latent.latent, made.latent.latent)
    same = bare.generate(replace(request, num_gaussians=800), Control())
    np.testing.assert_array_equal(same.model.means, made.model.means)
    other = bare.generate(replace(request, num_gaussians=800, decode_seed=8), Control())
    assert not np.array_equal(other.model.means, made.model.means)
    assert other.latent.decode_seed == 8
    with pytest.raises(InvalidInput, match=r"is idol's, which the \w+ engine cannot read"):
        bare.generate(replace(request, kept=replace(made.latent, engine="idol")), Control())
    with pytest.raises(InvalidInput, match="shapes"):
        bare.generate(
            replace(request, kept=replace(made.latent, latent=made.latent.latent[:5])), Control()
        )


def test_a_pass_that_is_watched_shows_small_models_and_stays_the_same(engine, request_of, made):
    told, now = [], iter(np.arange(0, 1e6, 3.0))
    control = Control(report_to=told.append, showing=Showing(lambda: next(now)))
    watched = engine.generate(request_of, control)
    shown = [progress.preview for progress in told if progress.preview is not None]
    assert shown
    assert {len(model) for model in shown} == {LIVE_GAUSSIANS}
    assert all(np.isfinite(model.means).all() for model in shown)
    np.testing.assert_array_equal(watched.model.means, made.model.means)
    fractions = [progress.fraction for progress in told]
    assert fractions == sorted(fractions)


def test_a_stop_is_heard_between_steps(engine, request_of):
    control = Control()

    def stop(progress):
        if progress.message.startswith("Step 2"):
            control.stop.set()

    with pytest.raises(Cancelled):
        engine.generate(request_of, replace(control, report_to=stop))


def test_several_photos_share_a_latent_and_a_note_warns(engine, photo, request_of):
    two = replace(request_of, photos=(photo, WholePhoto(photo.rgba[:, ::-1].copy(), 45.0)))
    made = engine.generate(two, Control())
    assert made.latent.cameras.shape == (2, 5)
    assert any("Several photos" in note for note in made.notes)


def test_a_photo_without_an_object_is_refused_by_its_number(engine, photo, request_of):
    nothing = WholePhoto(np.zeros_like(photo.rgba))
    with pytest.raises(InvalidImage, match="No object"):
        engine.generate(replace(request_of, photos=(nothing,)), Control())
    with pytest.raises(InvalidImage, match="Photo 1: No object"):
        engine.generate(replace(request_of, photos=(photo, nothing)), Control())
    with pytest.raises(InvalidInput):
        engine.generate(replace(request_of, photos=()), Control())


def test_what_the_preset_cannot_do_is_refused_once_more(engine, request_of):
    with pytest.raises(InvalidOption, match="num_gaussians"):
        engine.generate(replace(request_of, num_gaussians=300_000), Control())


def test_a_prepared_photo_on_white():
    rgba = np.zeros((80, 80, 4), np.uint8)
    rgba[20:60, 20:60] = (200, 80, 40, 255)
    prepared = prepare_photo(rgba[..., :3], rgba[..., 3], 64)
    white = on_white(prepared)
    assert (white[0, 0] == 255).all()
    assert tuple(white[32, 32]) == (200, 80, 40)


def test_turbo_needs_no_guidance(photo):
    turbo = tiny_deg("idol-turbo")
    made = turbo.generate(GeneratorRequest((photo,), 1001, seed=7), Control())
    assert (made.engine, len(made.model)) == ("idol-turbo", 1_000), "rounded down"
    assert made.latent.settings["steps"] == 5
    assert any("1,001 splats were asked for" in note for note in made.notes)
    assert torch.tensor(made.latent.latent).isfinite().all()
