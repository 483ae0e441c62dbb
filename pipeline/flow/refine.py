"""The refinement loop: render, enhance, optimise, score on held-out views, accept or roll back.

It knows its neighbours only as ports. A candidate becomes a model version only if it scores
better on views the optimiser never saw and breaks no guard; the loop stops when the relative gain
is below 1%, and after one round where that round finds that the views contradict each other.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from pipeline.control import ignore_progress
from pipeline.errors import DeviceLost, InvalidOption, ModelFailed, OutOfMemory, ReplicaDied
from pipeline.flow.guards import agreement, broken_guards, disagreement
from pipeline.flow.references import held_out_references
from pipeline.journals import IterationOutcome, RefineJournal
from pipeline.options import RefineOptions
from pipeline.ports import Ports
from pipeline.requests import EnhancedImages, EnhanceSettings, References, RefineRequest, Renders
from pipeline.rig import HELD_OUT_VIEWS
from pipeline.seeds import derived_seed
from pipeline.types import DepthMaps, FloatArray, Scores, SplatModel, ViewSet

log = logging.getLogger(__name__)

#: A relative gain in view agreement below this ends the loop.
CONVERGENCE_GAIN = 0.01

#: Enhancement strength of iteration k, relative to the first; the last one repeats. Falling
#: strength keeps late rounds close to what is already consistent (docs/decisions.md).
_STRENGTH_SCHEDULE = (1.0, 0.75, 0.5, 0.5)

#: One of eight diffusion steps: an engine with steps can do no less.
_LEAST_STRENGTH = 1 / 8

#: After a rollback the views whose enhanced targets were trusted least are left alone: this share.
_DROPPED_SHARE = 0.25

#: A process or a device that is gone is another attempt's business: another view dies there, too.
_NOT_OF_A_VIEW = (ReplicaDied, DeviceLost)

#: Where each stage begins and ends in an iteration's share of the progress.
ITERATION_SPANS = {"enhance": (0.0, 0.4), "refine": (0.4, 1.0)}


class StopReason(StrEnum):
    """Why the loop ended."""

    #: The newest accepted iteration gained less than 1%.
    CONVERGED = "converged"
    #: `num_iterations` ran.
    MAX_ITERATIONS = "max_iterations"
    #: Two candidates in a row were worse than the model they started from, or broke a guard.
    REGRESSED = "regressed"
    #: The first round found that the views contradict each other: no round can help.
    VIEWS_DISAGREE = "views_disagree"
    #: Somebody stopped the job; `refine` raises then, reports use the word.
    CANCELLED = "cancelled"


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
        GlimpseError: whatever the journal raises.
    """
    await journal.enter("refine", 0.0, 0.0)
    views, depths = await journal.generated_views(), await journal.generated_depths()
    model = await journal.load_start()
    references = held_out_references(views, depths)
    outcomes = list(await journal.load_iterations())
    if not outcomes:
        outcomes.append(await _baseline(model, references, ports))
        await journal.save_iteration(outcomes[0])
    best = max((o for o in outcomes if o.accepted), key=lambda o: o.iteration)
    if best.model is not None:
        model = best.model

    setting = _Setting(views, depths, references, options, ports, journal)
    while (reason := _stop_reason(outcomes, options, drawn=views.drawn)) is None:
        outcome = await _iteration(outcomes, model, setting)
        outcome = _judged(outcome, _last_accepted(outcomes).scores, drawn=views.drawn)
        if outcome.accepted:
            assert outcome.model is not None
            model = outcome.model
        await journal.save_iteration(outcome)
        outcomes.append(outcome)
    return RefineResult(model, tuple(outcomes), reason)


def _judged(outcome: IterationOutcome, before: Scores, *, drawn: bool) -> IterationOutcome:
    """The outcome, rolled back where its candidate is not better or breaks a guard."""
    after = outcome.scores
    if outcome.iteration == 1 and (why := disagreement(outcome)) is not None:
        note = f"{why} {outcome.note}".strip()
        return replace(outcome, accepted=False, model=None, note=note)
    guards = broken_guards(before, after, drawn=drawn)
    better = agreement(after, drawn=drawn) > agreement(before, drawn=drawn)
    if better and not guards:
        return outcome
    where = "nearer to the photos" if drawn else "better on held-out views"
    why = "A guard was broken" if better else f"Not {where}"
    note = f"{why}: rolled back. {outcome.note}".strip()
    return replace(outcome, accepted=False, model=None, guards=guards, note=note)


def _last_accepted(outcomes: list[IterationOutcome]) -> IterationOutcome:
    return next(o for o in reversed(outcomes) if o.accepted)


def _stop_reason(
    outcomes: list[IterationOutcome], options: RefineOptions, *, drawn: bool
) -> StopReason | None:
    """Decided from the outcomes alone, so that a resumed attempt decides the same."""
    done = outcomes[1:]
    if done and not done[0].accepted and disagreement(done[0]) is not None:
        return StopReason.VIEWS_DISAGREE
    if len(done) >= 2 and not done[-1].accepted and not done[-2].accepted:
        return StopReason.REGRESSED
    if done and done[-1].accepted:
        before = agreement(_last_accepted(outcomes[:-1]).scores, drawn=drawn)
        gain = (agreement(done[-1].scores, drawn=drawn) - before) / max(before, 1e-9)
        if gain < CONVERGENCE_GAIN:
            return StopReason.CONVERGED
    if len(done) >= options.num_iterations:
        return StopReason.MAX_ITERATIONS
    return None


def _strength(options: RefineOptions, outcomes: list[IterationOutcome]) -> float:
    """Falls with every iteration, and is halved for good by every rollback.

    Not below `_LEAST_STRENGTH`, unless the first one was.
    """
    k = min(len(outcomes) - 1, len(_STRENGTH_SCHEDULE) - 1)
    rollbacks = sum(not outcome.accepted for outcome in outcomes)
    fallen = options.strength * _STRENGTH_SCHEDULE[k] * 0.5**rollbacks
    return float(max(fallen, min(options.strength, _LEAST_STRENGTH)))


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
        note=" ".join(["before refinement", *(f"- {note}" for note in scores.notes)]),
    )


@dataclass(frozen=True)
class _Setting:
    """What stays the same in every iteration."""

    views: ViewSet
    depths: DepthMaps
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


def _shown(views: ViewSet) -> list[int]:
    """Rig indices of the views that the optimiser sees."""
    hidden = {*HELD_OUT_VIEWS, *views.struck}
    return [i for i in range(len(views)) if i not in hidden]


def _chosen(
    outcomes: list[IterationOutcome], shown: list[int], wanted: tuple[int, ...] | None
) -> list[int]:
    """Rig indices of the views to enhance. After a rollback without those trusted least."""
    chosen = [i for i in shown if wanted is None or i in wanted]
    if not chosen:
        raise InvalidOption(
            f"views_to_refine names only views that were struck out: {list(wanted or ())}."
        )
    newest = outcomes[-1]
    if newest.accepted or not newest.enhanced_weights:
        return chosen
    pairs = sorted(zip(newest.enhanced_weights, newest.enhanced_views, strict=True))
    worst = {view for _, view in pairs[: int(_DROPPED_SHARE * len(pairs))]}
    return [i for i in chosen if i not in worst]


async def _iteration(
    outcomes: list[IterationOutcome], model: SplatModel, setting: _Setting
) -> IterationOutcome:
    """Render, enhance, optimise, score. The caller decides about acceptance."""
    k, started = len(outcomes), time.perf_counter()
    views, options, ports = setting.views, setting.options, setting.ports
    strength = _strength(options, outcomes)
    shown = _shown(views)

    await setting.enter("enhance", k)
    wanted = _chosen(outcomes, shown, options.views_to_refine)
    drawn = await ports.splats.render(model, views.cameras.select(wanted), with_depth=True)
    renders = replace(drawn, views=tuple(wanted))
    # Other noise in every round: what an engine invents at a pixel does not come again there.
    settings = EnhanceSettings(
        strength, derived_seed(options.seed, k), options.prompt, options.negative_prompt
    )
    done, enhanced, failures = await _enhance(renders, settings, setting)
    before = renders.images[[wanted.index(i) for i in done]]

    await setting.enter("refine", k)
    request = RefineRequest(
        model=model,
        originals=replace(
            views.select(shown),
            auxiliary=views.auxiliary,
            photos=views.photos,
            registrations=views.registrations,
        ),
        enhanced=enhanced.images,
        enhanced_views=tuple(shown.index(i) for i in done),
        learning_rate=options.learning_rate,
        iterations=options.steps_per_iteration,
        # Another iteration draws other views; the seed makes the sequence repeatable.
        seed=options.seed + k,
        depths=DepthMaps(
            setting.depths.depth[shown], setting.depths.confidence[shown], setting.depths.engine
        ),
    )
    improvement = await ports.splats.improve(request, setting.journal.report)
    scores = await ports.splats.evaluate(improvement.model, setting.references)
    after = await ports.splats.render(improvement.model, views.cameras.select(done))
    return IterationOutcome(
        iteration=k,
        accepted=True,
        scores=scores,
        model=improvement.model,
        enhance_engine=enhanced.engine,
        strength=strength,
        learning_rate=options.learning_rate,
        seconds=time.perf_counter() - started,
        enhanced=enhanced.images,
        before=before,
        after=after.images,
        enhanced_views=tuple(done),
        enhanced_weights=_rounded(improvement.enhanced_weights),
        view_weights=dict(zip(shown, _rounded(improvement.view_weights), strict=True)),
        parameters=improvement.parameters,
        note=" ".join([*enhanced.notes, *failures]),
    )


def _rounded(weights: FloatArray) -> tuple[float, ...]:
    """As they are kept: a resumed attempt decides from the same numbers."""
    return tuple(round(float(weight), 4) for weight in weights)


async def _enhance(
    renders: Renders, settings: EnhanceSettings, setting: _Setting
) -> tuple[list[int], EnhancedImages, list[str]]:
    """Enhanced renders, of which views, and a sentence for each view that failed.

    All at once; where that fails, one by one, so that a view that cannot be enhanced is left out.

    Raises:
        ModelFailed: no view could be enhanced.
    """
    call, views = _enhancement(settings, setting), list(renders.names)
    try:
        enhanced = await call(renders)
        return views, enhanced, []
    except (ModelFailed, OutOfMemory) as error:
        if isinstance(error, _NOT_OF_A_VIEW) or len(views) == 1:
            raise
        log.warning("enhancement failed, views one by one: %s", error)
    done: list[int] = []
    kept: list[EnhancedImages] = []
    failures: list[str] = []
    last: ModelFailed | OutOfMemory | None = None
    for i, view in enumerate(views):
        try:
            one = await call(renders.select([i]))
        except (ModelFailed, OutOfMemory) as error:
            if isinstance(error, _NOT_OF_A_VIEW):
                raise
            log.warning("view %d was left out: %s", view, error)
            failures.append(f"View {view} was left out: {error.public}")
            last = error
        else:
            done.append(view)
            kept.append(one)
    if not kept:
        assert last is not None
        raise ModelFailed(
            f"No view could be enhanced: {last}",
            public=f"No view could be enhanced: {last.public}",
        ) from last
    images = np.concatenate([one.images for one in kept])
    return done, EnhancedImages(images, kept[0].engine, kept[0].notes), failures


def _enhancement(
    settings: EnhanceSettings, setting: _Setting
) -> Callable[[Renders], Awaitable[EnhancedImages]]:
    async def call(renders: Renders) -> EnhancedImages:
        report = setting.journal.report if len(renders.images) > 1 else ignore_progress
        enhanced = await setting.ports.enhancer.enhance(renders, settings, report)
        if enhanced.images.shape != renders.images.shape:
            raise ModelFailed.openly(f"The enhancer returned images {enhanced.images.shape}.")
        return enhanced

    return call
