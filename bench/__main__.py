"""`make bench`: every number of the README, measured here and now, medians, with its budget."""

from __future__ import annotations

import argparse
import os
import platform

from bench import exports, fit, quality, rasterizer, service
from bench.table import print_rows

BENCHES = {
    "rasterizer": ("Rasteriser", rasterizer.run),
    "fit": ("Fit of analytic objects", fit.run),
    "quality": ("Refinement", quality.run),
    "exports": ("Exports and previews", exports.run),
    "service": ("Service", service.run),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHES], help="default: all")
    names = parser.parse_args().names or list(BENCHES)
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {platform.platform()}")
    for name in names:
        title, run = BENCHES[name]
        print_rows(title, run())
