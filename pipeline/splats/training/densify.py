"""The default strategy: where a fit needs more splats and which ones it can do without.

Criteria of 3DGS (arXiv 2308.04079, section 5.2) with the absolute screen gradients of AbsGS
(arXiv 2404.10484) and a hard cap: the splats whose pixels disagree most are split or cloned, as
many as the cap leaves room for. It does not know losses or images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.errors import InvalidOption
from pipeline.geometry.rotation import rotate
from pipeline.splats.training.fit_plan import Course, FitPlan, StepResult
from pipeline.splats.training.optimiser import Optimiser

#: A split splat becomes two of this size, as in 3DGS.
_SPLIT_SHRINK = 1.6


#: Fainter splats, and those with a larger standard deviation (world units), are removed.
_MIN_OPACITY, _MAX_SCALE = 0.02, 0.15


@dataclass(frozen=True)
class DefaultStrategy:
    """Rounds that split, clone and remove.

    Attributes:
        every: steps between two rounds; 0 = never, and nothing is removed.
        until: share of the steps after which no splats are added.
        prunes_late: later rounds still remove splats, and the step that crosses `until` still
            counts as before it; else there are no later rounds.
        share: at most this share of the splats is added at once.
        split_radius: a splat is split when its largest half box (pixels) exceeds this on
            average, else cloned: below a few pixels there is nothing to split.
        start_share: share of `num_gaussians` that a fit begins with where rounds can add the
            others. Measured: docs/decisions.md, "Where splats start".
    """

    every: int = 50
    until: float = 0.7
    prunes_late: bool = True
    share: float = 0.3
    split_radius: float = 4.0
    start_share: float = 0.75

    def __post_init__(self) -> None:
        if self.every < 0:
            raise InvalidOption(f"every must be at least 0, got {self.every}")

    def last_growth(self, iterations: int) -> int:
        """The last step (counted from 1) after which a round may add splats."""
        return (math.ceil if self.prunes_late else math.floor)(self.until * iterations)

    def start_count(self, plan: FitPlan) -> int:
        rounds = self.last_growth(plan.iterations) // self.every if self.every else 0
        return plan.start_count(self.start_share, self.share, rounds)

    def begin(self, splats: Optimiser, plan: FitPlan, random: torch.Generator) -> Course:
        return _Densification(self, splats, plan, random)


@dataclass
class _Densification(Course):
    strategy: DefaultStrategy
    splats: Optimiser
    plan: FitPlan
    random: torch.Generator

    def __post_init__(self) -> None:
        self.tracker = GradientTracker(len(self.splats), self.splats.device)

    def after_step(self, step: int, result: StepResult, means_rate: float) -> None:
        strategy, splats = self.strategy, self.splats
        self.tracker.add(result)
        if not strategy.every or step % strategy.every:
            return
        if step <= strategy.last_growth(self.plan.iterations):
            cap = self.plan.num_gaussians or len(splats)
            densify(splats, self.tracker, strategy, cap=cap, random=self.random)
        elif strategy.prunes_late:
            prune(splats)
        self.tracker = GradientTracker(len(splats), splats.device)

    def finish(self) -> None:
        if self.strategy.every:
            prune(self.splats)


class GradientTracker:
    """Mean absolute screen gradient and size of each splat since the last reset."""

    def __init__(self, count: int, device: torch.device | None = None) -> None:
        self._gradient = torch.zeros(count, device=device)
        self._radius = torch.zeros(count, device=device)
        self._seen = torch.zeros(count, device=device)

    def add(self, result: StepResult) -> None:
        """Counts one step; splats that a view did not draw do not count for it."""
        # Spelled out: norm and amax over an axis of two take torch 2 ms each.
        x, y = result.absgrad.unbind(-1)
        self._gradient += (x * x + y * y).sqrt().sum(0)
        largest = torch.maximum(result.radii[..., 0], result.radii[..., 1])
        self._radius += largest.sum(0)
        self._seen += (largest > 0).sum(0)

    @property
    def gradient(self) -> Tensor:
        """float32 [N]; 0 for splats never seen."""
        return self._gradient / self._seen.clamp_min(1)

    @property
    def radius(self) -> Tensor:
        """Half box in pixels, float32 [N]; 0 for splats never seen."""
        return self._radius / self._seen.clamp_min(1)


@torch.no_grad()
def _worth_keeping(splats: Optimiser) -> Tensor:
    """bool [N]: neither too faint nor too large."""
    opaque = splats.params["logit_opacities"].sigmoid() >= _MIN_OPACITY
    return opaque & (splats.params["log_scales"].exp().amax(-1) <= _MAX_SCALE)


@torch.no_grad()
def prune(splats: Optimiser) -> int:
    """Removes faint and oversized splats, never the last one; returns how many."""
    keep = _worth_keeping(splats)
    if bool(keep.all()) or not bool(keep.any()):
        return 0
    nothing = {name: value.detach()[:0] for name, value in splats.params.items()}
    splats.replace(torch.nonzero(keep)[:, 0], nothing)
    return int((~keep).sum())


@torch.no_grad()
def densify(
    splats: Optimiser,
    tracker: GradientTracker,
    strategy: DefaultStrategy,
    *,
    cap: int,
    random: torch.Generator,
) -> int:
    """Removes useless splats and adds up to `cap` where the gradients are largest.

    Args:
        tracker: one row per splat of `splats`; it is stale afterwards.
        cap: most splats there may be afterwards.
        random: of the CPU, also for splats elsewhere; places the halves of split splats.

    Returns:
        How many splats were added.
    """
    keep = _worth_keeping(splats)
    if not bool(keep.any()):
        return 0
    kept = int(keep.sum())
    room = min(cap - kept, int(strategy.share * kept))
    score = torch.where(keep, tracker.gradient, torch.zeros_like(tracker.gradient))
    # Stable, so that equal scores (splats never seen) do not depend on the sort.
    chosen = torch.argsort(score, descending=True, stable=True)[: max(room, 0)]
    chosen = chosen[score[chosen] > 0]
    large = tracker.radius[chosen] > strategy.split_radius
    split, clone = chosen[large], chosen[~large]

    values = {name: value.detach() for name, value in splats.params.items()}
    offsets = _offsets(values, split, random)
    halves: dict[str, Tensor] = {}
    for name, value in values.items():
        pair = value[split].repeat(2, *[1] * (value.ndim - 1))
        if name == "means":
            pair = pair + torch.cat([offsets, -offsets])
        elif name == "log_scales":
            pair = pair - torch.log(torch.tensor(_SPLIT_SHRINK))
        halves[name] = torch.cat([pair, value[clone]])
    keep[split] = False
    # Two splats on one spot cover more than one did: o' = 1 - sqrt(1 - o) each keeps the sum.
    opacity = values["logit_opacities"].sigmoid().clamp(1e-4, 1 - 1e-4)
    halved = torch.logit(1 - (1 - opacity).sqrt())
    splats.params["logit_opacities"][clone] = halved[clone]
    halves["logit_opacities"][2 * len(split) :] = halved[clone]
    splats.replace(torch.nonzero(keep)[:, 0], halves)
    return len(chosen)


def _offsets(values: dict[str, Tensor], which: Tensor, random: torch.Generator) -> Tensor:
    """Random offsets [n, 3] drawn from the splats `which`, world frame."""
    scales = values["log_scales"][which].exp()
    local = torch.randn(scales.shape, generator=random).to(scales.device) * scales
    return rotate(values["quats"][which], local)
