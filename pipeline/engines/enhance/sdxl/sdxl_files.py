"""Weights from folders into networks, strictly: every number of the network comes from the file.

It knows the layouts of diffusers and transformers and never asks the network for a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pipeline.engines.assign_weights import assign_weights
from pipeline.errors import Unavailable

#: Where the file calls a number otherwise: its name there and all names of the network -> the name
#: in the network, or None for a number that is not needed.
Renamed = Callable[[str, set[str]], str | None]

#: So many names of a kind stand in the message about a file that does not fit.
_NAMES_SHOWN = 3


def find_file(folder: Path, *names: str) -> Path:
    """The first of the names that is a file in the folder.

    Raises:
        Unavailable: none is there.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise Unavailable(f"The sdxl enhancer needs {' or '.join(names)} in {folder}: it is not there.")


def find_weights(folder: Path, stem: str) -> Path:
    """The weights in the folder, half precision before full.

    Raises:
        Unavailable: they are not there.
    """
    return find_file(folder, f"{stem}.fp16.safetensors", f"{stem}.safetensors")


def read_json(path: Path) -> dict[str, Any]:
    """A configuration. Raises Unavailable where it cannot be read."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Unavailable(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise Unavailable(f"{path} is no configuration: it holds no object.")
    return content


def load_strictly(
    network: torch.nn.Module,
    path: Path,
    device: torch.device,
    dtype: torch.dtype,
    renamed: Renamed | None = None,
) -> None:
    """Fill a network that was built on the meta device, ready for inference.

    Args:
        network: its parameters are replaced by tensors of `dtype` on `device`.
        path: a safetensors file.
        renamed: see `Renamed`; None where the names agree.

    Raises:
        Unavailable: the file is missing or damaged, numbers are missing, unknown or of another
            shape; the text names them.
    """
    if not path.is_file():
        raise Unavailable(f"The sdxl enhancer needs the file {path}: it is not there.")
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    tensors = _read(path, device, dtype)
    # Old files call the parts of an attention otherwise; diffusers' networks can rename them.
    rename: Any = getattr(network, "_fix_state_dict_keys_on_load", None)
    if rename is not None:
        rename(tensors)
    if renamed is not None:
        names = set(expected)
        pairs = ((renamed(key, names), tensor) for key, tensor in tensors.items())
        tensors = {name: tensor for name, tensor in pairs if name is not None}
    _compare({name: tensor.shape for name, tensor in tensors.items()}, expected, path)
    assign_weights(network, tensors, device)


def _read(path: Path, device: torch.device, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The tensors of a file, one after another on the device: never twice as many as needed."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt", device=str(device)) as file:
            return {name: file.get_tensor(name).to(dtype) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise Unavailable(f"{path} cannot be read as safetensors: {error}") from error


def _compare(found: dict[str, torch.Size], expected: dict[str, torch.Size], path: Path) -> None:
    """Raise Unavailable unless names and shapes agree."""
    faults = [
        _listed("missing", sorted(set(expected) - set(found))),
        _listed("unexpected", sorted(set(found) - set(expected))),
        _listed(
            "of another shape",
            [
                f"{name} {tuple(found[name])} instead of {tuple(shape)}"
                for name, shape in sorted(expected.items())
                if name in found and found[name] != shape
            ],
        ),
    ]
    if any(faults):
        raise Unavailable(f"{path} does not fit the network: {'; '.join(filter(None, faults))}.")


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"{what} {', '.join(names[:_NAMES_SHOWN])}{more}"
