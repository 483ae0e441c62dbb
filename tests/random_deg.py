"""The DeG networks with random weights, of the released sizes or smaller: as fast as the real ones.

They read no files and know nothing of photos.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pipeline.engines.assign_weights import assign_weights
from pipeline.engines.deg.deg_config import DegConfig
from pipeline.engines.deg.deg_networks import build_network
from pipeline.engines.deg.deg_precision import DegPart, weight_dtype
from pipeline.engines.deg.flow_network import FlowNetwork
from pipeline.engines.deg.gaussian_fields import base_offset_scale, offset_perturbation
from pipeline.engines.deg.turbo_phases import (
    LowRankChange,
    TurboPhases,
    adapted_modules,
    phase_network,
)

__all__ = ["random_network", "random_turbo"]

#: Numbers that stand beside a factor, and are 1 where it does nothing.
_ONES = ("gamma", "lambda1", "running_var")


def random_network(
    part: DegPart, config: DegConfig, device: torch.device, dtype: torch.dtype, seed: int = 0
) -> Any:
    """A network with numbers drawn on the device itself: they differ from device to device.

    Matrices have a gain of 0.7 and norms are the identity, so activations stay finite in every
    number format. Each weight is of the format that the product gives it.
    """
    network = build_network(part, config)
    generator = torch.Generator(device).manual_seed(seed)
    state: dict[str, Tensor] = {}
    for name, empty in network.state_dict().items():
        tensor = torch.empty(empty.shape, device=device, dtype=weight_dtype(part, name, dtype))
        state[name] = _filled(name, tensor, generator)
    if part is DegPart.GAUSSIANS:
        count = config.gaussians.gaussians_per_point
        constants = {
            "points_offset_perturbation": offset_perturbation(count),
            "base_offset_scale": base_offset_scale(),
        }
        state |= {name: tensor.to(state[name]) for name, tensor in constants.items()}
    return assign_weights(network, state, device).to(device)


def _filled(name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
    last = name.rpartition(".")[2]
    if last.startswith("freqs_"):
        return tensor.copy_(torch.linspace(1, 16, tensor.numel()))
    if last in _ONES or (last == "weight" and tensor.ndim == 1):
        return tensor.fill_(1)
    if last == "shift_table":
        return tensor.normal_(0, 0.3, generator=generator)
    if tensor.ndim > 1:
        return tensor.normal_(0, 0.7 / math.prod(tensor.shape[1:]) ** 0.5, generator=generator)
    return tensor.normal_(0, 0.1, generator=generator)


def random_turbo(network: FlowNetwork, rank: int = 32) -> TurboPhases:
    """Two phases: the network, and it with changes; as much memory as the product's two take."""
    generator = torch.Generator(network.device).manual_seed(1)
    changes = {}
    for name in adapted_modules(network.config):
        weight = network.get_parameter(f"{name}.weight")
        down = torch.randn(rank, weight.shape[1], device=weight.device, generator=generator)
        up = torch.zeros(weight.shape[0], rank, device=weight.device)
        changes[name] = LowRankChange(down, up, 1.0)
    return TurboPhases(network, phase_network(network, changes))
