"""One cut-out photo to the first splat model: views, depth, splats, or the best of several.

It reads like the description of the method and knows its neighbours only as ports: not where
models run, not where results are kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from pipeline.control import Progress, Report, part_of
from pipeline.errors import GlimpseError, ModelFailed
from pipeline.flow.references import held_out_references
from pipeline.geometry.cameras import photo_camera
from pipeline.imaging.framing import picture_on_white
from pipeline.journals import Candidate, GenerateJournal
from pipeline.options import SEED_LIMIT, GenerateOptions
from pipeline.ports import Ports
from pipeline.requests import FitRequest, ViewRequest
from pipeline.rig import HELD_OUT_VIEWS
from pipeline.types import Cutout, DepthMaps, FurtherPhoto, Scores, SplatModel, ViewSet

log = logging.getLogger(__name__)

#: Where each stage begins and ends in the progress of the whole job; from stage seconds measured
#: on two cores with the embedded engines. What is left is for the previews, which others make.
STAGE_SPANS = {"views": (0.0, 0.10), "depth": (0.10, 0.12), "splats": (0.12, 0.75)}

#: The same of the stage that makes and compares several candidates; what follows it only saves.
CANDIDATES_SPAN = (0.0, 0.75)

#: Candidates under way at once. Engines in one process share a lane and gain nothing from more;
#: on a cluster one candidate's views are made while another is fitted. Each holds its views.
_SIDE_BY_SIDE = 2

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


def photo_view(cutout: Cutout, elevation_deg: float, views: ViewSet) -> ViewSet:
    """The cut-out on white as one view from `photo_camera(elevation_deg)`, as large as `views`: for
    engines that do not return it with a camera of their own."""
    size = views.cameras.width
    picture, alpha = picture_on_white(cutout, size)
    return ViewSet(
        images=picture[None],
        alphas=alpha[None],
        cameras=photo_camera(elevation_deg, size),
        engine=views.engine,
    )


async def generate(
    cutout: Cutout,
    options: GenerateOptions,
    ports: Ports,
    journal: GenerateJournal,
    *,
    photos: tuple[FurtherPhoto, ...] = (),
) -> GenerateResult:
    """Views, depth, splats; each stage is saved before the next begins and skipped when saved.

    Several candidates are made and compared before anything is saved: first the ranking, then
    the stages of the best one. An attempt that is interrupted before the ranking is saved begins
    anew; one that is interrupted after it goes on with the chosen seed alone.

    Args:
        photos: further photos of the object.

    Raises:
        ModelFailed: an engine raised or returned something that cannot be used.
        Cancelled: the engines were stopped.
        GlimpseError: whatever the journal raises.
    """
    given = Photos(cutout, photos)
    if options.candidates == 1:
        return await _stages(given, options, ports, journal)
    ranking = await journal.load_ranking()
    if ranking is None:
        (ranking, best), seconds = await _timed(_best_of(given, options, ports, journal))
        await journal.save_ranking(ranking, seconds)
        result = await _save(best, ports, journal)
    else:
        seed = next(candidate.seed for candidate in ranking if candidate.chosen)
        chosen = replace(options, seed=seed, candidates=1)
        result = await _stages(given, chosen, ports, journal)
    return replace(result, ranking=ranking)


@dataclass(frozen=True)
class Photos:
    """All photos of an object: the first one and the others."""

    cutout: Cutout
    further: tuple[FurtherPhoto, ...] = ()


@dataclass(frozen=True)
class _Made:
    """One candidate with everything that the journal wants to know; seconds by stage."""

    result: GenerateResult
    seconds: dict[str, float]


async def _stages(
    given: Photos, options: GenerateOptions, ports: Ports, journal: GenerateJournal
) -> GenerateResult:
    """One model; each stage is saved before the next begins and skipped when saved."""
    make_views = partial(_make_views, given, options, ports, journal.report)
    views = await _stage("views", journal, journal.load_views, make_views, journal.save_views)
    make_depths = partial(_make_depths, views, ports, journal.report)
    depths = await _stage("depth", journal, journal.load_depths, make_depths, journal.save_depths)
    await journal.enter("splats", *STAGE_SPANS["splats"])
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
) -> T:
    """What an earlier attempt saved, or else is made now and saved."""
    await journal.enter(name, *STAGE_SPANS[name])
    saved = await load()
    if saved is not None:
        return saved
    made, seconds = await _timed(make())
    await save(made, seconds)
    return made


async def _save(made: _Made, ports: Ports, journal: GenerateJournal) -> GenerateResult:
    """The stages of the chosen candidate; none of them can be there before the ranking is."""
    result, seconds, end = made.result, made.seconds, CANDIDATES_SPAN[1]
    await journal.enter("views", end, end)
    await journal.save_views(result.views, seconds["views"])
    await journal.enter("depth", end, end)
    await journal.save_depths(result.depths, seconds["depth"])
    await journal.enter("splats", end, end)
    engine = await ports.splats.engine_name()
    await journal.save_model(result.model, result.scores, engine, seconds["splats"])
    return result


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
        note = f"The {views.engine} engine made the views from the first photo alone."
        views = replace(views, notes=(*views.notes, note))
    if views.photos is None:
        first = photo_view(given.cutout, request.assumed_elevation_deg, views)
        return replace(views, photos=first)
    if views.photos.images.shape[1:] != views.images.shape[1:]:
        raise ModelFailed.openly(
            f"The {views.engine} engine returned the photos as {views.photos.images.shape}."
        )
    return views


async def _make_depths(views: ViewSet, ports: Ports, report: Report) -> DepthMaps:
    depths = await ports.depth.estimate_depth(views, report)
    if (depths.confidence > 0).any():
        return depths
    # No reason to fail: the first splats stand on the silhouettes then.
    note = "No depth was found in any view: the first splats stand on the outlines alone."
    return replace(depths, notes=(*depths.notes, note))


async def _make_model(
    views: ViewSet, depths: DepthMaps, options: GenerateOptions, ports: Ports, report: Report
) -> tuple[SplatModel, Scores]:
    request = FitRequest(
        views=views,
        depths=depths,
        held_out=HELD_OUT_VIEWS,
        num_gaussians=options.splat_count,
        iterations=options.fit_iterations,
        seed=options.seed,
    )
    model = await ports.splats.reconstruct(request, report)
    return model, await ports.splats.evaluate(model, held_out_references(views, depths))


async def _make(given: Photos, options: GenerateOptions, ports: Ports, report: Report) -> _Made:
    """All stages of one candidate, saved nowhere. `report` gets the progress of the whole."""
    end = STAGE_SPANS["splats"][1]

    def within(stage: str) -> Report:
        return part_of(report, *(share / end for share in STAGE_SPANS[stage]))

    views, views_s = await _timed(_make_views(given, options, ports, within("views")))
    depths, depth_s = await _timed(_make_depths(views, ports, within("depth")))
    fit = _make_model(views, depths, options, ports, within("splats"))
    (model, scores), splats_s = await _timed(fit)
    seconds = {"views": views_s, "depth": depth_s, "splats": splats_s}
    return _Made(GenerateResult(views, depths, model, scores), seconds)


async def _best_of(
    given: Photos, options: GenerateOptions, ports: Ports, journal: GenerateJournal
) -> tuple[tuple[Candidate, ...], _Made]:
    """Candidates with consecutive seeds, side by side; the ranking and the best of them.

    Raises:
        GlimpseError: of the first candidate, where every one failed.
        GlimpseError: that ends the attempt (`GlimpseError.ends_attempt`), of any of them; the
            others are stopped.
    """
    await journal.enter("candidates", *CANDIDATES_SPAN)
    contest = _Contest(options, journal.report)
    waiting = iter(range(options.candidates))

    async def work() -> None:
        for index in waiting:
            mine = replace(options, seed=contest.seed(index), candidates=1)
            try:
                # Not by a name of its own here, which would keep it until the next is made.
                contest.finished(index, await _make(given, mine, ports, contest.report_of(index)))
            except GlimpseError as error:
                if error.ends_attempt:
                    raise
                contest.failed(index, error)

    tasks = [asyncio.ensure_future(work()) for _ in range(_SIDE_BY_SIDE)]
    try:
        # Not a TaskGroup: callers want the error itself, not a group of them.
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return contest.ranking(), contest.best()


class _Contest:
    """Scores of all candidates, and everything of the best so far; the others are let go."""

    def __init__(self, options: GenerateOptions, report: Report) -> None:
        self._options = options
        self._report = report
        self._fractions = [0.0] * options.candidates
        self._scores: dict[int, Scores] = {}
        self._errors: dict[int, GlimpseError] = {}
        self._best: _Made | None = None

    def seed(self, index: int) -> int:
        return (self._options.seed + index) % SEED_LIMIT

    def report_of(self, index: int) -> Report:
        """Progress of all as the mean of each."""
        return partial(self._advance, index)

    def _advance(self, index: int, progress: Progress) -> None:
        self._fractions[index] = max(self._fractions[index], progress.fraction)
        count = len(self._fractions)
        message = f"candidate {index + 1} of {count}: {progress.message}".rstrip(": ")
        self._report(replace(progress, fraction=sum(self._fractions) / count, message=message))

    def failed(self, index: int, error: GlimpseError) -> None:
        # The ranking shows what clients may read of it.
        log.warning("candidate with seed %d failed: %s", self.seed(index), error)
        self._errors[index] = error
        self._advance(index, Progress(1.0, "failed"))

    def finished(self, index: int, made: _Made) -> None:
        self._scores[index] = made.result.scores
        if self._order()[0] == index:
            self._best = made
        agreement = made.result.scores.view_agreement
        self._advance(index, Progress(1.0, f"view agreement {agreement:.4f}"))

    def _order(self) -> list[int]:
        """Best first; of equals the one with the lower index."""
        return sorted(self._scores, key=lambda i: (-self._scores[i].view_agreement, i))

    def best(self) -> _Made:
        if self._best is None:
            raise self._errors[min(self._errors)]
        return self._best

    def ranking(self) -> tuple[Candidate, ...]:
        """Those that failed come last."""
        order = self._order()
        scored = [
            Candidate(
                seed=self.seed(i),
                view_agreement=self._scores[i].view_agreement,
                psnr=self._scores[i].psnr,
                ssim=self._scores[i].ssim,
                lpips=self._scores[i].lpips,
                chosen=i == order[0],
            )
            for i in order
        ]
        failed = [
            Candidate(self.seed(i), None, None, None, None, False, f"{error.code}: {error.public}")
            for i, error in sorted(self._errors.items())
        ]
        return tuple(scored + failed)
