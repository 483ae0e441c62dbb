"""Attention of the two decoders: to the latent, whose keys are made once, and among points.

It does not know what its tokens are. Names of parameters are those of the released files.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.engines.deg.deg_layers import Dense, MultiHeadNorm
from pipeline.engines.deg.fused_attention import Attention


@dataclass(frozen=True)
class KeysValues:
    """What queries attend to: two tensors [1, m, heads, width], keys already normed."""

    keys: Tensor
    values: Tensor

    @classmethod
    def joined(cls, parts: list[KeysValues]) -> KeysValues:
        """Those of all parts, one after another."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            torch.cat([part.keys for part in parts], dim=1),
            torch.cat([part.values for part in parts], dim=1),
        )


#: Keys and values of the latent for each block of a network.
LatentMemory = tuple[KeysValues, ...]


class CrossAttention(nn.Module):
    """Tokens look at the latent as it is, without positions."""

    def __init__(self, width: int, heads: int, latent_channels: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = Dense(width, width)
        self.to_kv = Dense(latent_channels, 2 * width)
        self.q_rms_norm = MultiHeadNorm(heads, width // heads)
        self.k_rms_norm = MultiHeadNorm(heads, width // heads)
        self.attend = Attention()
        self.to_out = Dense(width, width)

    def read_latent(self, latent: Tensor) -> KeysValues:
        """Keys and values of a latent [1, q, c], which depend on nothing else."""
        keys, values = self.to_kv(latent).unflatten(-1, (2, self.heads, -1)).unbind(2)
        return KeysValues(self.k_rms_norm(keys).to(values.dtype), values)

    def forward(self, tokens: Tensor, memory: KeysValues) -> Tensor:
        """[1, n, C] -> [1, n, C]."""
        queries = self.q_rms_norm(self.to_q(tokens).unflatten(-1, (self.heads, -1)))
        heard: Tensor = self.to_out(self.attend(queries, memory.keys, memory.values))
        return heard


class SelfAttention(nn.Module):
    """Tokens look at each other, as many at once as there is memory for."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = Dense(width, 3 * width)
        self.q_rms_norm = MultiHeadNorm(heads, width // heads)
        self.k_rms_norm = MultiHeadNorm(heads, width // heads)
        self.attend = Attention()
        self.to_out = Dense(width, width)

    def keys_values(self, tokens: Tensor) -> KeysValues:
        """Keys and values of tokens [1, m, C]."""
        keys, values = self._projected(tokens, 1, 3).unbind(2)
        return KeysValues(self.k_rms_norm(keys).to(values.dtype), values)

    def forward(self, tokens: Tensor, everyone: KeysValues) -> Tensor:
        """What some of the tokens, [1, n, C], hear of all; -> [1, n, C]."""
        queries = self.q_rms_norm(self._projected(tokens, 0, 1)[:, :, 0])
        heard: Tensor = self.to_out(self.attend(queries, everyone.keys, everyone.values))
        return heard

    def _projected(self, tokens: Tensor, first: int, end: int) -> Tensor:
        """Rows first..end of (query, key, value), [1, n, end - first, heads, width]."""
        width = tokens.shape[-1]
        rows = slice(first * width, end * width)
        weight, bias = self.to_qkv.weight[rows], self.to_qkv.bias[rows]
        projected = functional.linear(tokens.to(weight.dtype), weight, bias)
        return projected.reshape(*tokens.shape[:-1], end - first, self.heads, -1)


def linear_fp32(layer: nn.Linear, tokens: Tensor) -> Tensor:
    """A linear layer in float32 whatever its weights are, for positions and heads: bf16 knows a
    position to 1/256 only, which is a cell of the octree."""
    return functional.linear(tokens.float(), layer.weight.float(), layer.bias.float())
