"""Every tensor of the released files is accounted for, in every layout; other files are refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.control import Control
from pipeline.engines.deg.deg_config import DegConfig
from pipeline.engines.deg.deg_networks import build_network
from pipeline.engines.deg.deg_precision import DegPart
from pipeline.engines.deg.deg_weights import (
    RULES,
    Header,
    account,
    read_networks,
    read_tensors,
)
from pipeline.engines.deg.position_tables import sobol_points
from pipeline.errors import Cancelled, Unavailable
from tests.pipeline.engines.deg import golden_files
from tests.pipeline.engines.deg.layouts import write_idol, write_triposplat

CPU = torch.device("cpu")
TINY = golden_files.golden_config()
FORMATS = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "int64": "I64"}
#: Of the released files, by the words of `released_keys.tsv`.
PARTS = {
    DegPart.DINO: "dinov3",
    DegPart.VAE: "vae_encoder",
    DegPart.FLOW: "flow",
    DegPart.OCTREE: "octree",
    DegPart.GAUSSIANS: "gs",
}


@pytest.fixture(scope="module")
def released() -> dict[DegPart, dict[str, tuple[int, ...]]]:
    """Names and shapes of our networks at full size, without memory."""
    return {part: shapes(build_network(part, DegConfig.released())) for part in DegPart}


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    assert all(tensor.is_meta for tensor in network.state_dict().values())
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def in_file(*parts: DegPart, positions: bool = False) -> dict[str, Header]:
    """What the released files of some networks hold."""
    words = [PARTS[part] for part in parts]
    return {
        key.name: Header(key.shape, FORMATS[key.dtype])
        for key in golden_files.released_keys()
        if key.part in words
        and key.shape is not None
        and key.file != "-"
        and (positions or key.name != "pos_pe")
    }


def without_words(found: dict[str, Header]) -> dict[str, Header]:
    return {
        n.removeprefix("octree.").removeprefix("gs."): Header(h.shape, "F32")
        for n, h in found.items()
    }


def numbers(found: dict[str, Header], names: object) -> int:
    assert isinstance(names, dict)
    return sum(math.prod(found[stored].shape) for stored in names.values())


DECODERS = (DegPart.OCTREE, DegPart.GAUSSIANS)


def test_every_tensor_of_triposplat_is_accounted_for(released):
    flow = in_file(DegPart.FLOW)
    assert len(flow) == 559
    held = account("flow", flow, {DegPart.FLOW: released[DegPart.FLOW]})
    assert numbers(flow, held[DegPart.FLOW]) == 370_526_101
    both = in_file(*DECODERS)
    assert len(both) == 388
    held = account("decoders", both, {part: released[part] for part in DECODERS})
    assert numbers(both, held[DegPart.OCTREE]) == 50_791_432
    assert numbers(both, held[DegPart.GAUSSIANS]) == 237_262_401
    assert {*held[DegPart.OCTREE].values(), *held[DegPart.GAUSSIANS].values()} == set(both)


def test_every_tensor_of_the_encoders_is_accounted_for(released):
    dino = in_file(DegPart.DINO)
    assert len(dino) == 616 - 1
    held = account("dino", dino, {DegPart.DINO: released[DegPart.DINO]})
    assert set(dino) - set(held[DegPart.DINO].values()) == {"embeddings.mask_token"}
    assert numbers(dino, held[DegPart.DINO]) == 840_591_360
    vae = in_file(DegPart.VAE)
    halves = {f"decoder.{n}.weight": Header((3,), "F32") for n in range(138)}
    halves |= {f"post_quant_conv.{n}": Header((3,), "F32") for n in ("weight", "bias")}
    held = account("vae", vae | halves, {DegPart.VAE: released[DegPart.VAE]})
    assert set(vae) - set(held[DegPart.VAE].values()) == {"bn.num_batches_tracked"}


def test_every_tensor_of_idol_is_accounted_for(released):
    flow = {n: Header(h.shape, "F32") for n, h in in_file(DegPart.FLOW, positions=True).items()}
    assert len(flow) == 560
    held = account("denoiser", flow, {DegPart.FLOW: released[DegPart.FLOW]})
    assert set(flow) - set(held[DegPart.FLOW].values()) == {"pos_pe"}
    for part, count in zip(DECODERS, (60, 328), strict=True):
        alone = without_words(in_file(part))
        assert len(alone) == count
        held = account("decoder", alone, {p: released[p] for p in DECODERS})
        assert set(held) == {part}, "its sister's names are much the same"
        assert set(held[part].values()) == set(alone)


def test_files_of_transformers_itself_are_the_same_network(released):
    named = {
        (f"model.{n}" if n.startswith("layer.") else n): h for n, h in in_file(DegPart.DINO).items()
    }
    assert account("dino", named, {DegPart.DINO: released[DegPart.DINO]})


QKV = "blocks.3.attn.qkv.weight"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {QKV: None},
            rf"a\.safetensors does not hold the flow network: 1 tensors are missing: {QKV}\.",
        ),
        ({"ema": ((1,), "F16")}, "1 tensors are unknown: ema"),
        ({QKV: ((3072, 512), "F16")}, rf"{QKV} is 3072x512 instead of 3072x1024"),
        ({QKV: ((3072, 1024), "F8_E4M3")}, rf"one of F16, BF16, F32: {QKV} is F8_E4M3"),
        ({"octree.in_proj.bias": ((1024,), "F16")}, r"unknown: octree\.in_proj\.bias"),
        ({"blocks.24.attn.qkv.bias": ((3072,), "F16")}, r"unknown: blocks\.24"),
    ],
)
def test_another_flow_network_is_refused_by_name(released, change, told):
    found = dict(in_file(DegPart.FLOW))
    for name, header in change.items():
        if header is None:
            del found[name]
        else:
            found[name] = Header(*header)
    with pytest.raises(Unavailable, match=told):
        account("a.safetensors", found, {DegPart.FLOW: released[DegPart.FLOW]})


def test_a_decoder_that_lacks_a_tensor_is_still_known_for_what_it_is(released):
    wanted = {part: released[part] for part in DECODERS}
    for part, lost in (
        (DegPart.OCTREE, "l_embedder.mlp.0.weight"),
        (DegPart.GAUSSIANS, "base_offset_scale"),
    ):
        for found in (in_file(*DECODERS), without_words(in_file(part))):
            name = lost if lost in found else RULES[part].word + lost
            with pytest.raises(
                Unavailable, match=f"{RULES[part].title}: 1 tensors are missing: .*{lost}"
            ):
                account("x", {n: h for n, h in found.items() if n != name}, wanted)


# -- files ---------------------------------------------------------------------------------------


def read(
    files: Sequence[Path],
    *parts: DegPart,
    dtype: torch.dtype = torch.float32,
    control: Control | None = None,
) -> dict[DegPart, dict[str, Tensor]]:
    """As an engine reads them."""
    networks = {part: build_network(part, TINY) for part in parts}
    table = sobol_points(TINY.flow.latent_tokens)
    formats = dict.fromkeys(parts, dtype)
    return read_networks(files, networks, CPU, formats, positions=table, control=control)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tiny networks in TripoSplat's layout."""
    write_triposplat(tmp_path)
    return tmp_path


@pytest.fixture
def idol(tmp_path: Path) -> list[Path]:
    """The same networks in Idol's layout."""
    return write_idol(tmp_path)


def test_networks_get_the_numbers_of_their_files(folder):
    files = [folder / "flow.safetensors", folder / "decoders.safetensors"]
    states = read(files, DegPart.FLOW, *DECODERS)
    for part, word, start in (
        (DegPart.FLOW, "flow", ""),
        (DegPart.OCTREE, "decoder", "octree."),
        (DegPart.GAUSSIANS, "decoder", "gs."),
    ):
        for name, tensor in states[part].items():
            assert torch.equal(tensor, golden_files.tiny_weights(word)[start + name]), name
    encoders = [folder / "dino.safetensors", folder / "vae.safetensors"]
    states = read(encoders, DegPart.DINO, DegPart.VAE)
    for part, word in ((DegPart.DINO, "dinov3"), (DegPart.VAE, "vae_encoder")):
        for name, tensor in states[part].items():
            assert torch.equal(tensor, golden_files.tiny_weights(word)[name.removeprefix("model.")])


def test_the_files_of_idol_hold_the_same_in_any_order(folder, idol):
    parts = (DegPart.FLOW, *DECODERS)
    ours = read([folder / "flow.safetensors", folder / "decoders.safetensors"], *parts)
    theirs = read(idol[::-1], *parts)
    for part in parts:
        assert ours[part].keys() == theirs[part].keys()
        assert all(torch.equal(ours[part][name], tensor) for name, tensor in theirs[part].items())


def test_positions_of_another_network_are_refused(idol):
    tensors = load_file(idol[0])
    table = tensors["pos_pe"]
    save_file(tensors | {"pos_pe": table.half()}, idol[0])
    read(idol[:1], DegPart.FLOW)
    moved = table.clone()
    moved[0, 5, 1] += 2e-3
    save_file(tensors | {"pos_pe": moved}, idol[0])
    with pytest.raises(Unavailable, match=r"pos_pe in .*denoiser\.safetensors differs .* by 0\.00"):
        read(idol[:1], DegPart.FLOW)
    save_file(tensors | {"pos_pe": table[:, :10].clone()}, idol[0])
    with pytest.raises(Unavailable, match=r"pos_pe in .* is 1x10x3 instead of 1x64x3"):
        read(idol[:1], DegPart.FLOW)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("decoders", "holds the decoders, not the flow network"),
        ("dino", "holds the vision transformer DINOv3, not the flow network"),
        ("vae", r"holds the FLUX\.2 autoencoder, not"),
        ("decoder_gs", "holds the Gaussian decoder, not"),
        ("slow", "holds a LoRA, not the flow network"),
        ("other", r"holds tensors of something else \(a, b\), not"),
    ],
)
def test_a_file_of_something_else_is_named_for_what_it_is(folder, idol, name, told):
    save_file({"blocks.0.attn.qkv.lora_A.weight": torch.zeros(2)}, folder / "slow.safetensors")
    save_file({"b": torch.zeros(2), "a": torch.zeros(2)}, folder / "other.safetensors")
    with pytest.raises(Unavailable, match=rf"{name}\.safetensors {told}"):
        read([folder / f"{name}.safetensors"], DegPart.FLOW)


def test_a_file_of_the_other_half_is_named_for_what_it_is(folder):
    told = "holds the flow network, not the octree decoder or the Gaussian decoder"
    with pytest.raises(Unavailable, match=told):
        read([folder / "flow.safetensors"], *DECODERS)


def test_a_network_that_is_missing_or_there_twice_is_told(folder, idol):
    with pytest.raises(Unavailable, match=r"decoder\.safetensors: there is no Gaussian decoder"):
        read(idol[1:2], *DECODERS)
    with pytest.raises(Unavailable, match="hold the octree decoder: one of them"):
        read([folder / "decoders.safetensors", idol[1]], *DECODERS)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def scramble(path: Path) -> None:
    path.write_bytes(b"no header" * 10)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, scramble, empty])
def test_a_damaged_file_is_a_sentence(folder: Path, damage: Callable[[Path], None]):
    damage(folder / "flow.safetensors")
    with pytest.raises(Unavailable, match=r"flow\.safetensors is damaged"):
        read([folder / "flow.safetensors"], DegPart.FLOW)


def test_a_file_that_is_not_there_is_a_sentence(folder):
    with pytest.raises(Unavailable, match=r"There is no .*other\.safetensors"):
        read([folder / "other.safetensors"], DegPart.FLOW)


def test_a_stop_is_heard_while_a_file_is_read(folder):
    control = Control()
    control.stop.set()
    with pytest.raises(Cancelled):
        read([folder / "flow.safetensors"], DegPart.FLOW, control=control)


def test_a_file_of_numbers_that_are_no_floats_is_refused(tmp_path):
    save_file({"a.lora_A.weight": torch.zeros(2, dtype=torch.int8)}, tmp_path / "a.safetensors")
    with pytest.raises(Unavailable, match=r"a\.lora_A\.weight in .*a\.safetensors is I8"):
        read_tensors(tmp_path / "a.safetensors", CPU)


# -- precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_blocks_are_in_16_bits_and_what_is_delicate_is_not(folder, dtype):
    files = [folder / "flow.safetensors", folder / "decoders.safetensors"]
    states = read(files, DegPart.FLOW, *DECODERS, dtype=dtype)
    flow = states[DegPart.FLOW]
    assert flow["blocks.0.attn.qkv.weight"].dtype is dtype
    assert flow["context_refiner.1.mlp.mlp.2.bias"].dtype is dtype
    for name in (
        "blocks.0.attn.q_norm.gamma",
        "blocks.0.shift_table",
        "repo_layers.0.gate_map.weight",
        "repo_layers.0.freqs_0",
        "t_embedder.mlp.0.weight",
        "out_layer.weight",
        "input_layer.bias",
    ):
        assert flow[name].dtype is torch.float32, name
    assert states[DegPart.OCTREE]["blocks.0.cross_attn.to_q.weight"].dtype is dtype
    assert states[DegPart.GAUSSIANS]["blocks.0.self_attn.to_qkv.weight"].dtype is dtype
    assert states[DegPart.GAUSSIANS]["points_offset_perturbation"].dtype is torch.float32
    assert states[DegPart.GAUSSIANS]["in_proj.weight"].dtype is torch.float32
