"""`python -m pipeline.native`: build the library now (images and CI do) and print its path."""

from __future__ import annotations

import sys

from pipeline.errors import Unavailable
from pipeline.native.compile import build_library


def main() -> int:
    try:
        sys.stdout.write(f"{build_library()}\n")
    except Unavailable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
