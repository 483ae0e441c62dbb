"""Which weights are of 16 bits, and what the flow network computes with them."""

import pytest
import torch
from torch import Tensor

from pipeline.engines.deg.deg_config import DegConfig
from pipeline.engines.deg.deg_precision import DegPart, weight_dtype
from pipeline.engines.deg.flow_network import FlowNetwork, PhotoFeatures
from pipeline.engines.deg.flow_sampler import FlowNoise, sample
from pipeline.engines.deg.flow_settings import SamplerSettings
from pipeline.engines.deg.fused_attention import Attention
from pipeline.engines.deg.learned_rotation import LearnedRotation
from tests.pipeline.engines.deg.golden_files import relative_error, released_keys, tiny_weights

PARTS = {"flow": DegPart.FLOW, "octree": DegPart.OCTREE, "gs": DegPart.GAUSSIANS}


def test_in_float32_everything_is():
    assert weight_dtype(DegPart.FLOW, "blocks.0.attn.qkv.weight", torch.float32) == torch.float32
    assert weight_dtype(DegPart.DINO, "norm.weight", torch.float32) == torch.float32


@pytest.mark.parametrize(
    ("part", "name", "wanted"),
    [
        (DegPart.FLOW, "blocks.3.attn.qkv.weight", torch.float16),
        (DegPart.FLOW, "context_refiner.1.mlp.mlp.2.bias", torch.float16),
        (DegPart.FLOW, "context_refiner.1.norm1.weight", torch.float32),
        (DegPart.FLOW, "blocks.3.attn.q_norm.gamma", torch.float32),
        (DegPart.FLOW, "blocks.3.shift_table", torch.float32),
        (DegPart.FLOW, "shift_table", torch.float32),
        (DegPart.FLOW, "repo_layers.3.final_map.weight", torch.float32),
        (DegPart.FLOW, "context_repo_layers.0.freqs_1", torch.float32),
        (DegPart.FLOW, "cond_embedder.weight", torch.float32),
        (DegPart.FLOW, "t_embedder.mlp.0.weight", torch.float32),
        (DegPart.FLOW, "cam_out_layer.bias", torch.float32),
        (DegPart.OCTREE, "octree.blocks.0.cross_attn.to_kv.weight", torch.float16),
        (DegPart.OCTREE, "blocks.0.cross_attn.to_kv.weight", torch.float16),
        (DegPart.OCTREE, "octree.blocks.0.cross_attn.q_rms_norm.gamma", torch.float32),
        (DegPart.OCTREE, "octree.out_proj.weight", torch.float32),
        (DegPart.GAUSSIANS, "gs.blocks.9.norm2.bias", torch.float32),
        (DegPart.GAUSSIANS, "gs.blocks.9.mlp.mlp.0.weight", torch.float16),
        (DegPart.GAUSSIANS, "gs.base_offset_scale", torch.float32),
        (DegPart.DINO, "layer.3.norm1.weight", torch.bfloat16),
        (DegPart.VAE, "quant_conv.weight", torch.bfloat16),
        (DegPart.VAE, "bn.running_var", torch.float32),
    ],
)
def test_layers_of_blocks_alone_are_of_sixteen_bits(part: DegPart, name: str, wanted: torch.dtype):
    assert weight_dtype(part, name, torch.float16) == wanted


def test_most_numbers_of_the_released_networks_are_of_sixteen_bits():
    for label, part in PARTS.items():
        few = many = 0
        for key in released_keys():
            if key.part == label and "Idol" not in key.file:
                assert key.shape is not None
                size = torch.Size(key.shape).numel()
                if weight_dtype(part, key.name, torch.bfloat16) == torch.float32:
                    few += size
                else:
                    many += size
        assert many / (few + many) > 0.8, label


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_angles_and_results_stay_float32_where_attention_is_of_sixteen_bits(
    config: DegConfig, golden: dict[str, Tensor], features: PhotoFeatures, dtype: torch.dtype
):
    network = FlowNetwork(config.flow)
    weights = {
        name: value.to(weight_dtype(DegPart.FLOW, name, dtype))
        for name, value in tiny_weights("flow").items()
    }
    network.load_state_dict(weights, strict=True, assign=True)
    network.requires_grad_(False).eval()
    attended: set[torch.dtype] = set()
    angles: set[torch.dtype] = set()
    for module in network.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(lambda _m, _i, out: attended.add(out.dtype))
        elif isinstance(module, LearnedRotation):
            module.register_forward_hook(lambda _m, _i, out: angles.add(out.dtype))
    steps, guidance_scale, shift = golden["in.sampler.settings"].tolist()
    found = sample(
        network,
        (features,),
        SamplerSettings(int(steps), guidance_scale, shift),
        FlowNoise(golden["in.noise.latent"], golden["in.noise.camera"]),
    )
    assert attended == {dtype}
    assert angles == {torch.complex64}
    assert found.latent.dtype == found.cameras.dtype == torch.float32
    assert relative_error(found.latent, golden["out.latent"]) < 0.1
    assert relative_error(found.cameras, golden["out.camera"]) < 0.1
