"""The training loop: fits splats to an objective by gradient descent.

It does not know what is minimised, how splats come and go, where the first ones come from or what
is done with the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pipeline.control import Control
from pipeline.device import Device, Precision, retry_with_half_batch
from pipeline.errors import InvalidInput, ModelFailed
from pipeline.splats.small_model import MOST_LIVE_SPLATS, thinned
from pipeline.splats.training.fit_plan import Batch, FitPlan, Objective, StepResult, Strategy
from pipeline.splats.training.optimiser import Optimiser
from pipeline.torch_threads import one_torch_thread
from pipeline.types import SplatModel

CPU = Device(torch.device("cpu"), Precision.FP32)


@dataclass(frozen=True)
class FitResult:
    """The fitted model and the loss before each step."""

    model: SplatModel
    losses: list[float]


def fit(
    initial: SplatModel,
    objective: Objective,
    plan: FitPlan,
    strategy: Strategy,
    control: Control,
    device: Device = CPU,
) -> FitResult:
    """Fits `initial` on `device`, where the objective's tensors are.

    On the CPU the same seed gives the same result, bit by bit; on a GPU gradients are sums of
    atomics, and the result is only close. Reports the loss, and the number of splats where the plan
    limits it, after every step, and stops between steps.

    Raises:
        Cancelled: `control` asked for it.
        ModelFailed: there is nothing to fit, or the loss became infinite.
        OutOfMemory: half of `views_at_once` did not fit on the device either.
    """
    if len(initial) == 0 or len(objective) == 0:
        raise ModelFailed.openly("A fit needs at least one splat and one view.")
    random = torch.Generator().manual_seed(plan.seed)
    initial = _selection(initial, plan.num_gaussians or len(initial), random)
    splats = Optimiser(
        initial, plan.rates, device=device.torch_device, fused=plan.fused, plain=plan.plain
    )
    course = strategy.begin(splats, plan, random)
    batches = objective.batches(plan.views_per_step, random)
    losses: list[float] = []
    at_once = plan.views_at_once
    for step in range(plan.iterations):
        control.check()
        progress = step / plan.iterations
        scale, means_scale = plan.rate_scale * plan.decay**progress, plan.means_decay**progress
        batch = next(batches)
        take = partial(
            take_step,
            splats,
            objective,
            batch,
            scale=scale,
            means_scale=means_scale,
            penalty=course.penalty,
        )
        try:
            if len(batch) == 1:
                result = take(1)
            else:
                size, what = min(at_once, len(batch)), "A step of the splat fit"
                result = retry_with_half_batch(take, size, device, what)
                at_once = result.at_once  # what fitted once is where the next step begins
        except InvalidInput as error:
            if step == 0:
                raise
            # Since the first step, only the parameters have changed.
            said = f"The {plan.name} diverged at step {step + 1}: {error}"
            raise ModelFailed.openly(said) from error
        # NaN as well: it is not below anything.
        if not result.loss < float("inf"):
            raise ModelFailed.openly(
                f"The {plan.name} diverged at step {step + 1}: loss {result.loss}."
            )
        losses.append(result.loss)
        course.after_step(step + 1, result, plan.rates.means * scale * means_scale)
        numbers = {"loss": result.loss}
        if plan.num_gaussians is not None:
            numbers["splats"] = len(splats)
        done = (step + 1) / plan.iterations
        control.show(
            done, plan.message, lambda: thinned(splats.model(), MOST_LIVE_SPLATS), **numbers
        )
    course.finish()
    return FitResult(splats.model(), losses)


def take_step(
    splats: Optimiser,
    objective: Objective,
    batch: Batch,
    at_once: int,
    *,
    scale: float = 1.0,
    means_scale: float = 1.0,
    penalty: Callable[[], Tensor | None] | None = None,
) -> StepResult:
    """One Adam step.

    Args:
        at_once: views drawn at once; gradients of the parts are added.
        scale, means_scale: multiply all learning rates, and that of the means once more.
        penalty: further loss, of the parameters alone; not part of the reported one.

    Raises:
        InvalidInput: the splats or cameras cannot be drawn.
        torch.OutOfMemoryError: the views did not fit; parameters and moments are as before, and
            the step can be taken again with fewer at once.
    """
    losses, absgrads, radii = [], [], []
    with one_torch_thread():
        splats.forget_gradients()  # of a step that did not fit
        for part in batch.parts(at_once):
            loss, projection = objective.loss(splats, part)
            loss = loss * (len(part) / len(batch))
            torch.autograd.backward([loss])
            losses.append(loss.detach())
            absgrads.append(projection.absgrad)
            radii.append(projection.radii)
        further = penalty() if penalty is not None else None
        if further is not None:
            torch.autograd.backward([further])
        # What needs memory comes before the step is taken: after it nothing may be tried again.
        result = StepResult(
            torch.stack(losses).sum().item(), torch.cat(absgrads), torch.cat(radii), at_once
        )
        splats.descend(scale, means_scale)
        objective.descend()
        return result


def _selection(model: SplatModel, count: int, random: torch.Generator) -> SplatModel:
    """A random selection of `count` splats, in their order; the model itself if it is smaller."""
    if len(model) <= count:
        return model
    chosen = torch.randperm(len(model), generator=random)[:count].sort().values.numpy()
    return model.select(chosen)
