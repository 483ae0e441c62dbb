"""Puts trained weights into the package: `python -m training.prior.publish out/prior`.

It writes the weights file, what made it, and the digest that the product expects; it does not
train or judge.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
from pathlib import Path

import torch

from training.prior.shards import generator_digest

ENGINE = Path(__file__).parents[2] / "pipeline" / "engines" / "views" / "prior"


def publish(folder: Path, engine: Path = ENGINE) -> str:
    """Copy `prior.npz` of a training's folder to the engine's `weights` and describe it there.

    `prior.json` gets the recipe, the steps that were done, the digest of the generator's code and
    the errors of the last line of the log; `prior_weights.py` the digest and the size.

    Returns:
        The SHA-256 of the weights, hexadecimal.
    """
    package = engine / "weights"
    package.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "prior.npz", package / "prior.npz")
    weights = (package / "prior.npz").read_bytes()
    digest = hashlib.sha256(weights).hexdigest()
    state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
    last = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    described = {
        "sha256": digest,
        "recipe": state["recipe"],
        "step": state["step"],
        "generator": generator_digest(),
        "checked": last["checked"],
    }
    (package / "prior.json").write_text(json.dumps(described) + "\n")
    known = engine / "prior_weights.py"
    text = re.sub(r'(_SHA256 = )"\w+"', rf'\1"{digest}"', known.read_text())
    known.write_text(re.sub(r"(size_bytes=)[\d_]+", rf"\g<1>{len(weights):_}", text))
    return digest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    print(publish(parser.parse_args().folder))


if __name__ == "__main__":
    main()
