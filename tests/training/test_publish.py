"""Trained weights in the package: what is copied, and what is said of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.device import Device
from pipeline.engines.views.prior.prior_network import PriorNetwork
from pipeline.engines.views.prior.prior_weights import PRIOR_WEIGHTS
from pipeline.engines.views.prior.trained_prior import load_prior
from pipeline.weights.folders import find
from training.prior.publish import ENGINE, publish
from training.prior.weights import write_weights


def test_published_weights_are_those_of_the_training_and_the_product_expects_them(
    tmp_path: Path,
) -> None:
    folder, engine = tmp_path / "training", tmp_path / "engine"
    folder.mkdir()
    engine.mkdir()
    torch.manual_seed(3)
    network = PriorNetwork()
    write_weights(network, folder / "prior.npz")
    state = {"recipe": {"steps": 9}, "generator": "ab12", "step": 5}
    torch.save(state, folder / "state.pt")
    # The training went on after its state was saved.
    lines = [{"step": step, "checked": {"front": 1 / step}} for step in (4, 5, 6)]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (engine / "prior_weights.py").write_text((ENGINE / "prior_weights.py").read_text())

    digest = publish(folder, engine)

    copied = engine / "weights" / "prior.npz"
    assert hashlib.sha256(copied.read_bytes()).hexdigest() == digest
    known = (engine / "prior_weights.py").read_text()
    assert digest in known
    assert f"size_bytes={copied.stat().st_size:_}," in known
    described = json.loads((engine / "weights" / "prior.json").read_text())
    assert described["sha256"] == digest
    assert (described["step"], described["checked"]) == (5, {"front": 0.2})
    assert described["generator"] == "ab12"

    read = load_prior(copied, Device.choose("cpu")).network.state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.allclose(read[name], tensor, atol=1e-3, rtol=1e-3), name


def test_a_folder_without_a_state_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "prior.npz").write_bytes(b"weights")
    engine = tmp_path / "engine"
    with pytest.raises(FileNotFoundError, match=r"state\.pt"):
        publish(tmp_path, engine)
    assert not engine.exists()


def test_a_state_that_the_log_does_not_know_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "prior.npz").write_bytes(b"weights")
    torch.save({"recipe": {"steps": 9}, "step": 5}, tmp_path / "state.pt")
    (tmp_path / "log.jsonl").write_text('{"step": 4, "checked": {}}\n')
    with pytest.raises(ValueError, match="no line of step 5"):
        publish(tmp_path, tmp_path / "engine")
    assert not (tmp_path / "engine").exists()


def test_the_weights_of_the_package_are_those_that_are_described() -> None:
    path = find(PRIOR_WEIGHTS, None)
    described = json.loads(path.with_name("prior.json").read_text())
    data = path.read_bytes()
    assert hashlib.sha256(data).hexdigest() == described["sha256"] == PRIOR_WEIGHTS.files[0].sha256
    assert len(data) == PRIOR_WEIGHTS.size_bytes <= 15_000_000
    with np.load(path, allow_pickle=False) as arrays:
        assert all(np.isfinite(arrays[name]).all() for name in arrays)
