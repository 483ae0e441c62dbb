"""Idol Turbo: two low-rank changes (LoRA) of the flow network, one for each half of the way.

It does not know where their files lie. How names are spelled in the released files is not
documented, so the usual spellings are read, and everything that fits nowhere is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.engines.deg.deg_config import FlowConfig
from pipeline.engines.deg.flow_network import FlowNetwork
from pipeline.errors import Unavailable

#: Steps that start above it belong to the slow phase.
PHASE_BOUNDARY = 0.5
_PREFIXES = ("model.diffusion_model.", "base_model.model.", "diffusion_model.", "transformer.")
_DOWN = (".lora_A.weight", ".lora_down.weight")
_UP = (".lora_B.weight", ".lora_up.weight")
_ALPHA = ".alpha"
#: Linear layers of a block that are adapted.
_ADAPTED = ("attn.qkv", "attn.out", "mlp.mlp.0", "mlp.mlp.2")
_FEW = 5


@dataclass(frozen=True)
class LowRankChange:
    """scale * up @ down is added to a weight: down [rank, in], up [out, rank]."""

    down: Tensor
    up: Tensor
    scale: float

    def added_to(self, weight: Tensor) -> Tensor:
        """[out, in], float32, on the weight's device."""
        up, down = (x.to(weight.device, torch.float32) for x in (self.up, self.down))
        return torch.addmm(weight.float(), up, down, alpha=self.scale)


def adapted_modules(config: FlowConfig) -> list[str]:
    """Names of the linear layers that a LoRA may change: four of every block."""
    stacks = {
        "noise_refiner": config.refiner_blocks,
        "context_refiner": config.refiner_blocks,
        "blocks": config.blocks,
    }
    return [
        f"{stack}.{index}.{layer}"
        for stack, count in stacks.items()
        for index in range(count)
        for layer in _ADAPTED
    ]


def read_lora(tensors: Mapping[str, Tensor], config: FlowConfig) -> dict[str, LowRankChange]:
    """The changes in a LoRA file, by the name of the linear layer.

    Prefixes of other programs are taken off; the scale is alpha / rank where an alpha is stored and
    1 where none is.

    Raises:
        Unavailable: the file is empty, or a name or shape does not belong to this network; the
            text names them.
    """
    parts: dict[str, dict[str, Tensor]] = {"down": {}, "up": {}, "alpha": {}}
    odd, twice = [], []
    known = set(adapted_modules(config))
    for name, tensor in tensors.items():
        kind, module = _taken_apart(name)
        if kind is None or module not in known:
            odd.append(name)
        elif module in parts[kind]:
            twice.append(name)
        else:
            parts[kind][module] = tensor
    _refuse("names that are not in the flow network", odd)
    _refuse("names that say the same twice", twice)
    modules = sorted(set(parts["down"]) | set(parts["up"]) | set(parts["alpha"]))
    pairs = set(parts["down"]) & set(parts["up"])
    _refuse("halves without their pair, for", [name for name in modules if name not in pairs])
    if not modules:
        raise Unavailable("The LoRA holds no tensor. Fetch the file again.")
    with torch.device("meta"):
        network = FlowNetwork(config)
    changes = {}
    misshaped = []
    for name in modules:
        down, up = parts["down"][name], parts["up"][name]
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Linear), name
        rank = down.shape[0] if down.ndim == 2 else 0
        fits = down.shape == (rank, layer.in_features) and up.shape == (layer.out_features, rank)
        alpha = parts["alpha"].get(name)
        if rank and fits and (alpha is None or alpha.numel() == 1):
            scale = 1.0 if alpha is None else float(alpha) / rank
            changes[name] = LowRankChange(down, up, scale)
        else:
            misshaped.append(name)
    _refuse("shapes that do not fit the flow network, for", misshaped)
    return changes


def merged_weights(
    weights: Mapping[str, Tensor], lora: Mapping[str, LowRankChange]
) -> dict[str, Tensor]:
    """The weights that a LoRA changes, changed; float32.

    Args:
        weights: of the flow network, as precise as they are at hand.
    """
    return {
        f"{name}.weight": change.added_to(weights[f"{name}.weight"])
        for name, change in lora.items()
    }


def phase_network(
    network: FlowNetwork,
    lora: Mapping[str, LowRankChange],
    weights: Mapping[str, Tensor] | None = None,
) -> FlowNetwork:
    """The network with a LoRA merged in; what it does not change is shared with `network`.

    Args:
        weights: what the changes are added to, before they are rounded to the network's dtypes;
            None takes the network's own.
    """
    return network.with_weights(merged_weights(weights or network.state_dict(), lora))


@dataclass(frozen=True)
class TurboPhases:
    """Two networks of the same sizes: one for steps that start above .5, one for the rest."""

    slow: FlowNetwork
    fast: FlowNetwork

    @property
    def config(self) -> FlowConfig:
        """Of both."""
        return self.slow.config

    def network_at(self, t: float) -> FlowNetwork:
        """For a step that starts at t."""
        return self.slow if t > PHASE_BOUNDARY else self.fast


def _taken_apart(name: str) -> tuple[str | None, str]:
    """Which half a tensor is, and of which linear layer."""
    ends = {"down": _DOWN, "up": _UP, "alpha": (_ALPHA,)}
    for kind, suffixes in ends.items():
        for suffix in suffixes:
            if name.endswith(suffix):
                return kind, _without_prefixes(name.removesuffix(suffix))
    return None, name


def _without_prefixes(name: str) -> str:
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            return _without_prefixes(name.removeprefix(prefix))
    return name


def _refuse(what: str, names: Iterable[str]) -> None:
    names = list(names)
    if names:
        more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
        raise Unavailable(
            f"The LoRA has {what}: {', '.join(names[:_FEW])}{more}. It belongs to another model, "
            "or its file is damaged: fetch it again."
        )
