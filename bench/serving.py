"""The service under many: overhead, status under load, a long queue, a node that dies, cancelling.

Engines that sleep, so that the numbers are the service's own; real HTTP, real database, real Ray.
Every part runs in a process of its own, with a Ray cluster of its own.
`python -m bench serving --only overhead,queue --quick` runs some parts, and small ones.
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.table import Row

__all__ = ["PARTS", "run"]

#: Parts, and where each is measured.
PARTS = {
    "overhead": "bench.serving_alone:overhead",
    "status": "bench.serving_status:status",
    "queue": "bench.serving_queue:queue",
    "growth": "bench.serving_growth:growth",
    "nodes": "bench.serving_nodes:nodes",
    "cancel": "bench.serving_alone:cancel",
}

#: No part takes nearly as long: what does not end is a failure, and the others go on.
_LIMIT_S = 1800.0

#: A part that is stopped has so long to stop what it started.
_GRACE_S = 60.0


def run(*, only: Sequence[str] | None = None, quick: bool = False) -> list[Row]:
    """Rows of the bench. A part that fails is a row with its reason, and the others go on.

    Args:
        only: names of `PARTS`; None: all.
        quick: few and short jobs, to see that the bench runs: the numbers mean nothing.

    Raises:
        ValueError: a part that does not exist is named.
    """
    names = list(only) if only else list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        raise ValueError(f"there is no part {unknown[0]!r}: there are {', '.join(PARTS)}")
    rows: list[Row] = []
    for name in names:
        started = time.perf_counter()
        rows += _apart(name, quick)
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return rows


def _apart(name: str, quick: bool) -> list[Row]:
    """The rows of a part, measured in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="glimpse3d-bench-rows-") as folder:
        out = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "bench.serving", name, "--out", str(out)]
        process = subprocess.Popen([*command, *(["--quick"] if quick else [])])
        try:
            process.wait(_LIMIT_S)
        except subprocess.TimeoutExpired:
            return [_failed(name, f"It did not end within {_LIMIT_S:.0f} s.")]
        finally:
            _stop(process)
        if process.returncode != 0:
            return [_failed(name, f"It ended with {process.returncode}; the reason is above.")]
        return [Row(**row) for row in json.loads(out.read_text(encoding="utf-8"))]


def _failed(name: str, reason: str) -> Row:
    print(f"{name}: {reason}", file=sys.stderr, flush=True)
    return Row(f"{name}: failed", 1, "", 0, details={"reason": reason})


def _stop(process: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C would: it stops Ray and the database."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="One part, in this process.")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    module, _, function = PARTS[given.part].partition(":")
    rows: list[Row] = getattr(importlib.import_module(module), function)(quick=given.quick)
    given.out.write_text(json.dumps([asdict(row) for row in rows]), encoding="utf-8")


if __name__ == "__main__":
    main()
