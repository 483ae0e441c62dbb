"""How much of something requests may hold at once: in all, and each client.

What is held for long (a stream, a wait, a photo, a download) has a budget of its own, so that none
of them keeps a quick request out. It does not know what is held, or routes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from starlette.requests import HTTPConnection

from serve_app.http.problems import TooManyAtOnce

#: How often somebody who waits looks for room.
_LOOK_S = 0.1


class Budget:
    """So much at once of one thing. What does not fit is refused; `taken_soon` tries for a while.

    Attributes:
        total: in this process.
        per_client: of it, for one client; at least 1.
        held: now.
    """

    def __init__(self, what: str, total: int, client_share: float) -> None:
        self._what = what
        self.total = total
        self.per_client = max(1, int(total * client_share))
        self.held = 0
        self._by_client: Counter[str] = Counter()

    @contextmanager
    def taken(self, client: str, amount: int = 1) -> Iterator[None]:
        """Hold `amount` for a client. One that could never fit counts as all that it may hold.

        Raises:
            TooManyAtOnce: there is not so much left.
        """
        amount = min(amount, self.per_client)
        if self._by_client[client] + amount > self.per_client:
            raise TooManyAtOnce(f"You have too many {self._what} at once; try again later.")
        if self.held + amount > self.total:
            raise TooManyAtOnce(f"There are too many {self._what} at once; try again later.")
        self.held += amount
        self._by_client[client] += amount
        try:
            yield
        finally:
            self.held -= amount
            self._by_client[client] -= amount
            if not self._by_client[client]:
                del self._by_client[client]


async def taken_soon(budget: Budget, client: str, amount: int, patience_s: float) -> ExitStack:
    """What `Budget.taken` holds, tried for a while: where others give back within seconds.

    Raises:
        TooManyAtOnce: there was no room for so long.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + patience_s
    while True:
        held = ExitStack()
        try:
            held.enter_context(budget.taken(client, amount))
        except TooManyAtOnce:
            if clock() >= end:
                raise
            await asyncio.sleep(_LOOK_S)
        else:
            return held


def client_of(connection: HTTPConnection, header: str | None) -> str:
    """Who asks, by what the proxy in front says in `header`, else by address: a word that tells
    clients apart and names nobody."""
    name = connection.headers.get(header) if header else None
    name = name or (connection.client.host if connection.client else "")
    return hashlib.sha256(name.encode()).hexdigest()[:16]
