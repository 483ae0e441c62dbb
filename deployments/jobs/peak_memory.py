"""How much memory a process has had at most over a span of time, for spans that overlap.

The kernel and CUDA keep one high-water mark each. Every reading here notes the mark and starts it
anew, so that the peak of a span is the highest mark noted since it began. It does not know whose
span it is.
"""

from __future__ import annotations

import resource
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

#: Reads a high-water mark in bytes and starts it anew.
Gauge = Callable[[], int]

#: Marks older than this are forgotten: no stage lasts longer.
_KEPT_S = 24 * 3600.0

#: Of one gauge, where memory falls from mark to mark without end.
_MOST_MARKS = 4096

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


@dataclass
class _Falling:
    """The marks of one gauge that can still be the highest of a span that ends now.

    A mark that is not higher than a later one never is: every span with it has the later one, too.
    What is left falls from mark to mark, so the first one of a span is its highest.
    """

    times: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)

    def add(self, now: float, peak: int) -> None:
        while self.peaks and self.peaks[-1] <= peak:
            self.times.pop()
            self.peaks.pop()
        self.times.append(now)
        self.peaks.append(peak)
        if len(self.times) > _MOST_MARKS or self.times[0] < now - _KEPT_S:
            kept = max(bisect_left(self.times, now - _KEPT_S), len(self.times) - _MOST_MARKS)
            del self.times[:kept], self.peaks[:kept]

    def highest_since(self, began: float) -> int:
        """Of a span with at least one mark."""
        return self.peaks[bisect_left(self.times, began)]


class PeakMemory:
    """The log of one process's marks.

    Args:
        gauges: by name; "" is the process's own memory.
    """

    def __init__(self, gauges: Mapping[str, Gauge] | None = None) -> None:
        self._gauges = {"": resident_gauge} if gauges is None else dict(gauges)
        self._marks = {name: _Falling() for name in self._gauges}

    def mark(self) -> None:
        """A span begins: what was before is not part of it."""
        now = time.monotonic()
        for name, gauge in self._gauges.items():
            self._marks[name].add(now, gauge())

    def peaks(self, span_s: float) -> dict[str, int]:
        """Most bytes over the last `span_s` seconds, by gauge."""
        began = time.monotonic() - span_s
        self.mark()
        return {name: marks.highest_since(began) for name, marks in self._marks.items()}

    def __len__(self) -> int:
        """Marks that are kept."""
        return sum(len(marks.times) for marks in self._marks.values())
