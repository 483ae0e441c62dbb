"""Fits splats to images by gradient descent.

It does not know where the first splats or the images come from, nor what is done with the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from pipeline.control import Control
from pipeline.errors import InvalidOption, ModelFailed
from pipeline.splats.densify import DensifyOptions, GradientTracker, densify, prune
from pipeline.splats.optimiser import LearningRates, Optimiser
from pipeline.splats.targets import Targets
from pipeline.types import SplatModel

__all__ = ["FitOptions", "FitResult", "Targets", "fit"]


@dataclass(frozen=True)
class FitOptions:
    """How to fit.

    Attributes:
        num_gaussians: most splats there may be at any time.
        iterations: gradient steps, one view each.
        seed: of view order, backgrounds and splits; equal seeds give equal results, bit by bit,
            on one machine.
        learning_rates: at the start.
        means_decay: the means' rate falls exponentially to this share.
        alpha_weight: weight of the silhouette beside the photometric loss.
        sh_degree: 0..3 of the result.
        antialiased: draw in the antialiased mode; viewers of .ply files do not.
        densify_every: steps between two rounds of adding and removing splats; 0 = never.
        densify_until: share of the iterations after which none are added.
        densify: which splats come and go.
        random_background: every step draws model and target on a random grey, so that light
            halos around the object cannot hide in front of white.
    """

    num_gaussians: int = 20_000
    iterations: int = 300
    seed: int = 0
    learning_rates: LearningRates = field(default_factory=LearningRates)
    means_decay: float = 0.05
    alpha_weight: float = 0.1
    sh_degree: int = 0
    antialiased: bool = False
    densify_every: int = 50
    densify_until: float = 0.7
    densify: DensifyOptions = field(default_factory=DensifyOptions)
    random_background: bool = True

    def __post_init__(self) -> None:
        for name, low in (("num_gaussians", 1), ("iterations", 0), ("densify_every", 0)):
            if getattr(self, name) < low:
                raise InvalidOption(f"{name} must be at least {low}, got {getattr(self, name)}")
        if self.sh_degree not in range(4):
            raise InvalidOption(f"sh_degree must be 0 to 3, got {self.sh_degree}")


@dataclass(frozen=True)
class FitResult:
    """The fitted model, the loss before each step, and how many steps were taken."""

    model: SplatModel
    losses: list[float]
    iterations: int


def fit(initial: SplatModel, targets: Targets, options: FitOptions, control: Control) -> FitResult:
    """Fits `initial` to `targets`.

    Reports the loss and the number of splats after every step, and stops between steps.

    Raises:
        Cancelled: `control` asked for it.
        ModelFailed: there is nothing to fit, or the loss became infinite.
    """
    if len(initial) == 0 or len(targets.cameras) == 0:
        raise ModelFailed("A fit needs at least one splat and one view.")
    generator = torch.Generator().manual_seed(options.seed)
    optimiser = Optimiser(
        _at_most(initial, options.num_gaussians, generator),
        options.learning_rates,
        sh_degree=options.sh_degree,
        antialiased=options.antialiased,
    )
    views = _shuffled(len(targets.cameras), generator)
    goal = targets.tensors()
    tracker = GradientTracker(len(optimiser))
    losses: list[float] = []
    for step in range(options.iterations):
        progress = step / options.iterations
        background = torch.rand(1, generator=generator).expand(3)
        result = optimiser.step(
            goal,
            [next(views)],
            background=background if options.random_background else None,
            alpha_weight=options.alpha_weight,
            means_rate=options.means_decay**progress,
        )
        # NaN as well: it is not below anything.
        if not result.loss < float("inf"):
            raise ModelFailed(f"The fit diverged at step {step + 1}: loss {result.loss}.")
        losses.append(result.loss)
        tracker.add(result)
        if options.densify_every and (step + 1) % options.densify_every == 0:
            if progress < options.densify_until:
                densify(
                    optimiser,
                    tracker,
                    options.densify,
                    cap=options.num_gaussians,
                    generator=generator,
                )
            else:
                prune(optimiser, options.densify)
            tracker = GradientTracker(len(optimiser))
        control.step(
            (step + 1) / options.iterations, "Fitting", loss=result.loss, splats=len(optimiser)
        )
    if options.densify_every:
        prune(optimiser, options.densify)
    return FitResult(optimiser.model(), losses, len(losses))


def _shuffled(count: int, generator: torch.Generator) -> Iterator[int]:
    """View indices without end; each round shows every view once, in a new order."""
    while True:
        yield from torch.randperm(count, generator=generator).tolist()


def _at_most(model: SplatModel, count: int, generator: torch.Generator) -> SplatModel:
    """A random selection of `count` splats, in their order; the model itself if it is smaller."""
    if len(model) <= count:
        return model
    chosen = torch.randperm(len(model), generator=generator)[:count].sort().values.numpy()
    return SplatModel(
        model.means[chosen],
        model.quats[chosen],
        model.log_scales[chosen],
        model.logit_opacities[chosen],
        model.sh[chosen],
    )
