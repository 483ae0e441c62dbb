"""Vectors turned by quaternions, on any device.

It does not know what the vectors mean.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotate(quats: Tensor, vectors: Tensor) -> Tensor:
    """Vectors [N, 3] turned by quaternions [N, 4], wxyz, any length but zero."""
    quats = torch.nn.functional.normalize(quats, dim=-1)
    w, axis = quats[:, :1], quats[:, 1:]
    # v + 2 q x (q x v + w v), the rotation of v by a unit quaternion.
    inner = torch.linalg.cross(axis, vectors) + w * vectors
    turned: Tensor = vectors + 2 * torch.linalg.cross(axis, inner)
    return turned


def rotate_back(quats: Tensor, vectors: Tensor) -> Tensor:
    """The inverse of `rotate`."""
    return rotate(torch.cat([quats[:, :1], -quats[:, 1:]], dim=-1), vectors)
