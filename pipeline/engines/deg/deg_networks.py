"""The DeG networks, built without memory and filled from files; and files that load fastest.

It does not know what the networks compute, nor which repository a file came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from pipeline.control import Control, Progress
from pipeline.engines.assign_weights import assign_weights
from pipeline.engines.deg.deg_config import DegConfig
from pipeline.engines.deg.deg_encoders import DinoEncoder, PhotoEncoders, VaeEncoder
from pipeline.engines.deg.deg_precision import DegPart, weight_dtype
from pipeline.engines.deg.deg_weights import RULES, read_networks, read_tensors
from pipeline.engines.deg.flow_network import FlowNetwork
from pipeline.engines.deg.fused_attention import choose_kernel, use_kernel
from pipeline.engines.deg.gaussian_network import GaussianNetwork
from pipeline.engines.deg.octree_network import OctreeNetwork
from pipeline.engines.deg.position_tables import sobol_points
from pipeline.engines.deg.turbo_phases import (
    LowRankChange,
    TurboPhases,
    phase_network,
    read_lora,
)
from pipeline.engines.whole_folder import complete_or_absent
from pipeline.errors import Unavailable

#: Sizes that are not the released ones stand in a file of this name beside the weights.
CONFIG_FILE = "config.json"
#: What a conversion writes: the parts of each file.
_CONVERTED = {
    "flow.safetensors": (DegPart.FLOW,),
    "decoders.safetensors": (DegPart.OCTREE, DegPart.GAUSSIANS),
}


@dataclass(frozen=True)
class DegFiles:
    """Where the networks of an engine lie.

    Attributes:
        folder: of the bundle with the flow network; sizes stand in it where they are not the
            released ones.
        networks: files that hold the flow network and both decoders, in one of the layouts.
        dino, vae: files that hold an encoder each.
        turbo: of Idol Turbo, its slow and its fast changes; empty for the others.
    """

    folder: Path
    networks: tuple[Path, ...]
    dino: tuple[Path, ...]
    vae: tuple[Path, ...]
    turbo: tuple[Path, ...] = ()

    @property
    def config(self) -> DegConfig:
        """The sizes of the networks. Raises Unavailable where their file cannot be read."""
        return config_beside(self.folder)


def config_beside(folder: Path) -> DegConfig:
    """The sizes of the networks in a folder: the released ones, unless a file says others.

    Raises:
        Unavailable: the file cannot be read.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        return DegConfig.released()
    try:
        return DegConfig.from_json(path.read_bytes())
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}.") from error


def build_network(part: DegPart, config: DegConfig) -> Any:
    """A network without memory behind its tensors.

    Raises:
        Unavailable: of an encoder, transformers or diffusers is not installed.
    """
    with torch.device("meta"):
        if part is DegPart.FLOW:
            return FlowNetwork(config.flow).eval()
        if part is DegPart.OCTREE:
            return OctreeNetwork(config.octree).eval()
        if part is DegPart.GAUSSIANS:
            return GaussianNetwork(config.gaussians).eval()
        if part is DegPart.DINO:
            return DinoEncoder(config.dino).eval()
        return VaeEncoder(config.vae).eval()


@dataclass(frozen=True)
class LoadedNetworks:
    """What makes splats of features; on a device, ready for inference.

    Attributes:
        flow: one network throughout, or the two phases of Idol Turbo.
    """

    flow: FlowNetwork | TurboPhases
    octree: OctreeNetwork
    gaussians: GaussianNetwork


def load_networks(
    files: DegFiles,
    device: torch.device,
    dtype: torch.dtype,
    *,
    control: Control | None = None,
) -> LoadedNetworks:
    """The flow network and the decoders of an engine, each tensor as `weight_dtype` says.

    Args:
        dtype: of the networks.

    Raises:
        Unavailable: a file is missing, damaged or of something else, or the GPU has no fused
            attention; the text names the file and the tensor.
        Cancelled: a stop was asked for.
    """
    config = files.config
    # Changes are added before anything is rounded, and not on a GPU that has room for the result.
    flow_dtype, where = (torch.float32, torch.device("cpu")) if files.turbo else (dtype, device)
    parts = (DegPart.FLOW, DegPart.OCTREE, DegPart.GAUSSIANS)
    networks = {part: build_network(part, config) for part in parts}
    states = read_networks(
        files.networks,
        networks,
        where,
        {DegPart.FLOW: flow_dtype, DegPart.OCTREE: dtype, DegPart.GAUSSIANS: dtype},
        positions=sobol_points(config.flow.latent_tokens),
        control=control,
    )
    exact = states[DegPart.FLOW]
    states[DegPart.FLOW] = {n: t.to(weight_dtype(DegPart.FLOW, n, dtype)) for n, t in exact.items()}
    for part, network in networks.items():
        state = {name: tensor.to(device) for name, tensor in states.pop(part).items()}
        assign_weights(network, state, device)
    kernel = choose_kernel(device, dtype, config.flow.head_width)
    for network in networks.values():
        use_kernel(network, kernel)
    flow: FlowNetwork = networks[DegPart.FLOW]
    decoders = (networks[DegPart.OCTREE], networks[DegPart.GAUSSIANS])
    if not files.turbo:
        return LoadedNetworks(flow, *decoders)
    slow, fast = (phase_network(flow, _lora(path, config), exact) for path in files.turbo)
    return LoadedNetworks(TurboPhases(slow, fast), *decoders)


def load_encoders(
    files: DegFiles,
    device: torch.device,
    dtype: torch.dtype,
    *,
    control: Control | None = None,
) -> PhotoEncoders:
    """Both encoders of an engine. As `load_networks`; they are bf16 where `dtype` is fp16."""
    networks = {part: build_network(part, files.config) for part in (DegPart.DINO, DegPart.VAE)}
    formats = dict.fromkeys(networks, dtype)
    paths = (*files.dino, *files.vae)
    for part, state in read_networks(paths, networks, device, formats, control=control).items():
        # What is in no file was computed on the CPU.
        assign_weights(networks[part], state, device).to(device)
    return PhotoEncoders(networks[DegPart.DINO], networks[DegPart.VAE])


def _lora(path: Path, config: DegConfig) -> dict[str, LowRankChange]:
    """The changes of a file, on the CPU. Raises Unavailable that names it."""
    tensors = read_tensors(path, torch.device("cpu"))
    try:
        return read_lora(tensors, config.flow)
    except Unavailable as error:
        raise Unavailable(f"{path}: {error.detail}") from error


# -- conversion ----------------------------------------------------------------------------------


def convert_checkpoints(
    sources: Sequence[Path],
    folder: Path,
    *,
    control: Control | None = None,
    config: DegConfig | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write the flow network and the decoders of any layout as files that load without a cast.

    They have the names of TripoSplat's files and the formats in which the networks are held. The
    folder appears when it is complete and not before. Peak memory is the larger file, 1 GB.

    Args:
        sources: files that hold the three networks and nothing else.
        folder: must not exist, or be empty.
        config: sizes; None is the released ones.
        dtype: of the networks.

    Raises:
        Unavailable: as `read_networks`.
        InvalidOption: the folder has something in it.
        Cancelled: a stop was asked for; nothing is left behind.
    """
    control = control or Control()
    config = config or DegConfig.released()
    networks = {
        part: build_network(part, config) for parts in _CONVERTED.values() for part in parts
    }
    positions = sobol_points(config.flow.latent_tokens)
    cpu, formats = torch.device("cpu"), dict.fromkeys(networks, dtype)
    with complete_or_absent(folder) as work:
        state = read_networks(
            sources, networks, cpu, formats, positions=positions, control=control.part(0.0, 0.8)
        )
        for name, parts in _CONVERTED.items():
            control.step(0.8, f"writing {name}")
            named = {
                RULES[part].word + key: tensor.contiguous()
                for part in parts
                for key, tensor in state.pop(part).items()
            }
            save_file(named, work / name, metadata={"format": "pt"})
            # safetensors' own mode is for its writer alone; the service is another user.
            (work / name).chmod(0o644)
        (work / CONFIG_FILE).write_text(config.to_json() + "\n")
    control.report_to(Progress(1.0, "converted"))
