"""Colours from real spherical harmonics of degree 0 to 3, differentiable.

It does not know cameras or splats: directions in, colours out. Basis, order and signs are those
of 3DGS .ply files (Sloan, "Efficient Spherical Harmonic Evaluation", JCGT 2013).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.types import SH_C0

MAX_DEGREE = 3

_C1 = 0.4886025119029199
_C2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)
_C3 = (0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154, 1.445305721320277)  # fmt: skip  # noqa: E501


def sh_count(degree: int) -> int:
    """Coefficients per colour channel of all bands up to `degree`."""
    return (degree + 1) ** 2


def sh_basis(degree: int, directions: Tensor) -> Tensor:
    """Basis values, float [..., (degree+1)^2], for unit `directions`, float [..., 3]."""
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, SH_C0)]
    if degree >= 1:
        values += [-_C1 * y, _C1 * z, -_C1 * x]
    if degree >= 2:
        xx, yy, zz = x * x, y * y, z * z
        values += [
            _C2[0] * x * y,
            -_C2[0] * y * z,
            _C2[1] * (2 * zz - xx - yy),
            -_C2[0] * x * z,
            _C2[2] * (xx - yy),
        ]
    if degree >= 3:
        values += [
            -_C3[0] * y * (3 * xx - yy),
            _C3[1] * x * y * z,
            -_C3[2] * y * (4 * zz - xx - yy),
            _C3[3] * z * (2 * zz - 3 * xx - 3 * yy),
            -_C3[2] * x * (4 * zz - xx - yy),
            _C3[4] * z * (xx - yy),
            -_C3[0] * x * (xx - 3 * yy),
        ]
    return torch.stack(values, dim=-1)


def sh_colors(degree: int, directions: Tensor, coefficients: Tensor) -> Tensor:
    """Colours 0.5 + SH, cut off below 0 and not above 1, float [..., 3].

    Args:
        degree: 0..3; higher bands in `coefficients` are ignored.
        directions: float [..., 3], from the camera to the splat, world frame, any length.
        coefficients: float [..., K, 3], K >= (degree + 1)^2, broadcast against `directions`.
    """
    if degree == 0:
        color = SH_C0 * coefficients[..., 0, :]
        return (color.expand(*directions.shape[:-1], 3) + 0.5).clamp_min(0.0)
    unit = torch.nn.functional.normalize(directions, dim=-1)
    basis = sh_basis(degree, unit)
    return ((basis[..., None] * coefficients[..., : basis.shape[-1], :]).sum(-2) + 0.5).clamp_min(
        0.0
    )
