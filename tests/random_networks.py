"""Networks with random weights, of the released sizes or smaller: as fast as the real ones.

Benches time them, and what `glimpse3d plan` reckons with is compared with their sizes. They read no
files and know nothing of pictures; `tests.tiny` has small ones in the released files, which do.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.device import Device
from pipeline.engines.assign_weights import assign_weights
from pipeline.engines.depth.midas import MidasDepth, Preparation
from pipeline.engines.enhance.sdxl import SdxlEnhancer, SdxlOptions
from pipeline.engines.enhance.sdxl.sdxl_networks import (
    Networks,
    import_diffusers,
    lightning_scheduler,
)
from pipeline.engines.enhance.sdxl.sdxl_text import Embedding, Prompts
from pipeline.engines.views.syncdreamer.config import SyncDreamerConfig
from pipeline.engines.views.syncdreamer.network import SyncDreamerNetwork
from pipeline.engines.views.syncdreamer.network_folder import empty_network
from pipeline.engines.views.syncdreamer.rig_buffers import rig_buffers

__all__ = [
    "CONTROLNET",
    "SCHEDULER",
    "UNET",
    "VAE",
    "depth_config",
    "random_depth",
    "random_sdxl",
    "random_syncdreamer",
]


def random_weights(
    network: nn.Module, device: torch.device, dtype: torch.dtype, seed: int, *, bias_std: float
) -> dict[str, Tensor]:
    """A value for each parameter, drawn on the device itself: they differ from device to device.

    Matrices have a gain of 0.7 and norms are the identity, so activations stay finite in every
    number format.
    """
    generator = torch.Generator(device).manual_seed(seed)
    state: dict[str, Tensor] = {}
    for name, parameter in network.named_parameters():
        tensor = torch.empty(parameter.shape, device=device, dtype=dtype)
        if parameter.ndim > 1:
            fan_in = math.prod(parameter.shape[1:])
            state[name] = tensor.normal_(0, 0.7 / fan_in**0.5, generator=generator)
        elif name.endswith("weight"):
            state[name] = tensor.fill_(1)
        else:
            state[name] = tensor.normal_(0, bias_std, generator=generator)
    return state


def random_syncdreamer(
    config: SyncDreamerConfig, device: torch.device, dtype: torch.dtype, seed: int = 0
) -> SyncDreamerNetwork:
    """A network with the product's cameras."""
    network = empty_network(config)
    state = random_weights(network, device, dtype, seed, bias_std=0.1)
    state |= {name: tensor.to(device) for name, tensor in rig_buffers(config.views).items()}
    return assign_weights(network, state, device)


# SDXL, its ControlNet and its VAE, as in the config.json beside the released weights.

UNET: dict[str, Any] = {
    "sample_size": 128,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [320, 640, 1280],
    "layers_per_block": 2,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "attention_head_dim": [5, 10, 20],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "transformer_layers_per_block": [1, 2, 10],
    "projection_class_embeddings_input_dim": 2816,
    "cross_attention_dim": 2048,
}
CONTROLNET: dict[str, Any] = {
    **{k: UNET[k] for k in UNET if k not in ("sample_size", "out_channels", "up_block_types")},
    "conditioning_embedding_out_channels": [16, 32, 96, 256],
}
VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "sample_size": 512,
    "scaling_factor": 0.13025,
    "force_upcast": False,
}
SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


def random_sdxl(
    device: Device,
    options: SdxlOptions,
    *,
    unet: Mapping[str, Any] = UNET,
    controlnet: Mapping[str, Any] = CONTROLNET,
    vae: Mapping[str, Any] = VAE,
) -> SdxlEnhancer:
    """The enhancer, by default of the released sizes: 7.8 GB in fp16. A prompt is a seed."""
    diffusers = import_diffusers()
    networks = []
    for kind, config in (
        (diffusers.UNet2DConditionModel, unet),
        (diffusers.ControlNetModel, controlnet),
        (diffusers.AutoencoderKL, vae),
    ):
        with torch.device("meta"):
            network = kind.from_config(config)
        state = random_weights(network, device.torch_device, device.dtype, 0, bias_std=0.0)
        networks.append(assign_weights(network, state, device.torch_device))
    scheduler = lightning_scheduler(diffusers, SCHEDULER)
    text = _RandomText(unet)
    return SdxlEnhancer(
        Networks(*networks, scheduler), Prompts(lambda: text, keep=True), device, options
    )


class _RandomText:
    """Stands for the text encoders where there are no weights."""

    def __init__(self, unet: Mapping[str, Any]) -> None:
        self._width = unet["cross_attention_dim"]
        self._pooled = (
            unet["projection_class_embeddings_input_dim"] - 6 * unet["addition_time_embed_dim"]
        )

    def encode(self, prompt: str) -> Embedding:
        generator = torch.Generator().manual_seed(zlib.crc32(prompt.encode()))
        return Embedding(
            torch.randn(1, 77, self._width, generator=generator),
            torch.randn(1, self._pooled, generator=generator),
            truncated=False,
        )


def depth_config(which: str) -> tuple[Any, Preparation]:
    """Config and input of a released depth network, from the files beside its weights.

    Args:
        which: "dpt-large", "dpt-hybrid" or "depth-anything-v2-small".
    """
    from transformers import DepthAnythingConfig, Dinov2Config, DPTConfig

    midas = Preparation(384, 384, 32, True, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    if which == "dpt-large":
        large = DPTConfig(
            hidden_size=1024,
            num_hidden_layers=24,
            num_attention_heads=16,
            intermediate_size=4096,
            backbone_out_indices=[5, 11, 17, 23],
            neck_hidden_sizes=[256, 512, 1024, 1024],
        )
        return large, midas
    if which == "dpt-hybrid":
        hybrid = DPTConfig(
            is_hybrid=True,
            neck_hidden_sizes=[256, 512, 768, 768],
            reassemble_factors=[1, 1, 1, 0.5],
        )
        return hybrid, midas
    assert which == "depth-anything-v2-small", which
    backbone = Dinov2Config(
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        image_size=518,
        patch_size=14,
        out_features=["stage3", "stage6", "stage9", "stage12"],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    anything = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=384,
        neck_hidden_sizes=[48, 96, 192, 384],
        fusion_hidden_size=64,
        head_hidden_size=32,
    )
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return anything, Preparation(518, 518, 14, True, "bicubic", *imagenet)


def random_depth(which: str, device: Device) -> MidasDepth:
    """A depth network of full size that is blind: it is as it is born."""
    from transformers import AutoModelForDepthEstimation

    config, preparation = depth_config(which)
    with torch.device(device.torch_device):
        network = AutoModelForDepthEstimation.from_config(config)
    return MidasDepth(network, preparation, device, name=which)
