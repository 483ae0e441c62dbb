"""`make bench`: every number of the README, measured here and now, medians, with its budget."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench.table import Row, machine, print_rows, write_rows

#: Modules of this package and their titles.
BENCHES = {
    "rasterizer": "Rasteriser",
    "fit": "Fit of analytic objects",
    "fit_generalises": "Views that nobody fitted",
    "quality": "Refinement",
    "quality_calibration": "Quality against the truth",
    "exports": "Exports and previews",
    "service": "Service",
    "serving": "Serving many",
    "store": "Supabase store",
    "gpu": "GPU engines",
}

#: These run only when they are named: they take minutes, or need a GPU.
ON_DEMAND = ("serving", "store", "gpu", "quality", "quality_calibration", "fit_generalises")


def _split(words: str) -> list[str]:
    return [word.strip() for word in words.split(",") if word.strip()]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    # Without `choices`: they would refuse that no name is given.
    parser.add_argument(
        "names",
        nargs="*",
        metavar="name",
        help=f"of {', '.join(BENCHES)}; default: all but {', '.join(ON_DEMAND)}",
    )
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--only", type=_split, metavar="PART,...", help="parts of serving")
    parser.add_argument("--quick", action="store_true", help="serving: small, to see that it runs")
    given = parser.parse_args()
    names = given.names or [name for name in BENCHES if name not in ON_DEMAND]
    if unknown := [name for name in names if name not in BENCHES]:
        parser.error(f"there is no bench {unknown[0]!r}: there are {', '.join(BENCHES)}")
    if (given.only or given.quick) and names != ["serving"]:
        parser.error("--only and --quick are of serving alone")

    if given.only:
        from bench.serving import PARTS

        if unknown := [part for part in given.only if part not in PARTS]:
            parser.error(f"there is no part {unknown[0]!r}: there are {', '.join(PARTS)}")
    # What is stopped stops what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))

    here = machine()
    print(f"{here['machine']}, {here['cores']} cores, {here['platform']}")
    began, tables = datetime.now(UTC), {}
    for name in names:
        # Imported one by one: only the service needs Ray, and only the GPU engines diffusers.
        run: Callable[..., list[Row]] = importlib.import_module(f"bench.{name}").run
        if name == "serving":
            run = partial(run, only=given.only, quick=given.quick)
        tables[BENCHES[name]] = run()
        print_rows(BENCHES[name], tables[BENCHES[name]])
        if given.json:
            # After every table: an hour's numbers must not be lost with the last bench.
            write_rows(given.json, began, tables)


if __name__ == "__main__":
    main()
