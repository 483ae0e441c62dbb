"""Writes trained weights as the product reads them: half precision, no code, one file.

It does not know how they were trained.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn


def write_weights(network: nn.Module, path: Path) -> None:
    """All tensors by name as float16; the file appears whole or not at all."""
    arrays = {
        name: tensor.detach().cpu().numpy().astype(np.float16)
        for name, tensor in network.state_dict().items()
    }
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    unfinished.replace(path)
