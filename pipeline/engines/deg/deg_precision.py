"""Which weights of the DeG networks may be of 16 bits, and which stay float32.

It does not know how networks compute: layers compute in the dtype of their weights. Blocks were
trained in fp16; embedders, the networks that read angles, and heads in fp32, and so were all norms.
An angle reaches 16 pi, which fp16 knows to .02 rad and bf16 to .13.
"""

from __future__ import annotations

from enum import StrEnum

import torch


class DegPart(StrEnum):
    """A network of the engine."""

    DINO = "dino"
    VAE = "vae"
    FLOW = "flow"
    OCTREE = "octree"
    GAUSSIANS = "gs"


_STACKS = ("blocks", "noise_refiner", "context_refiner")
#: Layers of a block that are no linear layers.
_NORMS = ("norm1", "norm2")


def weight_dtype(part: DegPart, name: str, precision: torch.dtype) -> torch.dtype:
    """The dtype that a weight is kept and computed with in.

    Args:
        part: the network it belongs to.
        name: as in TripoSplat's files; "octree." and "gs." may be missing, as in Idol's.
        precision: that was asked for: float32, float16 or bfloat16.
    """
    if precision == torch.float32:
        return precision
    name = name.removeprefix(f"{part}.")
    if part in (DegPart.DINO, DegPart.VAE):
        # Both were only ever run in bf16 and may leave the range of fp16. The statistics of the
        # latent's channels are no layer.
        return torch.float32 if name.startswith("bn.") else torch.bfloat16
    stack, _, rest = name.partition(".")
    if stack not in _STACKS:
        return torch.float32
    *owners, kind = rest.split(".")
    linear = kind in ("weight", "bias") and owners[-1] not in _NORMS
    return precision if linear else torch.float32
