"""Where an attempt stands: stage, step and share of the whole job.

It does not know who publishes it, nor what the stages do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.control import Progress
from pipeline.types import SplatModel

#: Gets the stage, the step and a small model of what there is so far.
OnPreview = Callable[[str, str, SplatModel], None]


class StageProgress:
    """What a heartbeat publishes.

    Attributes:
        stage: name of the stage that was entered last.
        step: what it does, a few words; empty when it does not say.
        fraction: 0..1 of the whole job; never falls.
        entered: set when a stage begins, so that its name is published at once.
        on_preview: gets live models, with the stage and the step that they are of.
    """

    def __init__(self, on_stage: Callable[[], None] = lambda: None) -> None:
        """`on_stage` is called when another stage begins."""
        self.on_preview: OnPreview = lambda _stage, _step, _model: None
        self.stage = "start"
        self.step = ""
        self.fraction = 0.0
        self.entered = asyncio.Event()
        self._on_stage = on_stage
        self._span = (0.0, 0.0)
        self._window = (0.0, 1.0)

    async def enter(self, stage: str, start: float, end: float) -> None:
        """A stage begins; it fills `start`..`end` (0..1) of the whole job."""
        low, high = self._window
        self._span = (low + (high - low) * start, low + (high - low) * end)
        if stage != self.stage:
            self._on_stage()
        self.stage, self.step, self.fraction = stage, "", max(self.fraction, self._span[0])
        self.entered.set()

    @contextmanager
    def within(self, start: float, end: float) -> Iterator[None]:
        """Stages entered inside fill `start`..`end` of the job where they say 0..1."""
        self._window = (start, end)
        try:
            yield
        finally:
            self._window = (0.0, 1.0)

    def report(self, progress: Progress) -> None:
        """Progress inside the stage that was entered last."""
        start, end = self._span
        self.fraction = max(self.fraction, start + (end - start) * progress.fraction)
        self.step = progress.message
        if progress.preview is not None:
            self.on_preview(self.stage, self.step, progress.preview)
