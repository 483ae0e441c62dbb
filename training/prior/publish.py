"""Puts trained weights into the package: `python -m training.prior.publish out/prior`.

It writes the weights file, what made it, and the digest that the product expects; it does not
train or judge.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch

from training.prior.shards import generator_digest

ENGINE = Path(__file__).parents[2] / "pipeline" / "engines" / "views" / "prior"


def publish(folder: Path, engine: Path = ENGINE) -> str:
    """Copy `prior.npz` of a training's folder to the engine's `weights` and describe it there.

    `prior.json` gets the recipe, the steps that were done, the digest of the generator's code and
    the errors that the log has of that step; `prior_weights.py` the digest and the size.

    Returns:
        The SHA-256 of the weights, hexadecimal.

    Raises:
        OSError: the folder is not that of a training. Nothing is written then.
        ValueError: its log does not know the step.
    """
    weights = (folder / "prior.npz").read_bytes()
    digest = hashlib.sha256(weights).hexdigest()
    state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
    checked = _checked(folder / "log.jsonl", state["step"])
    described = {
        "sha256": digest,
        "recipe": state["recipe"],
        "step": state["step"],
        # States without it are of the code as it is.
        "generator": state.get("generator", generator_digest()),
        "checked": checked,
    }
    package = engine / "weights"
    package.mkdir(parents=True, exist_ok=True)
    (package / "prior.npz").write_bytes(weights)
    (package / "prior.json").write_text(json.dumps(described) + "\n")
    known = engine / "prior_weights.py"
    text = re.sub(r'(_SHA256 = )"\w+"', rf'\1"{digest}"', known.read_text())
    known.write_text(re.sub(r"(size_bytes=)[\d_]+", rf"\g<1>{len(weights):_}", text))
    return digest


def _checked(log: Path, step: int) -> Any:
    """The errors of a step: a training that goes on after its state was saved logs later ones."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    found = [line["checked"] for line in lines if line["step"] == step]
    if not found:
        raise ValueError(f"{log} has no line of step {step}, which the state is of")
    return found[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    print(publish(parser.parse_args().folder))


if __name__ == "__main__":
    main()
