"""`make bench`: every number of the README, measured here and now, medians, with its budget."""

from __future__ import annotations

import argparse
import importlib
import os
import platform

from bench.table import print_rows

#: Modules of this package and their titles. `gpu` runs only when it is named: it needs one.
BENCHES = {
    "rasterizer": "Rasteriser",
    "fit": "Fit of analytic objects",
    "quality": "Refinement",
    "exports": "Exports and previews",
    "service": "Service",
    "gpu": "GPU engines",
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHES], help="default: all but gpu")
    names = parser.parse_args().names or [name for name in BENCHES if name != "gpu"]
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {platform.platform()}")
    for name in names:
        # Imported one by one: only the service needs Ray, and only the GPU engines diffusers.
        print_rows(BENCHES[name], importlib.import_module(f"bench.{name}").run())
