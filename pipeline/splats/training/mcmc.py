"""The MCMC strategy: splatting as Markov chain Monte Carlo (arXiv 2404.09591), in plain torch.

Dead splats move to where others carry the picture, new ones come there too, and faint ones wander.
It does not know losses or views.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from pipeline.errors import InvalidOption
from pipeline.geometry.rotation import rotate, rotate_back
from pipeline.splats.training.densify import prune
from pipeline.splats.training.fit_plan import Course, FitPlan, StepResult
from pipeline.splats.training.optimiser import Optimiser

#: Splats that one may become at once, as in the authors' code and in gsplat.
MAX_COPIES = 51

#: Slope and middle of the noise's weight over transparency, ibid. equation 8: opacity .005 is
#: pushed half as far as 0, opacity .1 not at all.
_SLOPE, _MIDDLE = 100.0, 0.995


@dataclass(frozen=True)
class McmcStrategy:
    """How the chain moves.

    Attributes:
        every: steps between two rounds of relocation and growth; 0 = never.
        until: share of the steps after which there are no more rounds.
        start_share: share of `num_gaussians` that a fit begins with where rounds can add the
            others.
        min_opacity: fainter splats are dead, and nobody becomes fainter by sharing.
        growth: share of the splats that is added at once. The authors' .05 is too slow for the
            seven rounds of 100 steps.
        noise: times the means' learning rate it scales the random walk. The product is the authors'
            (5e5 at 1.6e-4) with the rates of a fit to all views.
        opacity_weight, scale_weight: of the penalties on opacities (0..1) and standard deviations
            (world units), which kill splats that do nothing. The authors' .01, for 30,000 steps,
            costs 1 dB of a fit of 150.
    """

    every: int = 10
    until: float = 0.7
    start_share: float = 0.6
    min_opacity: float = 0.005
    growth: float = 0.1
    noise: float = 2.5e4
    opacity_weight: float = 5e-4
    scale_weight: float = 5e-4

    def __post_init__(self) -> None:
        if self.every < 0:
            raise InvalidOption(f"every must be at least 0, got {self.every}")

    def start_count(self, plan: FitPlan) -> int:
        rounds = int(self.until * plan.iterations) // self.every if self.every else 0
        return plan.start_count(self.start_share, self.growth, rounds)

    def begin(self, splats: Optimiser, plan: FitPlan, random: torch.Generator) -> Course:
        return _Chain(self, splats, plan, random)


@dataclass
class _Chain(Course):
    strategy: McmcStrategy
    splats: Optimiser
    plan: FitPlan
    random: torch.Generator

    def __post_init__(self) -> None:
        self.noise = torch.Generator(self.splats.device).manual_seed(self.plan.seed)

    def penalty(self) -> Tensor:
        return penalty(self.splats.params, self.strategy)

    def after_step(self, step: int, result: StepResult, means_rate: float) -> None:
        strategy, splats = self.strategy, self.splats
        add_noise(splats, strategy, means_rate, self.noise)
        if not strategy.every or step % strategy.every:
            return
        if step <= strategy.until * self.plan.iterations:
            relocate(splats, strategy, self.random)
            grow(splats, strategy, self.plan.num_gaussians or len(splats), self.random)

    def finish(self) -> None:
        if self.strategy.every:
            prune(self.splats)


@lru_cache(maxsize=1)
def _coefficients() -> Tensor:
    """binomial(i, k) (-1)^k / sqrt(k + 1) for i, k below `MAX_COPIES`, float64."""
    rows = [
        [math.comb(i, k) * (-1) ** k / math.sqrt(k + 1) for k in range(MAX_COPIES)]
        for i in range(MAX_COPIES)
    ]
    return torch.tensor(rows, dtype=torch.float64)


def relocation(opacities: Tensor, scales: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Opacity and scales of n equal splats on one spot that together look like one.

    Equation 9: o' = 1 - (1 - o)^(1/n), s' = s o / sum_{i=1..n} sum_{k=0..i-1} binomial(i-1, k)
    (-1)^k o'^(k+1) / sqrt(k+1). The middle is as opaque as before and so is, in total, every line
    through it.

    Args:
        opacities: float32 [M], above 0 and below 1.
        scales: float32 [M, 3].
        counts: int64 [M], n; above `MAX_COPIES` counts as that.

    Returns:
        float32 [M] and [M, 3].
    """
    n = counts.clamp(1, MAX_COPIES)
    # In float64: the sum alternates and its terms grow with n.
    old = opacities.double()
    new = 1 - (1 - old) ** (1 / n)
    powers = new[:, None] ** torch.arange(1, MAX_COPIES + 1, device=new.device)
    inner = powers @ _coefficients().to(new.device).T  # [M, i]
    total = inner.cumsum(1).gather(1, (n - 1)[:, None])[:, 0]
    return new.float(), ((old / total)[:, None] * scales).float()


def penalty(params: dict[str, Tensor], strategy: McmcStrategy) -> Tensor:
    """Mean opacity and mean standard deviation, weighted (ibid. equation 10)."""
    opacity = params["logit_opacities"].sigmoid().mean()
    scale = params["log_scales"].exp().mean()
    return strategy.opacity_weight * opacity + strategy.scale_weight * scale


@torch.no_grad()
def relocate(splats: Optimiser, strategy: McmcStrategy, random: torch.Generator) -> int:
    """Moves dead splats onto living ones, drawn by opacity, who share with them; returns how many.

    Args:
        random: of the CPU.
    """
    opacities = splats.params["logit_opacities"].sigmoid()
    alive = opacities > strategy.min_opacity
    dead, living = torch.nonzero(~alive)[:, 0], torch.nonzero(alive)[:, 0]
    if not len(dead) or not len(living):
        return 0
    hosts = living[_draw(opacities[living], len(dead), random)]
    values = _relocated(splats, hosts, strategy)
    splats.overwrite(hosts, {name: values[name] for name in ("logit_opacities", "log_scales")})
    splats.overwrite(dead, values)
    return len(dead)


@torch.no_grad()
def grow(splats: Optimiser, strategy: McmcStrategy, cap: int, random: torch.Generator) -> int:
    """Adds splats on living ones, drawn by opacity, who share with them; returns how many.

    Args:
        cap: most splats there may be afterwards.
        random: of the CPU.
    """
    count = min(cap, int((1 + strategy.growth) * len(splats))) - len(splats)
    if count <= 0:
        return 0
    hosts = _draw(splats.params["logit_opacities"].sigmoid(), count, random)
    values = _relocated(splats, hosts, strategy)
    splats.overwrite(hosts, {name: values[name] for name in ("logit_opacities", "log_scales")})
    kept = torch.arange(len(splats), device=splats.device)
    splats.replace(kept, values)
    return count


@torch.no_grad()
def add_noise(
    splats: Optimiser, strategy: McmcStrategy, rate: float, random: torch.Generator
) -> None:
    """One step of the random walk: normal noise times the splat's covariance, for faint ones.

    Args:
        rate: learning rate of the means in this step.
        random: of the device of the splats.
    """
    p = splats.params
    transparency = 1 - p["logit_opacities"].sigmoid()
    weight = torch.sigmoid(_SLOPE * (transparency - _MIDDLE)) * (strategy.noise * rate)
    noise = torch.randn(p["means"].shape, generator=random, device=splats.device)
    # Covariance R diag(s^2) R^T, applied from the right.
    variance = (2 * p["log_scales"]).exp()
    spread = rotate(p["quats"], variance * rotate_back(p["quats"], noise))
    p["means"].add_(spread * weight[:, None])


def _draw(weights: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Indices [count], with replacement. On the CPU: the draw is the same on every device."""
    # Weights that are no numbers are found by the next step, which says so.
    weights = torch.nan_to_num(weights).clamp_min(1e-12)
    chosen = torch.multinomial(weights.cpu(), count, replacement=True, generator=random)
    return chosen.to(weights.device)


def _relocated(splats: Optimiser, hosts: Tensor, strategy: McmcStrategy) -> dict[str, Tensor]:
    """Parameters of guests on `hosts` (indices, repeated for several guests), and of the hosts."""
    p = splats.params
    counts = torch.bincount(hosts, minlength=len(splats))[hosts] + 1
    opacities, scales = relocation(
        p["logit_opacities"][hosts].sigmoid(), p["log_scales"][hosts].exp(), counts
    )
    opacities = opacities.clamp(strategy.min_opacity, 1 - torch.finfo(torch.float32).eps)
    values = {name: value.detach()[hosts] for name, value in p.items()}
    return values | {"logit_opacities": torch.logit(opacities), "log_scales": scales.log()}
