"""Long calls as streams: small progress values, then the result.

Ray Serve delivers, cancels and fails a streamed call like any other (measured on 2.60:
docs/decisions.md). It does not know what is computed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from pipeline.control import Progress, Report
from pipeline.errors import Cancelled

T = TypeVar("T")

#: Progress is for people: more values a second only cost time.
_PROGRESS_PERIOD_S = 0.2

#: How often a long call asks whether its caller still lives.
_WANTED_PERIOD_S = 1.0


@dataclass(frozen=True)
class Finished(Generic[T]):
    """Last item of a streamed call."""

    value: T


#: What a long call yields: progress, then exactly one `Finished`.
Streamed = AsyncGenerator[Progress | Finished[T], None]


async def stream(
    call: Callable[[Report], Awaitable[T]], is_wanted: Callable[[], Awaitable[bool]]
) -> Streamed[T]:
    """Run a port's call; yield the newest progress now and then, and the result at the end.

    Closing or cancelling the generator cancels the call, and the lane stops at its next step.
    So does an `is_wanted` that answers False: Ray does not tell a callee that its caller died.
    """
    newest: list[Progress] = []

    def keep(progress: Progress) -> None:
        if newest and progress.preview is None:
            # A live model that has not gone out yet is worth more than the newest number alone.
            progress = replace(progress, preview=newest[0].preview)
        newest[:] = [progress]

    async def body() -> T:
        return await call(keep)

    task = asyncio.ensure_future(body())
    asked = time.monotonic()
    try:
        while True:
            done, _ = await asyncio.wait({task}, timeout=_PROGRESS_PERIOD_S)
            if time.monotonic() - asked > _WANTED_PERIOD_S:
                if not await is_wanted():
                    raise Cancelled("Nobody waits for the result any more.")
                asked = time.monotonic()
            if newest:
                yield newest.pop()
            if done:
                yield Finished(task.result())
                return
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
