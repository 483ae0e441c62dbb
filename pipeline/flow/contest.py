"""Which of several candidates becomes the model: tried without the photos, which then judge them.

A trial is a small fit that sees views alone, so how far it shows what a photo shows is a fact about
the views, not about the fit. It does not know how views are made or what becomes of the winner.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from pipeline.control import Progress, Report
from pipeline.errors import GlimpseError
from pipeline.flow.references import held_out_references
from pipeline.geometry.cameras import rig_cameras
from pipeline.imaging.data_uri import jpeg_uri
from pipeline.imaging.psnr import psnr
from pipeline.journals import Candidate
from pipeline.options import GenerateOptions
from pipeline.ports import Ports
from pipeline.requests import FitRequest, RegisteredPhotos
from pipeline.rig import HELD_OUT_VIEWS
from pipeline.seeds import SEED_LIMIT
from pipeline.types import DepthMaps, FloatArray, Scores, UInt8Array, ViewSet

log = logging.getLogger(__name__)

#: Splats and steps of a trial, at most: those of a draft.
TRIAL_SPLATS, TRIAL_STEPS = 8_000, 100

#: Candidates under way at once. Engines in one process share a lane and gain nothing from more;
#: on a cluster one candidate's views are made while another is fitted. Each holds its views.
_SIDE_BY_SIDE = 2

#: Side of the pictures in which candidates are compared with each other.
_SIDE = 64

#: Photos decide in steps of so many dB, then the model's consistency in steps of this share: what
#: differs by less is chance.
_PSNR_STEP_DB, _CONSISTENCY_STEP = 0.25, 0.05


@dataclass(frozen=True)
class Trial:
    """What was made of one seed.

    Attributes:
        views: as their engine made them.
        photos: as they were registered.
        seconds: of the views, the depth and the photos, by stage.
        scores: of the small fit, which saw no photo.
        sides: uint8 [16, 64, 64, 3], it from the rig.
        picture: of it from the first photo's camera, as a data URI.
    """

    views: ViewSet
    depths: DepthMaps
    photos: RegisteredPhotos
    seconds: Mapping[str, float]
    scores: Scores
    sides: UInt8Array
    picture: str = ""


async def tried(
    views: ViewSet,
    depths: DepthMaps,
    photos: RegisteredPhotos,
    options: GenerateOptions,
    ports: Ports,
    report: Report,
    seconds: Mapping[str, float],
) -> Trial:
    """A small fit to the views without the photos.

    Args:
        seconds: that the views, the depth and the photos took.
    """
    shown = photos.on(views)
    request = FitRequest(
        views=replace(views, photos=None, registrations=()),
        depths=depths,
        held_out=HELD_OUT_VIEWS,
        num_gaussians=min(options.splat_count, TRIAL_SPLATS),
        iterations=min(options.fit_iterations, TRIAL_STEPS),
        seed=options.seed,
    )
    model = await ports.splats.reconstruct(request, report)
    scores = await ports.splats.evaluate(model, held_out_references(shown, depths))
    sides = (await ports.splats.render(model, rig_cameras(_SIDE))).images
    picture = ""
    if shown.photos is not None:
        renders = await ports.splats.render(model, shown.photos.cameras.select([0]))
        picture = await asyncio.to_thread(jpeg_uri, renders.images[0])
    return Trial(views, depths, photos, seconds, scores, sides, picture)


async def hold_contest(
    options: GenerateOptions,
    attempt: Callable[[GenerateOptions, Report], Awaitable[Trial]],
    report: Report,
) -> tuple[tuple[Candidate, ...], Trial]:
    """Candidates with consecutive seeds, side by side; the ranking and the best of them.

    Args:
        attempt: makes the trial of the options' seed.

    Raises:
        GlimpseError: of the first candidate, where every one failed.
        GlimpseError: that ends the attempt (`GlimpseError.ends_attempt`), of any of them; the
            others are stopped.
    """
    contest = _Contest(options, report)
    waiting = iter(range(options.candidates))

    async def work() -> None:
        for index in waiting:
            mine = replace(options, seed=contest.seed(index), candidates=1)
            try:
                # Not by a name of its own here, which would keep it until the next is made.
                contest.finished(index, await attempt(mine, contest.report_of(index)))
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


def ranked(scores: Mapping[int, Scores]) -> list[int]:
    """The keys, best first.

    The photos come first, which no trial saw: how many fit their views, as those that leave out
    a photo would else win by the others; then their mean PSNR in steps of .25 dB. Then comes the
    consistency of the model in steps of 5 %, and of equals the lower key: engines that rank their
    guesses give the likeliest to the first. Without photos it is the agreement with held-out views.
    """
    return sorted(scores, key=lambda key: (*_places(scores[key]), key))


def _places(scores: Scores) -> tuple[float, float, float]:
    """Lower is better."""
    shown, apart = photo_psnr(scores), scores.consistency
    if shown is None:
        return 0, -scores.view_agreement, 0.0
    if apart is None:
        steps = math.inf
    elif apart > 0:
        steps = math.floor(math.log(apart) / math.log(1 + _CONSISTENCY_STEP))
    else:
        steps = -math.inf
    return -len(scores.photos), -math.floor(shown / _PSNR_STEP_DB), steps


def photo_psnr(scores: Scores) -> float | None:
    """Mean over the photos, dB; None without one."""
    return float(np.mean([photo.psnr for photo in scores.photos])) if scores.photos else None


def _unit(images: UInt8Array) -> FloatArray:
    return (images / np.float32(255)).astype(np.float32)


class _Contest:
    """Scores and pictures of all candidates, and everything of the best so far; the others are let
    go."""

    def __init__(self, options: GenerateOptions, report: Report) -> None:
        self._options = options
        self._report = report
        self._fractions = [0.0] * options.candidates
        self._scores: dict[int, Scores] = {}
        self._pictures: dict[int, str] = {}
        self._sides: dict[int, UInt8Array] = {}
        self._errors: dict[int, GlimpseError] = {}
        self._best: Trial | None = None

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

    def finished(self, index: int, trial: Trial) -> None:
        self._scores[index] = trial.scores
        self._pictures[index] = trial.picture
        self._sides[index] = trial.sides
        if ranked(self._scores)[0] == index:
            self._best = trial
        shown = photo_psnr(trial.scores)
        said = "tried" if shown is None else f"{shown:.2f} dB from the photo that it did not see"
        self._advance(index, Progress(1.0, said))

    def _like_others(self, index: int) -> float | None:
        """Mean PSNR, dB, of a candidate's sides and those of each of the others."""
        mine = _unit(self._sides[index])
        others = [psnr(mine, _unit(o)) for key, o in self._sides.items() if key != index]
        return float(np.mean(others)) if others else None

    def best(self) -> Trial:
        if self._best is None:
            raise self._errors[min(self._errors)]
        return self._best

    def ranking(self) -> tuple[Candidate, ...]:
        """Those that failed come last."""
        order = ranked(self._scores)
        scored = [
            Candidate(
                seed=self.seed(i),
                view_agreement=self._scores[i].view_agreement,
                psnr=self._scores[i].psnr,
                ssim=self._scores[i].ssim,
                lpips=self._scores[i].lpips,
                chosen=i == order[0],
                photo_psnr=photo_psnr(self._scores[i]),
                consistency=self._scores[i].consistency,
                expected_likeness=self._scores[i].expected_likeness,
                like_others=self._like_others(i),
                picture=self._pictures[i],
            )
            for i in order
        ]
        failed = [
            Candidate(self.seed(i), None, None, None, None, False, f"{error.code}: {error.public}")
            for i, error in sorted(self._errors.items())
        ]
        return tuple(scored + failed)
