"""One worker thread per model, so that one device never runs two bodies at once.

A cancelled Serve call frees its slot while its thread still runs; the lane keeps the next call
waiting until the thread has returned. It does not know Ray or what runs in it.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from pipeline.control import Control, Progress, Report, Showing, ignore_progress
from pipeline.errors import TimedOut

T = TypeVar("T")


@dataclass
class _Body:
    """One piece of work, from its submission on. Times are of the monotonic clock."""

    stop: threading.Event = field(default_factory=threading.Event)
    started_at: float | None = None
    stopped_at: float | None = None

    def ask_to_stop(self) -> None:
        self.stop.set()
        self.stopped_at = time.monotonic()


class Lane:
    """Runs blocking work one after another off the event loop.

    Args:
        limit_s: longest that one piece of work may run, without the time it waits for its turn.
        shows: whether work may send live models with its progress.
    """

    def __init__(self, name: str, *, limit_s: float = math.inf, shows: bool = False) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"lane-{name}")
        self._limit_s = limit_s
        self._shows = shows
        self._running: _Body | None = None

    @property
    def stuck_s(self) -> float:
        """How long the work in the lane has gone on although it was asked to stop. Seconds."""
        running = self._running
        if running is None or running.stopped_at is None or running.started_at is None:
            return 0.0
        return time.monotonic() - max(running.stopped_at, running.started_at)

    async def run(self, work: Callable[[Control], T], report: Report = ignore_progress) -> T:
        """Run `work` in the lane's thread and await its result.

        Cancelling the awaiting task sets the control's stop: work that waits is dropped, work
        that runs ends at its next `Control.check`. `report` is called on the event loop.

        Raises:
            TimedOut: the work ran for longer than the lane's limit. It is asked to stop, and the
                lane stays busy until it does.
        """
        loop = asyncio.get_running_loop()
        own = _Body()

        def relay(progress: Progress) -> None:
            if not own.stop.is_set():
                loop.call_soon_threadsafe(report, progress)

        def body() -> T:
            own.started_at = time.monotonic()
            self._running = own
            try:
                control = Control(own.stop, relay, Showing() if self._shows else None)
                control.check()
                return work(control)
            finally:
                self._running = None

        future = loop.run_in_executor(self._pool, body)
        try:
            while not future.done():
                left_s = self._left_s(own)
                if left_s <= 0:
                    raise TimedOut.openly(f"An engine ran for more than {self._limit_s:g} s.")
                # Until the work has begun its end is not known: then look again.
                wait_s = None if math.isinf(self._limit_s) else left_s
                await asyncio.wait({future}, timeout=wait_s)
            return future.result()
        except (asyncio.CancelledError, TimedOut):
            own.ask_to_stop()
            future.cancel()  # drops work that waits for its turn
            raise

    def _left_s(self, body: _Body) -> float:
        if body.started_at is None:
            return self._limit_s
        return body.started_at + self._limit_s - time.monotonic()

    def close(self) -> None:
        """Refuse new work; what runs is left to end by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)
