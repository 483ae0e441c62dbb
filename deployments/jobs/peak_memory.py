"""How much memory a process has had at most over a span of time, for spans that overlap.

The kernel and CUDA keep one high-water mark each. Every reading here notes the mark and starts it
anew, so that the peak of a span is the highest mark noted since it began. It does not know whose
span it is.
"""

from __future__ import annotations

import resource
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

#: Reads a high-water mark in bytes and starts it anew.
Gauge = Callable[[], int]

#: Marks older than this are forgotten: no stage lasts longer.
_KEPT_S = 24 * 3600.0

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


def resident_gauge() -> int:
    """Most resident memory of this process since the reading before, bytes.

    Where the kernel does not let the mark be reset, since the process began.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    with suppress(OSError, StopIteration):
        lines = _STATUS.read_text().splitlines()
        peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
        _CLEAR_REFS.write_text("5")  # resets VmHWM: man 5 proc
    return peak


class PeakMemory:
    """The log of one process's marks.

    Args:
        gauges: by name; "" is the process's own memory.
    """

    def __init__(self, gauges: Mapping[str, Gauge] | None = None) -> None:
        self._gauges = {"": resident_gauge} if gauges is None else dict(gauges)
        self._marks: deque[tuple[float, dict[str, int]]] = deque()

    def mark(self) -> None:
        """A span begins: what was before is not part of it."""
        now = time.monotonic()
        self._marks.append((now, {name: gauge() for name, gauge in self._gauges.items()}))
        while self._marks[0][0] < now - _KEPT_S:
            self._marks.popleft()

    def peaks(self, span_s: float) -> dict[str, int]:
        """Most bytes over the last `span_s` seconds, by gauge."""
        began = time.monotonic() - span_s
        self.mark()
        inside = [peaks for at, peaks in self._marks if at >= began]
        return {name: max(peaks[name] for peaks in inside) for name in self._gauges}
