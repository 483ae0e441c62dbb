"""Mistakes that are easy to make leave the tolerances of the golden run: it would notice them."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pipeline.engines.assign_weights import assign_weights
from pipeline.engines.deg import (
    deg_canvas,
    deg_encoders,
    deg_layers,
    flow_network,
    flow_sampler,
    learned_rotation,
    position_tables,
    turbo_phases,
)
from pipeline.engines.deg.flow_settings import SamplerSettings
from tests.pipeline.engines.deg.golden_files import (
    golden_config,
    golden_tensors,
    relative_error,
    tiny_weights,
)
from tests.pipeline.engines.deg.test_turbo_phases import lora_tensors

#: Error of a part of the chain, by that of its tolerance: above 1 it is noticed.
Checks = dict[str, float]
Patch = pytest.MonkeyPatch


def built() -> flow_network.FlowNetwork:
    network = flow_network.FlowNetwork(golden_config().flow)
    network.load_state_dict(tiny_weights("flow"), strict=True)
    return network.requires_grad_(False).eval()


def errors_of(**found: tuple[Tensor, str, float]) -> Checks:
    golden = golden_tensors()
    return {
        name: relative_error(value, golden[key]) / tolerance
        for name, (value, key, tolerance) in found.items()
    }


def check_prepared() -> Checks:
    golden = golden_tensors()
    rgba = golden["in.rgba"].numpy()
    prepared = deg_canvas.prepare_photo(rgba[..., :3], rgba[..., 3], 64, faint=0)
    return errors_of(prepared=(torch.tensor(prepared.rgb), "out.prepared", 1e-9))


def check_feature2() -> Checks:
    golden = golden_tensors()
    empty = deg_encoders.empty_encoders(golden_config())
    vae = assign_weights(empty.vae, tiny_weights("vae_encoder"), torch.device("cpu"))
    tokens = vae.tokens(golden["out.vae.moments"], golden["in.noise.vae"])
    wanted = golden["out.cond.feature2"][:, 5:]
    return {"feature2": relative_error(tokens, wanted) / 2e-6}


def check_velocity() -> Checks:
    golden = golden_tensors()
    network = built()
    moment = network.moments(golden["in.flow.t"])[0]
    features = flow_network.PhotoFeatures(golden["out.cond.feature1"], golden["out.cond.feature2"])
    noise = golden["in.noise.latent"], golden["in.noise.camera"]
    found = network(*noise, moment, network.photo_context(features))
    null = network(*noise, moment, network.empty_context(features.feature1.shape[1]))
    return errors_of(
        latent=(found.latent, "out.flow.velocity.latent", 2e-6),
        camera=(found.camera, "out.flow.velocity.camera", 1e-5),
        null_latent=(null.latent, "out.flow.velocity_null.latent", 2e-6),
        null_camera=(null.camera, "out.flow.velocity_null.camera", 1e-5),
    )


def sampled(network: flow_sampler.FlowSource, settings: SamplerSettings) -> flow_sampler.FlowState:
    golden = golden_tensors()
    features = flow_network.PhotoFeatures(golden["out.cond.feature1"], golden["out.cond.feature2"])
    noise = flow_sampler.FlowNoise(golden["in.noise.latent"], golden["in.noise.camera"])
    return flow_sampler.sample(network, (features,), settings, noise)


def check_sampler() -> Checks:
    steps, guidance_scale, shift = golden_tensors()["in.sampler.settings"].tolist()
    found = sampled(built(), SamplerSettings(int(steps), guidance_scale, shift))
    return errors_of(
        latent=(found.latent, "out.latent", 1e-5), camera=(found.cameras, "out.camera", 1e-5)
    )


def check_turbo() -> Checks:
    network = built()
    loras = [
        turbo_phases.read_lora(lora_tensors(network, phase), network.config)
        for phase in ("slow", "fast")
    ]
    phases = turbo_phases.TurboPhases(*(turbo_phases.phase_network(network, x) for x in loras))
    found = sampled(phases, SamplerSettings(5, 1.0, 3.0))
    return errors_of(latent=(found.latent, "out.turbo.latent", 1e-5))


CHECKS = (check_prepared, check_feature2, check_velocity, check_sampler, check_turbo)


@pytest.mark.parametrize("check", CHECKS)
def test_without_a_mistake_nothing_is_noticed(check: Callable[[], Checks]):
    assert all(error <= 1 for error in check().values())


def floor_instead_of_truncation(patch: Patch) -> None:
    patch.setattr(deg_canvas, "int", math.floor, raising=False)


def another_epsilon_of_the_latent_norm(patch: Patch) -> None:
    patch.setattr(deg_encoders, "_LATENT_NORM_EPS", 1e-4)


def patches_column_first(patch: Patch) -> None:
    original = deg_encoders.pixel_unshuffle

    def turned(z: Tensor, factor: int) -> Tensor:
        return original(z.transpose(2, 3), factor).transpose(2, 3)

    patch.setattr(deg_encoders, "pixel_unshuffle", turned)


def exact_gelu(patch: Patch) -> None:
    patch.setattr(
        flow_network,
        "block_mlp",
        lambda width, ratio: deg_layers.TwoLayers(width, ratio * width, width, nn.GELU()),
    )


def larger_epsilon_in_blocks(patch: Patch) -> None:
    patch.setattr(flow_network, "_BLOCK_EPS", 1e-5)


def smaller_epsilon_in_the_head(patch: Patch) -> None:
    patch.setattr(flow_network, "_HEAD_EPS", 1e-6)


def smaller_epsilon_in_rotations(patch: Patch) -> None:
    patch.setattr(learned_rotation, "_EPS", 1e-6)


def norms_before_the_rotation(patch: Patch) -> None:
    def forward(
        self: flow_network.RotatedAttention,
        x: Tensor,
        turn: Tensor,
        repeated: object,
    ) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        q = learned_rotation.rotate(self.q_norm(q), turn)
        k = learned_rotation.rotate(self.k_norm(k), turn)
        return self.out(self.attend(q, k, v, repeated))

    patch.setattr(flow_network.RotatedAttention, "forward", forward)


def pairs_split_in_halves(patch: Patch) -> None:
    def rotate(x: Tensor, turn: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=-1)
        cos, sin = turn.real, turn.imag
        return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)

    patch.setattr(flow_network, "rotate", rotate)


def another_order_of_factors_in_the_positions(patch: Patch) -> None:
    def table(points: Tensor, width: int) -> Tensor:
        count = width // 6
        rest = torch.arange(count - 16, dtype=torch.float32) * 16 / (count - 16)
        exponents = torch.cat([torch.arange(16.0), rest])
        argument = points[..., None] * (torch.pow(2.0, exponents) * (2 * math.pi))
        return position_tables._waves(argument, width)

    patch.setattr(flow_network, "flow_positions", table)


def one_token_that_counts_once(patch: Patch) -> None:
    original = flow_network.FlowNetwork.empty_context

    def once(self: flow_network.FlowNetwork, tokens: int) -> flow_network.PhotoContext:
        return flow_network.PhotoContext(original(self, tokens).tokens)

    patch.setattr(flow_network.FlowNetwork, "empty_context", once)


def sines_before_cosines_of_the_time(patch: Patch) -> None:
    original = flow_network.time_waves
    patch.setattr(flow_network, "time_waves", lambda t: original(t).roll(128, dims=-1))


def scale_before_shift(patch: Patch) -> None:
    original = flow_network.modulated
    patch.setattr(
        flow_network, "modulated", lambda x, shift, scale, eps: original(x, scale, shift, eps)
    )


def even_times(patch: Patch) -> None:
    patch.setattr(
        SamplerSettings,
        "times",
        lambda self: tuple(1 - i / self.steps for i in range(self.steps + 1)),
    )


def guidance_of_one_less(patch: Patch) -> None:
    """v_cond + g (v_cond - v_null), as others write it."""
    post_init = SamplerSettings.__post_init__

    def more(self: SamplerSettings) -> None:
        post_init(self)
        object.__setattr__(self, "guidance_scale", self.guidance_scale + 1)

    patch.setattr(SamplerSettings, "__post_init__", more)


def the_phase_of_the_end_of_a_step(patch: Patch) -> None:
    patch.setattr(turbo_phases, "PHASE_BOUNDARY", 0.7)


MISTAKES: dict[Callable[[Patch], None], Callable[[], Checks]] = {
    floor_instead_of_truncation: check_prepared,
    another_epsilon_of_the_latent_norm: check_feature2,
    patches_column_first: check_feature2,
    exact_gelu: check_velocity,
    larger_epsilon_in_blocks: check_velocity,
    smaller_epsilon_in_the_head: check_velocity,
    smaller_epsilon_in_rotations: check_velocity,
    norms_before_the_rotation: check_velocity,
    pairs_split_in_halves: check_velocity,
    another_order_of_factors_in_the_positions: check_velocity,
    one_token_that_counts_once: check_velocity,
    sines_before_cosines_of_the_time: check_velocity,
    scale_before_shift: check_velocity,
    even_times: check_sampler,
    guidance_of_one_less: check_sampler,
    the_phase_of_the_end_of_a_step: check_turbo,
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_noticed(mistake: Callable[[Patch], None], monkeypatch: Patch):
    mistake(monkeypatch)
    errors = MISTAKES[mistake]()
    print({name: f"{error:.3g} x tolerance" for name, error in errors.items()})  # noqa: T201
    assert max(errors.values()) > 1
