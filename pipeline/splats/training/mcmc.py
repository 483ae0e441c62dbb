"""3D Gaussian splatting as Markov chain Monte Carlo (arXiv 2404.09591), in plain torch.

Dead splats move to where others carry the picture, new ones come there too, and faint ones wander.
It does not know losses, views or when a fit calls it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from pipeline.geometry.rotation import rotate, rotate_back
from pipeline.splats.training.optimiser import Optimiser

__all__ = ["McmcOptions", "add_noise", "grow", "penalty", "relocate", "shared"]

#: Splats that one may become at once, as in the authors' code and in gsplat.
MOST = 51

#: Slope and middle of the noise's weight over transparency, ibid. equation 8: opacity .005 is
#: pushed half as far as 0, opacity .1 not at all.
_SLOPE, _MIDDLE = 100.0, 0.995


@dataclass(frozen=True)
class McmcOptions:
    """How the chain moves.

    Attributes:
        min_opacity: fainter splats are dead, and nobody becomes fainter by sharing.
        growth: share of the splats that is added at once. The authors' .05 is too slow for the
            seven rounds of 100 steps.
        noise: times the means' learning rate it scales the random walk. The product is the authors'
            (5e5 at 1.6e-4) with the rates of `pipeline.splats.training.batch_fit`.
        opacity_weight, scale_weight: of the penalties on opacities (0..1) and standard deviations
            (world units), which kill splats that do nothing. The authors' .01, for 30,000 steps,
            costs 1 dB of a fit of 150.
    """

    min_opacity: float = 0.005
    growth: float = 0.1
    noise: float = 2.5e4
    opacity_weight: float = 5e-4
    scale_weight: float = 5e-4


@lru_cache(maxsize=1)
def _coefficients() -> Tensor:
    """binomial(i, k) (-1)^k / sqrt(k + 1) for i, k below `MOST`, float64."""
    rows = [
        [math.comb(i, k) * (-1) ** k / math.sqrt(k + 1) for k in range(MOST)] for i in range(MOST)
    ]
    return torch.tensor(rows, dtype=torch.float64)


def shared(opacities: Tensor, scales: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Opacity and scales of n equal splats on one spot that together look like one.

    Equation 9: o' = 1 - (1 - o)^(1/n), s' = s o / sum_{i=1..n} sum_{k=0..i-1} binomial(i-1, k)
    (-1)^k o'^(k+1) / sqrt(k+1). The middle is as opaque as before and so is, in total, every line
    through it.

    Args:
        opacities: float32 [M], above 0 and below 1.
        scales: float32 [M, 3].
        counts: int64 [M], n; above `MOST` counts as that.

    Returns:
        float32 [M] and [M, 3].
    """
    n = counts.clamp(1, MOST)
    # In float64: the sum alternates and its terms grow with n.
    old = opacities.double()
    new = 1 - (1 - old) ** (1 / n)
    powers = new[:, None] ** torch.arange(1, MOST + 1, device=new.device)
    inner = powers @ _coefficients().to(new.device).T  # [M, i]
    total = inner.cumsum(1).gather(1, (n - 1)[:, None])[:, 0]
    return new.float(), ((old / total)[:, None] * scales).float()


def penalty(params: dict[str, Tensor], options: McmcOptions) -> Tensor:
    """Mean opacity and mean standard deviation, weighted (ibid. equation 10)."""
    opacity = params["logit_opacities"].sigmoid().mean()
    scale = params["log_scales"].exp().mean()
    return options.opacity_weight * opacity + options.scale_weight * scale


@torch.no_grad()
def relocate(optimiser: Optimiser, options: McmcOptions, generator: torch.Generator) -> int:
    """Moves dead splats onto living ones, drawn by opacity, who share with them; returns how many.

    Args:
        generator: of the CPU.
    """
    opacities = optimiser.params["logit_opacities"].sigmoid()
    alive = opacities > options.min_opacity
    dead, living = torch.nonzero(~alive)[:, 0], torch.nonzero(alive)[:, 0]
    if not len(dead) or not len(living):
        return 0
    hosts = living[_draw(opacities[living], len(dead), generator)]
    values = _shared_with(optimiser, hosts, options)
    optimiser.overwrite(hosts, {name: values[name] for name in ("logit_opacities", "log_scales")})
    optimiser.overwrite(dead, values)
    return len(dead)


@torch.no_grad()
def grow(optimiser: Optimiser, options: McmcOptions, cap: int, generator: torch.Generator) -> int:
    """Adds splats on living ones, drawn by opacity, who share with them; returns how many.

    Args:
        cap: most splats there may be afterwards.
        generator: of the CPU.
    """
    count = min(cap, int((1 + options.growth) * len(optimiser))) - len(optimiser)
    if count <= 0:
        return 0
    hosts = _draw(optimiser.params["logit_opacities"].sigmoid(), count, generator)
    values = _shared_with(optimiser, hosts, options)
    optimiser.overwrite(hosts, {name: values[name] for name in ("logit_opacities", "log_scales")})
    everyone = torch.arange(len(optimiser), device=optimiser.device)
    optimiser.replace(everyone, values)
    return count


@torch.no_grad()
def add_noise(
    optimiser: Optimiser, options: McmcOptions, rate: float, generator: torch.Generator
) -> None:
    """One step of the random walk: normal noise times the splat's covariance, for faint ones.

    Args:
        rate: learning rate of the means in this step.
        generator: of the optimiser's device.
    """
    p = optimiser.params
    transparency = 1 - p["logit_opacities"].sigmoid()
    weight = torch.sigmoid(_SLOPE * (transparency - _MIDDLE)) * (options.noise * rate)
    noise = torch.randn(p["means"].shape, generator=generator, device=optimiser.device)
    # Covariance R diag(s^2) R^T, applied from the right.
    variance = (2 * p["log_scales"]).exp()
    spread = rotate(p["quats"], variance * rotate_back(p["quats"], noise))
    p["means"].add_(spread * weight[:, None])


def _draw(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Indices [count], with replacement. On the CPU: the draw is the same on every device."""
    # Weights that are no numbers are found by the next step, which says so.
    weights = torch.nan_to_num(weights).clamp_min(1e-12)
    chosen = torch.multinomial(weights.cpu(), count, replacement=True, generator=generator)
    return chosen.to(weights.device)


def _shared_with(optimiser: Optimiser, hosts: Tensor, options: McmcOptions) -> dict[str, Tensor]:
    """Parameters of guests on `hosts` (indices, repeated for several guests), and of the hosts."""
    p = optimiser.params
    counts = torch.bincount(hosts, minlength=len(optimiser))[hosts] + 1
    opacities, scales = shared(
        p["logit_opacities"][hosts].sigmoid(), p["log_scales"][hosts].exp(), counts
    )
    opacities = opacities.clamp(options.min_opacity, 1 - torch.finfo(torch.float32).eps)
    values = {name: value.detach()[hosts] for name, value in p.items()}
    return values | {"logit_opacities": torch.logit(opacities), "log_scales": scales.log()}
