"""Numbers that say where a point, a moment or a level is, in the channels of a token.

It does not know what networks do with them. Everything is float32 and depends on sizes alone; where
the order of factors matters, it is the order that the released networks were trained with.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.quasirandom import SobolEngine

#: Seed of the scrambled Sobol sequence whose points are the latent's positions.
_SOBOL_SEED = 123
#: The latent's frequencies are 2^0 .. 2^15 first, then as many as fit between 2^0 and 2^16.
_OCTAVES = 16
#: A point of the decoders has frequencies 2^0 .. 2^10.
_DECODER_OCTAVES = 10
_TIME_PERIOD = 10_000.0
_LEVEL_PERIOD = 1024.0


def sobol_points(count: int) -> Tensor:
    """Positions of the latent's tokens in the unit cube, [count, 3]; always on the CPU.

    The first points of a longer draw are those of a shorter one.
    """
    # A network that is built on the meta device still gets numbers.
    with torch.device("cpu"):
        engine = SobolEngine(dimension=3, scramble=True, seed=_SOBOL_SEED)  # type: ignore[no-untyped-call]
        return engine.draw(count).float()


def flow_positions(points: Tensor, width: int) -> Tensor:
    """The position table P of the flow network.

    The argument reaches 4e5, where float32 knows it to .03 rad: it is computed as
    ((x * f) * 2) * pi, on the device of the points, and must be made on the CPU.

    Args:
        points: [n, 3] in [0, 1].
        width: channels of a token.

    Returns:
        [n, width]: per coordinate all sines, then all cosines; zeros to the end.
    """
    count = width // 6
    octaves = torch.arange(min(count, _OCTAVES), dtype=torch.float32, device=points.device)
    exponents = octaves
    if count > _OCTAVES:
        rest = torch.arange(count - _OCTAVES, dtype=torch.float32, device=points.device)
        exponents = torch.cat([octaves, rest * _OCTAVES / (count - _OCTAVES)])
    argument = points[..., None] * torch.pow(2.0, exponents) * 2 * math.pi
    return _waves(argument, width)


def decoder_positions(points: Tensor, width: int) -> Tensor:
    """Where a point is, for the octree and the Gaussian network: argument (x * f) * pi.

    Args:
        points: [..., 3] in [0, 1].
        width: channels of a token.

    Returns:
        [..., width]: per coordinate all sines, then all cosines; zeros to the end.
    """
    exponents = torch.linspace(0, _DECODER_OCTAVES, width // 6, device=points.device)
    argument = points.float()[..., None] * torch.pow(2.0, exponents) * math.pi
    return _waves(argument, width)


def time_waves(t: Tensor, width: int = 256) -> Tensor:
    """Sinusoids of t * 1000.

    Args:
        t: [s] in 0..1, 1 is noise.

    Returns:
        [s, width]: cosines, then sines.
    """
    return _sinusoid(t.float() * 1000, _TIME_PERIOD, width)


def level_waves(resolution: int, width: int = 256, device: torch.device | None = None) -> Tensor:
    """Sinusoids of the cells along a side, [1, width]: cosines, then sines."""
    cells = torch.tensor([float(resolution)], device=device)
    return _sinusoid(cells, _LEVEL_PERIOD, width, turn=2 * math.pi)


def _sinusoid(x: Tensor, period: float, width: int, turn: float | None = None) -> Tensor:
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=x.device)
    argument = x[:, None] * torch.exp(-math.log(period) * steps / half)
    if turn is not None:
        argument = argument * turn
    return torch.cat([argument.cos(), argument.sin()], dim=-1)


def _waves(argument: Tensor, width: int) -> Tensor:
    """[..., 3, f] -> [..., width]."""
    waves = torch.cat([argument.sin(), argument.cos()], dim=-1).flatten(-2)
    return pad(waves, (0, width - waves.shape[-1]))
