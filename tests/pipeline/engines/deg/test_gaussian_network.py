"""The Gaussian network and what its numbers mean, against the reference's run."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.engines.deg import gaussian_fields, gaussian_network
from pipeline.engines.deg.decoder_attention import SelfAttention
from pipeline.engines.deg.deg_config import DegConfig
from pipeline.engines.deg.deg_layers import AffineNorm, MultiHeadNorm, plain_norm
from pipeline.engines.deg.gaussian_fields import (
    base_offset_scale,
    offset_perturbation,
    to_model,
)
from pipeline.engines.deg.gaussian_network import GaussianNetwork
from pipeline.engines.deg.octree_network import OctreeNetwork
from pipeline.errors import ModelFailed
from tests.pipeline.engines.deg.golden_files import (
    golden_tensors,
    relative_error,
    released_keys,
    tiny_shapes,
)
from tests.pipeline.engines.deg.tiny_decoders import build_gaussians, tiny_gaussians

#: Measured: 4e-7 of the features, 1e-7 at worst of the rest.
NETWORK, REST = 2e-6, 1e-5


def features_of(network: GaussianNetwork, **bounds: int) -> Tensor:
    golden = golden_tensors()
    with torch.inference_mode():
        memory = network.read_latent(golden["out.latent"])
        features: Tensor = network(golden["out.octree.points"][0], memory, **bounds)
    return features


def fields_of(features: Tensor) -> gaussian_fields.GaussianFields:
    network = tiny_gaussians()
    return gaussian_fields.gaussian_fields(
        golden_tensors()["out.octree.points"][0],
        features,
        network.points_offset_perturbation,
        network.base_offset_scale,
    )


def golden_fields() -> gaussian_fields.GaussianFields:
    return fields_of(golden_tensors()["out.gs.features"][0])


def field_errors(fields: gaussian_fields.GaussianFields) -> dict[str, float]:
    golden = golden_tensors()
    ours = {
        "gs.offset": fields.offsets[None],
        "gs.xyz": fields.means,
        "gs.features_dc": fields.sh,
        "gs.rotation": fields.quats,
        "gs.scaling": fields.log_scales.exp(),
        "gs.opacity": fields.logit_opacities.sigmoid()[:, None],
        # These the turn into the photo's frame does not change.
        "splat.log_scales": fields.log_scales,
        "splat.logit_opacities": fields.logit_opacities,
        "splat.sh": fields.sh,
    }
    return {name: relative_error(field, golden[f"out.{name}"]) for name, field in ours.items()}


def test_features_are_the_reference_s():
    features = features_of(tiny_gaussians())
    assert relative_error(features[None], golden_tensors()["out.gs.features"]) < NETWORK


def test_fields_are_the_reference_s():
    fields = golden_fields()
    assert max(field_errors(fields).values()) < REST


def test_raw_numbers_lie_where_the_reference_has_them():
    golden = golden_tensors()
    raw = golden["out.gs.features"][0].split([24, 24, 24, 32, 8, 8], dim=-1)
    assert torch.equal(raw[2].reshape(-1, 3), golden["out.gs.raw.scaling"])
    # The reference keeps its quaternions already times 0.1.
    assert torch.equal(0.1 * raw[3].reshape(-1, 4), golden["out.gs.raw.rotation"])
    assert torch.equal(raw[4].reshape(-1, 1), golden["out.gs.raw.opacity"])


def test_buffers_by_formula_are_those_of_the_files():
    golden = golden_tensors()
    for gaussians, name in ((32, "full"), (8, "buf")):
        wanted = golden[f"{name}.gs.points_offset_perturbation"]
        assert relative_error(offset_perturbation(gaussians), wanted) < 1e-6
    assert relative_error(base_offset_scale()[None], golden["buf.gs.base_offset_scale"]) < 1e-6


def block_norm_of_the_head(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gaussian_network, "_BLOCK_EPS", 1e-5)


def head_norm_of_the_blocks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gaussian_network, "_HEAD_EPS", 1e-6)


def second_norm_without_parameters(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AffineNorm, "forward", lambda self, tokens: plain_norm(tokens, self.eps))


def latent_before_each_other(patch: pytest.MonkeyPatch) -> None:
    def forward(self: nn.Module, h: Tensor, memory: object, points_at_once: int) -> Tensor:
        h = h + self.cross_attn(self.norm2(h), memory)
        normal = plain_norm(h, 1e-6)
        h = h + self.self_attn(normal, self.self_attn.keys_values(normal))
        made: Tensor = h + self.mlp(plain_norm(h, 1e-6))
        return made

    patch.setattr(gaussian_network.GaussianBlock, "forward", forward)


def positions_around_zero(patch: pytest.MonkeyPatch) -> None:
    positions = gaussian_network.decoder_positions
    patch.setattr(
        gaussian_network, "decoder_positions", lambda points, width: positions(points - 0.5, width)
    )


def no_norm_of_heads(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MultiHeadNorm, "forward", lambda self, tokens: tokens)


def keys_before_queries(patch: pytest.MonkeyPatch) -> None:
    projected = SelfAttention._projected
    patch.setattr(
        SelfAttention,
        "_projected",
        lambda self, tokens, first, end: (
            projected(self, tokens, 1, 2)
            if first == 0
            else torch.cat([projected(self, tokens, 0, 1), projected(self, tokens, 2, 3)], dim=2)
        ),
    )


@pytest.mark.parametrize(
    "mistake",
    [
        block_norm_of_the_head,
        head_norm_of_the_blocks,
        second_norm_without_parameters,
        latent_before_each_other,
        positions_around_zero,
        no_norm_of_heads,
        keys_before_queries,
    ],
)
def test_a_mistake_in_the_network_is_seen(
    monkeypatch: pytest.MonkeyPatch, mistake: Callable[[pytest.MonkeyPatch], None]
):
    mistake(monkeypatch)
    features = features_of(build_gaussians())
    assert relative_error(features[None], golden_tensors()["out.gs.features"]) > NETWORK


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("_FARTHEST", 1.5, "gs.offset"),
        ("_USUAL_SCALE", 0.005, "gs.scaling"),
        ("_LEAST_SCALE", 0.0, "splat.log_scales"),
        ("_USUAL_OPACITY", 0.11, "gs.opacity"),
        ("_ROTATION_STEP", 1.0, "gs.rotation"),
    ],
)
def test_a_mistake_in_a_number_is_seen(
    monkeypatch: pytest.MonkeyPatch, name: str, value: float, field: str
):
    monkeypatch.setattr(gaussian_fields, name, value)
    assert field_errors(golden_fields())[field] > 10 * REST


def test_norms_are_gentle_with_small_numbers():
    """Their epsilon is 1e-6, as the formula has it."""
    small = 1e-3 * torch.linspace(-1, 1, 128)[None, None]
    block = build_gaussians().blocks[0]
    norm = block.norm2
    wanted = (small / (small.square().mean() + 1e-6).sqrt()) * norm.weight + norm.bias
    torch.testing.assert_close(norm(small), wanted)
    seen: list[Tensor] = []
    block.self_attn.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    network = tiny_gaussians()
    block(small, network.read_latent(golden_tensors()["out.latent"])[0], 5)
    torch.testing.assert_close(seen[0], small / (small.square().mean() + 1e-6).sqrt())


def test_fewer_points_at_once_give_the_same():
    whole = features_of(tiny_gaussians())
    assert relative_error(features_of(tiny_gaussians(), points_at_once=7), whole) < 1e-6


def test_points_see_each_other():
    golden = golden_tensors()
    network = tiny_gaussians()
    with torch.inference_mode():
        memory = network.read_latent(golden["out.latent"])
        alone = network(golden["out.octree.points"][0, :1], memory)
    assert relative_error(alone, features_of(network)[:1]) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_features_of_half_precision_weights_are_near(dtype: torch.dtype):
    features = features_of(build_gaussians().to(dtype))
    assert features.dtype == torch.float32
    error = relative_error(features[None], golden_tensors()["out.gs.features"])
    # Measured: 1e-3 and 8e-3.
    assert error < {torch.float16: 4e-3, torch.bfloat16: 4e-2}[dtype]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("raw", [-6e4, -20.0, 0.0, 12.0, 200.0, 6e4])
def test_fields_are_exact_for_the_largest_numbers_of_half_precision(dtype: torch.dtype, raw: float):
    features = torch.full((40, 120), raw, dtype=dtype)
    fields = fields_of(features)
    x = np.float64(features[0, 0].float().item())
    b = 0.004 + np.log(-np.expm1(-0.004))
    scale = np.hypot(np.logaddexp(0, x + b), 0.0009)
    assert fields.log_scales.dtype == torch.float32
    np.testing.assert_allclose(fields.log_scales.numpy(), np.log(scale), rtol=1e-5)
    np.testing.assert_allclose(
        fields.logit_opacities.numpy(), x + np.log(0.1 / 0.9), rtol=1e-6, atol=1e-6
    )
    model = to_model(fields)
    assert model.log_scales.min() >= np.log(0.0009) - 1e-5
    assert model.sh.shape == (320, 1, 3)


@pytest.mark.parametrize("raw", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_are_an_error(raw: float):
    features = golden_tensors()["out.gs.features"][0].clone()
    features[3, 30] = raw
    with pytest.raises(ModelFailed, match="sh that are not finite"):
        to_model(fields_of(features))


@pytest.mark.parametrize(("part", "network"), [("octree", OctreeNetwork), ("gs", GaussianNetwork)])
def test_names_and_shapes_are_those_of_the_released_files(
    part: str, network: type[OctreeNetwork] | type[GaussianNetwork]
):
    config = DegConfig.released()
    with torch.device("meta"):
        built = (
            OctreeNetwork(config.octree)
            if network is OctreeNetwork
            else GaussianNetwork(config.gaussians)
        )
    ours = {f"{part}.{name}": tuple(tensor.shape) for name, tensor in built.state_dict().items()}
    wanted = {
        key.name: key.shape
        for key in released_keys()
        if key.part == part and key.name.startswith(f"{part}.")
    }
    assert ours == wanted
    assert len(wanted) == {"octree": 60, "gs": 328}[part]
    numbers = sum(tensor.numel() for tensor in built.state_dict().values())
    assert numbers == {"octree": 50_791_432, "gs": 237_262_401}[part]
    kinds = {key.name for key in released_keys() if key.part == part and key.kind == "buffer"}
    assert {f"{part}.{name}" for name, _ in built.named_buffers()} == kinds


def test_names_of_the_tiny_configuration_are_all_there(config: DegConfig):
    networks = {
        "octree": OctreeNetwork(config.octree).state_dict(),
        "gs": GaussianNetwork(config.gaussians).state_dict(),
    }
    ours = {
        f"{part}.{name}": tuple(tensor.shape)
        for part, state in networks.items()
        for name, tensor in state.items()
    }
    assert ours == tiny_shapes("decoder")
