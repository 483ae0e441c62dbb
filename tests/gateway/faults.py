"""What a test may do to the traffic, and what it sees of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Fault", "Faults", "Request"]


@dataclass(frozen=True)
class Request:
    """One request that reached the gateway; `role` is empty when its key or token is refused.

    Of headers that are not there: an empty text.
    """

    method: str
    path: str
    query: str
    role: str
    apikey: str = field(default="", repr=False)
    authorization: str = field(default="", repr=False)
    user_agent: str = ""


@dataclass
class Fault:
    """One planned fault; `status` None cuts the connection."""

    status: int | None
    times: int
    path: str
    method: str
    retry_after: str | None
    body: dict[str, Any]
    after_work: bool


class Faults:
    """Faults to come, oldest first; set from the tests' thread while the server runs in its own."""

    #: Added to every request.
    latency_s: float = 0.0

    def __init__(self, cut_all: Callable[[], None] = lambda: None) -> None:
        self._lock = threading.Lock()
        self._planned: list[Fault] = []
        self._cut_all = cut_all
        self.is_down = False

    def fail(
        self,
        *,
        status: int = 503,
        times: int = 1,
        path: str = "",
        method: str = "",
        retry_after: str | None = None,
        body: dict[str, Any] | None = None,
        after_work: bool = False,
    ) -> None:
        """The next `times` requests whose path contains `path` get this answer instead.

        The default body is the one of a proxy that cannot reach its service: not the JSON of
        PostgREST or of the Storage API. With `after_work` the work is done and committed, and only
        its answer is lost.
        """
        message = "An invalid response was received from the upstream server"
        self._plan(
            Fault(
                status, times, path, method, retry_after, body or {"message": message}, after_work
            )
        )

    def drop(
        self, *, times: int = 1, path: str = "", method: str = "", after_work: bool = False
    ) -> None:
        """The connections of the next `times` such requests are cut without an answer."""
        self._plan(Fault(None, times, path, method, None, {}, after_work))

    def down(self, is_down: bool) -> None:
        """While down, open connections are cut and new ones are cut at once."""
        self.is_down = is_down
        if is_down:
            self._cut_all()

    def clear(self) -> None:
        """No faults, no latency, not down."""
        with self._lock:
            self._planned.clear()
        self.latency_s = 0.0
        self.is_down = False

    def _plan(self, fault: Fault) -> None:
        with self._lock:
            self._planned.append(fault)

    def take(self, method: str, path: str) -> Fault | None:
        """The fault for this request; it counts as used."""
        with self._lock:
            for fault in self._planned:
                if fault.path in path and fault.method in ("", method):
                    fault.times -= 1
                    if fault.times <= 0:
                        self._planned.remove(fault)
                    return fault
        return None
