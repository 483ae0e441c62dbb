"""Long calls as streams: small progress values, then the result.

Ray Serve delivers, cancels and fails a streamed call like any other (measured on 2.60:
docs/decisions.md). It does not know what is computed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.control import Progress, Report

__all__ = ["Finished", "Streamed", "stream"]

T = TypeVar("T")

#: Progress is for people: more values a second only cost time.
_PROGRESS_PERIOD_S = 0.2


@dataclass(frozen=True)
class Finished(Generic[T]):
    """Last item of a streamed call."""

    value: T


#: What a long call yields: progress, then exactly one `Finished`.
Streamed = AsyncGenerator[Progress | Finished[T], None]


async def stream(call: Callable[[Report], Awaitable[T]]) -> Streamed[T]:
    """Run a port's call; yield the newest progress now and then, and the result at the end.

    Closing or cancelling the generator cancels the call, and the lane stops at its next step.
    """
    newest: list[Progress] = []

    def keep(progress: Progress) -> None:
        newest[:] = [progress]

    async def body() -> T:
        return await call(keep)

    task = asyncio.ensure_future(body())
    try:
        while True:
            done, _ = await asyncio.wait({task}, timeout=_PROGRESS_PERIOD_S)
            if newest:
                yield newest.pop()
            if done:
                yield Finished(task.result())
                return
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
