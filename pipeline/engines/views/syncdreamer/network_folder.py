"""A network as a folder: config.json, an index and shards, written once and read strictly.

It does not know where the tensors come from or what the networks compute. A folder that cannot be
loaded is `Unavailable`: the operator can mend it, no request can.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipeline.engines.assign_weights import assign_weights
from pipeline.engines.views.syncdreamer.config import SyncDreamerConfig
from pipeline.engines.views.syncdreamer.network import SyncDreamerNetwork
from pipeline.engines.whole_folder import complete_or_absent
from pipeline.errors import Unavailable

CONFIG_FILE = "config.json"
INDEX_FILE = "model.safetensors.index.json"
#: In config.json: other software, and later versions of this one, can tell what the folder is.
_FORMAT = "glimpse3d-syncdreamer"
_VERSION = 1
_SHARD_BYTES = 2 * 10**9
_ATTRIBUTION = "SyncDreamer, (c) 2023 Yuan Liu, MIT"

_BUFFERS = ("poses", "Ks", "azimuth")


def empty_network(config: SyncDreamerConfig) -> SyncDreamerNetwork:
    """A network without memory behind its tensors."""
    with torch.device("meta"):
        return SyncDreamerNetwork(config).eval()


def _stored_name(name: str) -> str:
    """Releases of transformers with and without this level read the same folder."""
    return name.replace("clip.vision_model.", "clip.", 1)


def _stored_dtype(name: str, weights: torch.dtype) -> torch.dtype:
    """Cameras stay float32, whatever the weights are."""
    return torch.float32 if name in _BUFFERS else weights


def size_text(shape: tuple[int, ...]) -> str:
    """A shape for messages: 4x3x3."""
    return "x".join(map(str, shape)) or "one number"


def write_folder(
    folder: Path,
    config: SyncDreamerConfig,
    tensor_of: Callable[[str], Tensor],
    dtype: torch.dtype,
) -> None:
    """Write a network as a folder that `load_network` reads; it appears when it is complete.

    Args:
        tensor_of: the tensor of a name of the network; asked once for each, in their order.
        dtype: of the stored weights; cameras stay float32.

    Raises:
        InvalidOption: the folder has something in it.
    """
    with complete_or_absent(folder) as work:
        shards = _shards(config, dtype)
        weight_map: dict[str, str] = {}
        total = 0
        for number, names in enumerate(shards, 1):
            file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            total += _write_shard(work / file, names, tensor_of, dtype)
            weight_map |= dict.fromkeys(map(_stored_name, names), file)
        index = {
            "metadata": {"total_size": total},
            "weight_map": dict(sorted(weight_map.items())),
        }
        description = {
            "format": _FORMAT,
            "version": _VERSION,
            "attribution": _ATTRIBUTION,
            "network": config.to_json(),
        }
        (work / INDEX_FILE).write_text(json.dumps(index, indent=1))
        (work / CONFIG_FILE).write_text(json.dumps(description, indent=1))


def _write_shard(
    path: Path, names: list[str], tensor_of: Callable[[str], Tensor], dtype: torch.dtype
) -> int:
    """Write these tensors; returns the bytes of their numbers."""
    tensors: dict[str, Tensor] = {}
    for name in names:
        # A copy of its own: chunks share memory, which the format cannot express.
        own = tensor_of(name).detach().to("cpu", _stored_dtype(name, dtype), copy=True)
        tensors[_stored_name(name)] = own.contiguous()
    save_file(tensors, path, metadata={"format": "pt"})
    # safetensors' own mode is for its writer alone; the service is another user.
    path.chmod(0o644)
    return sum(tensor.nbytes for tensor in tensors.values())


def _shards(config: SyncDreamerConfig, dtype: torch.dtype) -> list[list[str]]:
    """Names of the network's tensors, in their order, by the file that each goes into."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in empty_network(config).state_dict().items():
        nbytes = tensor.numel() * _stored_dtype(name, dtype).itemsize
        if shards[-1] and size + nbytes > _SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += nbytes
    return shards


def load_network(folder: Path, device: torch.device, dtype: torch.dtype) -> SyncDreamerNetwork:
    """The network of a converted folder, on a device, its weights in a number format.

    Raises:
        Unavailable: a file or tensor is missing, unknown, misshaped or damaged; the text says
            which.
    """
    description = _read_json(folder / CONFIG_FILE)
    if description.get("format") != _FORMAT or description.get("version") != _VERSION:
        raise Unavailable(
            f"{folder / CONFIG_FILE} does not describe a SyncDreamer model of version {_VERSION}."
        )
    sizes = description.get("network")
    config = SyncDreamerConfig.from_json(sizes if isinstance(sizes, dict) else {})
    weight_map = _read_json(folder / INDEX_FILE).get("weight_map")
    if not isinstance(weight_map, dict):
        raise Unavailable(f"{folder / INDEX_FILE} has no weight_map.")
    network = empty_network(config)
    ours = {_stored_name(name): name for name in network.state_dict()}
    for what, odd in (
        ("lacks", set(ours) - set(weight_map)),
        ("has unknown", set(weight_map) - set(ours)),
    ):
        if odd:
            raise Unavailable(f"The SyncDreamer model in {folder} {what} {sorted(odd)[:3]}.")
    state: dict[str, Tensor] = {}
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for file in sorted(set(weight_map.values())):
        names = {stored for stored, in_file in weight_map.items() if in_file == file}
        for stored, tensor in _read_shard(folder / Path(file).name, names, device):
            name = ours[stored]
            if tuple(tensor.shape) != wanted[name]:
                raise Unavailable(
                    f"{stored} in {folder / file} is {size_text(tuple(tensor.shape))} instead of "
                    f"{size_text(wanted[name])}."
                )
            state[name] = tensor.to(_stored_dtype(name, dtype))
    return assign_weights(network, state, device)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise Unavailable(
            f"There is no {path}: a SyncDreamer model folder holds {CONFIG_FILE}, {INDEX_FILE} "
            "and shards, as converting the released checkpoint writes them."
        ) from None
    except (OSError, ValueError) as error:
        raise Unavailable(f"{path} cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise Unavailable(f"{path} is not a JSON object.")
    return content


def _read_shard(path: Path, names: set[str], device: torch.device) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a shard; exactly `names` must be in it."""
    if not path.is_file():
        raise Unavailable(f"There is no {path}, a part of the SyncDreamer model.")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            odd = set(file.keys()) ^ names
            if odd:
                raise Unavailable(f"{path} and the index disagree about {sorted(odd)[:3]}.")
            for name in sorted(names):
                yield name, file.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise Unavailable(f"{path} is damaged: {error}.") from error
