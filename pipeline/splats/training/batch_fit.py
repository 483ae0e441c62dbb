"""Fits splats to images with all views in every step: the fit for GPUs, on any device.

It does not know where the first splats or the images come from. `pipeline.splats.training.fit`,
one view per step, is the one for CPUs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from pipeline.control import Control
from pipeline.device import Device, retry_with_half_batch
from pipeline.errors import InvalidOption, ModelFailed
from pipeline.splats.training import mcmc
from pipeline.splats.training.densify import DensifyOptions, GradientTracker, densify, prune
from pipeline.splats.training.fit import FitResult, at_most
from pipeline.splats.training.mcmc import McmcOptions
from pipeline.splats.training.optimiser import LearningRates, Optimiser, StepResult
from pipeline.splats.training.targets import Targets, TargetTensors
from pipeline.types import SplatModel

__all__ = ["BATCH_RATES", "START_SHARES", "STRATEGIES", "BatchFitOptions", "fit_in_batches"]

STRATEGIES = ("mcmc", "default")

#: Learning rates of a fit that sees all views in every step: four times those of `LearningRates`,
#: which are for one view. Held-out dB of the torus and the bumpy sphere at 128 px, 4,000 splats, on
#: the CPU rasteriser; exact views, and views with a tint and a blurred noise of their own:
#:
#:                                 50 steps      150 steps     150, flawed
#:     one view per step         30.0   30.9    34.3   34.8    33.4   33.3
#:     default, times 1                         37.1   36.7
#:     default, times 2.5                       37.6   37.1    34.7   33.5
#:     default, times 4          36.8   36.4    37.9   37.1    34.5   33.3
#:     mcmc, times 1                            37.0   36.3    34.5   33.4
#:     mcmc, times 2.5                          37.6   36.9    34.4   33.2
#:     mcmc, times 4             36.8   36.4    37.9   37.1    34.4   33.1
#:
#: 2,400 steps of one view, as many pictures as 150 of all: 37.9 and 37.3.
BATCH_RATES = LearningRates(
    means=3.2e-3, quats=2.4e-2, log_scales=6e-2, logit_opacities=0.2, sh0=8e-2, sh_rest=4e-3
)

#: Share of `num_gaussians` that a fit begins with where rounds of growth can add the others.
START_SHARES = {"mcmc": 0.6, "default": 0.5}

#: Steps between two rounds of adding and removing splats.
_REFINE_EVERY = {"mcmc": 10, "default": 15}


@dataclass(frozen=True)
class BatchFitOptions:
    """How to fit with all views at once.

    Attributes:
        num_gaussians: most splats there may be at any time.
        iterations: gradient steps, all views each.
        seed: of backgrounds, relocation, splits and noise.
        strategy: how splats come and go: "mcmc" (`pipeline.splats.training.mcmc`) or "default"
            (`pipeline.splats.training.densify`).
        learning_rates: at the start.
        means_decay: the means' rate falls exponentially to this share.
        alpha_weight: weight of the silhouette beside the photometric loss.
        refine_every: steps between two rounds of adding and removing splats; 0 = never, None = as
            the strategy needs them.
        refine_until: share of the iterations after which none come or go.
        views_at_once: most views drawn at once; the steps are the same up to rounding.
    """

    num_gaussians: int = 20_000
    iterations: int = 300
    seed: int = 0
    strategy: str = "mcmc"
    learning_rates: LearningRates = BATCH_RATES
    means_decay: float = 0.05
    alpha_weight: float = 0.1
    refine_every: int | None = None
    refine_until: float = 0.7
    views_at_once: int = 16
    mcmc: McmcOptions = field(default_factory=McmcOptions)
    densify: DensifyOptions = field(default_factory=DensifyOptions)

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise InvalidOption(f"strategy must be one of {STRATEGIES}, got {self.strategy!r}")
        lows = {"num_gaussians": 1, "iterations": 0, "refine_every": 0, "views_at_once": 1}
        for name, low in lows.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise InvalidOption(f"{name} must be at least {low}, got {value}")

    @property
    def every(self) -> int:
        """Steps between two rounds; 0 = never."""
        return _REFINE_EVERY[self.strategy] if self.refine_every is None else self.refine_every

    @property
    def start_count(self) -> int:
        """How many splats to begin with: `START_SHARES` of `num_gaussians` where enough rounds
        follow to add the others, else all."""
        rounds = int(self.refine_until * self.iterations) // self.every if self.every else 0
        growth = self.mcmc.growth if self.strategy == "mcmc" else self.densify.share
        share = START_SHARES[self.strategy]
        if share * (1 + growth) ** rounds < 1:
            share = 1.0
        return max(1, int(share * self.num_gaussians))


def fit_in_batches(
    initial: SplatModel,
    targets: Targets,
    options: BatchFitOptions,
    control: Control,
    device: Device,
) -> FitResult:
    """Fits `initial` to `targets` on `device`.

    On the CPU the same seed gives the same result, bit by bit; on a GPU gradients are sums of
    atomics, and the result is only close. Reports the loss and the number of splats after every
    step, and stops between steps.

    Raises:
        Cancelled: `control` asked for it.
        ModelFailed: there is nothing to fit, or the loss became infinite.
        OutOfMemory: half of `views_at_once` did not fit on the device either.
    """
    if len(initial) == 0 or len(targets.cameras) == 0:
        raise ModelFailed("A fit needs at least one splat and one view.")
    run = _Run(initial, targets, options, device)
    losses: list[float] = []
    for step in range(options.iterations):
        control.check()
        result = run.step(step)
        # NaN as well: it is not below anything.
        if not result.loss < float("inf"):
            raise ModelFailed(f"The fit diverged at step {step + 1}: loss {result.loss}.")
        losses.append(result.loss)
        run.refine(step + 1, result)
        control.step(
            (step + 1) / options.iterations, "Fitting", loss=result.loss, splats=len(run.optimiser)
        )
    run.finish()
    return FitResult(run.optimiser.model(), losses, len(losses))


class _Run:
    """One fit."""

    def __init__(
        self, initial: SplatModel, targets: Targets, options: BatchFitOptions, device: Device
    ) -> None:
        place = device.torch_device
        self.options = options
        self._device = device
        self._random = torch.Generator().manual_seed(options.seed)
        self._noise = torch.Generator(place).manual_seed(options.seed)
        self._goal: TargetTensors = targets.tensors(place)
        self._views = list(range(len(self._goal)))
        self._at_once = min(options.views_at_once, len(self._views))
        self.optimiser = Optimiser(
            at_most(initial, options.num_gaussians, self._random),
            options.learning_rates,
            sh_degree=0,
            device=place,
            fused=True,
        )
        self._tracker = GradientTracker(len(self.optimiser), place)

    def step(self, number: int) -> StepResult:
        """One gradient step (counted from 0) and one of the random walk."""
        options, place = self.options, self._device.torch_device
        progress = number / options.iterations
        means_rate = options.means_decay**progress
        # Every view on a grey of its own: light halos cannot hide in front of white.
        greys = torch.rand(len(self._views), 1, generator=self._random).expand(-1, 3).to(place)
        with_mcmc = options.strategy == "mcmc"

        def take(at_once: int) -> StepResult:
            result = self.optimiser.step(
                self._goal,
                self._views,
                background=greys,
                alpha_weight=options.alpha_weight,
                means_rate=means_rate,
                penalty=(lambda p: mcmc.penalty(p, options.mcmc)) if with_mcmc else None,
                at_once=at_once,
            )
            # What fitted once is where the next step begins.
            self._at_once = at_once
            return result

        result = retry_with_half_batch(take, self._at_once, self._device, "A step of the splat fit")
        if with_mcmc:
            rate = options.learning_rates.means * means_rate
            mcmc.add_noise(self.optimiser, options.mcmc, rate, self._noise)
        return result

    def refine(self, steps: int, result: StepResult) -> None:
        """A round of adding and removing splats where one is due after `steps` steps."""
        options, cap, every = self.options, self.options.num_gaussians, self.options.every
        if options.strategy == "default":
            self._tracker.add(result)
        if not every or steps % every or steps > options.refine_until * options.iterations:
            return
        if options.strategy == "mcmc":
            mcmc.relocate(self.optimiser, options.mcmc, self._random)
            mcmc.grow(self.optimiser, options.mcmc, cap, self._random)
            return
        densify(self.optimiser, self._tracker, options.densify, cap=cap, generator=self._random)
        self._tracker = GradientTracker(len(self.optimiser), self._device.torch_device)

    def finish(self) -> None:
        """Leaves out what nobody sees."""
        if self.options.every:
            prune(self.optimiser, self.options.densify)
