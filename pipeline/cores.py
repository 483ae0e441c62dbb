"""How many cores this process may use, and how many its libraries are told to.

It does not know the libraries: whoever starts threads asks here, and `pipeline.flow.local` tells
those that count for themselves.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")

_limit: int | None = None


def usable_cores() -> int:
    """Cores this process may use, at least 1: its affinity, limited by the CPU quota of its control
    group and of every group above it (containers, systemd slices). A share of a core counts as a
    core."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = (len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()) or 1
    quota = _quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def worker_threads() -> int:
    """Threads that one computation of this process may take: what `limit_threads` said, or every
    usable core."""
    return usable_cores() if _limit is None else _limit


def limit_threads(count: int | None) -> None:
    """From now on at most `count` threads, at least 1; None takes the limit away."""
    global _limit  # noqa: PLW0603  # cores are the process's
    _limit = None if count is None else max(1, count)


def _quota() -> float | None:
    """CPUs granted by the control groups of this process, None without a limit."""
    granted = []
    for folder in _folders():
        # Version 2, then 1.
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        quota = quota or _read(folder / "cpu.cfs_quota_us")
        period = period or _read(folder / "cpu.cfs_period_us")
        try:
            if int(quota) > 0 and int(period) > 0:
                granted.append(int(quota) / int(period))
        except ValueError:  # "max", or no such file
            pass
    return min(granted, default=None)


def _folders() -> list[Path]:
    """Of the control groups that may limit the CPU: this process's own, and those above it."""
    found = {_CGROUPS, _CGROUPS / "cpu"}
    for line in _read(_OWN_CGROUP).splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = _CGROUPS / "cpu" if controllers else _CGROUPS
        own = root / path.lstrip("/")
        found |= {own, *(parent for parent in own.parents if parent.is_relative_to(root))}
    return sorted(found)


def _read(path: Path) -> str:
    try:
        # A group's name may be any bytes.
        return path.read_text(encoding="utf-8", errors="surrogateescape").strip()
    except OSError:
        return ""
