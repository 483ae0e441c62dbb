"""Raw numbers of the Gaussian network made into splats, in float32 whatever its precision.

It does not know the network, nor how the object is turned: splats are in the object's own frame,
z up, in about [-0.5, 0.5]^3.

In float16 the square of the smallest scale is a subnormal, an opacity above sigmoid(8.3) is 1, and
exp overflows at 11: nothing here is computed in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import ModelFailed
from pipeline.types import FloatArray, SplatModel

#: Raw numbers of a Gaussian: position 3, colour 3, scales 3, quaternion 4, opacity 1, reach 1.
RAW_CHANNELS = 15

#: A Gaussian lies at most so many times its reach from its point, per axis (half of 1.5).
_FARTHEST = 0.75
#: Raw 0 is this scale, world units, ...
_USUAL_SCALE = 0.004
#: ... and none is smaller than this: the kernel of the rasteriser that the networks learned with.
_LEAST_SCALE = 0.0009
#: Raw 0 is this opacity.
_USUAL_OPACITY = 0.1
#: Raw 0 is this reach, world units.
_USUAL_REACH = 0.05
_ROTATION_STEP = 0.1


@dataclass(frozen=True)
class GaussianFields:
    """N Gaussians of n points, G each, point by point; float32, on the network's device.

    Attributes:
        offsets: [n, G, 3], from the point to its Gaussians.
        means: [N, 3], object frame, world units.
        quats: [N, 4], wxyz, not normalised.
        log_scales: [N, 3], natural logarithm of the standard deviation in world units.
        logit_opacities: [N].
        sh: [N, 1, 3], degree 0.
    """

    offsets: Tensor
    means: Tensor
    quats: Tensor
    log_scales: Tensor
    logit_opacities: Tensor
    sh: Tensor


def offset_perturbation(gaussians: int) -> Tensor:
    """Where the Gaussians of a point begin, before the tanh: float32 [G, 3].

    Hammersley points H in the unit cube (g / G, radical inverses of g in base 2 and 3), as
    atanh((2 H - 1) / 1.5).
    """
    points = [
        (g / gaussians, _radical_inverse(g, 2), _radical_inverse(g, 3)) for g in range(gaussians)
    ]
    return torch.atanh((2 * torch.tensor(points) - 1) / (2 * _FARTHEST))


def base_offset_scale() -> Tensor:
    """The raw number whose softplus is the usual reach, float32 []."""
    return torch.tensor(math.log(math.expm1(_USUAL_REACH)))


def gaussian_fields(
    points: Tensor, features: Tensor, perturbation: Tensor, base_scale: Tensor
) -> GaussianFields:
    """The Gaussians of points.

    Args:
        points: float32 [n, 3], 0..1.
        features: [n, 15 G], any float type: 3 G positions, 3 G colours, 3 G scales, 4 G
            quaternions, G opacities, G reaches.
        perturbation: [G, 3], as the weights hold it (`offset_perturbation`).
        base_scale: one number, as the weights hold it (`base_offset_scale`).
    """
    n, G = len(points), len(perturbation)
    raw = torch.split(features.float(), [3 * G, 3 * G, 3 * G, 4 * G, G, G], dim=-1)
    xyz, colour, scaling, rotation = (part.reshape(n, G, -1) for part in raw[:4])
    opacity, reach = raw[4:]
    reaches = functional.softplus(reach + base_scale.float())
    offsets = torch.tanh(xyz + perturbation.float()) * _FARTHEST * reaches[..., None]
    means = points[:, None] + offsets - 0.5
    # The inverse of softplus at the usual scale; hypot does not overflow where a square would.
    usual = _USUAL_SCALE + math.log(-math.expm1(-_USUAL_SCALE))
    scales = functional.softplus(scaling + usual)
    log_scales = torch.hypot(scales, torch.full_like(scales, _LEAST_SCALE)).log()
    quats = _ROTATION_STEP * rotation
    quats[..., 0] += 1
    return GaussianFields(
        offsets=offsets,
        means=means.flatten(0, 1),
        quats=quats.flatten(0, 1),
        log_scales=log_scales.flatten(0, 1),
        logit_opacities=(opacity + math.log(_USUAL_OPACITY / (1 - _USUAL_OPACITY))).flatten(),
        sh=colour.flatten(0, 1)[:, None],
    )


def to_model(fields: GaussianFields) -> SplatModel:
    """The same Gaussians as numpy arrays, still in the object's own frame.

    Raises:
        ModelFailed: a number is not finite.
    """
    model = SplatModel(
        means=_array(fields.means),
        quats=_array(fields.quats),
        log_scales=_array(fields.log_scales),
        logit_opacities=_array(fields.logit_opacities),
        sh=_array(fields.sh),
    )
    for name in ("means", "quats", "log_scales", "logit_opacities", "sh"):
        if not np.isfinite(getattr(model, name)).all():
            raise ModelFailed(
                f"The Gaussian network gave {name} that are not finite. Use the precision bf16 or "
                "fp32, and verify its weights."
            )
    return model


def _array(tensor: Tensor) -> FloatArray:
    array: FloatArray = tensor.cpu().numpy()
    return array


def _radical_inverse(number: int, base: int) -> float:
    """The digits of a number mirrored at the point, 0 <= result < 1."""
    inverse, place = 0.0, 1.0 / base
    while number:
        number, digit = divmod(number, base)
        inverse += digit * place
        place /= base
    return inverse
