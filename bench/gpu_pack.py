"""What `python -m bench.gpu deg` needs, gathered in a folder for a machine without a network.

    python -m bench.gpu_pack FOLDER            # then copy FOLDER, and there: sh run.sh

Sources and wheels but torch: the machine has a build for its card. `--with-torch` takes the one of
the package index, some gigabytes, too. It does not know what is measured.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["PACKAGES", "gather", "pip_command"]

ROOT = Path(__file__).parents[1]
#: What the sources of the bench import; pip adds what these need.
PACKAGES = (
    "diffusers",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "pydantic",
    "rich",
    "safetensors",
    "scipy",
    "transformers",
)
_SOURCES = ("bench", "pipeline")
_TESTS = ("__init__.py", "random_deg.py")
_LEFT = shutil.ignore_patterns("__pycache__", "*.pyc", "*.so")

_RUN = """#!/bin/sh
# Installs the wheels beside this file into a folder of its own and measures.
set -e
cd "$(dirname "$0")"
python3 -m pip install --quiet --no-index --find-links wheels --no-deps --target site wheels/*.whl
PYTHONPATH="$PWD/source:$PWD/site" python3 -m bench.gpu deg --json deg.json "$@"
"""


def pip_command(wheels: Path, *, with_torch: bool = False) -> list[str]:
    """What fetches the wheels."""
    wanted = [*PACKAGES, *(["torch"] if with_torch else [])]
    pinned = ["--constraint", str(ROOT / "constraints.txt"), "--only-binary", ":all:"]
    return [sys.executable, "-m", "pip", "download", "--dest", str(wheels), *pinned, *wanted]


def gather(folder: Path, *, wheels: bool = True, with_torch: bool = False) -> None:
    """Fill a folder that is not there yet, or empty.

    Raises:
        FileExistsError: it has something in it.
        subprocess.CalledProcessError: pip could not fetch the wheels.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} has something in it: name another folder.")
    for name in _SOURCES:
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=_LEFT)
    (folder / "source/tests").mkdir()
    for name in _TESTS:
        shutil.copy(ROOT / "tests" / name, folder / "source/tests" / name)
    (folder / "run.sh").write_text(_RUN)
    if wheels:
        subprocess.run(pip_command(folder / "wheels", with_torch=with_torch), check=True)
        if not with_torch:  # others may need it, and the machine has its own
            for brought in (folder / "wheels").glob("torch-*"):
                brought.unlink()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 1e6:.0f} MB. Copy it, and there: sh run.sh")


def main(words: Sequence[str] | None = None) -> None:
    """The command line; `words` in place of the process's own."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_pack", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--with-torch", action="store_true", help="torch, too")
    given = parser.parse_args(words)
    gather(given.folder, with_torch=given.with_torch)


if __name__ == "__main__":
    main()
