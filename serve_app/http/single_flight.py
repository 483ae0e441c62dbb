"""Single-flight: one call for everybody who asks the same at the same time.

Many clients watch few projects: under load their questions meet, and the answer is worked out
once. It does not know what is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class SingleFlight:
    """Calls deduplicated by key; no caller gets an answer whose call began before it asked.

    A caller that asks while a call is running therefore waits for the next one, which all others
    that came in the meantime share.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[Any]] = {}
        self._next: dict[Hashable, asyncio.Task[Any]] = {}

    async def call(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """The answer of `work`, or of an equal call of another caller. Raises what that raises.

        A caller that stops waiting does not stop the call.
        """
        task = self._next.get(key)
        if task is None:
            task = self._next[key] = asyncio.create_task(self._run(key, work))
        return await asyncio.shield(task)

    async def _run(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        if (running := self._running.get(key)) is not None:
            await asyncio.wait({running})
        own = self._running[key] = self._next.pop(key)
        try:
            return await work()
        finally:
            if self._running.get(key) is own:
                del self._running[key]
