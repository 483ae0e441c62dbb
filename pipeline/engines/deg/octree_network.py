"""The octree network: how likely the object goes on in each of the eight children of a cell.

It does not know how points are drawn from that. Cells do not see each other, so any number of them
may be asked about at once. Names of its weights are those of the released files without `octree.`.
Tokens are kept in float32; blocks compute in the dtype of their weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.engines.deg.decoder_attention import (
    CrossAttention,
    KeysValues,
    LatentMemory,
    linear_fp32,
)
from pipeline.engines.deg.deg_config import OctreeConfig
from pipeline.engines.deg.deg_layers import Dense, TwoLayers, block_mlp, modulated, plain_norm
from pipeline.engines.deg.position_tables import decoder_positions, level_waves

#: Children of a cell.
CHILDREN = 8
#: Cells that are asked about together: what an MLP holds of them is 128 MB in 16 bits.
CELLS_AT_ONCE = 16_384

_BLOCK_EPS = 1e-6
_HEAD_EPS = 1e-5
_LEVEL_CHANNELS = 256
#: Shift, scale and gate of the attention, then of the MLP.
_MODULATIONS = 6


class OctreeBlock(nn.Module):
    """Cross attention to the latent and an MLP, shifted, scaled and gated by the level."""

    def __init__(self, config: OctreeConfig) -> None:
        super().__init__()
        self.cross_attn = CrossAttention(config.width, config.heads, config.latent_channels)
        self.mlp = block_mlp(config.width, config.mlp_ratio)

    def forward(self, h: Tensor, modulation: Tensor, memory: KeysValues) -> Tensor:
        """h [1, r, C] float32, modulation [1, 6 C] float32 -> [1, r, C] float32."""
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(_MODULATIONS, dim=-1)
        heard = self.cross_attn(modulated(h, shift1, scale1, _BLOCK_EPS), memory)
        h = torch.addcmul(h, gate1, heard.float())
        made = self.mlp(modulated(h, shift2, scale2, _BLOCK_EPS))
        return torch.addcmul(h, gate2, made.float())


class OctreeNetwork(nn.Module):
    """Logits of children from positions of cells, their level and the latent."""

    def __init__(self, config: OctreeConfig) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.in_proj = nn.Linear(3, width)
        self.input_layer = Dense(width, width)
        self.l_embedder = TwoLayers(_LEVEL_CHANNELS, width, width, nn.SiLU())
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), Dense(width, _MODULATIONS * width))
        self.blocks = nn.ModuleList(OctreeBlock(config) for _ in range(config.blocks))
        self.out_proj = nn.Linear(width, CHILDREN)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.out_proj.weight.device

    def read_latent(self, latent: Tensor) -> LatentMemory:
        """Keys and values of a latent [1, q, c]: they depend on no level and no cell."""
        return tuple(block.cross_attn.read_latent(latent) for block in self._blocks())

    def forward(
        self,
        centres: Tensor,
        level: int,
        memory: LatentMemory,
        *,
        cells_at_once: int = CELLS_AT_ONCE,
    ) -> Tensor:
        """Logits of the children of r cells.

        Args:
            centres: float32 [r, 3], of the cells, 0..1.
            level: 1..8; the children have 2^level cells along a side.
            memory: what `read_latent` made of the latent.
            cells_at_once: bounds the memory; results differ by rounding.

        Returns:
            float32 [r, 8]; child j lies at +x where bit 0 of j is set, +y for bit 1, +z for bit 2.
        """
        # Made on the CPU: a number that is made on a GPU of one of Python's waits for the GPU.
        waves = level_waves(2**level, _LEVEL_CHANNELS).to(self.device, non_blocking=True)
        modulation = self.adaLN_modulation(self.l_embedder(waves)).float()
        parts = torch.split(centres, cells_at_once)
        return torch.cat([self._logits(part, modulation, memory) for part in parts])

    def _logits(self, centres: Tensor, modulation: Tensor, memory: LatentMemory) -> Tensor:
        """[r, 3] -> float32 [r, 8]."""
        where = linear_fp32(self.in_proj, centres)
        where = where + decoder_positions(centres, self.config.width)
        h: Tensor = self.input_layer(where[None]).float()
        for block, keys_values in zip(self._blocks(), memory, strict=True):
            h = block(h, modulation, keys_values)
        return linear_fp32(self.out_proj, plain_norm(h, _HEAD_EPS))[0]

    def _blocks(self) -> list[OctreeBlock]:
        return [block for block in self.blocks if isinstance(block, OctreeBlock)]
