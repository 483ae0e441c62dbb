"""The reference implementation's numbers, and the checkpoint they were computed with.

`tests/data/syncdreamer` holds inputs and outputs of the reference (fp32, CPU) for a shrunken model
of 4 views: UNet of 32 channels, autoencoder of 32, CLIP of 2 layers; volumes at released size.
Large outputs are kept as every n-th element, n in the file's metadata. The weights are a rule.
"""

import functools
import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from pipeline.engines.views.syncdreamer.checkpoint import check_names
from pipeline.engines.views.syncdreamer.config import SyncDreamerConfig
from pipeline.engines.views.syncdreamer.names import IGNORED, SCHEDULE
from pipeline.engines.views.syncdreamer.network import SyncDreamerNetwork
from pipeline.engines.views.syncdreamer.sampler import alphas_cumprod

DATA = Path(__file__).parents[3] / "data" / "syncdreamer"

TINY4 = SyncDreamerConfig(
    views=4,
    model_channels=32,
    vae_channels=(32, 64, 128, 128),
    clip_width=64,
    clip_layers=2,
    clip_heads=4,
)


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint: "released" or "tiny4"."""
    table = gzip.decompress((DATA / f"{name}_names.tsv.gz").read_bytes()).decode()
    rows = [line.split("\t") for line in table.splitlines()]
    return {row[0]: tuple(int(side) for side in row[1].split("x") if side) for row in rows}


def inputs() -> dict[str, torch.Tensor]:
    """`in.*` and the camera buffers `buffer.*` of the 4 views."""
    return load_file(DATA / "tiny4_image.safetensors") | load_file(
        DATA / "tiny4_inputs.safetensors"
    )


def relative_error(name: str, ours: torch.Tensor) -> float:
    """|ours - reference| / |reference| of one `out.*`, over the elements that are kept."""
    with safe_open(DATA / "tiny4_outputs.safetensors", framework="pt") as file:
        expected = file.get_tensor(name)
        stride = int(file.metadata()[name])
    kept = ours.detach().flatten()[::stride]
    assert kept.shape == expected.shape, (name, ours.shape)
    return float((kept - expected).double().norm() / expected.double().norm())


def output_names() -> list[str]:
    with safe_open(DATA / "tiny4_outputs.safetensors", framework="pt") as file:
        return sorted(file.keys())


def weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The rule: standard normal numbers from the CRC of the name, scaled by the kind of tensor."""
    random = np.random.RandomState(zlib.crc32(name.encode()) & 0xFFFFFFFF)
    numbers = random.standard_normal(shape).astype(np.float32)
    if len(shape) > 1:
        scale = 0.7 / np.sqrt(np.prod(shape[1:]))
        return torch.from_numpy(numbers * np.float32(scale))
    return torch.from_numpy(1 + 0.1 * numbers if name.endswith("weight") else 0.1 * numbers)


@functools.cache
def state_dict() -> dict[str, torch.Tensor]:
    """The tiny4 checkpoint, every tensor of it but CLIP's text left-overs (38 million numbers)."""
    signal = alphas_cumprod()
    given = inputs()
    state = {name: given[f"buffer.{name}"] for name in ("poses", "Ks", "azimuth")}
    state["alphas_cumprod"] = signal
    state["sqrt_alphas_cumprod"] = signal.sqrt()
    for name, shape in shapes("tiny4").items():
        if name not in state and name not in IGNORED and name not in SCHEDULE:
            state[name] = weight(name, shape)
    return state


@functools.cache
def network() -> SyncDreamerNetwork:
    """Our network with those weights. The one object is shared: do not change it."""
    state = state_dict()
    origins = check_names({name: tuple(tensor.shape) for name, tensor in state.items()}, TINY4)
    ours = SyncDreamerNetwork(TINY4)
    ours.load_state_dict({n: o.convert(state[o.name]) for n, o in origins.items()}, strict=True)
    return ours.requires_grad_(False).eval()
