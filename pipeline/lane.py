"""One worker thread per model, so that one device never runs two bodies at once.

A cancelled Serve call frees its slot while its thread still runs; the lane keeps the next call
waiting until the thread has returned. It does not know Ray or what runs in it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pipeline.control import Control, Progress, Report, ignore_progress

__all__ = ["Lane"]

T = TypeVar("T")


class Lane:
    """Runs blocking work one after another off the event loop."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"lane-{name}")
        self._busy_since: float | None = None

    @property
    def busy_s(self) -> float:
        """How long the work in the lane has been running, 0 when idle. Seconds."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    async def run(self, work: Callable[[Control], T], report: Report = ignore_progress) -> T:
        """Run `work` in the lane's thread and await its result.

        Cancelling the awaiting task sets the control's stop: work that waits is dropped, work
        that runs ends at its next `Control.check`. `report` is called on the event loop.
        """
        loop = asyncio.get_running_loop()
        stop = threading.Event()

        def relay(progress: Progress) -> None:
            if not stop.is_set():
                loop.call_soon_threadsafe(report, progress)

        def body() -> T:
            self._busy_since = time.monotonic()
            try:
                control = Control(stop, relay)
                control.check()
                return work(control)
            finally:
                self._busy_since = None

        try:
            return await loop.run_in_executor(self._pool, body)
        except asyncio.CancelledError:
            stop.set()
            raise

    def close(self) -> None:
        """Refuse new work; what runs is left to end by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)
