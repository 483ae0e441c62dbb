"""The DeG networks from released files, read strictly, in every layout in which they are published.

It knows names, shapes and number formats in files; not what the networks compute, nor where weights
lie or how they came there. Trouble with a file is `Unavailable`, as everywhere in the product: the
operator can mend it, no request can.

TripoSplat's repository has the flow network in one file and both decoders in another, told apart by
`octree.` and `gs.`, in fp16. Idol's own has each in a file without those words, in fp32, and the
positions of the latent beside the flow network. Repacks of Idol look like TripoSplat's. All of them
go by one rule: words that tell networks apart may be absent, what is known to be of no use is left,
and everything else must be what the networks are made of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pipeline.control import Control
from pipeline.engines.deg.deg_precision import DegPart, weight_dtype
from pipeline.errors import Unavailable

#: Positions of the latent that Idol's own files have, [1, latent_tokens, 3].
POSITIONS = "pos_pe"
#: Of those against our table: they may have been through fp16.
_POSITION_TOLERANCE = 5e-4
#: Number formats that are read, in the words of the files.
_FORMATS = ("F16", "BF16", "F32")
#: Names that a sentence lists.
_LISTED = 3


@dataclass(frozen=True)
class Rule:
    """How a network is found in files.

    Attributes:
        title: for messages.
        word: what its names begin with in a file that holds several networks.
        unloaded: names that may be there and are of no use here.
        left: what the names of halves begin with that this product has no use for.
    """

    title: str
    word: str = ""
    unloaded: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


#: The networks.
RULES = {
    # What stands for masked patches is of use in training alone.
    DegPart.DINO: Rule("the vision transformer DINOv3", unloaded=("embeddings.mask_token",)),
    DegPart.VAE: Rule(
        "the FLUX.2 autoencoder",
        unloaded=("bn.num_batches_tracked",),
        left=("decoder.", "post_quant_conv."),
    ),
    DegPart.FLOW: Rule("the flow network", unloaded=(POSITIONS,)),
    DegPart.OCTREE: Rule("the octree decoder", word="octree."),
    DegPart.GAUSSIANS: Rule("the Gaussian decoder", word="gs."),
}


#: Names by which a file tells what it is, where it is not what is sought; the first that fits.
_SIGNS = (
    (r"lora_|\.alpha$", "a LoRA"),
    (r"^(model\.)?embeddings\.cls_token$", RULES[DegPart.DINO].title),
    (r"^quant_conv\.weight$", RULES[DegPart.VAE].title),
    (r"^bb\.|^squeeze_module\.", "the background remover BiRefNet"),
    (r"^cam_refiner\.", RULES[DegPart.FLOW].title),
    (r"^octree\.", "the decoders"),
    (r"(^|\.)points_offset_perturbation$", RULES[DegPart.GAUSSIANS].title),
    (r"^l_embedder\.", RULES[DegPart.OCTREE].title),
)


@dataclass(frozen=True)
class Header:
    """A tensor that was not read yet: its shape, and its number format in the file's words."""

    shape: tuple[int, ...]
    format: str


#: The name in a file of each name of a network.
Names = Mapping[str, str]


def account(
    label: str, found: Mapping[str, Header], wanted: Mapping[DegPart, Mapping[str, tuple[int, ...]]]
) -> dict[DegPart, Names]:
    """Account for every tensor of a file.

    Args:
        label: of the file, for messages.
        found: what it holds, by name.
        wanted: names and shapes of the networks that it may hold.

    Returns:
        for each of those networks that the file holds, where its tensors are.

    Raises:
        Unavailable: it holds none of them, or of one a tensor is missing, unknown, or has another
            shape or number format; the text names the file and some tensors.
    """
    held: dict[DegPart, Names] = {}
    for part, names in _divided(found, wanted).items():
        held[part] = _matched(label, part, {n: found[n] for n in names}, wanted[part])
    return held


def _divided(
    found: Mapping[str, Header], wanted: Mapping[DegPart, Mapping[str, tuple[int, ...]]]
) -> dict[DegPart, list[str]]:
    """The names of a file by network; those of no network in particular go to the likeliest."""
    divided: dict[DegPart, list[str]] = {}
    plain: list[str] = []
    for name in found:
        worded = [p for p in wanted if RULES[p].word and name.startswith(RULES[p].word)]
        (divided.setdefault(worded[0], []) if worded else plain).append(name)
    if not plain:
        return divided
    likeliest = max(wanted, key=lambda part: _likeness(part, plain, wanted[part]))
    if (divided and likeliest in divided) or _likeness(likeliest, plain, wanted[likeliest]) < 0.5:
        # They belong to no network that is sought: to the first one they are unknown.
        likeliest = next(iter(divided), likeliest)
        if not divided:
            return {}
    divided.setdefault(likeliest, []).extend(plain)
    return divided


def _likeness(part: DegPart, names: Sequence[str], wanted: Iterable[str]) -> float:
    """0..1, of the names of a file, or what of it is not left, and of a network."""
    there = {_plain(part, name) for name in names if not _is_left(part, name)}
    ours = {_plain(part, name) for name in wanted}
    return len(there & ours) / len(there | ours)


def _plain(part: DegPart, name: str) -> str:
    """A name without what files and libraries disagree about."""
    name = name.removeprefix(RULES[part].word)
    if part is DegPart.DINO and name.startswith("model.layer."):
        return name.removeprefix("model.")
    return name


def _is_left(part: DegPart, name: str) -> bool:
    return name in RULES[part].unloaded or name.startswith(RULES[part].left)


def _matched(
    label: str, part: DegPart, found: Mapping[str, Header], wanted: Mapping[str, tuple[int, ...]]
) -> Names:
    there = {_plain(part, name): name for name in found if not _is_left(part, name)}
    ours = {_plain(part, name): name for name in wanted}
    shapes = {plain: tuple(wanted[name]) for plain, name in ours.items()}
    both = [plain for plain in ours if plain in there]
    odd = [
        f"{name} is {_size(found[name].shape)} instead of {_size(shapes[plain])}"
        for plain in both
        if found[name := there[plain]].shape != shapes[plain]
    ]
    other = [
        f"{name} is {found[name].format}"
        for plain in both
        if found[name := there[plain]].format not in _FORMATS
    ]
    faults = [
        f"{len(names)} {what}: {_listed(names)}"
        for what, names in (
            ("tensors are missing", sorted(ours.keys() - there.keys())),
            ("tensors are unknown", sorted(there[n] for n in there.keys() - ours.keys())),
            ("tensors have another shape", odd),
            (f"tensors have a number format that is not one of {', '.join(_FORMATS)}", other),
        )
        if names
    ]
    if faults:
        raise Unavailable(f"{label} does not hold {RULES[part].title}: {'; '.join(faults)}.")
    return {name: there[plain] for plain, name in ours.items()}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"


# -- reading -------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path, device: torch.device) -> Iterator[Any]:
    """A file of weights. Raises Unavailable where it is missing or damaged."""
    if not path.is_file():
        raise Unavailable(f"There is no {path}.")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise Unavailable(f"{path} is damaged: {error}.") from error


def headers(path: Path) -> dict[str, Header]:
    """What a file holds; none of its numbers are read.

    Raises:
        Unavailable: it is missing or damaged.
    """
    with _opened(path, torch.device("cpu")) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {n: Header(tuple(s.get_shape()), s.get_dtype()) for n, s in slices.items()}


def read_networks(
    files: Sequence[Path],
    networks: Mapping[DegPart, nn.Module],
    device: torch.device,
    dtypes: Mapping[DegPart, torch.dtype],
    *,
    positions: Tensor | None = None,
    control: Control | None = None,
) -> dict[DegPart, dict[str, Tensor]]:
    """Every tensor of networks, each from the file that holds it.

    Args:
        files: that hold them, and nothing else.
        networks: built without memory.
        device: where the tensors go.
        dtypes: of the networks; `weight_dtype` says what that means for each tensor.
        positions: float32 [latent_tokens, 3], what a file's own must be where it has some.

    Returns:
        the state of each network.

    Raises:
        Unavailable: a file is missing, damaged or of something else, a network is in none of them
            or in two; the text names the file and the tensor.
        Cancelled: a stop was asked for.
    """
    control = control or Control()
    wanted = {
        part: {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        for part, network in networks.items()
    }
    where: dict[DegPart, tuple[Path, Names]] = {}
    for path in files:
        found = headers(path)
        held = account(str(path), found, wanted)
        if not held:
            raise Unavailable(f"{path} holds {_told(found)}, not {_titles(networks)}.")
        for part, names in held.items():
            if part in where:
                both = f"{where[part][0]} and {path}"
                raise Unavailable(
                    f"{both} hold {RULES[part].title}: one of them is of no use here."
                )
            where[part] = (path, names)
    if absent := [part for part in networks if part not in where]:
        listed = ", ".join(map(str, files)) or "No file"
        raise Unavailable(f"{listed}: there is no {_titles(absent).replace('the ', '')} in it.")
    if DegPart.FLOW in where and positions is not None:
        _check_positions(where[DegPart.FLOW][0], positions)
    total, done = sum(len(names) for _, names in where.values()), 0
    states: dict[DegPart, dict[str, Tensor]] = {}
    for part, (path, names) in where.items():
        state = states[part] = {}
        with _opened(path, device) as file:
            for name, stored in names.items():
                control.step(done / total, f"reading {RULES[part].title}")
                state[name] = file.get_tensor(stored).to(weight_dtype(part, name, dtypes[part]))
                done += 1
    return states


def _titles(parts: Iterable[DegPart]) -> str:
    return " or ".join(RULES[part].title for part in parts)


def _told(found: Iterable[str]) -> str:
    """What a file holds, in words."""
    names = list(found)
    for sign, title in _SIGNS:
        if any(re.search(sign, name) for name in names):
            return title
    return f"tensors of something else ({', '.join(sorted(names)[:_LISTED]) or 'none at all'})"


def _check_positions(path: Path, ours: Tensor) -> None:
    """Raise Unavailable where a file has other positions of the latent than we compute."""
    with _opened(path, torch.device("cpu")) as file:
        if POSITIONS not in file.keys():  # noqa: SIM118
            return
        theirs = file.get_tensor(POSITIONS).float()
    if tuple(theirs.shape) != (1, *ours.shape):
        raise Unavailable(
            f"{POSITIONS} in {path} is {_size(tuple(theirs.shape))} instead of "
            f"{_size((1, *ours.shape))}."
        )
    error = (theirs[0] - ours.cpu()).abs().max().item()
    if not error <= _POSITION_TOLERANCE:
        raise Unavailable(
            f"{POSITIONS} in {path} differs from the positions that the network was trained with "
            f"by {error:.2g}: it is another network's."
        )


def read_tensors(path: Path, device: torch.device) -> dict[str, Tensor]:
    """Every tensor of a file, by name.

    Raises:
        Unavailable: it is missing or damaged, or a tensor has another number format than floats.
    """
    for name, header in headers(path).items():
        if header.format not in _FORMATS:
            raise Unavailable(f"{name} in {path} is {header.format}, not {' or '.join(_FORMATS)}.")
    with _opened(path, device) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
