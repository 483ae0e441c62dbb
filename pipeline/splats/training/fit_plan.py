"""What the training loop is told: a plan, and the two parts it is put together with.

An objective says what is looked at and minimised, a strategy which splats come and go. It does not
know any of either; the loop is `pipeline.splats.training.loop`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pipeline.errors import InvalidOption
from pipeline.splats.rasterize import Projection
from pipeline.splats.training.optimiser import ONE_VIEW, LearningRates, Optimiser
from pipeline.splats.training.photo_targets import Window


@dataclass(frozen=True)
class FitPlan:
    """How long, how wide and how fast a fit goes.

    Attributes:
        num_gaussians: most splats there may be at any time; None = as many as it starts with, and
            they are not reported.
        iterations: gradient steps.
        seed: of every random choice; equal seeds give equal results, bit by bit, on one CPU.
        views_per_step: views that a step looks at; None = all.
        views_at_once: most views drawn at once; the steps are the same up to rounding.
        rates: learning rates at the start.
        rate_scale: multiplies all of them.
        decay: all rates fall exponentially to this share.
        means_decay: the means' rate falls to this share of that.
        plain: draw as viewers do that know nothing better; for comparisons.
        fused: take the steps with torch's fused kernel, one launch per parameter: the same up to
            rounding.
        name, message: for errors and progress.
    """

    num_gaussians: int | None = 20_000
    iterations: int = 300
    seed: int = 0
    views_per_step: int | None = 1
    views_at_once: int = 16
    rates: LearningRates = ONE_VIEW
    rate_scale: float = 1.0
    decay: float = 1.0
    means_decay: float = 0.05
    plain: bool = False
    fused: bool = False
    name: str = "fit"
    message: str = "Fitting"

    def __post_init__(self) -> None:
        lows = {"num_gaussians": 1, "iterations": 0, "views_per_step": 1, "views_at_once": 1}
        for name, low in lows.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise InvalidOption(f"{name} must be at least {low}, got {value}")

    def start_count(self, share: float, growth: float, rounds: int) -> int:
        """How many splats to begin with: `share` of `num_gaussians` where so many rounds that add
        `growth` each reach them all, else all."""
        if share * (1 + growth) ** rounds < 1:
            share = 1.0
        return max(1, int(share * (self.num_gaussians or 1)))


#: What a step looks at: the index of a view, or a window of a photo.
Look = int | Window


@dataclass(frozen=True)
class Batch:
    """What a step looks at.

    Attributes:
        views: B looks.
        backgrounds: float32 [B, 3], the ground behind each.
        weights: of their losses, mean 1; None = all alike.
    """

    views: Sequence[Look]
    backgrounds: Tensor
    weights: tuple[float, ...] | None = None

    def __len__(self) -> int:
        return len(self.views)

    def parts(self, size: int) -> Iterator[Batch]:
        """The same in parts of at most `size` views."""
        for i in range(0, len(self), size):
            part = slice(i, i + size)
            weights = None if self.weights is None else self.weights[part]
            yield Batch(self.views[part], self.backgrounds[part], weights)


@dataclass(frozen=True)
class StepResult:
    """One step: the loss before it and, per splat, the gradient and box of the projection.

    Attributes:
        loss: mean over the views of the step.
        absgrad: float32 [B, N, 2], absolute screen gradients in pixels^-1, summed over pixels.
        radii: int32 [B, N, 2], half boxes in pixels, 0 = not seen.
        at_once: views that were drawn at once.
    """

    loss: float
    absgrad: Tensor
    radii: Tensor
    at_once: int = 1


class Objective(Protocol):
    """What a fit minimises."""

    def __len__(self) -> int:
        """How many views there are."""

    def batches(self, views_per_step: int | None, random: torch.Generator) -> Iterator[Batch]:
        """What each step looks at, without end."""

    def loss(self, splats: Optimiser, batch: Batch) -> tuple[Tensor, Projection]:
        """The mean loss of the views of a batch, and where they show the splats."""

    def descend(self) -> None:
        """A step of what the objective trains beside the splats, along the gradients it has."""


class Course:
    """One fit under a strategy; this one leaves everything as it is."""

    def penalty(self) -> Tensor | None:
        """Further loss, of the parameters alone; not part of the reported one."""
        return None

    def after_step(self, step: int, result: StepResult, means_rate: float) -> None:
        """Adds, moves or removes splats.

        Args:
            step: counted from 1.
            means_rate: learning rate of the means in this step.
        """

    def finish(self) -> None:
        """Comes after the last step."""


class Strategy(Protocol):
    """How splats come and go during a fit."""

    def start_count(self, plan: FitPlan) -> int:
        """How many splats the fit wants to begin with."""

    def begin(self, splats: Optimiser, plan: FitPlan, random: torch.Generator) -> Course:
        """`random` is of the CPU and shared with the choice of views."""


class FixedCount:
    """The strategy of fits in which no splat comes or goes."""

    def start_count(self, plan: FitPlan) -> int:
        return plan.start_count(1.0, 0.0, 0)

    def begin(self, splats: Optimiser, plan: FitPlan, random: torch.Generator) -> Course:
        return Course()
