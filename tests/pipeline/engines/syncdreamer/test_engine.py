"""The engine on a tiny random model: what it returns, repeats, refuses, and stops."""

import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.control import Control, Progress
from pipeline.device import Device
from pipeline.engines.views.syncdreamer.network_folder import empty_network
from pipeline.engines.views.syncdreamer.syncdreamer_views import SyncDreamerViews
from pipeline.engines.views.syncdreamer.view_hints import NO_REMOVER_NOTE
from pipeline.errors import Cancelled, InvalidOption, ModelFailed, OutOfMemory, Unavailable
from pipeline.geometry.cameras import rig_cameras
from pipeline.types import CameraEstimate, Cutout
from tests.fakes import RememberedCamera
from tests.random_networks import random_syncdreamer
from tests.tiny.syncdreamer import TINY_SYNCDREAMER, tiny_network


@pytest.fixture(scope="module")
def reported() -> list[Progress]:
    """What `views` reported while it was made."""
    return []


@pytest.fixture(scope="module")
def views(engine, request_of_two_steps, reported):
    return engine.synthesize(request_of_two_steps, Control(report_to=reported.append))


def test_sixteen_views_on_white_with_the_cameras_of_the_rig(views):
    assert views.images.shape == (16, 256, 256, 3)
    assert views.images.dtype == views.alphas.dtype == np.uint8
    assert views.alphas.shape == (16, 256, 256)
    assert (views.images[views.alphas == 0] == 255).all()
    shares = (views.alphas > 127).mean((1, 2))
    assert shares.min() > 0.2
    assert shares.max() < 0.9
    assert views.engine == "syncdreamer"
    assert views.notes == ()
    assert np.array_equal(views.cameras.viewmats, rig_cameras().viewmats)
    assert np.array_equal(views.cameras.intrinsics, rig_cameras().intrinsics)
    assert len(np.unique(views.images, axis=0)) == 16, "every view differs"


def test_a_seed_gives_the_same_views_again(engine, views, request_of_two_steps):
    again = engine.synthesize(request_of_two_steps, Control())
    assert np.array_equal(again.images, views.images)
    assert np.array_equal(again.alphas, views.alphas)
    other = engine.synthesize(replace(request_of_two_steps, seed=8), Control())
    assert not np.array_equal(other.images, views.images)


def test_photo_elevation_and_guidance_matter(engine, views, request_of_two_steps):
    rgba = request_of_two_steps.cutout.rgba.copy()
    rgba[..., :3] = 255 - rgba[..., :3]
    for changed in (
        replace(request_of_two_steps, cutout=Cutout(rgba, "given")),
        replace(request_of_two_steps, elevation_deg=-10.0),
        replace(request_of_two_steps, guidance_scale=6.0),
    ):
        assert not np.array_equal(engine.synthesize(changed, Control()).images, views.images)


def test_an_elevation_that_nobody_gave_is_the_rigs_and_told(
    engine, views, request_of_two_steps, monkeypatch
):
    seen = []

    def run(_image, elevation_rad, *_more):
        seen.append(np.rad2deg(elevation_rad))
        return views.images.copy()

    monkeypatch.setattr(engine, "_run", run)
    assumed = engine.synthesize(replace(request_of_two_steps, elevation_deg=None), Control())
    assert seen == pytest.approx([30])
    (note,) = assumed.notes
    assert "30 degrees were assumed" in note


@pytest.mark.parametrize(("seen_deg", "told_deg"), [(12.0, 12.0), (55.0, 40.0)])
def test_an_elevation_that_nobody_gave_is_asked_of_whoever_sees_it(
    engine, views, request_of_two_steps, monkeypatch, seen_deg, told_deg
):
    told = []

    def run(_image, elevation_rad, *_more):
        told.append(np.rad2deg(elevation_rad))
        return views.images.copy()

    seer = RememberedCamera(CameraEstimate(seen_deg, 14.0, 1.5, 0.1))
    monkeypatch.setattr(engine, "_run", run)
    monkeypatch.setattr(engine, "seer", seer)
    open_one = engine.synthesize(replace(request_of_two_steps, elevation_deg=None), Control())
    assert told == pytest.approx([told_deg]), "the network learned from -10 to 40 degrees"
    assert open_one.estimate == CameraEstimate(told_deg, 14.0, 1.5, 0.1)
    (note,) = open_one.notes
    assert f"about {told_deg:.0f} degrees above the horizon, give or take 14" in note
    assert "give elevation_deg where it is known" in note, "so far off that it is worth a warning"
    given = engine.synthesize(request_of_two_steps, Control())
    assert given.estimate is None and len(seer.photos) == 1, "what is given is not looked for"


def test_fewer_views_at_once_change_only_rounding(tiny_folder, views, request_of_two_steps):
    engine = SyncDreamerViews.load(tiny_folder, Device.choose("cpu"), views_at_once=6)
    apart = engine.synthesize(request_of_two_steps, Control())
    difference = np.abs(apart.images.astype(int) - views.images)
    assert difference.max() <= 1
    assert apart.notes == (NO_REMOVER_NOTE,), "it was loaded without one"


def test_the_faster_sampler_says_that_it_was_used(engine, views, request_of_two_steps):
    faster = engine.synthesize(replace(request_of_two_steps, sampler="dpm++"), Control())
    assert any("DPM-Solver++ in 2 steps" in note for note in faster.notes)
    assert not np.array_equal(faster.images, views.images)


@pytest.mark.parametrize(
    "odd",
    [{"steps": 3}, {"steps": 30}, {"sampler": "euler"}, {"guidance_scale": -1.0}],
)
def test_options_it_cannot_use_are_refused_before_any_work(engine, request_of_two_steps, odd):
    seen = []
    with pytest.raises(InvalidOption, match=next(iter(odd))):
        engine.synthesize(replace(request_of_two_steps, **odd), Control(report_to=seen.append))
    assert not seen


def test_a_larger_cutout_is_reduced_and_one_that_is_not_square_refused(
    engine, views, request_of_two_steps
):
    doubled = request_of_two_steps.cutout.rgba.repeat(2, axis=0).repeat(2, axis=1)
    larger = replace(request_of_two_steps, cutout=Cutout(doubled, "given"))
    assert np.array_equal(engine.synthesize(larger, Control()).images, views.images)
    odd = Cutout(np.zeros((256, 128, 4), np.uint8), "given")
    with pytest.raises(ValueError, match="square"):
        engine.synthesize(replace(request_of_two_steps, cutout=odd), Control())


@pytest.mark.usefixtures("views")
def test_it_reports_its_steps(reported):
    fractions = [progress.fraction for progress in reported]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert [progress.message for progress in reported[:2]] == ["step 1 of 2", "step 2 of 2"]


def test_it_stops_within_a_step(engine, request_of_two_steps):
    stop = threading.Event()
    seen = []

    def stop_at_the_first(progress):
        seen.append(progress)
        stop.set()

    with pytest.raises(Cancelled):
        engine.synthesize(request_of_two_steps, Control(stop, stop_at_the_first))
    assert len(seen) == 1


def test_bf16_runs_and_is_close(tiny_folder, engine, request_of_two_steps):
    half = SyncDreamerViews.load(tiny_folder, Device.choose("cpu", "bf16"))
    assert half.network.dtype == torch.bfloat16
    with torch.inference_mode():
        noise = torch.randn(16, 4, 32, 32, generator=torch.Generator().manual_seed(0))
        results = []
        for each in (half, engine):
            network = each.network
            photo, _ = network.encode(torch.full((1, 3, 256, 256), 0.3))
            embedding = network.embed_image(torch.full((1, 3, 256, 256), 0.3))
            conditions = network.condition(photo, embedding, 0.3)
            results.append(
                network.predict_noise(noise, 481, conditions, guidance_scale=2.0, views_at_once=16)
            )
    ours, expected = results
    assert ours.dtype == torch.float32
    # bf16 keeps 8 bits: measured 1e-2 over the depth of the network.
    assert float((ours - expected).norm() / expected.norm()) < 5e-2
    views = half.synthesize(request_of_two_steps, Control())
    assert (views.alphas > 127).any((1, 2)).all()


def _own_engine(**options) -> SyncDreamerViews:
    return SyncDreamerViews(tiny_network(), Device.choose("cpu"), **options)


def test_a_full_device_gets_half_the_views_from_then_on(monkeypatch, views, request_of_two_steps):
    engine = _own_engine()
    predict = engine.network.predict_noise
    tried = []

    def small_device(*args, views_at_once: int, **kwargs):
        tried.append(views_at_once)
        if views_at_once > 8:
            raise torch.OutOfMemoryError("full")
        return predict(*args, views_at_once=views_at_once, **kwargs)

    monkeypatch.setattr(engine.network, "predict_noise", small_device)
    made = engine.synthesize(request_of_two_steps, Control())
    assert np.abs(made.images.astype(int) - views.images).max() <= 1
    assert engine.views_at_once == 8
    assert tried == [16, 8, 8]


def test_a_device_too_small_for_half_is_an_error(monkeypatch, request_of_two_steps):
    engine = _own_engine()

    def tiny_device(*_args, **_kwargs):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(engine.network, "predict_noise", tiny_device)
    with pytest.raises(OutOfMemory, match="16 items at once and then with 8"):
        engine.synthesize(request_of_two_steps, Control())
    with pytest.raises(OutOfMemory, match="view synthesis"):
        engine.warm_up()


def test_numbers_that_are_not_finite_are_an_error(monkeypatch, request_of_two_steps):
    engine = _own_engine()
    monkeypatch.setattr(
        engine.network, "predict_noise", lambda latents, *_, **__: latents * float("nan")
    )
    with pytest.raises(ModelFailed, match="not finite in fp32"):
        engine.synthesize(request_of_two_steps, Control())


def test_warming_up_runs_everything_and_keeps_the_views_at_once(engine):
    engine.warm_up()
    assert engine.views_at_once == 16


def test_random_weights_give_finite_views(request_of_two_steps):
    network = random_syncdreamer(TINY_SYNCDREAMER, torch.device("cpu"), torch.float32, seed=1)
    engine = SyncDreamerViews(network, Device.choose("cpu"))
    assert engine.synthesize(request_of_two_steps, Control()).images.shape[0] == 16


def test_other_cameras_and_other_numbers_of_views_are_refused():
    network = tiny_network()
    network.poses[3, 0, 3] += 0.01
    with pytest.raises(Unavailable, match="poses are not the product's cameras"):
        SyncDreamerViews(network, Device.choose("cpu"))
    fewer = empty_network(replace(TINY_SYNCDREAMER, views=8))
    with pytest.raises(Unavailable, match="makes 8 views"):
        SyncDreamerViews(fewer, Device.choose("cpu"))


def test_a_missing_folder_is_unavailable(tmp_path):
    with pytest.raises(Unavailable, match=r"config\.json"):
        SyncDreamerViews.load(tmp_path / "nowhere", Device.choose("cpu"))


@pytest.mark.parametrize("package", ["diffusers", "transformers", "safetensors"])
def test_a_missing_package_is_unavailable_with_the_way_to_get_it(monkeypatch, tiny_folder, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Unavailable, match=rf"{package}: run `pip install -e '\.\[models\]'`"):
        SyncDreamerViews.load(tiny_folder, Device.choose("cpu"))
