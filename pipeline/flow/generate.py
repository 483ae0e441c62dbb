"""One cut-out photo to the first splat model: views, depth, photos, splats, or the best of several;
or by a generator that makes the model itself.

It reads like the description of the method and knows its neighbours only as ports: not where
models run, not where results are kept.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np

from pipeline.control import Report, part_of
from pipeline.errors import ModelFailed
from pipeline.flow.contest import Trial, hold_contest, tried
from pipeline.flow.generated_model import (
    draw_views,
    drawn_depths,
    make_generated,
    placed_photos,
)
from pipeline.flow.given_photos import Photos, register
from pipeline.flow.references import held_out_references
from pipeline.journals import Candidate, GenerateJournal
from pipeline.options import GenerateOptions
from pipeline.ports import Ports
from pipeline.requests import FitRequest, ViewRequest, WholePhoto
from pipeline.rig import HELD_OUT_VIEWS
from pipeline.types import Cutout, DepthMaps, FurtherPhoto, Scores, SplatModel, ViewSet

log = logging.getLogger(__name__)

#: Where each stage begins and ends in the progress of the whole job; from stage seconds measured
#: on two cores with the embedded engines. What is left is for the previews, which others make.
STAGE_SPANS = {
    "views": (0.0, 0.10),
    "depth": (0.10, 0.12),
    "photos": (0.12, 0.16),
    "splats": (0.16, 0.75),
}

#: The same of a generation by a generator; guesses, until a card is measured.
GENERATOR_SPANS = {
    "generator": (0.0, 0.55),
    "views": (0.55, 0.63),
    "depth": (0.63, 0.65),
    "photos": (0.65, 0.68),
    "splats": (0.68, 0.75),
}

#: The same of the stage that tries and compares several candidates; the best is fitted after it.
CANDIDATES_SPAN = (0.0, 0.5)

T = TypeVar("T")


@dataclass(frozen=True)
class GenerateResult:
    """What a generation made.

    Attributes:
        scores: on the held-out views.
        ranking: best first, empty where there was one candidate.
    """

    views: ViewSet
    depths: DepthMaps
    model: SplatModel
    scores: Scores
    ranking: tuple[Candidate, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences a user should read: of the views, the depth and the scores."""
        return (*self.views.notes, *self.depths.notes, *self.scores.notes)


async def generate(
    cutout: Cutout,
    options: GenerateOptions,
    ports: Ports,
    journal: GenerateJournal,
    *,
    photos: tuple[FurtherPhoto, ...] = (),
    whole: tuple[WholePhoto, ...] = (),
) -> GenerateResult:
    """Views, depth, photos, splats; each stage is saved before the next begins, and skipped when it
    is there already.

    Several candidates are tried and compared before anything is saved: first the ranking, then
    the stages of the best one, which is what its seed alone gives. An attempt that is interrupted
    before the ranking is saved begins anew; one that is interrupted after it goes on with the
    chosen seed.

    Args:
        photos: further photos of the object.
        whole: all photos at their own resolution; for a generator.

    Raises:
        ModelFailed: an engine raised or returned something that cannot be used.
        Cancelled: the engines were stopped.
        GlimpseError: whatever the journal raises.
    """
    given = Photos(cutout, photos, whole)
    if options.by_generator:
        return await _by_generator(given, options, ports, journal)
    if options.candidates == 1:
        return await _stages(given, options, ports, journal)
    ranking = await journal.load_ranking()
    if ranking is None:
        await journal.enter("candidates", *CANDIDATES_SPAN)
        attempt = partial(_try, given, ports)
        contest = hold_contest(options, attempt, journal.report)
        (ranking, best), seconds = await _timed(contest)
        await journal.save_ranking(ranking, seconds)
        await _keep(best, journal)
        chosen = replace(options, seed=_winner(ranking), candidates=1)
        span = CANDIDATES_SPAN[1], STAGE_SPANS["splats"][1]
        result = await _splats(
            best.photos.on(best.views), best.depths, chosen, ports, journal, span
        )
    else:
        chosen = replace(options, seed=_winner(ranking), candidates=1)
        result = await _stages(given, chosen, ports, journal)
    return replace(result, ranking=ranking)


def _winner(ranking: tuple[Candidate, ...]) -> int:
    return next(candidate.seed for candidate in ranking if candidate.chosen)


async def _stages(
    given: Photos, options: GenerateOptions, ports: Ports, journal: GenerateJournal
) -> GenerateResult:
    """One model; each stage is saved before the next begins and skipped when saved."""
    make_views = partial(_make_views, given, options, ports, journal.report)
    views = await _stage("views", journal, journal.load_views, make_views, journal.save_views)
    make_depths = partial(_make_depths, views, ports, journal.report)
    depths = await _stage("depth", journal, journal.load_depths, make_depths, journal.save_depths)
    find = partial(register, given, views, depths, options, ports, journal.report)
    photos = await _stage("photos", journal, journal.load_photos, find, journal.save_photos)
    return await _splats(photos.on(views), depths, options, ports, journal)


async def _by_generator(
    given: Photos, options: GenerateOptions, ports: Ports, journal: GenerateJournal
) -> GenerateResult:
    """The same stages behind one that makes the model, of which the others are pictures."""
    report, stage = journal.report, partial(_stage, spans=GENERATOR_SPANS)
    make = partial(make_generated, given, options, ports, journal, report)
    made = await stage("generator", journal, journal.load_generated, make, journal.save_generated)
    draw = partial(draw_views, made, ports)
    views = await stage("views", journal, journal.load_views, draw, journal.save_views)
    see = partial(drawn_depths, views)
    depths = await stage("depth", journal, journal.load_depths, see, journal.save_depths)
    find = partial(placed_photos, made, given, views, depths, options, ports, report)
    photos = await stage("photos", journal, journal.load_photos, find, journal.save_photos)
    views = photos.on(views)
    await journal.enter("splats", *GENERATOR_SPANS["splats"])
    judging = ports.splats.evaluate(made.model, held_out_references(views, depths))
    scores, seconds = await _timed(judging)
    if await journal.load_model() is None:
        await journal.save_model(made.model, scores, made.engine, seconds)
    return GenerateResult(views, depths, made.model, scores)


async def _splats(
    views: ViewSet,
    depths: DepthMaps,
    options: GenerateOptions,
    ports: Ports,
    journal: GenerateJournal,
    span: tuple[float, float] = STAGE_SPANS["splats"],
) -> GenerateResult:
    """The last stage: the model, fitted to all that is known."""
    await journal.enter("splats", *span)
    saved = await journal.load_model()
    if saved is not None:
        scores = await ports.splats.evaluate(saved, held_out_references(views, depths))
        return GenerateResult(views, depths, saved, scores)
    made = _make_model(views, depths, options, ports, journal.report)
    (model, scores), seconds = await _timed(made)
    await journal.save_model(model, scores, await ports.splats.engine_name(), seconds)
    return GenerateResult(views, depths, model, scores)


async def _stage(
    name: str,
    journal: GenerateJournal,
    load: Callable[[], Awaitable[T | None]],
    make: Callable[[], Awaitable[T]],
    save: Callable[[T, float], Awaitable[None]],
    spans: Mapping[str, tuple[float, float]] = STAGE_SPANS,
) -> T:
    """What an earlier attempt saved, or else is made now and saved."""
    await journal.enter(name, *spans[name])
    saved = await load()
    if saved is not None:
        return saved
    made, seconds = await _timed(make())
    await save(made, seconds)
    return made


async def _keep(best: Trial, journal: GenerateJournal) -> None:
    """The first stages of the chosen candidate; none of them can be there before the ranking is."""
    end = CANDIDATES_SPAN[1]
    await journal.enter("views", end, end)
    await journal.save_views(best.views, best.seconds["views"])
    await journal.enter("depth", end, end)
    await journal.save_depths(best.depths, best.seconds["depth"])
    await journal.enter("photos", end, end)
    await journal.save_photos(best.photos, best.seconds["photos"])


async def _timed(work: Awaitable[T]) -> tuple[T, float]:
    """A result and the seconds it took."""
    started = time.perf_counter()
    result = await work
    return result, time.perf_counter() - started


async def _make_views(
    given: Photos, options: GenerateOptions, ports: Ports, report: Report
) -> ViewSet:
    request = ViewRequest(
        given.cutout,
        options.elevation_deg,
        options.seed,
        options.steps,
        options.guidance_scale,
        options.sampler,
        given.further,
    )
    views = await ports.views.synthesize_views(request, report)
    if not (views.alphas > 127).any(axis=(1, 2)).all():
        raise ModelFailed.openly(f"The {views.engine} engine returned an empty view.")
    if given.further and not views.registrations:
        note = (
            f"The {views.engine} engine made the views from the first photo alone; "
            "the others are targets of the fit."
        )
        views = replace(views, notes=(*views.notes, note))
    if views.photos is not None and views.photos.images.shape[1:] != views.images.shape[1:]:
        raise ModelFailed.openly(
            f"The {views.engine} engine returned the photos as {views.photos.images.shape}."
        )
    return views


async def _make_depths(views: ViewSet, ports: Ports, report: Report) -> DepthMaps:
    depths = await _estimated_depths(views, ports, report)
    if (depths.confidence > 0).any():
        return depths
    # No reason to fail: the first splats stand on the silhouettes then.
    note = "No depth was found in any view: the first splats stand on the outlines alone."
    return replace(depths, notes=(*depths.notes, note))


async def _estimated_depths(views: ViewSet, ports: Ports, report: Report) -> DepthMaps:
    """Of every view; where some were struck out, as if the others were all, and nothing there."""
    if not views.struck:
        return await ports.depth.estimate_depth(views, report)
    left = [i for i in range(len(views)) if i not in views.struck]
    further = {name: getattr(views, name) for name in ("auxiliary", "photos", "registrations")}
    found = await ports.depth.estimate_depth(replace(views.select(left), **further), report)
    depth, confidence = (np.zeros(views.alphas.shape, np.float32) for _ in range(2))
    depth[left], confidence[left] = found.depth, found.confidence
    note = f"Views struck out, and without depth: {', '.join(map(str, views.struck))}."
    return DepthMaps(depth, confidence, found.engine, (*found.notes, note))


async def _make_model(
    views: ViewSet, depths: DepthMaps, options: GenerateOptions, ports: Ports, report: Report
) -> tuple[SplatModel, Scores]:
    request = FitRequest(
        views=views,
        depths=depths,
        held_out=tuple(sorted({*HELD_OUT_VIEWS, *views.struck})),
        num_gaussians=options.splat_count,
        iterations=options.fit_iterations,
        seed=options.seed,
    )
    model = await ports.splats.reconstruct(request, report)
    return model, await ports.splats.evaluate(model, held_out_references(views, depths))


async def _try(given: Photos, ports: Ports, options: GenerateOptions, report: Report) -> Trial:
    """The trial of one candidate, saved nowhere. `report` gets the progress of the whole."""
    end = STAGE_SPANS["splats"][1]

    def within(stage: str) -> Report:
        return part_of(report, *(share / end for share in STAGE_SPANS[stage]))

    views, views_s = await _timed(_make_views(given, options, ports, within("views")))
    depths, depth_s = await _timed(_make_depths(views, ports, within("depth")))
    finding = register(given, views, depths, options, ports, within("photos"))
    photos, photos_s = await _timed(finding)
    seconds = {"views": views_s, "depth": depth_s, "photos": photos_s}
    return await tried(views, depths, photos, options, ports, within("splats"), seconds)
