"""Idol Turbo's two phases against the golden run, and what is refused of a LoRA."""

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

from pipeline.engines.deg.deg_config import DegConfig
from pipeline.engines.deg.flow_network import FlowNetwork, PhotoFeatures
from pipeline.engines.deg.flow_sampler import FlowNoise, SamplerStep, sample
from pipeline.engines.deg.flow_settings import SamplerSettings
from pipeline.engines.deg.fused_attention import Attention, AttentionKernel, use_kernel
from pipeline.engines.deg.turbo_phases import (
    PHASE_BOUNDARY,
    TurboPhases,
    adapted_modules,
    phase_network,
    read_lora,
)
from pipeline.errors import Unavailable
from tests.pipeline.engines.deg.golden_files import relative_error, tiny_lora


def lora_tensors(network: FlowNetwork, phase: str) -> dict[str, Tensor]:
    layers = [(name, network.get_submodule(name)) for name in adapted_modules(network.config)]
    return tiny_lora([(n, m.in_features, m.out_features) for n, m in layers], phase)


@pytest.fixture(scope="module")
def slow_lora(flow_network: FlowNetwork) -> dict[str, Tensor]:
    return lora_tensors(flow_network, "slow")


@pytest.fixture(scope="module")
def phases(flow_network: FlowNetwork, slow_lora: dict[str, Tensor]) -> TurboPhases:
    config = flow_network.config
    fast_lora = lora_tensors(flow_network, "fast")
    return TurboPhases(
        slow=phase_network(flow_network, read_lora(slow_lora, config)),
        fast=phase_network(flow_network, read_lora(fast_lora, config)),
    )


def test_five_steps_agree(phases: TurboPhases, features: PhotoFeatures, golden: dict[str, Tensor]):
    steps: list[SamplerStep] = []
    noise = FlowNoise(golden["in.noise.latent"], golden["in.noise.camera"])
    settings = SamplerSettings(steps=5, guidance_scale=1.0, shift=3.0)
    found = sample(phases, (features,), settings, noise, steps.append)
    assert relative_error(found.latent, golden["out.turbo.latent"]) <= 1e-5
    assert relative_error(found.cameras, golden["out.turbo.camera"]) <= 1e-5
    slow_used = [float(phases.network_at(step.t) is phases.slow) for step in steps]
    assert slow_used == golden["out.turbo.slow_used"].tolist() == [1, 1, 1, 1, 0]


@pytest.mark.parametrize("steps", [4, 8])
def test_a_step_that_starts_at_the_boundary_itself_is_fast(phases: TurboPhases, steps: int):
    times = SamplerSettings(steps=steps, guidance_scale=1.0, shift=3.0).times()[:-1]
    assert PHASE_BOUNDARY in times
    assert [phases.network_at(t) is phases.fast for t in times] == [t <= 0.5 for t in times]


def test_a_phase_attends_by_the_kernel_of_its_network(
    flow_network: FlowNetwork, slow_lora: dict[str, Tensor]
):
    chosen = flow_network.with_weights({})
    use_kernel(chosen, AttentionKernel(SDPBackend.MATH))
    phase = phase_network(chosen, read_lora(slow_lora, flow_network.config))
    kernels = {m.kernel.name for m in phase.modules() if isinstance(m, Attention)}
    assert kernels == {"math"}


def test_the_released_sets_have_the_published_size():
    config = DegConfig.released().flow
    modules = adapted_modules(config)
    with torch.device("meta"):
        network = FlowNetwork(config)
    layers = [network.get_submodule(name) for name in modules]
    assert sum(32 * (m.in_features + m.out_features) for m in layers) == 14_680_064


def test_a_phase_shares_what_it_does_not_change(flow_network: FlowNetwork, phases: TurboPhases):
    changed = {f"{name}.weight" for name in adapted_modules(flow_network.config)}
    own = phases.slow.state_dict()
    for name, value in flow_network.state_dict().items():
        assert (own[name].data_ptr() == value.data_ptr()) == (name not in changed), name


def test_changes_are_added_before_they_are_rounded(
    flow_network: FlowNetwork, slow_lora: dict[str, Tensor]
):
    exact = flow_network.state_dict()
    rounded = flow_network.with_weights({})
    rounded.blocks.bfloat16()
    lora = read_lora(slow_lora, flow_network.config)
    name = "blocks.0.attn.qkv.weight"
    found = phase_network(rounded, lora, exact).state_dict()[name]
    change = lora["blocks.0.attn.qkv"]
    wanted = (exact[name] + change.up @ change.down).bfloat16()
    assert torch.equal(found, wanted)
    assert not torch.equal(phase_network(rounded, lora).state_dict()[name], wanted)


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "diffusion_model.",
        "model.diffusion_model.",
        "transformer.",
        "base_model.model.",
        "base_model.model.transformer.",
    ],
)
@pytest.mark.parametrize("ends", [("lora_A", "lora_B"), ("lora_down", "lora_up")])
def test_the_usual_spellings_are_read(
    slow_lora: dict[str, Tensor], config: DegConfig, prefix: str, ends: tuple[str, str]
):
    spelled = {
        prefix + name.replace("lora_A", ends[0]).replace("lora_B", ends[1]): value
        for name, value in slow_lora.items()
    }
    found = read_lora(spelled, config.flow)
    assert sorted(found) == sorted(adapted_modules(config.flow))
    assert all(change.scale == 1 for change in found.values())


def test_alpha_scales_by_the_rank(slow_lora: dict[str, Tensor], config: DegConfig):
    name = "blocks.0.attn.out"
    found = read_lora({**slow_lora, f"{name}.alpha": torch.tensor(8.0)}, config.flow)
    assert found[name].scale == 2.0
    weight = torch.zeros(128, 128)
    wanted = 2 * found[name].up @ found[name].down
    torch.testing.assert_close(found[name].added_to(weight), wanted)


def test_what_does_not_belong_is_refused(slow_lora: dict[str, Tensor], config: DegConfig):
    def refused(tensors: dict[str, Tensor], sentence: str) -> None:
        with pytest.raises(Unavailable, match=sentence):
            read_lora(tensors, config.flow)

    some = torch.zeros(4, 128)
    a, b = "blocks.0.attn.out.lora_A.weight", "blocks.0.attn.out.lora_B.weight"
    refused({}, "holds no tensor")
    refused({**slow_lora, "blocks.9.attn.out.lora_A.weight": some}, "not in the flow network")
    refused({**slow_lora, "out_layer.lora_A.weight": some}, "not in the flow network")
    refused({**slow_lora, "blocks.0.attn.out.weight": some}, "not in the flow network")
    refused({**slow_lora, f"transformer.{a}": some}, "the same twice")
    refused({n: v for n, v in slow_lora.items() if n != b}, "without their pair, for: blocks.0")
    alone = {n: v for n, v in slow_lora.items() if n not in (a, b)}
    refused({**alone, "blocks.0.attn.out.alpha": torch.ones(())}, "without their pair")
    refused({**slow_lora, a: torch.zeros(4, 64)}, "shapes that do not fit")
    refused({**slow_lora, b: torch.zeros(128, 5)}, "shapes that do not fit")
    refused({**slow_lora, a: torch.zeros(4)}, "shapes that do not fit")
    refused({**slow_lora, a: torch.zeros(())}, "shapes that do not fit")
