"""How a long computation reports its progress and learns that it should stop.

It does not know who listens or who cancels: a progress bar, a job row or a test.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipeline.errors import Cancelled, GlimpseError

if TYPE_CHECKING:
    from pipeline.types import SplatModel

log = logging.getLogger(__name__)

#: Between two live models of one call: at least so long, and so many times what the last one took.
SHOW_PAUSE_S, SHOW_SHARE = 2.0, 20.0


@dataclass(frozen=True)
class Progress:
    """One report from inside a stage.

    `fraction` is 0..1 of that stage. `numbers` holds what a person would like to see beside
    the bar (loss, splat count), `preview` a small model of what there is so far, now and then.
    """

    fraction: float
    message: str = ""
    numbers: dict[str, float] = field(default_factory=dict)
    preview: SplatModel | None = None


#: Receives progress. Called from the thread that computes: it must be quick and not raise.
Report = Callable[[Progress], Any]


def ignore_progress(_progress: Progress) -> None:
    """A `Report` for callers that do not watch."""


def part_of(report: Report, start: float, end: float) -> Report:
    """A `Report` for a sub-task that fills `start..end` of what is reported to `report`."""
    span = end - start
    return lambda progress: report(replace(progress, fraction=start + span * progress.fraction))


def is_being_cancelled() -> bool:
    """Whether a CancelledError that has just been caught is meant for the running task.

    If not, it is how something ended that the task had awaited: a failure like others.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


class Showing:
    """When the next live model is due: rarely, so that a call is not longer for it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = -math.inf

    def model(self, make: Callable[[], SplatModel]) -> SplatModel | None:
        """What `make` makes; None, without asking it, before it is due, and where it cannot: the
        work goes on without."""
        began = self._clock()
        if began < self._next:
            return None
        made: SplatModel | None = None
        try:
            made = make()
        except Cancelled:
            raise
        except GlimpseError as error:
            log.warning("there is no live model this time: %s", error)
        now = self._clock()
        self._next = now + max(SHOW_PAUSE_S, SHOW_SHARE * (now - began))
        return made


@dataclass(frozen=True)
class Control:
    """Handed to every engine: check it between steps, report through it.

    Attributes:
        showing: of a call that somebody watches; None: no live models are made.
    """

    stop: threading.Event = field(default_factory=threading.Event)
    report_to: Report = ignore_progress
    showing: Showing | None = None

    def check(self) -> None:
        """Raise `Cancelled` if a stop was asked for."""
        if self.stop.is_set():
            raise Cancelled("The work was cancelled.")

    def step(self, fraction: float, message: str = "", **numbers: float) -> None:
        """Check for a stop, then report. Call it between steps of a loop."""
        self.check()
        self.report_to(Progress(min(max(fraction, 0.0), 1.0), message, numbers))

    def show(
        self, fraction: float, message: str, make: Callable[[], SplatModel], **numbers: float
    ) -> None:
        """As `step`, with a live model where somebody watches and it is due.

        Args:
            make: a small model of what there is so far. It must not change the work: a call that
                nobody watches never asks for it.
        """
        self.check()
        preview = None if self.showing is None else self.showing.model(make)
        self.report_to(Progress(min(max(fraction, 0.0), 1.0), message, numbers, preview))

    def part(self, start: float, end: float) -> Control:
        """The same control for a sub-task that fills `start..end` of this one."""
        return replace(self, report_to=part_of(self.report_to, start, end))


#: Of a computation that nobody watches or stops.
UNATTENDED = Control()
