"""Weights: the released checkpoint is read strictly, converted to shards once, and loaded.

It knows files and names; not what the networks compute or where views go. Trouble with weights is
`Unavailable`, as everywhere in the product: the operator can mend it, no request can.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipeline.control import Control, Progress
from pipeline.engines.views.syncdreamer import inert_pickle
from pipeline.engines.views.syncdreamer.config import SyncDreamerConfig
from pipeline.engines.views.syncdreamer.names import IGNORED, SCHEDULE, Origin, origin_of
from pipeline.engines.views.syncdreamer.network import SyncDreamerNetwork
from pipeline.engines.views.syncdreamer.sampler import alphas_cumprod
from pipeline.errors import InvalidOption, Unavailable
from pipeline.geometry.cameras import rig_cameras
from pipeline.rig import VIEW_COUNT

__all__ = [
    "CONFIG_FILE",
    "INDEX_FILE",
    "check_cameras",
    "check_names",
    "convert_checkpoint",
    "load_network",
    "random_network",
    "save_network",
]

CONFIG_FILE = "config.json"
INDEX_FILE = "model.safetensors.index.json"
#: In config.json: other software, and later versions of this one, can tell what the folder is.
_FORMAT = "glimpse3d-syncdreamer"
_VERSION = 1
_SHARD_BYTES = 2 * 10**9
_ATTRIBUTION = "SyncDreamer, (c) 2023 Yuan Liu, MIT"

_BUFFERS = ("poses", "Ks", "azimuth")
#: Cameras may differ from the product's rig by so much; the released ones differ by 1e-7.
_CAMERA_TOLERANCE = 1e-4

#: Of float32 buffers against our float32 schedule, widened to float64.
_SCHEDULE_TOLERANCE = 1e-5

_Shapes = Mapping[str, tuple[int, ...]]


def _empty_network(config: SyncDreamerConfig) -> SyncDreamerNetwork:
    """A network without memory behind its tensors."""
    with torch.device("meta"):
        return SyncDreamerNetwork(config).eval()


def _plain_name(name: str) -> str:
    """Releases of transformers with and without this level read the same folder."""
    return name.replace("clip.vision_model.", "clip.", 1)


def check_names(shapes: _Shapes, config: SyncDreamerConfig) -> dict[str, Origin]:
    """Account for every tensor of a checkpoint of the released layout.

    Args:
        shapes: of all its tensors, by name.

    Returns:
        where each tensor of our network comes from, by our name.

    Raises:
        Unavailable: a tensor is missing, unknown or has another shape; the text names some.
    """
    wanted: dict[str, tuple[int, ...]] = {}
    origins: dict[str, Origin] = {}
    for name, tensor in _empty_network(config).state_dict().items():
        origin = origin_of(name)
        origins[name] = origin
        wanted[origin.name] = origin.shape(tensor.shape)
    missing = sorted(set(wanted) - set(shapes))
    extra = sorted(set(shapes) - set(wanted) - set(IGNORED) - set(SCHEDULE))
    wrong = [
        f"{name} is {_size(shapes[name])} instead of {_size(shape)}"
        for name, shape in sorted(wanted.items())
        if name in shapes and tuple(shapes[name]) != shape
    ]
    wrong += [
        f"{name} is {_size(shapes[name])} instead of 1000"
        for name in SCHEDULE
        if name in shapes and tuple(shapes[name]) != (1000,)
    ]
    faults = [
        f"{len(names)} {what}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        for what, names in (
            ("tensors are missing", missing),
            ("tensors are unknown", extra),
            ("tensors have another shape", wrong),
        )
        if names
    ]
    if faults:
        raise Unavailable(f"This is not the SyncDreamer checkpoint: {'; '.join(faults)}.")
    return origins


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"


def _check_schedule(state: Mapping[str, Tensor]) -> None:
    """The schedule buffers that are there agree with ours."""
    signal = alphas_cumprod().double()
    alphas = signal / torch.cat([torch.ones(1, dtype=torch.float64), signal[:-1]])
    ours = {
        "betas": 1 - alphas,
        "alphas": alphas,
        "alphas_cumprod": signal,
        "sqrt_alphas_cumprod": signal.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - signal).sqrt(),
    }
    for name, expected in ours.items():
        if name not in state:
            continue
        error = (state[name].double() - expected).abs().max().item()
        if not error < _SCHEDULE_TOLERANCE:
            raise Unavailable(
                f"This is not the SyncDreamer checkpoint: its {name} differ from the schedule it "
                f"was trained with by {error:.2g}."
            )


def _read_released(source: Path) -> dict[str, Tensor]:
    """The tensors of a .ckpt, memory-mapped; nothing in the file is executed."""
    if not source.is_file():
        raise Unavailable(f"There is no SyncDreamer checkpoint {source}.")
    try:
        # What a training framework put beside the tensors is neither needed nor run.
        content = torch.load(
            source, map_location="cpu", mmap=True, weights_only=False, pickle_module=inert_pickle
        )
    except (RuntimeError, ValueError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise Unavailable(
            f"The checkpoint {source} is damaged, incomplete or no checkpoint: "
            f"{str(error).splitlines()[0]}"
        ) from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise Unavailable(f"The checkpoint {source} has no state_dict of tensors.")
    return state


def convert_checkpoint(
    source: Path,
    folder: Path,
    *,
    control: Control | None = None,
    config: SyncDreamerConfig | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Turn the released `syncdreamer-pretrain.ckpt` into a folder that `load_network` reads.

    The folder appears when it is complete and not before. Peak memory is one shard, 2 GB.

    Args:
        source: the .ckpt.
        folder: must not exist, or be empty.
        config: sizes; None is the released ones.
        dtype: of the stored weights; cameras stay float32.

    Raises:
        Unavailable: the checkpoint is not there, damaged, or not this network's.
        InvalidOption: the folder has something in it.
        Cancelled: a stop was asked for; nothing is left behind.
    """
    control = control or Control()
    config = config or SyncDreamerConfig.released()
    control.step(0.0, "reading the checkpoint")
    state = _read_released(source)
    origins = check_names({name: tuple(t.shape) for name, t in state.items()}, config)
    _check_schedule(state)

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for number, (name, origin) in enumerate(origins.items()):
            control.step(number / len(origins), "converting")
            yield name, origin.convert(state[origin.name])

    _write(folder, config, tensors(), dtype)
    control.report_to(Progress(1.0, "converted"))


def save_network(network: SyncDreamerNetwork, folder: Path) -> None:
    """Write a network as a folder that `load_network` reads, in the precision it has.

    Raises:
        InvalidOption: the folder has something in it.
    """
    _write(folder, network.config, iter(network.state_dict().items()), network.dtype)


def _write(
    folder: Path,
    config: SyncDreamerConfig,
    tensors: Iterator[tuple[str, Tensor]],
    dtype: torch.dtype,
) -> None:
    with _complete_or_absent(folder) as work:
        shards: list[dict[str, Tensor]] = []
        places: dict[str, int] = {}
        total = size = 0
        shard: dict[str, Tensor] = {}

        def close() -> None:
            nonlocal shard, size
            path = work / f"part-{len(shards):05d}"
            save_file(shard, path, metadata={"format": "pt"})
            path.chmod(0o644)  # safetensors' own is for its writer alone; the service is another
            shards.append({})
            shard, size = {}, 0

        for name, tensor in tensors:
            kept = torch.float32 if name in _BUFFERS else dtype
            # A copy of its own: chunks share memory, which the format cannot express.
            own = tensor.detach().to("cpu", kept, copy=True).contiguous()
            if shard and size + own.nbytes > _SHARD_BYTES:
                close()
            shard[_plain_name(name)] = own
            places[_plain_name(name)] = len(shards)
            size += own.nbytes
            total += own.nbytes
        close()

        def file_name(number: int) -> str:
            return f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"

        for number in range(len(shards)):
            (work / f"part-{number:05d}").rename(work / file_name(number))
        index = {
            "metadata": {"total_size": total},
            "weight_map": {name: file_name(number) for name, number in sorted(places.items())},
        }
        description = {
            "format": _FORMAT,
            "version": _VERSION,
            "attribution": _ATTRIBUTION,
            "network": config.to_json(),
        }
        (work / INDEX_FILE).write_text(json.dumps(index, indent=1))
        (work / CONFIG_FILE).write_text(json.dumps(description, indent=1))


@contextmanager
def _complete_or_absent(folder: Path) -> Iterator[Path]:
    """A working folder beside `folder` that takes its name at the end, or vanishes."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidOption(f"{folder} is there already: remove it or choose another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        yield work
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


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
    network = _empty_network(config)
    ours = {_plain_name(name): name for name in network.state_dict()}
    for what, odd in (
        ("lacks", set(ours) - set(weight_map)),
        ("has unknown", set(weight_map) - set(ours)),
    ):
        if odd:
            raise Unavailable(f"The SyncDreamer model in {folder} {what} {sorted(odd)[:3]}.")
    state: dict[str, Tensor] = {}
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for file in sorted(set(weight_map.values())):
        names = {plain for plain, place in weight_map.items() if place == file}
        for plain, tensor in _read_shard(folder / Path(file).name, names, device):
            name = ours[plain]
            if tuple(tensor.shape) != wanted[name]:
                raise Unavailable(
                    f"{plain} in {folder / file} is {_size(tuple(tensor.shape))} instead of "
                    f"{_size(wanted[name])}."
                )
            state[name] = tensor.to(torch.float32 if name in _BUFFERS else dtype)
    return _filled(network, state, device)


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


def _filled(
    network: SyncDreamerNetwork, state: dict[str, Tensor], device: torch.device
) -> SyncDreamerNetwork:
    """An empty network with these tensors in it, ready to run."""
    network.load_state_dict(state, strict=True, assign=True)
    for module in network.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_meta and name == "position_ids":
                # CLIP's own numbers of its patches: in no checkpoint, lost without memory.
                ids = torch.arange(buffer.shape[-1], device=device).expand(buffer.shape)
                module.register_buffer(name, ids, persistent=False)
    return network.requires_grad_(False).eval()


def random_network(
    config: SyncDreamerConfig, device: torch.device, dtype: torch.dtype, seed: int = 0
) -> SyncDreamerNetwork:
    """A network of random weights with the product's cameras, drawn on the device itself.

    Matrices have a gain of 0.7 and norms start as the identity, so activations stay finite in
    every number format. The numbers differ from device to device.
    """
    network = _empty_network(config)
    generator = torch.Generator(device).manual_seed(seed)
    state: dict[str, Tensor] = {}
    for name, parameter in network.named_parameters():
        tensor = torch.empty(parameter.shape, device=device, dtype=dtype)
        if parameter.ndim > 1:
            fan_in = math.prod(parameter.shape[1:])
            state[name] = tensor.normal_(0, 0.7 / fan_in**0.5, generator=generator)
        elif name.endswith("weight"):
            state[name] = tensor.fill_(1)
        else:
            state[name] = tensor.normal_(0, 0.1, generator=generator)
    state |= {name: tensor.to(device) for name, tensor in _rig_buffers(config.views).items()}
    return _filled(network, state, device)


def _rig_buffers(views: int) -> dict[str, Tensor]:
    """Camera buffers of `views` cameras, evenly taken from the product's rig."""
    every = VIEW_COUNT // views
    cameras = rig_cameras().select(list(range(0, VIEW_COUNT, every))[:views])
    azimuths = torch.arange(views, dtype=torch.float64) * (2 * math.pi * every / VIEW_COUNT)
    return {
        "poses": torch.from_numpy(cameras.viewmats[:, :3].copy()),
        "Ks": torch.from_numpy(cameras.intrinsics.copy()),
        "azimuth": azimuths.float(),
    }


def check_cameras(poses: Tensor, Ks: Tensor, azimuth: Tensor) -> None:
    """The views are the rig of `pipeline.geometry.cameras`, or every n-th camera of it.

    Args:
        poses: [V, 3, 4], world-to-camera, OpenCV axes.
        Ks: [V, 3, 3], pixels of a 256 x 256 image.
        azimuth: [V], radians, up to full turns.

    Raises:
        Unavailable: one of them is off by more than 1e-4.
    """
    ours = _rig_buffers(len(poses))
    turn = azimuth.cpu() - ours["azimuth"]
    errors = {
        "poses": (poses.cpu() - ours["poses"]).abs().max().item(),
        # Pixels: the same share of the image as 1e-4 is of the unit cube.
        "Ks": (Ks.cpu() - ours["Ks"]).abs().max().item() / 256,
        "azimuth": torch.atan2(turn.sin(), turn.cos()).abs().max().item(),
    }
    for name, error in errors.items():
        if not error < _CAMERA_TOLERANCE:
            raise Unavailable(
                f"The SyncDreamer checkpoint's {name} are not the product's cameras: they differ "
                f"by {error:.2g}."
            )
