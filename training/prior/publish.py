"""Puts trained weights into the package: `python -m training.prior.publish out/prior`.

It writes the weights file, its digest, and what made it; it does not train or judge.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import torch

from training.prior.shards import generator_digest

PACKAGE = Path(__file__).parents[2] / "pipeline" / "engines" / "views" / "prior" / "weights"


def publish(folder: Path, package: Path = PACKAGE) -> str:
    """Copy `prior.npz` of a training's folder into `package` and describe it there.

    `prior.json` gets the recipe, the steps that were done, the digest of the generator's code and
    the last line of the log.

    Returns:
        The SHA-256 of the weights, hexadecimal.
    """
    package.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "prior.npz", package / "prior.npz")
    digest = hashlib.sha256((package / "prior.npz").read_bytes()).hexdigest()
    state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
    last = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    described = {
        "sha256": digest,
        "recipe": state["recipe"],
        "step": state["step"],
        "generator": generator_digest(),
        "checked": last["checked"],
    }
    (package / "prior.json").write_text(json.dumps(described, indent=2) + "\n")
    return digest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    print(publish(parser.parse_args().folder))


if __name__ == "__main__":
    main()
