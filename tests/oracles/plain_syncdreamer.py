"""SyncDreamer without any saving, as the paper writes it: what the product's fast form must equal.

Keys and values for every depth, cross attention to the one token, both halves of the guidance with
volumes of zeros, sampling positions worked out in every step, and diffusers' own way through its
UNet. It shares the weights of a network of the product and does not know what is left out there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.engines.views.syncdreamer.depth_attention import DepthTransformer
from pipeline.engines.views.syncdreamer.network import SyncDreamerNetwork
from pipeline.engines.views.syncdreamer.unet import SyncUNet
from pipeline.engines.views.syncdreamer.volume_geometry import Grids, make_grids
from pipeline.engines.views.syncdreamer.volumes import FrustumVolumes

__all__ = ["PlainSyncDreamer", "plain_depth_transformer", "plain_grids"]


def plain_depth_transformer(layer: DepthTransformer, x: Tensor, volume: Tensor) -> Tensor:
    """The layer with keys and values of every depth: [n, dim, h, w], [n, C, D, h, w]."""
    n, _, h, w = x.shape
    context = layer.proj_context(volume)
    attention = layer.depth_attn
    heads = attention.to_q.out_channels // layer.head_dim
    shape = (n, heads, layer.head_dim, context.shape[2], h, w)
    q = attention.to_q(layer.proj_in(x)).view(n, heads, layer.head_dim, 1, h, w)
    k = attention.to_k(context).view(shape)
    v = attention.to_v(context).view(shape)
    weights = ((q * k).sum(2, keepdim=True) * layer.head_dim**-0.5).softmax(dim=3)
    values = (weights * v).sum(3).reshape(n, -1, h, w)
    return x + layer.proj_out(attention.to_out(values))


def plain_grids(network: SyncDreamerNetwork) -> Grids:
    """Sampling positions, worked out anew."""
    config = network.config
    return make_grids(
        network.poses, network.Ks, volume_size=config.spatial_size, depths=config.frustum_depths
    ).to(network.device)


def plain_unet(
    denoiser: SyncUNet, x: Tensor, timestep: int, context: Tensor, volumes: FrustumVolumes
) -> Tensor:
    """Noise of B views: x [B, 8, 32, 32], context [B, 1, context_dim], volumes of all B."""
    # A depth transformer follows the middle, and every block of the way up but those at 4 x 4;
    # where the block ends in an upsampling, after that.
    points: list[nn.Module] = [denoiser.unet.mid_block]
    for block in denoiser.unet.up_blocks[1:]:
        points += block.attentions
        if block.upsamplers is not None:
            points[-1] = block.upsamplers[0]
    layers = [denoiser.middle_conditions, *denoiser.output_conditions]
    with ExitStack() as stack:
        for point, layer in zip(points, layers, strict=True):
            stack.enter_context(_followed_by(point, layer, volumes))
        return denoiser.unet(x, timestep, context).sample


@contextmanager
def _followed_by(point: nn.Module, layer: Any, volumes: FrustumVolumes) -> Iterator[None]:
    def look_along_rays(_module: nn.Module, _inputs: object, output: Any) -> Any:
        # Attentions return a tuple.
        h = output[0] if isinstance(output, tuple) else output
        seen = plain_depth_transformer(layer, h, volumes[h.shape[-1]])
        return (seen,) if isinstance(output, tuple) else seen

    hook = point.register_forward_hook(look_along_rays)
    try:
        yield
    finally:
        hook.remove()


@dataclass(frozen=True)
class _Conditions:
    photo: Tensor
    views: Tensor
    context: Tensor


@dataclass(frozen=True)
class PlainSyncDreamer:
    """Stands where a `SyncDreamerNetwork` does: what is not written here is that of `network`."""

    network: SyncDreamerNetwork

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def condition(
        self, photo: Tensor, image_embedding: Tensor, elevation_rad: float
    ) -> _Conditions:
        views = self.network.embed_views(elevation_rad)
        context = self.network.embed_context(image_embedding, views)
        dtype = self.network.dtype
        return _Conditions(photo.to(dtype), views.to(dtype), context)

    def predict_noise(
        self,
        latents: Tensor,
        timestep: int,
        conditions: _Conditions,
        *,
        guidance_scale: float,
        views_at_once: int,
    ) -> Tensor:
        network = self.network
        grids = plain_grids(network)
        time = network.embed_time(timestep)
        noisy = latents.to(network.dtype)
        volume = network.spatial_volume.spatial(noisy, time, conditions.views, grids.vertices)
        parts = []
        for first in range(0, len(latents), views_at_once):
            some = slice(first, first + views_at_once)
            volumes = network.spatial_volume.frustums(
                volume, time, conditions.views[some], grids.frustums[some]
            )
            photo = conditions.photo.expand(len(noisy[some]), -1, -1, -1)
            noise = plain_unet(
                network.denoiser,
                torch.cat([noisy[some].repeat(2, 1, 1, 1), _or_nothing(photo)], dim=1),
                timestep,
                _or_nothing(conditions.context[some]),
                {side: _or_nothing(level) for side, level in volumes.items()},
            )
            with_condition, without = noise.float().chunk(2)
            parts.append(without + guidance_scale * (with_condition - without))
        return torch.cat(parts)


def _or_nothing(condition: Tensor) -> Tensor:
    """The condition, and after it zeros of the same shape for the unconditional half."""
    return torch.cat([condition, torch.zeros_like(condition)])
