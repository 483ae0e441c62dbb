"""Where a fit needs more splats and which ones it can do without.

Criteria of 3DGS (arXiv 2308.04079, section 5.2) with the absolute screen gradients of AbsGS
(arXiv 2404.10484) and a hard cap: the splats whose pixels disagree most are split or cloned, as
many as the cap leaves room for. It does not know losses or images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.geometry.rotation import rotate
from pipeline.splats.training.optimiser import Optimiser, StepResult

__all__ = ["DensifyOptions", "GradientTracker", "densify", "prune"]

#: A split splat becomes two of this size, as in 3DGS.
_SPLIT_SHRINK = 1.6


@dataclass(frozen=True)
class DensifyOptions:
    """When splats go and come.

    Attributes:
        min_opacity: fainter splats are removed.
        max_scale: splats with a larger standard deviation (world units) are removed.
        split_radius: a splat is split when its largest half box (pixels) exceeds this on
            average, else cloned: below a few pixels there is nothing to split.
        share: at most this share of the splats is added at once.
    """

    min_opacity: float = 0.02
    max_scale: float = 0.15
    split_radius: float = 4.0
    share: float = 0.3


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
def _worth_keeping(optimiser: Optimiser, options: DensifyOptions) -> Tensor:
    """bool [N]: neither too faint nor too large."""
    opaque = optimiser.params["logit_opacities"].sigmoid() >= options.min_opacity
    return opaque & (optimiser.params["log_scales"].exp().amax(-1) <= options.max_scale)


@torch.no_grad()
def prune(optimiser: Optimiser, options: DensifyOptions) -> int:
    """Removes faint and oversized splats, never the last one; returns how many."""
    keep = _worth_keeping(optimiser, options)
    if bool(keep.all()) or not bool(keep.any()):
        return 0
    nothing = {name: value.detach()[:0] for name, value in optimiser.params.items()}
    optimiser.replace(torch.nonzero(keep)[:, 0], nothing)
    return int((~keep).sum())


@torch.no_grad()
def densify(
    optimiser: Optimiser,
    tracker: GradientTracker,
    options: DensifyOptions,
    *,
    cap: int,
    generator: torch.Generator,
) -> int:
    """Removes useless splats and adds up to `cap` where the gradients are largest.

    Args:
        tracker: one row per splat of `optimiser`; it is stale afterwards.
        cap: most splats there may be afterwards.
        generator: of the CPU, also for splats elsewhere; places the halves of split splats.

    Returns:
        How many splats were added.
    """
    keep = _worth_keeping(optimiser, options)
    if not bool(keep.any()):
        return 0
    kept = int(keep.sum())
    room = min(cap - kept, int(options.share * kept))
    score = torch.where(keep, tracker.gradient, torch.zeros_like(tracker.gradient))
    # Stable, so that equal scores (splats never seen) do not depend on the sort.
    chosen = torch.argsort(score, descending=True, stable=True)[: max(room, 0)]
    chosen = chosen[score[chosen] > 0]
    large = tracker.radius[chosen] > options.split_radius
    split, clone = chosen[large], chosen[~large]

    values = {name: value.detach() for name, value in optimiser.params.items()}
    offsets = _offsets(values, split, generator)
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
    shared = torch.logit(1 - (1 - opacity).sqrt())
    optimiser.params["logit_opacities"][clone] = shared[clone]
    halves["logit_opacities"][2 * len(split) :] = shared[clone]
    optimiser.replace(torch.nonzero(keep)[:, 0], halves)
    return len(chosen)


def _offsets(values: dict[str, Tensor], which: Tensor, generator: torch.Generator) -> Tensor:
    """Random offsets [n, 3] drawn from the splats `which`, world frame."""
    scales = values["log_scales"][which].exp()
    local = torch.randn(scales.shape, generator=generator).to(scales.device) * scales
    return rotate(values["quats"][which], local)
