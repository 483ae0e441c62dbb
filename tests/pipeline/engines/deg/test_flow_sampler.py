"""Sampling against the golden run, and against a slow plain form."""

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from pipeline.engines.deg.deg_config import DegConfig
from pipeline.engines.deg.flow_network import FlowNetwork, PhotoFeatures
from pipeline.engines.deg.flow_sampler import FlowNoise, FlowState, SamplerStep, sample
from pipeline.engines.deg.flow_settings import SamplerSettings
from pipeline.errors import InvalidOption, ModelFailed
from tests.pipeline.engines.deg.golden_files import relative_error


@pytest.fixture
def settings(golden: dict[str, Tensor]) -> SamplerSettings:
    steps, guidance_scale, shift = golden["in.sampler.settings"].tolist()
    return SamplerSettings(int(steps), guidance_scale, shift)


@pytest.fixture
def noise(golden: dict[str, Tensor]) -> FlowNoise:
    return FlowNoise(golden["in.noise.latent"], golden["in.noise.camera"])


@pytest.fixture
def second_photo(golden: dict[str, Tensor]) -> PhotoFeatures:
    return PhotoFeatures(golden["in.multi.feature1"], golden["in.multi.feature2"])


@torch.no_grad()
def plain_sample(
    network: FlowNetwork,
    features: Sequence[PhotoFeatures],
    settings: SamplerSettings,
    noise: FlowNoise,
) -> FlowState:
    """The formulas as they are written: nothing is kept, no photo is as many tokens as a photo."""
    latent, cameras = noise.latent, [*noise.cameras]
    zero = PhotoFeatures(*(torch.zeros_like(x) for x in vars(features[0]).values()))
    g = settings.guidance_scale

    def ask(t: float, camera: Tensor, photo: PhotoFeatures) -> tuple[Tensor, Tensor]:
        moment = network.moments(torch.tensor([t]))[0]
        return network(latent, camera[None], moment, network.photo_context(photo))

    times = settings.times()
    for t, t_next in itertools.pairwise(times):
        said = [ask(t, *pair) for pair in zip(cameras, features, strict=True)]
        null = ask(t, torch.stack(cameras).mean(0), zero)
        v = sum(one[0] for one in said) / len(said)
        guided = g > 1
        if guided:
            v = g * v - (g - 1) * null[0]
        latent = latent - v * (t - t_next)
        turns = [one[1] for one in said]
        if guided and len(said) == 1:
            turns = [g * turns[0] - (g - 1) * null[1]]
        for index, along in enumerate(turns):
            cameras[index] = cameras[index] - along[0] * (t - t_next)
    return FlowState(latent, torch.stack(cameras))


def test_every_step_agrees(
    flow_network: FlowNetwork,
    features: PhotoFeatures,
    settings: SamplerSettings,
    noise: FlowNoise,
    golden: dict[str, Tensor],
):
    steps: list[SamplerStep] = []
    found = sample(flow_network, (features,), settings, noise, steps.append)
    assert [step.step for step in steps] == [1, 2, 3, 4]
    assert all(step.steps == 4 for step in steps)
    latents = torch.cat([step.state.latent for step in steps])
    cameras = torch.cat([step.state.cameras for step in steps])
    assert relative_error(latents, golden["out.sampler.latents"]) <= 1e-5
    assert relative_error(cameras, golden["out.sampler.cameras"]) <= 1e-5
    estimate = steps[1].estimate.latent
    assert relative_error(estimate, golden["out.sampler.x0_estimate_at_step1"]) <= 1e-5
    times = torch.tensor([*(step.t for step in steps), 0.0], dtype=torch.float64)
    assert relative_error(times, golden["out.sampler.t"]) <= 1e-12
    assert relative_error(found.latent, golden["out.latent"]) <= 1e-5
    assert relative_error(found.cameras, golden["out.camera"]) <= 1e-5


@pytest.mark.parametrize("photos", [1, 2])
def test_the_estimate_is_where_the_step_leads_if_it_went_on(
    flow_network: FlowNetwork,
    config: DegConfig,
    features: PhotoFeatures,
    second_photo: PhotoFeatures,
    photos: int,
):
    """Of the cameras too: live models are turned by it."""
    settings, noise = SamplerSettings(4), FlowNoise.of_seed(config.flow, 3, photos)
    steps: list[SamplerStep] = []
    sample(flow_network, (features, second_photo)[:photos], settings, noise, steps.append)
    before = FlowState(noise.latent, noise.cameras)
    for step, t_next in zip(steps, settings.times()[1:], strict=True):
        way = step.t / (step.t - t_next)
        for name in ("latent", "cameras"):
            start, end = getattr(before, name), getattr(step.state, name)
            wanted = start - way * (start - end)
            assert relative_error(getattr(step.estimate, name), wanted) < 1e-5, (step.step, name)
        before = step.state
    # The last step goes all the way.
    assert relative_error(steps[-1].estimate.cameras, steps[-1].state.cameras) < 1e-6


def test_several_photos_agree(
    flow_network: FlowNetwork,
    features: PhotoFeatures,
    second_photo: PhotoFeatures,
    settings: SamplerSettings,
    noise: FlowNoise,
    golden: dict[str, Tensor],
):
    both = FlowNoise(noise.latent, torch.cat([noise.cameras, golden["in.multi.camera"]]))
    three = SamplerSettings(3, settings.guidance_scale, settings.shift)
    found = sample(flow_network, (features, second_photo), three, both)
    assert relative_error(found.latent, golden["out.multi.latent"]) <= 1e-5
    assert relative_error(found.cameras, golden["out.multi.cameras"]) <= 1e-5


@pytest.mark.parametrize(
    ("photos", "settings_of"),
    [
        (1, SamplerSettings(3, 3.0, 3.0)),
        (1, SamplerSettings(2, 1.0, 2.0)),
        (2, SamplerSettings(2, 2.5, 3.0)),
        (3, SamplerSettings(2, 0.0, 1.0)),
    ],
)
def test_the_savings_change_nothing(
    flow_network: FlowNetwork,
    config: DegConfig,
    features: PhotoFeatures,
    second_photo: PhotoFeatures,
    photos: int,
    settings_of: SamplerSettings,
):
    given = (features, second_photo, features)[:photos]
    noise = FlowNoise.of_seed(config.flow, 11, photos)
    found = sample(flow_network, given, settings_of, noise)
    plain = plain_sample(flow_network, given, settings_of, noise)
    assert relative_error(found.latent, plain.latent) <= 1e-5
    assert relative_error(found.cameras, plain.cameras) <= 1e-5


def test_the_photo_is_refined_once_and_no_photo_is_one_token(
    flow_network: FlowNetwork,
    features: PhotoFeatures,
    settings: SamplerSettings,
    noise: FlowNoise,
):
    refined: list[int] = []
    together: list[int] = []
    hooks = [
        flow_network.context_refiner[0].register_forward_hook(
            lambda _module, inputs, _out: refined.append(inputs[0].shape[1])
        ),
        flow_network.blocks[0].register_forward_hook(
            lambda _module, inputs, _out: together.append(inputs[0].shape[1])
        ),
    ]
    try:
        sample(flow_network, (features,), settings, noise)
    finally:
        for hook in hooks:
            hook.remove()
    assert refined == [21, 1]
    assert together == [64 + 21 + 1, 64 + 1 + 1] * 4


def test_the_same_seed_gives_the_same_bits(
    flow_network: FlowNetwork, config: DegConfig, features: PhotoFeatures
):
    results = [
        sample(
            flow_network,
            (features,),
            SamplerSettings(2),
            FlowNoise.of_seed(config.flow, seed),
        )
        for seed in (5, 5, 6)
    ]
    assert torch.equal(results[0].latent, results[1].latent)
    assert torch.equal(results[0].cameras, results[1].cameras)
    assert not torch.equal(results[0].latent, results[2].latent)


def test_a_further_photo_leaves_the_noise_of_the_others(config: DegConfig):
    one, two = (FlowNoise.of_seed(config.flow, 5, photos) for photos in (1, 2))
    assert torch.equal(one.latent, two.latent)
    assert torch.equal(one.cameras, two.cameras[:1])


def test_what_a_listener_raises_ends_the_sampling(
    flow_network: FlowNetwork,
    features: PhotoFeatures,
    settings: SamplerSettings,
    noise: FlowNoise,
):
    def stop(step: SamplerStep) -> None:
        if step.step == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        sample(flow_network, (features,), settings, noise, stop)


def test_a_latent_that_is_not_finite_is_an_error(
    flow_network: FlowNetwork, features: PhotoFeatures, settings: SamplerSettings, noise: FlowNoise
):
    broken = FlowNoise(torch.full_like(noise.latent, float("inf")), noise.cameras)
    with pytest.raises(ModelFailed, match=r"not finite.*bf16"):
        sample(flow_network, (features,), settings, broken)


def test_a_camera_that_is_not_finite_is_an_error(
    flow_network: FlowNetwork, features: PhotoFeatures, noise: FlowNoise
):
    head = flow_network.cam_out_layer
    hook = head.register_forward_hook(lambda _module, _inputs, out: out * torch.inf)
    try:
        with pytest.raises(ModelFailed, match="not finite"):
            # One step: nothing else has seen the camera yet.
            sample(flow_network, (features,), SamplerSettings(1), noise)
    finally:
        hook.remove()


def test_noise_of_another_shape_is_refused(
    flow_network: FlowNetwork, features: PhotoFeatures, settings: SamplerSettings, noise: FlowNoise
):
    with pytest.raises(ValueError, match="shapes"):
        sample(flow_network, (features, features), settings, noise)
    with pytest.raises(ValueError, match="needs a photo"):
        sample(flow_network, (), settings, noise)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"steps": 0}, "steps must be 1 to 200"),
        ({"steps": 1000}, "steps must be"),
        ({"guidance_scale": -1.0}, "guidance_scale"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"shift": 0.0}, "shift must be more than 0"),
        ({"shift": float("inf")}, "shift"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(values: dict[str, float], sentence: str):
    with pytest.raises(InvalidOption, match=sentence):
        SamplerSettings(**values)  # type: ignore[arg-type]
