"""One call for everybody who asks the same at the same time.

Many clients watch few projects: under load their questions meet, and the answer is worked out
once. It does not know what is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

__all__ = ["SharedCalls"]

T = TypeVar("T")


class SharedCalls:
    """Calls by key. Nobody gets an answer whose call had begun before he asked.

    Who asks while a call is under way therefore waits for the next one, which all others who came
    in the meantime share.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[Any]] = {}
        self._next: dict[Hashable, asyncio.Task[Any]] = {}

    async def call(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """The answer of `work`, or of an equal one of somebody else. Raises what that raises.

        Who stops waiting does not stop the call.
        """
        shared = self._next.get(key)
        if shared is None:
            shared = asyncio.create_task(self._run(key, work))
            self._next[key] = shared
        return await asyncio.shield(shared)

    async def _run(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        running = self._running.get(key)
        if running is not None:
            await asyncio.wait({running})
        own = self._next.pop(key)
        self._running[key] = own
        try:
            return await work()
        finally:
            if self._running.get(key) is own:
                del self._running[key]
