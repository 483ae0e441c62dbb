"""The released checkpoint, read strictly and converted once to a folder of our own.

It knows that file and its names; not what the networks compute, nor the folder's layout. Trouble
with weights is `Unavailable`, as everywhere in the product: the operator can mend it, no request
can.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pipeline.control import Control, Progress
from pipeline.engines.views.syncdreamer import inert_pickle
from pipeline.engines.views.syncdreamer.config import SyncDreamerConfig
from pipeline.engines.views.syncdreamer.names import IGNORED, SCHEDULE, Origin, origin_of
from pipeline.engines.views.syncdreamer.network_folder import empty_network, size_text, write_folder
from pipeline.engines.views.syncdreamer.sampler import alphas_cumprod
from pipeline.errors import Unavailable

#: Of float32 buffers against our float32 schedule, widened to float64.
_SCHEDULE_TOLERANCE = 1e-5


def check_names(
    shapes: Mapping[str, tuple[int, ...]], config: SyncDreamerConfig
) -> dict[str, Origin]:
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
    for name, tensor in empty_network(config).state_dict().items():
        origin = origin_of(name)
        origins[name] = origin
        wanted[origin.name] = origin.shape(tensor.shape)
    missing = sorted(set(wanted) - set(shapes))
    extra = sorted(set(shapes) - set(wanted) - set(IGNORED) - set(SCHEDULE))
    wrong = [
        f"{name} is {size_text(shapes[name])} instead of {size_text(shape)}"
        for name, shape in sorted(wanted.items())
        if name in shapes and tuple(shapes[name]) != shape
    ]
    wrong += [
        f"{name} is {size_text(shapes[name])} instead of 1000"
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

    done = itertools.count()

    def converted(name: str) -> Tensor:
        control.step(next(done) / len(origins), "converting")
        return origins[name].convert(state[origins[name].name])

    write_folder(folder, config, converted, dtype)
    control.report_to(Progress(1.0, "converted"))
