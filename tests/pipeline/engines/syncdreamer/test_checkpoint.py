"""Every tensor of the checkpoint is accounted for; a folder loads completely or not at all."""

import json
import math
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.control import Control
from pipeline.engines.views.syncdreamer import network_folder
from pipeline.engines.views.syncdreamer.checkpoint import check_names, convert_checkpoint
from pipeline.engines.views.syncdreamer.config import SyncDreamerConfig
from pipeline.engines.views.syncdreamer.names import IGNORED, SCHEDULE, origin_of
from pipeline.engines.views.syncdreamer.network_folder import (
    CONFIG_FILE,
    INDEX_FILE,
    empty_network,
    load_network,
)
from pipeline.engines.views.syncdreamer.rig_buffers import check_cameras
from pipeline.errors import Cancelled, InvalidOption, Unavailable
from tests.random_networks import random_syncdreamer
from tests.tiny.syncdreamer import TINY_SYNCDREAMER, save_syncdreamer

from . import reference

CPU = torch.device("cpu")
WEIGHT = "spatial_volume.frustum_volume_feats.up0.conv.weight"


@pytest.fixture
def small_state() -> dict[str, torch.Tensor]:
    """A checkpoint of the released layout in tiny sizes, every tensor different."""
    network = random_syncdreamer(TINY_SYNCDREAMER, CPU, torch.float32, seed=3)
    packed: dict[str, list[torch.Tensor]] = {}
    state: dict[str, torch.Tensor] = {}
    for name, tensor in network.state_dict().items():
        origin = origin_of(name)
        if origin.change.value in ("query", "key", "value"):
            parts = packed.setdefault(origin.name, [torch.empty(0)] * 3)
            parts[["query", "key", "value"].index(origin.change.value)] = tensor
        elif origin.change.value == "transpose":
            state[origin.name] = tensor.T
        else:
            state[origin.name] = tensor.reshape(origin.shape(tensor.shape))
    return state | {name: torch.cat(parts) for name, parts in packed.items()}


def test_all_names_and_shapes_of_the_released_checkpoint_are_accounted_for():
    names = reference.shapes("released")
    assert len(names) == 1618
    assert sum(math.prod(shape) for shape in names.values()) == 1_392_370_020
    origins = check_names(names, SyncDreamerConfig.released())
    used = {origin.name for origin in origins.values()}
    assert used | set(IGNORED) | set(SCHEDULE) == set(names)


def test_the_released_network_has_the_published_size():
    network = empty_network(SyncDreamerConfig.released())
    sizes = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in network.named_children()
    }
    assert sizes["vae"] == pytest.approx(83.65e6, rel=1e-3)
    assert sizes["clip"] == pytest.approx(303.97e6, rel=1e-3)
    assert sizes["denoiser"] == pytest.approx(859.53e6 + 25.96e6 + 31.36e6, rel=1e-3)
    assert sizes["spatial_volume"] == pytest.approx(29.25e6 + 19.28e6 + 29_632, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({WEIGHT: None}, rf"1 tensors are missing: {WEIGHT}"),
        ({"model.diffusion_model.input_blocks.3.0.op.weight": None}, "input_blocks.3.0.op.weight"),
        ({"first_stage_model.encoder.mid.attn_1.q.weight": None}, "attn_1.q.weight"),
        ({"clip_image_encoder.model.visual.proj": None}, "visual.proj"),
        ({"ema.decay": (1,)}, "1 tensors are unknown: ema.decay"),
        ({WEIGHT: (512, 256, 3, 3)}, rf"{WEIGHT} is 512x256x3x3 instead of 512x256x3x3x3"),
        ({"poses": (4, 3, 4)}, "poses is 4x3x4 instead of 16x3x4"),
        ({"betas": (500,)}, "betas is 500 instead of 1000"),
    ],
)
def test_another_checkpoint_is_refused_by_name(change, text):
    names = dict(reference.shapes("released"))
    for name, shape in change.items():
        if shape is None:
            del names[name]
        else:
            names[name] = shape
    with pytest.raises(Unavailable, match=text):
        check_names(names, SyncDreamerConfig.released())


def test_left_overs_and_schedule_buffers_may_be_absent():
    names = reference.shapes("released")
    kept = {n: s for n, s in names.items() if n not in IGNORED and n not in SCHEDULE}
    assert check_names(kept, SyncDreamerConfig.released())


@pytest.mark.slow
def test_a_converted_file_gives_the_network_of_the_parity_test(tmp_path):
    source = tmp_path / "tiny4.ckpt"
    torch.save({"state_dict": reference.state_dict(), "global_step": 3}, source)
    seen = []
    convert_checkpoint(
        source,
        tmp_path / "model",
        config=reference.TINY4,
        control=Control(report_to=lambda progress: seen.append(progress.fraction)),
    )
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    loaded = load_network(tmp_path / "model", CPU, torch.float32)
    assert loaded.config == reference.TINY4
    expected = reference.network().state_dict()
    assert set(loaded.state_dict()) == set(expected)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    image = reference.inputs()["in.image"]
    with torch.inference_mode():
        assert reference.relative_error("out.clip_embed", loaded.embed_image(image)) < 1e-5


def test_shards_stay_below_their_size_and_load_again(tmp_path, monkeypatch):
    monkeypatch.setattr(network_folder, "_SHARD_BYTES", 5_000_000)
    network = random_syncdreamer(TINY_SYNCDREAMER, CPU, torch.float32)
    save_syncdreamer(network, tmp_path / "model")
    shards = sorted((tmp_path / "model").glob("*.safetensors"))
    assert [path.name for path in shards] == [
        f"model-0000{i + 1}-of-0000{len(shards)}.safetensors" for i in range(len(shards))
    ]
    assert len(shards) > 2
    assert all(path.stat().st_size < 5_100_000 for path in shards)
    loaded = load_network(tmp_path / "model", CPU, torch.float32).state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, loaded[name]), name


def test_weights_are_cast_and_cameras_are_not(tmp_path):
    save_syncdreamer(random_syncdreamer(TINY_SYNCDREAMER, CPU, torch.float32), tmp_path / "model")
    loaded = load_network(tmp_path / "model", CPU, torch.bfloat16)
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    assert loaded.poses.dtype == loaded.Ks.dtype == loaded.azimuth.dtype == torch.float32
    assert not any(p.requires_grad for p in loaded.parameters())


def test_conversion_can_halve_the_weights(tmp_path, small_state):
    torch.save({"state_dict": small_state}, tmp_path / "a.ckpt")
    convert_checkpoint(
        tmp_path / "a.ckpt", tmp_path / "m", config=TINY_SYNCDREAMER, dtype=torch.bfloat16
    )
    index = json.loads((tmp_path / "m" / INDEX_FILE).read_text())
    tensors = load_file(tmp_path / "m" / index["weight_map"]["poses"])
    assert tensors["poses"].dtype == torch.float32
    assert tensors["cc_projection.weight"].dtype == torch.bfloat16


def test_a_cancelled_conversion_leaves_nothing_behind(tmp_path, small_state):
    torch.save({"state_dict": small_state}, tmp_path / "a.ckpt")
    stop = threading.Event()
    control = Control(stop, lambda progress: progress.fraction > 0.5 and stop.set())
    with pytest.raises(Cancelled):
        convert_checkpoint(
            tmp_path / "a.ckpt", tmp_path / "m", config=TINY_SYNCDREAMER, control=control
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_conversion_overwrites_nothing(tmp_path, small_state):
    torch.save({"state_dict": small_state}, tmp_path / "a.ckpt")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mine.txt").write_text("mine")
    with pytest.raises(InvalidOption, match="is there already"):
        convert_checkpoint(tmp_path / "a.ckpt", tmp_path / "m", config=TINY_SYNCDREAMER)
    assert (tmp_path / "m" / "mine.txt").read_text() == "mine"


class Foreign:
    """Something a pickle may hold that is no tensor: reading it would run a command."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@dataclass
class Settings:
    """A harmless one, which training frameworks leave by the dozen."""

    rate: float = 1e-4


def test_what_a_training_framework_left_is_neither_run_nor_needed(tmp_path, small_state):
    source, mark = tmp_path / "a.ckpt", tmp_path / "ran"
    left = {
        "callbacks": {Settings: Foreign(mark)},
        "hyper_parameters": [Settings(), np.float64(2.0), {"a": {1, 2}}],
    }
    torch.save({"epoch": 3, **left, "state_dict": small_state}, source)
    convert_checkpoint(source, tmp_path / "m", config=TINY_SYNCDREAMER)
    assert not mark.exists()
    network = load_network(tmp_path / "m", torch.device("cpu"), torch.float32)
    torch.save({"state_dict": small_state}, source)
    convert_checkpoint(source, tmp_path / "plain", config=TINY_SYNCDREAMER)
    plain = load_network(tmp_path / "plain", torch.device("cpu"), torch.float32)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name]), name


def test_files_that_are_no_checkpoint_are_refused(tmp_path, small_state):
    source = tmp_path / "a.ckpt"
    with pytest.raises(Unavailable, match=r"no SyncDreamer checkpoint .*a\.ckpt"):
        convert_checkpoint(source, tmp_path / "m")
    source.write_bytes(b"not a checkpoint at all")
    with pytest.raises(Unavailable, match=r"a\.ckpt is damaged, incomplete or no checkpoint"):
        convert_checkpoint(source, tmp_path / "m")
    torch.save({"weights": small_state}, source)
    with pytest.raises(Unavailable, match="no state_dict"):
        convert_checkpoint(source, tmp_path / "m")
    torch.save({"state_dict": {**small_state, "other": Settings()}}, source)
    with pytest.raises(Unavailable, match="no state_dict of tensors"):
        convert_checkpoint(source, tmp_path / "m")
    torch.save({"state_dict": small_state}, source)
    data = source.read_bytes()
    source.write_bytes(data[: len(data) // 2])
    with pytest.raises(Unavailable, match="damaged"):
        convert_checkpoint(source, tmp_path / "m", config=TINY_SYNCDREAMER)
    assert not (tmp_path / "m").exists()


def test_another_schedule_is_refused(tmp_path, small_state):
    betas = torch.linspace(0.00085, 0.012, 1000)  # linear, not scaled linear
    torch.save({"state_dict": small_state | {"betas": betas}}, tmp_path / "a.ckpt")
    with pytest.raises(Unavailable, match="betas differ"):
        convert_checkpoint(tmp_path / "a.ckpt", tmp_path / "m", config=TINY_SYNCDREAMER)


def _change_index(folder: Path, change) -> None:
    index = json.loads((folder / INDEX_FILE).read_text())
    change(index["weight_map"])
    (folder / INDEX_FILE).write_text(json.dumps(index))


def _change_shard(folder: Path, change) -> None:
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def _misshape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["cc_projection.bias"] = torch.zeros(5)


def _half_of_the_shard(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _another_version(folder: Path) -> None:
    path = folder / CONFIG_FILE
    path.write_text(path.read_text().replace('"version": 1', '"version": 9'))


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda f: (f / CONFIG_FILE).unlink(), r"no .*config\.json"),
        (lambda f: (f / CONFIG_FILE).write_text("{"), r"config\.json cannot be read"),
        (lambda f: (f / CONFIG_FILE).write_text("{}"), "does not describe"),
        (lambda f: (f / CONFIG_FILE).write_text("[]"), "not a JSON object"),
        (_another_version, "version 1"),
        (lambda f: (f / INDEX_FILE).unlink(), r"no .*index\.json"),
        (lambda f: _change_index(f, lambda m: m.pop("poses")), "lacks.*poses"),
        (lambda f: _change_index(f, lambda m: m.update(odd="x")), "has unknown.*odd"),
        (lambda f: next(f.glob("*.safetensors")).unlink(), r"no .*model-00001-of-00001"),
        (_half_of_the_shard, "model-00001-of-00001.safetensors is damaged"),
        (lambda f: _change_shard(f, lambda t: t.pop("Ks")), "disagree about.*Ks"),
        (lambda f: _change_shard(f, _misshape), "cc_projection.bias .* is 5 instead of 32"),
    ],
)
def test_a_broken_folder_says_what_is_broken(tmp_path, tiny_folder, damage, text):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    damage(folder)
    with pytest.raises(Unavailable, match=text):
        load_network(folder, CPU, torch.float32)


def test_a_config_that_does_not_fit_together_is_refused():
    values = TINY_SYNCDREAMER.to_json()
    assert SyncDreamerConfig.from_json(json.loads(json.dumps(values))) == TINY_SYNCDREAMER
    with pytest.raises(Unavailable, match="multiple of 8"):
        SyncDreamerConfig.from_json(values | {"frustum_depths": 20})
    with pytest.raises(Unavailable, match="4 numbers"):
        SyncDreamerConfig.from_json(values | {"spatial_dims": [8, 16]})
    with pytest.raises(Unavailable, match="colour"):
        SyncDreamerConfig.from_json(values | {"colour": 1})


def test_the_released_cameras_are_the_rig():
    given = reference.inputs()
    poses, Ks, azimuth = (given[f"buffer.{name}"] for name in ("poses", "Ks", "azimuth"))
    check_cameras(poses, Ks, azimuth)


@pytest.mark.parametrize(("name", "shift"), [("poses", 2e-4), ("Ks", 0.1), ("azimuth", 2e-4)])
def test_other_cameras_are_refused(name, shift):
    given = reference.inputs()
    buffers = {key: given[f"buffer.{key}"].clone() for key in ("poses", "Ks", "azimuth")}
    buffers[name].view(-1)[1] += shift
    with pytest.raises(Unavailable, match=f"{name} are not the product's cameras"):
        check_cameras(**buffers)
