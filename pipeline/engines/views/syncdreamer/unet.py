"""The noise predictor of one or more views: Stable Diffusion's UNet with depth transformers.

It runs the parts of diffusers' UNet2DConditionModel by hand, because depth attention stands inside
its way up; it does not know where frustum volumes and contexts come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from pipeline.engines.views.syncdreamer.config import (
    CHANNEL_MULTIPLES,
    LATENT_CHANNELS,
    LATENT_SIZE,
    SyncDreamerConfig,
)
from pipeline.engines.views.syncdreamer.depth_attention import DepthTransformer
from pipeline.engines.views.syncdreamer.volumes import FrustumVolumes

#: Blocks of the way up before the first depth transformer: those at 4 x 4 have none.
_PLAIN_UP_BLOCKS = 3


@dataclass(frozen=True)
class ConstantTerms:
    """What does not change from step to step.

    Attributes:
        cross: per spatial transformer, [V + 1, 1, C]: what cross attention adds to every token of
            view i; the last row is that of the unconditional half.
        depth: per depth transformer, [1, C, h, w]: what it adds in the unconditional half.
    """

    cross: tuple[Tensor, ...]
    depth: tuple[Tensor, ...]

    def select(self, views: slice) -> ConstantTerms:
        """The same for some of the views."""
        return ConstantTerms(
            tuple(torch.cat([term[:-1][views], term[-1:]]) for term in self.cross), self.depth
        )

    def cross_rows(self, unconditional: int) -> list[Tensor]:
        """`cross` for the views and so many rows without a condition, each [rows, 1, C]."""
        return [
            torch.cat([term[:-1], term[-1:].expand(unconditional, -1, -1)]) for term in self.cross
        ]


class SyncUNet(nn.Module):
    """UNet with 8 input channels (noisy view, latent of the photo) and ten depth transformers."""

    def __init__(self, config: SyncDreamerConfig) -> None:
        super().__init__()
        channels = tuple(config.model_channels * multiple for multiple in CHANNEL_MULTIPLES)
        self.unet = UNet2DConditionModel(
            sample_size=LATENT_SIZE,
            in_channels=2 * LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            block_out_channels=channels,
            layers_per_block=2,
            down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
            cross_attention_dim=config.context_dim,
            attention_head_dim=config.unet_heads,  # diffusers reads this as the number of heads
            norm_num_groups=config.unet_norm_groups,
            norm_eps=1e-5,
        )
        fine, half, quarter, eighth = config.frustum_dims
        finest, second, coarse = channels[0], channels[1], channels[2]
        self.middle_conditions = DepthTransformer(channels[3], eighth)
        # After output blocks 3..11; where a block ends in an upsampling, after that.
        self.output_conditions = nn.ModuleList(
            DepthTransformer(dim, volume_dim)
            for dim, volume_dim in (
                (coarse, quarter),
                (coarse, quarter),
                (coarse, half),
                (second, half),
                (second, half),
                (second, fine),
                (finest, fine),
                (finest, fine),
                (finest, fine),
            )
        )

    def constant_terms(self, context: Tensor) -> ConstantTerms:
        """`ConstantTerms` of V views.

        With one token the softmax of cross attention is 1, so attn2(x) = W_o W_v c + b for every
        x; without a condition c is 0 and b is left.

        Args:
            context: [V, 1, context_dim].
        """
        with_zero = torch.cat([context, torch.zeros_like(context[:1])])
        cross = []
        for transformer in self._spatial_transformers():
            attention = transformer.transformer_blocks[0].attn2
            cross.append(attention.to_out[0](attention.to_v(with_zero)))
        sizes = [LATENT_SIZE // 8] + [LATENT_SIZE // divisor for divisor in (4, 4, 2, 2, 2)]
        sizes += [LATENT_SIZE] * 4
        layers = [self.middle_conditions, *self.output_conditions]
        depth = [
            layer.unconditional_term(size, size) for layer, size in zip(layers, sizes, strict=True)
        ]
        return ConstantTerms(tuple(cross), tuple(depth))

    def forward(
        self, x: Tensor, timestep: Tensor, terms: ConstantTerms, volumes: FrustumVolumes
    ) -> Tensor:
        """Noise of n views; with guidance also without their conditions.

        Args:
            x: [n, 8, 32, 32], or [2n, 8, 32, 32] whose second half is unconditional.
            timestep: int64 [1].
            terms: of these n views.
            volumes: of these n views; the unconditional half needs none.

        Returns:
            [n or 2n, 4, 32, 32].
        """
        n = next(iter(volumes.values())).shape[0]
        cross = terms.cross_rows(x.shape[0] - n)
        unet = self.unet
        # All views are at the same timestep: one row, broadcast over the batch.
        time = unet.time_embedding(unet.time_proj(timestep).to(x.dtype))
        attended = 0

        h = unet.conv_in(x)
        skips = [h]
        for block in unet.down_blocks:
            attentions = getattr(block, "attentions", None)
            for number, resnet in enumerate(block.resnets):
                h = resnet(h, time)
                if attentions is not None:
                    h = _spatial_transformer(attentions[number], h, cross[attended])
                    attended += 1
                skips.append(h)
            if block.downsamplers is not None:
                h = block.downsamplers[0](h)
                skips.append(h)

        middle = unet.mid_block
        h = middle.resnets[0](h, time)
        h = _spatial_transformer(middle.attentions[0], h, cross[attended])
        attended += 1
        h = middle.resnets[1](h, time)
        h = _depth_transformer(self.middle_conditions, h, volumes, terms.depth[0])

        output_block = 0
        for block in unet.up_blocks:
            attentions = getattr(block, "attentions", None)
            for number, resnet in enumerate(block.resnets):
                h = resnet(torch.cat([h, skips.pop()], dim=1), time)
                if attentions is not None:
                    h = _spatial_transformer(attentions[number], h, cross[attended])
                    attended += 1
                if number == len(block.resnets) - 1 and block.upsamplers is not None:
                    h = block.upsamplers[0](h)
                condition = output_block - _PLAIN_UP_BLOCKS
                if condition >= 0:
                    layer = self.output_conditions[condition]
                    h = _depth_transformer(layer, h, volumes, terms.depth[condition + 1])
                output_block += 1

        out: Tensor = unet.conv_out(unet.conv_act(unet.conv_norm_out(h)))
        return out

    def _spatial_transformers(self) -> list[Any]:
        """In the order in which `forward` runs them."""
        unet = self.unet
        down = [layer for block in unet.down_blocks for layer in getattr(block, "attentions", ())]
        up = [layer for block in unet.up_blocks for layer in getattr(block, "attentions", ())]
        return [*down, *unet.mid_block.attentions, *up]


def _spatial_transformer(transformer: Any, x: Tensor, cross_term: Tensor) -> Tensor:
    """diffusers' Transformer2DModel with its cross attention replaced by what it always is.

    Args:
        x: [B, C, h, w].
        cross_term: [B, 1, C].
    """
    batch, channels, height, width = x.shape
    block = transformer.transformer_blocks[0]
    tokens = transformer.proj_in(transformer.norm(x)).flatten(2).transpose(1, 2)
    tokens = tokens + block.attn1(block.norm1(tokens))
    tokens = tokens + cross_term
    tokens = tokens + block.ff(block.norm3(tokens))
    image = tokens.transpose(1, 2).reshape(batch, channels, height, width)
    out: Tensor = x + transformer.proj_out(image)
    return out


def _depth_transformer(
    layer: Any, x: Tensor, volumes: FrustumVolumes, unconditional_term: Tensor
) -> Tensor:
    """A `DepthTransformer` where there is a volume, and what it always adds where there is none.

    Args:
        x: [B, C, h, w], of which the first n have conditions.
        volumes: of these n views.
        unconditional_term: [1, C, h, w].
    """
    volume = volumes[x.shape[-1]]
    n = volume.shape[0]
    out: Tensor = layer(x[:n], volume)
    if n == x.shape[0]:
        return out
    return torch.cat([out, x[n:] + unconditional_term])
