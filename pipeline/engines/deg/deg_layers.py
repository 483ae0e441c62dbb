"""Layers that all DeG networks are made of, with the names of the released files.

It does not know which network they are in. Linear layers compute in the dtype of their weights,
norms in float32; so a network whose weights have several dtypes needs no autocast.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, rms_norm


class Dense(nn.Linear):
    """A linear layer that takes any dtype and computes in that of its weight."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out] in the weight's dtype."""
        return super().forward(input.to(self.weight.dtype))


class MultiHeadNorm(nn.Module):
    """x / max(|x|, 1e-12) * gamma * sqrt(width), for each head, in float32.

    As one kernel: x / sqrt(mean(x^2) + 1e-24 / width), which differs where |x| is about 1e-12 only.
    """

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(heads, width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., heads, width] -> the same, float32."""
        width = x.shape[-1]
        return rms_norm(x.float(), (width,), eps=1e-24 / width) * self.gamma.float()


class AffineNorm(nn.LayerNorm):
    """Layer norm with weight and bias, in float32."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., width] -> the same, float32."""
        weight, bias = self.weight.float(), self.bias.float()
        return layer_norm(input.float(), self.normalized_shape, weight, bias, self.eps)


def plain_norm(x: Tensor, eps: float) -> Tensor:
    """Layer norm without parameters over the last axis, in float32."""
    return layer_norm(x.float(), x.shape[-1:], eps=eps)


class TwoLayers(nn.Module):
    """Linear, activation, linear: `mlp.0` and `mlp.2`."""

    def __init__(self, inputs: int, hidden: int, outputs: int, activation: nn.Module) -> None:
        super().__init__()
        self.mlp = nn.Sequential(Dense(inputs, hidden), activation, Dense(hidden, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        out: Tensor = self.mlp(x)
        return out


def block_mlp(width: int, ratio: int) -> TwoLayers:
    """The MLP of a block: GELU by its tanh formula."""
    return TwoLayers(width, ratio * width, width, nn.GELU(approximate="tanh"))


def modulated(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """plain_norm(x) * (1 + scale) + shift, float32.

    Args:
        x: [1, n, width].
        shift, scale: [1, width], or any that broadcasts over the tokens.
    """
    return torch.addcmul(shift.float(), plain_norm(x, eps), 1 + scale.float())
