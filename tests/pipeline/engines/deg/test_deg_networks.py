"""Networks of whole engines from their files, and the conversion to files that load fastest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.control import Control
from pipeline.engines.deg.deg_config import DegConfig
from pipeline.engines.deg.deg_networks import (
    CONFIG_FILE,
    DegFiles,
    LoadedNetworks,
    config_beside,
    convert_checkpoints,
    load_encoders,
    load_networks,
)
from pipeline.engines.deg.flow_network import FlowNetwork
from pipeline.engines.deg.turbo_phases import TurboPhases
from pipeline.errors import Cancelled, InvalidOption, Unavailable
from tests.pipeline.engines.deg import golden_files
from tests.pipeline.engines.deg.layouts import tiny, write_idol, write_triposplat, write_turbo

CPU = torch.device("cpu")
TINY = golden_files.golden_config()


def triposplat(folder: Path) -> DegFiles:
    write_triposplat(folder)
    networks = (folder / "flow.safetensors", folder / "decoders.safetensors")
    return DegFiles(folder, networks, (folder / "dino.safetensors",), (folder / "vae.safetensors",))


def load(files: DegFiles, dtype: torch.dtype = torch.float32) -> LoadedNetworks:
    return load_networks(files, CPU, dtype)


def test_an_engine_s_networks_are_those_of_its_files(tmp_path):
    loaded = load(triposplat(tmp_path))
    assert isinstance(loaded.flow, FlowNetwork)
    for name, tensor in loaded.flow.state_dict().items():
        assert torch.equal(tensor, tiny("flow")[name]), name
        assert not tensor.requires_grad
    gaussians = loaded.gaussians.state_dict()
    assert all(torch.equal(tensor, tiny("decoder", "gs.")[n]) for n, tensor in gaussians.items())
    octree = loaded.octree.state_dict()
    assert all(torch.equal(tensor, tiny("decoder", "octree.")[n]) for n, tensor in octree.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_an_engine_s_encoders_are_those_of_its_files(tmp_path, dtype):
    encoders = load_encoders(triposplat(tmp_path), CPU, dtype)
    held = torch.bfloat16 if dtype is torch.float16 else dtype
    for network, word in ((encoders.dino, "dinov3"), (encoders.vae, "vae_encoder")):
        for name, tensor in network.state_dict().items():
            wanted = torch.float32 if name.startswith("bn.") else held
            assert tensor.dtype is wanted, name
            assert torch.equal(tensor, tiny(word)[name].to(wanted)), name
    assert not encoders.dino.rope_embeddings.inv_freq.is_meta


def test_sizes_are_the_released_ones_unless_a_file_says_others(tmp_path):
    assert config_beside(tmp_path) == DegConfig.released()
    (tmp_path / CONFIG_FILE).write_text(TINY.to_json())
    assert config_beside(tmp_path) == TINY
    (tmp_path / CONFIG_FILE).write_text("{")
    with pytest.raises(Unavailable, match="configuration of the DeG networks"):
        config_beside(tmp_path)


def turbo(folder: Path) -> DegFiles:
    files = triposplat(folder)
    lora = write_turbo(folder / "turbo")
    return DegFiles(folder, files.networks, files.dino, files.vae, lora)


def test_turbo_has_a_network_for_each_phase(tmp_path):
    loaded = load(turbo(tmp_path))
    assert isinstance(loaded.flow, TurboPhases)
    name = "blocks.1.attn.out"
    before = tiny("flow")[f"{name}.weight"]
    for phase in ("slow", "fast"):
        lora = load_file(tmp_path / "turbo" / f"{phase}.safetensors")
        change = lora[f"{name}.lora_B.weight"] @ lora[f"{name}.lora_A.weight"]
        found = getattr(loaded.flow, phase).state_dict()[f"{name}.weight"]
        assert torch.allclose(found, before + change, atol=1e-6)
        assert not torch.equal(found, before)
    shared = [phase.out_layer.weight.data_ptr() for phase in (loaded.flow.slow, loaded.flow.fast)]
    assert shared[0] == shared[1], "what is not changed is there once"


def test_changes_of_turbo_are_added_before_weights_are_rounded(tmp_path):
    files = turbo(tmp_path)
    exact = load(files).flow
    rounded = load(files, torch.bfloat16).flow
    assert isinstance(exact, TurboPhases)
    assert isinstance(rounded, TurboPhases)
    name = "blocks.0.mlp.mlp.0.weight"
    wanted = exact.slow.state_dict()[name].bfloat16()
    assert torch.equal(rounded.slow.state_dict()[name], wanted)
    assert rounded.slow.state_dict()["out_layer.weight"].dtype is torch.float32


def test_changes_of_something_else_are_refused_with_their_file(tmp_path):
    files = turbo(tmp_path)
    slow = tmp_path / "turbo" / "slow.safetensors"
    save_file(load_file(slow) | {"blocks.9.attn.qkv.lora_A.weight": torch.zeros(4, 128)}, slow)
    with pytest.raises(Unavailable, match=r"slow\.safetensors: The LoRA has names .*blocks\.9"):
        load(files)


# -- conversion ----------------------------------------------------------------------------------


def test_idol_s_files_are_converted_to_what_loads_without_a_cast(tmp_path):
    idol, made = write_idol(tmp_path), tmp_path / "made"
    seen: list[float] = []
    control = Control(report_to=lambda progress: seen.append(progress.fraction))
    convert_checkpoints(idol, made, config=TINY, control=control)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    files = sorted(made.glob("*.safetensors"))
    assert [path.name for path in files] == ["decoders.safetensors", "flow.safetensors"]
    assert config_beside(made) == TINY
    assert "pos_pe" not in load_file(made / "flow.safetensors")
    loaded = load(DegFiles(made, tuple(files), (), ()), torch.float16)
    assert isinstance(loaded.flow, FlowNetwork)
    for state, file, start in (
        (loaded.flow.state_dict(), "flow", ""),
        (loaded.octree.state_dict(), "decoders", "octree."),
        (loaded.gaussians.state_dict(), "decoders", "gs."),
    ):
        stored = load_file(made / f"{file}.safetensors")
        for name, tensor in state.items():
            assert stored[start + name].dtype is tensor.dtype, name
            assert torch.equal(stored[start + name], tensor), name
    name = "repo_layers.1.freqs_2"
    assert torch.equal(loaded.flow.state_dict()[name], tiny("flow")[name]), "all of its bits"


def test_a_conversion_may_keep_all_bits(tmp_path):
    convert_checkpoints(write_idol(tmp_path), tmp_path / "made", config=TINY, dtype=torch.float32)
    stored = load_file(tmp_path / "made" / "decoders.safetensors")
    assert stored.keys() == tiny("decoder").keys()
    for name, tensor in tiny("decoder").items():
        assert torch.equal(stored[name], tensor), name


def test_a_conversion_of_something_else_leaves_nothing(tmp_path):
    idol, made = write_idol(tmp_path), tmp_path / "made"
    with pytest.raises(Unavailable, match="there is no Gaussian decoder"):
        convert_checkpoints(idol[:2], made, config=TINY)
    assert not made.exists()
    control = Control()
    control.stop.set()
    with pytest.raises(Cancelled):
        convert_checkpoints(idol, made, config=TINY, control=control)
    assert not made.exists()
    made.mkdir()
    (made / "mine").write_text("")
    with pytest.raises(InvalidOption, match="is there already"):
        convert_checkpoints(idol, made, config=TINY)
