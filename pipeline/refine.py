"""The refinement loop: render, enhance, optimise, score on held-out views, accept or roll back.

It knows its neighbours only as ports. A candidate becomes a model version only if it scores
better on views the optimiser never saw; the loop stops when the relative gain is below 1%.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from enum import StrEnum

from pipeline.cameras import HELD_OUT_VIEWS
from pipeline.generate import held_out_references
from pipeline.options import RefineOptions
from pipeline.ports import (
    IterationOutcome,
    Ports,
    References,
    RefineJournal,
    RefineRequest,
)
from pipeline.types import SplatModel, ViewSet

__all__ = ["CONVERGENCE_GAIN", "ITERATION_SPANS", "RefineResult", "StopReason", "refine"]

#: A relative gain in overall quality below this ends the loop.
CONVERGENCE_GAIN = 0.01

#: Enhancement strength of iteration k, relative to the first; the last one repeats. Falling
#: strength keeps late rounds close to what is already consistent (docs/decisions.md).
_STRENGTH_SCHEDULE = (1.0, 0.75, 0.5)


#: Where each stage begins and ends in an iteration's share of the progress.
ITERATION_SPANS = {"enhance": (0.0, 0.2), "refine": (0.2, 1.0)}


class StopReason(StrEnum):
    """Why the loop ended."""

    #: The newest accepted iteration gained less than 1%.
    CONVERGED = "converged"
    #: `num_iterations` ran.
    MAX_ITERATIONS = "max_iterations"
    #: Two candidates in a row were worse than the model they started from.
    REGRESSED = "regressed"


@dataclass(frozen=True)
class RefineResult:
    """`outcomes[0]` is the model before refinement; `model` is the best one."""

    model: SplatModel
    outcomes: tuple[IterationOutcome, ...]
    stop_reason: StopReason

    @property
    def converged(self) -> bool:
        """The newest accepted iteration gained less than 1%; see `stop_reason` for other ends."""
        return self.stop_reason is StopReason.CONVERGED


async def refine(options: RefineOptions, ports: Ports, journal: RefineJournal) -> RefineResult:
    """Refine the newest model of a project.

    Raises:
        ModelFailed: an engine raised; every accepted iteration before it is kept.
        Cancelled: the engines were stopped; the same holds.
        StaleAttempt: the journal belongs to a newer attempt.
    """
    await journal.enter("refine", 0.0, 0.0)
    views, model = await journal.generated_views(), await journal.load_start()
    references = held_out_references(views)
    outcomes = list(await journal.load_iterations())
    if not outcomes:
        outcomes.append(await _baseline(model, references, ports))
        await journal.save_iteration(outcomes[0])
    best = max((o for o in outcomes if o.accepted), key=lambda o: o.iteration)
    if best.model is not None:
        model = best.model

    setting = _Setting(views, references, options, ports, journal)
    while (reason := _stop_reason(outcomes, options)) is None:
        strength = _strength(options, outcomes)
        outcome = await _iteration(len(outcomes), strength, model, setting)
        previous = _last_accepted(outcomes)
        if outcome.scores.overall_quality > previous.scores.overall_quality:
            assert outcome.model is not None
            model = outcome.model
        else:
            note = f"Not better on held-out views: rolled back. {outcome.note}".strip()
            outcome = replace(outcome, accepted=False, model=None, note=note)
        await journal.save_iteration(outcome)
        outcomes.append(outcome)
    return RefineResult(model, tuple(outcomes), reason)


def _last_accepted(outcomes: list[IterationOutcome]) -> IterationOutcome:
    return next(o for o in reversed(outcomes) if o.accepted)


def _stop_reason(outcomes: list[IterationOutcome], options: RefineOptions) -> StopReason | None:
    """Decided from the outcomes alone, so that a resumed attempt decides the same."""
    done = outcomes[1:]
    if len(done) >= 2 and not done[-1].accepted and not done[-2].accepted:
        return StopReason.REGRESSED
    if done and done[-1].accepted:
        before = _last_accepted(outcomes[:-1]).scores.overall_quality
        gain = (done[-1].scores.overall_quality - before) / max(before, 1e-9)
        if gain < CONVERGENCE_GAIN:
            return StopReason.CONVERGED
    if len(done) >= options.num_iterations:
        return StopReason.MAX_ITERATIONS
    return None


def _strength(options: RefineOptions, outcomes: list[IterationOutcome]) -> float:
    """Falls with every iteration, and is halved for good by every rollback."""
    k = min(len(outcomes) - 1, len(_STRENGTH_SCHEDULE) - 1)
    rollbacks = sum(not outcome.accepted for outcome in outcomes)
    return float(options.strength * _STRENGTH_SCHEDULE[k] * 0.5**rollbacks)


async def _baseline(model: SplatModel, references: References, ports: Ports) -> IterationOutcome:
    started = time.perf_counter()
    scores = await ports.splats.evaluate(model, references)
    return IterationOutcome(
        iteration=0,
        accepted=True,
        scores=scores,
        model=None,
        enhance_engine="",
        strength=0.0,
        learning_rate=0.0,
        seconds=time.perf_counter() - started,
        note="before refinement",
    )


@dataclass(frozen=True)
class _Setting:
    """What stays the same in every iteration."""

    views: ViewSet
    references: References
    options: RefineOptions
    ports: Ports
    journal: RefineJournal

    async def enter(self, stage: str, iteration: int) -> None:
        """Enter a stage of an iteration."""
        start, end = ITERATION_SPANS[stage]
        share = 1.0 / self.options.num_iterations
        base = (iteration - 1) * share
        await self.journal.enter(stage, base + start * share, base + end * share)


async def _iteration(
    k: int, strength: float, model: SplatModel, setting: _Setting
) -> IterationOutcome:
    """Render, enhance, optimise, score. The caller decides about acceptance."""
    started = time.perf_counter()
    views, options, ports = setting.views, setting.options, setting.ports
    shown = [i for i in range(len(views)) if i not in HELD_OUT_VIEWS]
    wanted = options.views_to_refine
    chosen = [i for i in shown if wanted is None or i in wanted]

    await setting.enter("enhance", k)
    renders = await ports.splats.render(model, views.cameras.select(chosen))
    enhanced = await ports.enhancer.enhance(
        renders, strength, options.prompt, options.seed, setting.journal.report
    )

    await setting.enter("refine", k)
    request = RefineRequest(
        model=model,
        originals=replace(views.select(shown), auxiliary=views.auxiliary),
        enhanced=enhanced.images,
        enhanced_views=tuple(shown.index(i) for i in chosen),
        learning_rate=options.learning_rate,
        iterations=options.steps_per_iteration,
        # Another iteration draws other views; the seed makes the sequence repeatable.
        seed=options.seed + k,
    )
    candidate = await ports.splats.improve(request, setting.journal.report)
    scores = await ports.splats.evaluate(candidate, setting.references)
    return IterationOutcome(
        iteration=k,
        accepted=True,
        scores=scores,
        model=candidate,
        enhance_engine=enhanced.engine,
        strength=strength,
        learning_rate=options.learning_rate,
        seconds=time.perf_counter() - started,
        enhanced=enhanced.images,
        enhanced_views=tuple(chosen),
        note=" ".join(enhanced.notes),
    )
