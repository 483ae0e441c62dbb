"""Services that are to run for ever beside each other: one that crashes is started again, alone.

It does not know what a service does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pipeline.errors import GlimpseError

log = logging.getLogger("ray.serve")

#: Before a service is started again: after its first crash, and at most. Each pause is twice the
#: one before.
_PAUSE_S = (1.0, 60.0)

#: Crashes count as one series unless the service ran for so long in between.
_CALM_S = 300.0


def restart_pause_s(crashes: int) -> float:
    """Until a service that crashed so many times in a row, once at least, is started again."""
    first_s, longest_s = _PAUSE_S
    return min(first_s * 2.0 ** min(crashes - 1, 30), longest_s)


@dataclass(frozen=True)
class ServiceState:
    """How a service is.

    Attributes:
        running: False while it waits to be started again.
        crashes: in a row, the newest series; 0 after a calm time.
        last_error: of the newest crash of the series; empty without one.
    """

    running: bool
    crashes: int = 0
    last_error: str = ""


class Supervised:
    """One service, and how often it crashed."""

    def __init__(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """`run` is not meant to return."""
        self.name = name
        self._run = run
        self._began: float | None = None
        self._crashes = 0
        self._last_error = ""

    @property
    def state(self) -> ServiceState:
        """As it is now."""
        running = self._began is not None
        if self._is_calm():
            return ServiceState(running)
        return ServiceState(running, self._crashes, self._last_error)

    def _is_calm(self) -> bool:
        return self._began is not None and time.monotonic() - self._began > _CALM_S

    async def keep(self) -> None:
        """Run the service, and again whenever it ends. Returns only by being cancelled."""
        while True:
            self._began = time.monotonic()
            try:
                await self._run()
                raise RuntimeError("it ended by itself")
            except Exception as error:
                self._crashes = 1 if self._is_calm() else self._crashes + 1
                self._last_error = repr(error)
                self._began = None
                pause_s = restart_pause_s(self._crashes)
                log.exception(
                    "the %s crashed, %d times in a row: it starts again in %g s",
                    self.name,
                    self._crashes,
                    pause_s,
                )
            await asyncio.sleep(pause_s)


async def repeat(chore: Callable[[], Awaitable[None]], pause_s: float) -> None:
    """Do a chore for ever. What the store or the network refuses today may work in a moment."""
    while True:
        try:
            await chore()
        except GlimpseError as error:
            log.warning("a chore is put off: %s", error)
        await asyncio.sleep(pause_s)
