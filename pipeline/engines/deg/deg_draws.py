"""Every random number of the DeG engines comes from a generator that is made here.

It does not know what the numbers are used for. They are drawn on the CPU, so all devices get the
same, and each purpose has a generator of its own: another number of photos, steps or Gaussians
leaves the rest as it was.
"""

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor

from pipeline.seeds import derived_seed


class Draw(IntEnum):
    """What is drawn; the numbers are part of every seed and never change."""

    VAE_NOISE = 1
    LATENT_NOISE = 2
    CAMERA_NOISE = 3
    OCTREE_CHOICE = 4
    POINT_JITTER = 5


def generator_for(seed: int, draw: Draw, *index: int) -> torch.Generator:
    """A CPU generator for one purpose.

    Args:
        seed: of the request; the decode seed for what the decoder draws.
        index: which photo or level, where there are several.
    """
    return torch.Generator("cpu").manual_seed(derived_seed(seed, int(draw), *index))


def normal_noise(seed: int, draw: Draw, shape: tuple[int, ...], *index: int) -> Tensor:
    """Standard normal numbers of a shape, float32, on the CPU."""
    return torch.randn(shape, generator=generator_for(seed, draw, *index), dtype=torch.float32)


def uniform_numbers(seed: int, draw: Draw, shape: tuple[int, ...], *index: int) -> Tensor:
    """Numbers in [0, 1) of a shape, float32, on the CPU."""
    return torch.rand(shape, generator=generator_for(seed, draw, *index), dtype=torch.float32)
