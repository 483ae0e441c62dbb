"""What the reference made of a tiny configuration, and the rule its weights follow.

It knows no network of the product. `golden/tiny_golden.safetensors` is one chain, fp32, made on the
CPU, each stage fed by the one before, with its sizes in the metadata; `golden/tiny_keys.tsv` names
the weights of the tiny configuration, `golden/released_keys.tsv.gz` those of the released files.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from pipeline.engines.deg.deg_config import DegConfig

FOLDER = Path(__file__).parent / "golden"
GOLDEN = FOLDER / "tiny_golden.safetensors"

#: The parts of `tiny_keys.tsv`.
PARTS = ("dinov3", "vae_encoder", "flow", "decoder")


@dataclass(frozen=True)
class ReleasedKey:
    """A tensor of a released file.

    Attributes:
        shape: None for a group of names ("decoder.*").
        kind: parameter or buffer.
        file: path inside the hub repository.
    """

    name: str
    shape: tuple[int, ...] | None
    dtype: str
    kind: str
    file: str
    part: str
    note: str


@cache
def golden_tensors() -> dict[str, Tensor]:
    """Every tensor of the golden file by its name. Shared: nobody writes into them."""
    return load_file(GOLDEN)


@cache
def golden_settings() -> dict[str, Any]:
    """The metadata: sizes, and t, steps, guidance, shift, gaussians, lora_rank of the run."""
    with safe_open(GOLDEN, "pt") as file:
        settings: dict[str, Any] = json.loads(file.metadata()["config"])
    return settings


def golden_config() -> DegConfig:
    return DegConfig.from_json(json.dumps(golden_settings()))


def rule_tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    """The value of a weight by its name, as the golden run had it; fp32."""
    seed = zlib.crc32(name.encode())
    r = np.random.RandomState(seed).standard_normal(shape)
    r = np.asarray(r, np.float32)
    last = name.rpartition(".")[2]
    if last.startswith("freqs_"):
        value = np.linspace(1, 16, shape[0]).astype(np.float32) + np.float32(0.1) * r
    elif last in ("gamma", "lambda1"):
        value = 1 + np.float32(0.1) * r
    elif last == "shift_table":
        value = np.float32(0.3) * r
    elif last == "running_var":
        value = 1 + np.float32(0.5) * r**2
    elif len(shape) > 1:
        value = r * np.float32(0.7 / math.sqrt(math.prod(shape[1:])))
    elif last == "weight":
        value = 1 + np.float32(0.1) * r
    else:
        value = np.float32(0.1) * r
    return torch.from_numpy(np.asarray(value, np.float32))


@cache
def tiny_shapes(part: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of one of `PARTS`, in the tiny configuration."""
    text = (FOLDER / "tiny_keys.tsv").read_text()
    rows = csv.DictReader(io.StringIO(text), delimiter="\t")
    shapes = {row["name"]: _shape(row["shape"]) for row in rows if row["part"] == part}
    assert shapes, part
    return shapes


@cache
def tiny_weights(part: str) -> dict[str, Tensor]:
    """The weights of the golden run for one of `PARTS`. Shared: copy before changing one."""
    golden = golden_tensors()
    return {
        name: golden[f"buf.{name}"].reshape(shape)
        if f"buf.{name}" in golden
        else rule_tensor(name, shape)
        for name, shape in tiny_shapes(part).items()
    }


def tiny_lora(modules: Iterable[tuple[str, int, int]], phase: str) -> dict[str, Tensor]:
    """The LoRA of the golden run.

    Args:
        modules: name, inputs and outputs of each linear layer.
        phase: "slow" or "fast".
    """
    rank = golden_settings()["lora_rank"]
    weights = {}
    for name, inputs, outputs in modules:
        for last, shape in (("lora_A", (rank, inputs)), ("lora_B", (outputs, rank))):
            key = f"{name}.{last}.weight"
            weights[key] = rule_tensor(f"{phase}.{key}", shape)
    return weights


@cache
def released_keys() -> tuple[ReleasedKey, ...]:
    """Every tensor of the released files, all parts."""
    text = gzip.decompress((FOLDER / "released_keys.tsv.gz").read_bytes()).decode()
    return tuple(
        ReleasedKey(
            name=row["name"],
            shape=None if row["shape"] == "-" else _shape(row["shape"]),
            dtype=row["dtype_in_file"],
            kind=row["kind"],
            file=row["file"],
            part=row["part"],
            note=row["note"],
        )
        for row in csv.DictReader(io.StringIO(text), delimiter="\t")
    )


def relative_error(found: Tensor | np.ndarray, wanted: Tensor) -> float:
    """max |found - wanted| / max |wanted|, in float64; shapes must agree."""
    found = torch.as_tensor(found).detach().cpu()
    assert found.shape == wanted.shape, (found.shape, wanted.shape)
    a, b = found.double(), wanted.double()
    return float((a - b).abs().max() / b.abs().max())


def _shape(text: str) -> tuple[int, ...]:
    return () if text == "scalar" else tuple(int(n) for n in text.split("x"))
