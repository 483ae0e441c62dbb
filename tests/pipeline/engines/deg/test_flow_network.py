"""The flow network against the golden run, and its exact savings against the plain form."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pipeline.engines.deg.deg_config import DegConfig
from pipeline.engines.deg.flow_network import (
    FlowNetwork,
    Moment,
    PhotoContext,
    PhotoFeatures,
    Velocity,
)
from tests.pipeline.engines.deg.golden_files import (
    relative_error,
    released_keys,
    tiny_shapes,
    tiny_weights,
)


def zero_features(features: PhotoFeatures) -> PhotoFeatures:
    return PhotoFeatures(torch.zeros_like(features.feature1), torch.zeros_like(features.feature2))


@pytest.fixture(scope="module")
def moment(flow_network: FlowNetwork, golden: dict[str, Tensor]) -> Moment:
    return flow_network.moments(golden["in.flow.t"])[0]


@pytest.fixture(scope="module")
def context(flow_network: FlowNetwork, features: PhotoFeatures) -> PhotoContext:
    return flow_network.photo_context(features)


@pytest.fixture(scope="module")
def velocity(
    flow_network: FlowNetwork, golden: dict[str, Tensor], moment: Moment
) -> Callable[[PhotoContext], Velocity]:
    def of(context: PhotoContext) -> Velocity:
        return flow_network(golden["in.noise.latent"], golden["in.noise.camera"], moment, context)

    return of


def test_names_and_shapes_are_those_of_the_released_file():
    released = {
        key.name: key.shape
        for key in released_keys()
        if key.part == "flow" and "Idol" not in key.file
    }
    with torch.device("meta"):
        network = FlowNetwork(DegConfig.released().flow)
    found = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert found == released
    assert len(found) == 559
    assert sum(p.numel() for p in network.parameters()) == 370_526_101


def test_a_call_costs_what_the_specification_says_and_one_token_half_of_it():
    config = DegConfig.released()
    tera = {}
    with torch.device("meta"):
        network = FlowNetwork(config.flow)
        moment = Moment(torch.empty(1, 1024), torch.empty(1, 6144))
        noise = torch.empty(1, 8192, 16), torch.empty(1, 1, 5)
        contexts = {
            "photo": PhotoContext(torch.empty(1, config.photo_tokens, 1024)),
            "no photo": PhotoContext(torch.empty(1, 1, 1024), config.photo_tokens),
        }
        for name, context in contexts.items():
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                network(*noise, moment, context)
            tera[name] = counter.get_total_flops() / 1e12
    # 23.77 with the context refiner, which runs once for each photo.
    assert tera["photo"] == pytest.approx(23.77 - 0.36, abs=0.01)
    # 12.63 but for the channels of a repeated key: 72 instead of 64.
    assert tera["no photo"] == pytest.approx(12.63, rel=0.07)


def test_names_and_shapes_are_those_of_the_golden_run(config: DegConfig):
    with torch.device("meta"):
        network = FlowNetwork(config.flow)
    found = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert found == tiny_shapes("flow")


def test_what_is_taken_of_the_time_agrees(golden: dict[str, Tensor], moment: Moment):
    assert relative_error(moment.embedding, golden["out.flow.t_emb"]) <= 1e-5
    assert relative_error(moment.modulation, golden["out.flow.t_mod"]) <= 1e-5


def test_refined_tokens_agree(
    flow_network: FlowNetwork, golden: dict[str, Tensor], moment: Moment, context: PhotoContext
):
    refined = flow_network.refined_latent(golden["in.noise.latent"], moment)
    assert relative_error(refined, golden["out.flow.noise_refined"]) <= 1e-5
    assert relative_error(context.tokens, golden["out.flow.context_refined"]) <= 1e-5
    camera = flow_network.cam_refiner(golden["in.noise.camera"])
    assert relative_error(camera, golden["out.flow.camera_embedded"]) <= 1e-5


def test_the_first_rotation_and_block_agree(
    flow_network: FlowNetwork,
    golden: dict[str, Tensor],
    context: PhotoContext,
    velocity: Callable[[PhotoContext], Velocity],
):
    seen: dict[str, Any] = {}
    hooks = [
        flow_network.repo_layers[0].register_forward_hook(
            lambda _module, _inputs, out: seen.update(rotation=out)
        ),
        flow_network.blocks[0].register_forward_hook(
            lambda _module, _inputs, out: seen.update(block=out)
        ),
    ]
    try:
        velocity(context)
    finally:
        for hook in hooks:
            hook.remove()
    cos, sin = seen["rotation"].real, seen["rotation"].imag
    # Angles reach 16 pi: float32 knows them less well.
    assert relative_error(cos, golden["out.flow.repo0_angle_cos"]) <= 1e-4
    assert relative_error(sin, golden["out.flow.repo0_angle_sin"]) <= 1e-4
    assert relative_error(seen["block"], golden["out.flow.block0"]) <= 1e-5


def test_the_velocity_agrees(
    golden: dict[str, Tensor],
    context: PhotoContext,
    velocity: Callable[[PhotoContext], Velocity],
):
    found = velocity(context)
    assert relative_error(found.latent, golden["out.flow.velocity.latent"]) <= 2e-6
    assert relative_error(found.camera, golden["out.flow.velocity.camera"]) <= 1e-5


@pytest.mark.parametrize("as_one_token", [False, True])
def test_the_velocity_without_a_photo_agrees(
    flow_network: FlowNetwork,
    golden: dict[str, Tensor],
    features: PhotoFeatures,
    velocity: Callable[[PhotoContext], Velocity],
    as_one_token: bool,
):
    if as_one_token:
        context = flow_network.empty_context(features.feature1.shape[1])
    else:
        context = flow_network.photo_context(zero_features(features))
    found = velocity(context)
    assert relative_error(found.latent, golden["out.flow.velocity_null.latent"]) <= 2e-6
    assert relative_error(found.camera, golden["out.flow.velocity_null.camera"]) <= 1e-5


def test_one_token_for_no_photo_is_the_plain_form(
    flow_network: FlowNetwork,
    features: PhotoFeatures,
    velocity: Callable[[PhotoContext], Velocity],
):
    plain = velocity(flow_network.photo_context(zero_features(features)))
    tokens = features.feature1.shape[1]
    one = velocity(flow_network.empty_context(tokens))
    assert relative_error(one.latent, plain.latent) <= 2e-6
    assert relative_error(one.camera, plain.camera) <= 1e-5
    # The weight of the token matters: as many as another photo has are something else.
    other = velocity(flow_network.empty_context(tokens + 1))
    assert relative_error(other.latent, plain.latent) > 1e-4


def test_only_a_single_token_stands_for_several():
    with pytest.raises(ValueError, match="single token"):
        PhotoContext(torch.zeros(1, 2, 8), count=2)


def test_a_table_of_times_is_what_each_time_gives_alone(
    flow_network: FlowNetwork, golden: dict[str, Tensor], moment: Moment
):
    table = flow_network.moments(torch.tensor([1.0, float(golden["in.flow.t"]), 0.3]))
    assert relative_error(table[1].embedding, moment.embedding) <= 1e-6
    assert relative_error(table[1].modulation, moment.modulation) <= 1e-6


def test_a_network_of_two_number_formats_needs_no_autocast(
    config: DegConfig,
    golden: dict[str, Tensor],
    features: PhotoFeatures,
):
    network = FlowNetwork(config.flow)
    network.load_state_dict(tiny_weights("flow"), strict=True)
    network.requires_grad_(False).eval()
    network.blocks.bfloat16()
    network.context_refiner.bfloat16()
    network.noise_refiner.bfloat16()
    moment = network.moments(golden["in.flow.t"])[0]
    noise = golden["in.noise.latent"], golden["in.noise.camera"]
    found = network(*noise, moment, network.photo_context(features))
    assert found.latent.dtype == found.camera.dtype == torch.float32
    assert relative_error(found.latent, golden["out.flow.velocity.latent"]) < 0.05
    one = network(*noise, moment, network.empty_context(features.feature1.shape[1]))
    assert relative_error(one.latent, golden["out.flow.velocity_null.latent"]) < 0.05
