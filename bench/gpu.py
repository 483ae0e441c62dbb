"""GPU engines at full size with random weights: seconds and memory, without weights and Ray.

    python -m bench.gpu --json times.json        # the engines of `engines: gpu`
    python -m bench.gpu deg --json deg.json      # those that make a model in one pass; 8 minutes

`--tiny --device cpu` runs the same lines with small networks, to see that they run: its numbers
mean nothing. It does not know how a thing is measured: `bench.gpu_engines` and `bench.gpu_deg` do,
and only what is asked for is imported.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict
from pathlib import Path

import torch

from bench.table import Row, print_rows
from pipeline.device import Device

__all__ = ["run"]

#: Seconds after which `deg` begins nothing more.
DEG_LIMIT_S = 480.0


def run(device: Device | None = None) -> list[Row]:
    """Rows of every engine of `engines: gpu`."""
    from bench.gpu_engines import Size, measure

    return measure(device or Device.choose(), Size()).rows


def _engines(arguments: argparse.Namespace, device: Device) -> None:
    from bench.gpu_engines import Size, measure

    size = Size.small() if arguments.tiny else Size()
    found = measure(device, size)
    print_rows(f"GPU engines on {device.description}, torch {torch.__version__}", found.rows)
    if arguments.json:
        report = {
            "device": device.description,
            "torch": torch.__version__,
            "platform": platform.platform(),
            "tiny": size.tiny,
            "rows": [asdict(row) for row in found.rows],
            "stages": {"device": device.description, **found.stages},
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _deg(arguments: argparse.Namespace, device: Device) -> None:
    from bench.gpu_deg import DegSize, measure

    size = DegSize.small() if arguments.tiny else DegSize()
    found = measure(device, size, limit_s=arguments.limit_s, path=arguments.json)
    print_rows(f"DeG engines on {device.description}, torch {torch.__version__}", found.rows)


def main(words: list[str] | None = None) -> None:
    """The command line; `words` in place of the process's own."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument(
        "what", nargs="?", default="engines", choices=["engines", "deg"], help="default: engines"
    )
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--precision", choices=["fp32", "fp16", "bf16"])
    parser.add_argument("--tiny", action="store_true", help="small networks: only to try the bench")
    parser.add_argument(
        "--limit-s", type=float, default=DEG_LIMIT_S, help="deg: begin nothing more after so long"
    )
    arguments = parser.parse_args(words)
    device = Device.choose(arguments.device, arguments.precision)
    (_deg if arguments.what == "deg" else _engines)(arguments, device)


if __name__ == "__main__":
    main()
