"""How a long computation reports its progress and learns that it should stop.

It does not know who listens or who cancels: a progress bar, a job row or a test.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.errors import Cancelled


@dataclass(frozen=True)
class Progress:
    """One report from inside a stage.

    `fraction` is 0..1 of that stage. `numbers` holds what a person would like to see beside
    the bar (loss, splat count).
    """

    fraction: float
    message: str = ""
    numbers: dict[str, float] = field(default_factory=dict)


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


@dataclass(frozen=True)
class Control:
    """Handed to every engine: check it between steps, report through it."""

    stop: threading.Event = field(default_factory=threading.Event)
    report_to: Report = ignore_progress

    def check(self) -> None:
        """Raise `Cancelled` if a stop was asked for."""
        if self.stop.is_set():
            raise Cancelled("The work was cancelled.")

    def step(self, fraction: float, message: str = "", **numbers: float) -> None:
        """Check for a stop, then report. Call it between steps of a loop."""
        self.check()
        self.report_to(Progress(min(max(fraction, 0.0), 1.0), message, numbers))

    def part(self, start: float, end: float) -> Control:
        """The same control for a sub-task that fills `start..end` of this one."""
        return Control(self.stop, part_of(self.report_to, start, end))


#: Of a computation that nobody watches or stops.
UNATTENDED = Control()
