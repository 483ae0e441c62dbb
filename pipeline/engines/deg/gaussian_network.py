"""The Gaussian network: raw numbers of the Gaussians at each of a set of points.

It does not know how the points were drawn, nor what the numbers mean. Names of its weights are
those of the released files without `gs.`. Tokens are kept in float32; blocks compute in the dtype
of their weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.control import UNATTENDED, Control
from pipeline.engines.deg.decoder_attention import (
    CrossAttention,
    KeysValues,
    LatentMemory,
    SelfAttention,
    linear_fp32,
)
from pipeline.engines.deg.deg_config import GaussianConfig
from pipeline.engines.deg.deg_layers import AffineNorm, Dense, block_mlp, plain_norm
from pipeline.engines.deg.gaussian_fields import (
    RAW_CHANNELS,
    base_offset_scale,
    offset_perturbation,
)
from pipeline.engines.deg.position_tables import decoder_positions

#: Points that pass through a block together: what an MLP holds of them is 256 MB in 16 bits.
#: All points are one piece up to 524,288 Gaussians.
POINTS_AT_ONCE = 16_384

_BLOCK_EPS = 1e-6
_HEAD_EPS = 1e-5


class GaussianBlock(nn.Module):
    """Self attention, cross attention to the latent, MLP."""

    def __init__(self, config: GaussianConfig) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config.width, config.heads)
        self.norm2 = AffineNorm(config.width, eps=_BLOCK_EPS)
        self.cross_attn = CrossAttention(config.width, config.heads, config.latent_channels)
        self.mlp = block_mlp(config.width, config.mlp_ratio)

    def forward(self, h: Tensor, memory: KeysValues, points_at_once: int) -> Tensor:
        """[1, n, C] float32 -> the same; what is wider than a token is held of `points_at_once`
        points."""
        normal = torch.split(plain_norm(h, _BLOCK_EPS), points_at_once, dim=1)
        everyone = KeysValues.joined([self.self_attn.keys_values(piece) for piece in normal])
        done = []
        for piece, its_normal in zip(torch.split(h, points_at_once, dim=1), normal, strict=True):
            h = piece + self.self_attn(its_normal, everyone).float()
            h = h + self.cross_attn(self.norm2(h), memory).float()
            done.append(h + self.mlp(plain_norm(h, _BLOCK_EPS)).float())
        return torch.cat(done, dim=1)


class GaussianNetwork(nn.Module):
    """Raw numbers of G Gaussians a point from positions and the latent.

    `points_offset_perturbation` and `base_offset_scale` are numbers of the activation that the
    files hold, rounded as the networks were published with them.
    """

    points_offset_perturbation: Tensor
    base_offset_scale: Tensor

    def __init__(self, config: GaussianConfig) -> None:
        super().__init__()
        width, gaussians = config.width, config.gaussians_per_point
        self.config = config
        self.register_buffer("points_offset_perturbation", offset_perturbation(gaussians))
        self.register_buffer("base_offset_scale", base_offset_scale())
        self.in_proj = nn.Linear(3, width)
        self.input_layer = Dense(width, width)
        self.blocks = nn.ModuleList(GaussianBlock(config) for _ in range(config.blocks))
        self.out_proj = nn.Linear(width, RAW_CHANNELS * gaussians)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.out_proj.weight.device

    def read_latent(self, latent: Tensor) -> LatentMemory:
        """Keys and values of a latent [1, q, c]: they do not depend on the points."""
        return tuple(block.cross_attn.read_latent(latent) for block in self._blocks())

    def forward(
        self,
        points: Tensor,
        memory: LatentMemory,
        *,
        points_at_once: int = POINTS_AT_ONCE,
        control: Control = UNATTENDED,
    ) -> Tensor:
        """Raw numbers of the Gaussians of n points, which see each other.

        Args:
            points: float32 [n, 3], 0..1.
            memory: what `read_latent` made of the latent.
            points_at_once: bounds the memory; results differ by rounding.
            control: asked for a stop before every block.

        Returns:
            float32 [n, 15 G], in the order of `pipeline.engines.deg.gaussian_fields`.

        Raises:
            Cancelled: a stop was asked for.
        """
        pieces = torch.split(points, points_at_once)
        h = torch.cat([self._embed(piece) for piece in pieces], dim=1)
        for block, keys_values in zip(self._blocks(), memory, strict=True):
            control.check()
            h = block(h, keys_values, points_at_once)
        return linear_fp32(self.out_proj, plain_norm(h, _HEAD_EPS))[0]

    def _embed(self, points: Tensor) -> Tensor:
        """[n, 3] -> float32 [1, n, C]."""
        where = linear_fp32(self.in_proj, points) + decoder_positions(points, self.config.width)
        h: Tensor = self.input_layer(where[None]).float()
        return h

    def _blocks(self) -> list[GaussianBlock]:
        return [block for block in self.blocks if isinstance(block, GaussianBlock)]
