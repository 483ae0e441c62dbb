"""Rotations of queries and keys whose angles a small network reads from the tokens (RePo).

It does not know the attention. Tokens have no other position in the flow network: everything comes
from their content. All of it is float32: angles reach 16 pi, which fp16 knows to .02 rad only.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from pipeline.engines.deg.deg_layers import AffineNorm, Dense

_EPS = 1e-5
_AXES = 3


class LearnedRotation(nn.Module):
    """Angles of every head from the input of a block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        head_width = width // heads
        first = head_width // 6
        counts = (first, first, head_width // 2 - 2 * first)
        for axis, count in enumerate(counts):
            parameter = nn.Parameter(torch.linspace(1, 16, count))
            self.register_parameter(f"freqs_{axis}", parameter)
        self.heads = heads
        self.norm = AffineNorm(width, eps=_EPS)
        self.gate_map = Dense(width, width // 8, bias=False)
        self.content_map = Dense(width, width // 8, bias=False)
        self.final_map = Dense(width // 8, _AXES * heads, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        """Angle = delta of an axis * frequency * pi.

        Args:
            h: [1, n, width], the block's own input, before its norms.

        Returns:
            cos + i sin of the angles, complex64 [1, n, heads, head width / 2].
        """
        g = self.norm(h)
        delta = self.final_map(silu(self.gate_map(g)) * self.content_map(g)).float()
        delta = delta.view(*delta.shape[:2], self.heads, _AXES)
        frequencies = (self.get_parameter(f"freqs_{axis}").float() for axis in range(_AXES))
        angles = [delta[..., axis, None] * f * math.pi for axis, f in enumerate(frequencies)]
        angle = torch.cat(angles, dim=-1)
        return torch.polar(torch.ones_like(angle), angle)


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Turn neighbouring channels (2i, 2i + 1) by the i-th angle: (a cos - b sin, a sin + b cos).

    Args:
        x: [1, n, heads, head width].
        turn: of a `LearnedRotation`, for the same tokens and heads.

    Returns:
        float32, of x's shape.
    """
    pairs = torch.view_as_complex(x.float().view(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turn).flatten(-2)
