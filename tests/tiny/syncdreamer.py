"""A SyncDreamer model folder of random weights whose views show something like an object.

The decoder's first channel carries a shape that comes from zero padding alone: a constant falls off
towards the border with every averaging convolution. The last convolution turns its outside to pure
white. Everything else is random, so the views differ from each other and from photo to photo.
"""

from pathlib import Path

import torch
from torch import nn

from pipeline.engines.views.syncdreamer.config import SyncDreamerConfig
from pipeline.engines.views.syncdreamer.network import SyncDreamerNetwork
from pipeline.engines.views.syncdreamer.network_folder import write_folder
from tests.random_networks import random_syncdreamer

__all__ = ["TINY_SYNCDREAMER", "save_syncdreamer", "tiny_network", "write_tiny_syncdreamer"]

#: Every part, 16 views of 256 x 256, and as little of it as the architecture allows.
TINY_SYNCDREAMER = SyncDreamerConfig(
    model_channels=16,
    unet_heads=2,
    unet_norm_groups=8,
    vae_channels=(8, 8, 16, 16),
    vae_layers=1,
    vae_norm_groups=8,
    clip_width=32,
    clip_layers=2,
    clip_heads=2,
    clip_patch=56,
    context_dim=32,
    time_dim=32,
    target_dim=8,
    spatial_dims=(8, 16, 24, 32),
    frustum_dims=(8, 16, 24, 32),
    spatial_size=16,
    frustum_depths=16,
)

#: Norm groups of the tiny autoencoder hold one or two channels: the shape about keeps its scale.
_SHAPE = 0


def write_tiny_syncdreamer(folder: Path, seed: int = 0) -> None:
    """Write what `SyncDreamerViews.load` reads; `folder` must not exist, or be empty."""
    save_syncdreamer(tiny_network(seed), folder)


def save_syncdreamer(network: SyncDreamerNetwork, folder: Path) -> None:
    """Write a network as a folder, in the precision it has."""
    write_folder(folder, network.config, network.state_dict().__getitem__, network.dtype)


def tiny_network(seed: int = 0) -> SyncDreamerNetwork:
    """`TINY_SYNCDREAMER` on the CPU in fp32."""
    network = random_syncdreamer(TINY_SYNCDREAMER, torch.device("cpu"), torch.float32, seed)
    _show_an_object(network.vae.decoder)
    return network


def _carry(convolution: nn.Module, kernel: torch.Tensor) -> None:
    """The shape's channel of the output is that of the input under a kernel; no others mix in."""
    convolution.weight[_SHAPE] = 0
    convolution.weight[_SHAPE, _SHAPE] = kernel
    convolution.bias[_SHAPE] = 0


@torch.no_grad()
def _show_an_object(decoder: nn.Module) -> None:
    blur = torch.full((3, 3), 1 / 9)
    same = torch.zeros(3, 3)
    same[1, 1] = 1
    # A constant to begin with.
    decoder.conv_in.weight[_SHAPE] = 0
    decoder.conv_in.bias[_SHAPE] = 1
    attention = decoder.mid_block.attentions[0].to_out[0]
    attention.weight[_SHAPE] = 0
    attention.bias[_SHAPE] = 0
    coarse = [*decoder.mid_block.resnets, *decoder.up_blocks[0].resnets]
    for resnet in coarse:
        _carry(resnet.conv1, blur)
        _carry(resnet.conv2, blur)
        # Constant or not, the norm leaves something positive.
        for norm in (resnet.norm1, resnet.norm2):
            norm.bias[_SHAPE] = 2
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            if resnet not in coarse:
                _carry(resnet.conv2, torch.zeros(3, 3))
            if resnet.conv_shortcut is not None:
                _carry(resnet.conv_shortcut, torch.ones(1, 1))
        for upsampler in block.upsamplers or ():
            _carry(upsampler.conv, same)
    decoder.conv_norm_out.weight[_SHAPE] = 3
    decoder.conv_norm_out.bias[_SHAPE] = 0
    decoder.conv_out.weight *= 0.5
    # White and more outside; inside, the shape pulls the random colours into range.
    decoder.conv_out.weight[:, _SHAPE] = -2.0 * same
    decoder.conv_out.bias[:] = 3.0
