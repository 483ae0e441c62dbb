"""Loading the SDXL enhancer: what is missing or does not fit is named; prompts and packages."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.control import Control
from pipeline.device import Device, Precision
from pipeline.engines.enhance.sdxl import DEFAULT_PROMPT, SdxlEnhancer, SdxlFolders, SdxlOptions
from pipeline.engines.enhance.sdxl import sdxl_networks as networks
from pipeline.engines.enhance.sdxl.sdxl_text import Embedding, Prompts, TextEncoders
from pipeline.errors import InvalidOption, Unavailable
from pipeline.requests import EnhanceSettings
from tests.pipeline.engines.sdxl.builders import CPU, GRID, draw, renders
from tests.random_networks import CONTROLNET, UNET, VAE, random_sdxl
from tests.tiny.sdxl import (
    TINY_CONTROLNET,
    TINY_RESOLUTION,
    TINY_UNET,
    TINY_VAE,
    write_tiny_sdxl,
)


@pytest.fixture
def folders(folders: SdxlFolders, tmp_path: Path) -> SdxlFolders:
    """A copy that a test may break."""
    root = tmp_path / "sdxl"
    shutil.copytree(folders.base.parent, root)
    return SdxlFolders(*(root / getattr(folders, field.name).name for field in fields(folders)))


def load(folders: SdxlFolders, options: SdxlOptions = GRID) -> SdxlEnhancer:
    return SdxlEnhancer.load(folders, CPU, options)


def test_the_same_seed_writes_the_same_weights(folders: SdxlFolders, tmp_path: Path) -> None:
    again, other = write_tiny_sdxl(tmp_path / "a"), write_tiny_sdxl(tmp_path / "b", seed=1)
    first = folders.unet.read_bytes()
    assert again.unet.read_bytes() == first
    assert other.unet.read_bytes() != first


@pytest.mark.parametrize(
    "name",
    [
        "sdxl_lightning_8step_unet.safetensors",
        "sdxl-base/unet/config.json",
        "sdxl-base/scheduler/scheduler_config.json",
        "sdxl-base/text_encoder/config.json",
        "sdxl-base/text_encoder/model.fp16.safetensors",
        "sdxl-base/text_encoder_2/model.fp16.safetensors",
        "sdxl-base/tokenizer/vocab.json",
        "sdxl-base/tokenizer_2/merges.txt",
        "controlnet-depth-sdxl/config.json",
        "controlnet-depth-sdxl/diffusion_pytorch_model.safetensors",
        "sdxl-vae-fp16-fix/diffusion_pytorch_model.safetensors",
    ],
)
def test_a_missing_file_is_named(folders: SdxlFolders, name: str) -> None:
    (folders.base.parent / name).unlink()
    with pytest.raises(Unavailable, match=Path(name).name):
        load(folders)


def edit(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_missing_unexpected_and_misshapen_weights_are_named(folders: SdxlFolders) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["conv_in.weight"]
        tensors["another.weight"] = torch.zeros(3)
        tensors["conv_out.bias"] = torch.zeros(5)

    edit(folders.unet, change)
    with pytest.raises(Unavailable) as caught:
        load(folders)
    told = str(caught.value)
    assert "missing conv_in.weight;" in told
    assert "unexpected another.weight;" in told
    assert "conv_out.bias (5,) instead of (4,)" in told
    assert folders.unet.name in told


def test_many_missing_weights_are_counted(folders: SdxlFolders) -> None:
    edit(folders.unet, lambda tensors: [tensors.pop(name) for name in list(tensors)[:10]])
    with pytest.raises(Unavailable, match="and 7 more"):
        load(folders)


def test_text_weights_are_strict_too(folders: SdxlFolders) -> None:
    path = folders.base / "text_encoder_2/model.fp16.safetensors"
    edit(path, lambda tensors: tensors.pop("text_projection.weight"))
    with pytest.raises(Unavailable, match=r"missing text_projection\.weight"):
        load(folders)


def test_a_damaged_file_is_named(folders: SdxlFolders) -> None:
    folders.unet.write_bytes(folders.unet.read_bytes()[:1000])
    with pytest.raises(Unavailable, match=folders.unet.name):
        load(folders)
    (folders.vae / "config.json").write_text("{", "utf-8")
    with pytest.raises(Unavailable, match=r"config\.json cannot be read"):
        load(folders)


def test_other_weights_are_recognised(folders: SdxlFolders) -> None:
    with pytest.raises(Unavailable, match="'AutoencoderKL', not a ControlNetModel"):
        load(replace(folders, controlnet=folders.vae))
    path = folders.controlnet / "config.json"
    config = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**config, "layers_per_block": [1]}), "utf-8")
    with pytest.raises(Unavailable, match="describes no ControlNetModel"):
        load(folders)


def test_half_precision_is_preferred_and_full_is_read(folders: SdxlFolders) -> None:
    expected = load(folders).enhance(renders(1), EnhanceSettings(0.25), Control()).images
    plain = folders.vae / "diffusion_pytorch_model.safetensors"
    save_file(load_file(plain), folders.vae / "diffusion_pytorch_model.fp16.safetensors")
    plain.write_bytes(b"not read")
    half = folders.base / "text_encoder/model.fp16.safetensors"
    half.rename(half.with_name("model.safetensors"))
    found = load(folders).enhance(renders(1), EnhanceSettings(0.25), Control()).images
    assert (found == expected).all()


def test_names_of_old_vae_files_are_read(folders: SdxlFolders) -> None:
    expected = load(folders).enhance(renders(1), EnhanceSettings(0.25), Control()).images
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in [n for n in tensors if "attentions" in n]:
            for new, before in old.items():
                if f".{new}." in name:
                    tensors[name.replace(new, before)] = tensors.pop(name)

    path = folders.vae / "diffusion_pytorch_model.safetensors"
    edit(path, change)
    assert any(".proj_attn." in name for name in load_file(path))
    found = load(folders).enhance(renders(1), EnhanceSettings(0.25), Control()).images
    assert (found == expected).all()


class CountingEncoder:
    """A text encoder; `read` holds every prompt that was encoded."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.loads = 0

    def load(self) -> CountingEncoder:
        self.loads += 1
        return self

    def encode(self, prompt: str) -> Embedding:
        self.read.append(prompt)
        return Embedding(torch.zeros(1, 77, 4), torch.zeros(1, 2), truncated=False)


def test_a_prompt_is_read_once_and_the_oldest_is_forgotten() -> None:
    encoder = CountingEncoder()
    prompts = Prompts(encoder.load, keep=False)
    first = prompts.embed("0")
    assert prompts.embed("0") is first
    for i in range(1, 8):
        prompts.embed(str(i))
    prompts.embed("0")
    assert encoder.read == [str(i) for i in range(8)]
    prompts.embed("8")
    prompts.embed("0")
    assert encoder.read[8:] == ["8"]
    prompts.embed("1")
    assert encoder.read[8:] == ["8", "1"]
    assert encoder.loads == len(encoder.read)


def test_kept_encoders_are_read_once() -> None:
    encoder = CountingEncoder()
    prompts = Prompts(encoder.load, keep=True)
    for prompt in "abc":
        prompts.embed(prompt)
    assert encoder.loads == 1


def test_dropped_encoders_equal_kept_ones(folders: SdxlFolders) -> None:
    kept = load(folders, replace(GRID, keep_text_encoders=True))
    dropped = load(folders)
    assert dropped._prompts._encoder is None
    assert kept._prompts._encoder is not None
    settings = EnhanceSettings(0.25, prompt="a wooden chair")
    images = [e.enhance(renders(2), settings, Control()).images for e in (kept, dropped)]
    assert (images[0] == images[1]).all()
    pairs = zip(
        *(e._prompts._known["a wooden chair"].__dict__.values() for e in (kept, dropped)),
        strict=True,
    )
    for one, other in pairs:
        if isinstance(one, torch.Tensor):
            assert (one - other).abs().max() < 1e-6


def test_prompts_matter_and_the_default_is_known_after_loading(folders: SdxlFolders) -> None:
    engine = load(folders)
    assert list(engine._prompts._known) == [DEFAULT_PROMPT]
    given, settings = renders(1), EnhanceSettings(0.5)
    default, named, other = (
        engine.enhance(given, replace(settings, prompt=prompt), Control()).images
        for prompt in (None, DEFAULT_PROMPT, "zzz")
    )
    assert (default == named).all()
    assert (default != other).any()


def test_a_new_prompt_reads_the_folder_and_a_known_one_does_not(folders: SdxlFolders) -> None:
    engine = load(folders)
    settings = EnhanceSettings(0.25)
    engine.enhance(renders(1), replace(settings, prompt="a"), Control())
    shutil.rmtree(folders.base)
    engine.enhance(renders(1), replace(settings, prompt="a"), Control())
    engine.enhance(renders(1), settings, Control())
    with pytest.raises(Unavailable, match="text_encoder"):
        engine.enhance(renders(1), replace(settings, prompt="b"), Control())


def test_a_prompt_that_is_too_long_is_cut_and_the_notes_say_so(folders: SdxlFolders) -> None:
    engine = load(folders)
    # Every letter is a token of the small vocabulary; two places are for start and end.
    for letters, noted in ((75, False), (76, True)):
        settings = EnhanceSettings(0.25, prompt="x" * letters)
        notes = engine.enhance(renders(1), settings, Control()).notes
        assert any("cut off" in note for note in notes) == noted


def test_embeddings_have_the_widths_of_both_encoders(folders: SdxlFolders) -> None:
    embedding = TextEncoders.load(folders.base).encode("a chair")
    assert embedding.tokens.shape == (1, 77, 64)
    assert embedding.pooled.shape == (1, 32)
    assert embedding.tokens.dtype == torch.float32


def test_a_resolution_that_the_networks_cannot_have_is_refused(folders: SdxlFolders) -> None:
    with pytest.raises(InvalidOption, match="multiple of 32, got 80"):
        SdxlEnhancer.load(folders, CPU, replace(GRID, resolution=80))


def test_nothing_asks_the_network(folders: SdxlFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_args: Any, **_kwargs: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    engine = SdxlEnhancer.load(folders, CPU, GRID)
    engine.enhance(renders(1), replace(EnhanceSettings(0.5), prompt="a new prompt"), Control())


def test_random_weights_need_no_files() -> None:
    engine = random_sdxl(
        Device(CPU.torch_device, Precision.BF16),
        GRID,
        # The released sizes need 8 GB.
        unet=TINY_UNET,
        controlnet=TINY_CONTROLNET,
        vae=TINY_VAE,
    )
    engine.warm_up()
    assert np.isfinite(draw(engine, renders(2))).all()
    first, again, other = (
        engine.enhance(renders(1), replace(EnhanceSettings(0.5), prompt=prompt), Control()).images
        for prompt in ("a", "a", "b")
    )
    assert (first == again).all()
    assert (first != other).any()


def test_the_sizes_of_the_random_networks_are_those_released() -> None:
    import diffusers

    with torch.device("meta"):
        built = [
            diffusers.UNet2DConditionModel.from_config(UNET),
            diffusers.ControlNetModel.from_config(CONTROLNET),
            diffusers.AutoencoderKL.from_config(VAE),
        ]
    numbers = [sum(p.numel() for p in network.parameters()) for network in built]
    assert numbers == [2_567_463_684, 1_251_014_160, 83_653_863]
    assert [len(network.state_dict()) for network in built] == [1680, 844, 248]


def test_without_diffusers_the_way_to_install_it_is_told(
    folders: SdxlFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(Unavailable, match=r"pip install -e '\.\[models\]'"):
        SdxlEnhancer.load(folders, CPU, GRID)


@pytest.mark.slow
def test_importing_is_light_and_working_is_quiet(folders: SdxlFolders, tmp_path: Path) -> None:
    script = tmp_path / "quiet.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from pipeline.engines.enhance.sdxl import SdxlEnhancer, SdxlFolders, SdxlOptions\n"
        "assert not {'diffusers', 'transformers'} & set(sys.modules)\n"
        "from pipeline.device import Device, Precision\n"
        "import torch\n"
        "folders = SdxlFolders(*map(Path, sys.argv[1:]))\n"
        "device = Device(torch.device('cpu'), Precision.BF16)\n"
        f"options = SdxlOptions(resolution={TINY_RESOLUTION})\n"
        "SdxlEnhancer.load(folders, device, options).warm_up()\n",
        "utf-8",
    )
    paths = [str(p) for p in (folders.base, folders.unet, folders.controlnet, folders.vae)]
    root = Path(__file__).parents[4]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), *paths],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_vae_is_computed_in_fp32_only_where_it_overflows() -> None:
    class Vae:
        def __init__(self, force_upcast: bool) -> None:
            self.config = type("Config", (), {"force_upcast": force_upcast})

    half = Device(torch.device("cpu"), Precision.FP16)
    brain = Device(torch.device("cpu"), Precision.BF16)
    assert networks._vae_dtype(Vae(False), half) == torch.float16
    assert networks._vae_dtype(Vae(True), half) == torch.float32
    assert networks._vae_dtype(Vae(True), brain) == torch.bfloat16
