"""A network that was built without memory gets its tensors and is ready for inference.

It does not know which network it is, nor where the tensors come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def assign_weights(
    network: Network, tensors: Mapping[str, Tensor], device: torch.device
) -> Network:
    """The network, built on the meta device, with exactly these tensors, which are on `device`."""
    network.load_state_dict(tensors, strict=True, assign=True)
    for module in network.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_meta:
                # CLIP's own numbers of its patches or words: in no file, lost without memory.
                assert name == "position_ids", name
                ids = torch.arange(buffer.shape[-1], device=device).expand(buffer.shape)
                module.register_buffer(name, ids, persistent=False)
    return network.requires_grad_(False).eval()
