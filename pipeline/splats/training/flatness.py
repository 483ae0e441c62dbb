"""Keeps splats flat: surfaces have no thickness, and nobody asked for the sides of a thick splat.

It does not know views or how a splat lies.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: A splat may be so thick against its middle axis and costs nothing.
FLAT = 0.1


def thickness(log_scales: Tensor) -> Tensor:
    """Mean of how far the thinnest axis of each splat is above `FLAT` times its middle one, as
    logarithms; 0 where all are flat.

    Only the thinnest axis is pulled: a splat becomes flat, not wide.

    Args:
        log_scales: float32 [N, 3].
    """
    # Spelled out: sorting an axis of three takes torch 2 ms.
    x, y, z = log_scales.unbind(-1)
    low, high = torch.minimum(x, y), torch.maximum(x, y)
    middle = torch.maximum(low, torch.minimum(high, z)).detach()
    thinnest = torch.minimum(low, z)
    return (thinnest - middle - math.log(FLAT)).clamp_min(0).mean()
