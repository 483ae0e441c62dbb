"""Weights of the DeG engines from a hub on this machine, as their repositories have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from pipeline.engines.deg.deg_config import DegConfig
from pipeline.engines.registry import weights_catalogue
from pipeline.errors import InvalidOption, Unavailable
from pipeline.ports import PortName
from pipeline.weights.fetch import convert, fetch
from pipeline.weights.folders import Condition, adopt, find, state_of, verify
from pipeline.weights.locks import read_lock
from tests.hub import NEWEST, Hub, running_hub
from tests.pipeline.engines.deg.golden_files import golden_config
from tests.pipeline.engines.deg.layouts import tiny, write_idol, write_turbo
from tests.pipeline.engines.loading import load

Fetch = Callable[..., Path]
KNOWN = weights_catalogue()


@pytest.fixture(autouse=True)
def tiny_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is released is as small as the golden run."""
    monkeypatch.setattr(DegConfig, "released", classmethod(lambda _cls: golden_config()))


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """What each repository holds."""
    folder = tmp_path_factory.mktemp("released")
    idol = {path.name: path.read_bytes() for path in write_idol(folder)}
    slow, fast = write_turbo(folder)
    flow, decoder = save(tiny("flow")), save(tiny("decoder"))
    return {
        "VAST-AI/TripoSplat": {
            "diffusion_models/triposplat_fp16.safetensors": flow,
            "vae/triposplat_vae_decoder_fp16.safetensors": decoder,
            "clip_vision/dino_v3_vit_h.safetensors": save(tiny("dinov3")),
            "vae/flux2-vae.safetensors": save(tiny("vae_encoder")),
            "background_removal/birefnet.safetensors": b"not asked for",
        },
        "speridlabs/idol": {**idol, "birefnet.safetensors": b"not asked for"},
        "Comfy-Org/Idol": {
            "diffusion_models/idol_fp16.safetensors": flow,
            "vae/idol_decoder_fp16.safetensors": decoder,
        },
        "akhaliq/idol-turbo": {
            "README.md": b"...",
            "Idol_Turbo_Slow_r32.safetensors": slow.read_bytes(),
            "Idol_Turbo_Fast_r32.safetensors": fast.read_bytes(),
        },
        "black-forest-labs/FLUX.2-klein-4B": {
            "transformer/diffusion_pytorch_model.safetensors": b"large",
            "vae/diffusion_pytorch_model.safetensors": save(tiny("vae_encoder")),
        },
    }


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def get(hub: Hub, repositories: dict[str, dict[str, bytes]], tmp_path: Path) -> Fetch:
    """Fetches a bundle by its name from its repository."""

    def call(name: str, *, allow: tuple[str, ...] = ()) -> Path:
        bundle = KNOWN.bundle(name)
        hub.repo = bundle.hub.repo
        hub.commits = {NEWEST: repositories.get(hub.repo, {})}
        return fetch(bundle, tmp_path, endpoint=hub.endpoint, allow=allow)

    return call


def test_what_is_fetched_is_what_an_engine_loads(get: Fetch, hub: Hub, tmp_path: Path) -> None:
    dino = KNOWN.bundle("dinov3-vith16plus")
    with pytest.raises(InvalidOption, match=r"DINOv3 License.*--allow dinov3-vith16plus"):
        get(dino.name)
    assert hub.listings == 0, "nothing is asked before its terms are agreed to"
    for name, paths in (
        ("triposplat", ["diffusion_models/triposplat_fp16.safetensors"]),
        (dino.name, ["clip_vision/dino_v3_vit_h.safetensors"]),
        ("flux2-vae", ["vae/flux2-vae.safetensors"]),
    ):
        hub.asked.clear()
        folder = get(name, allow=(dino.name,))
        assert hub.paths_asked[:1] == paths
        lock = read_lock(folder)
        assert lock is not None
        assert (lock.origin, lock.revision) == ("fetched", NEWEST), "the newest, kept from now on"
        assert verify(KNOWN.bundle(name), tmp_path) == []
    assert load(PortName.GENERATOR, "triposplat", tmp_path).name == "triposplat"


def test_idol_is_converted_as_it_comes_and_turbo_is_merged(
    get: Fetch, repositories: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    folder = get("idol")
    there = sorted(path.name for path in folder.iterdir())
    assert there == ["config.json", "decoders.safetensors", "flow.safetensors", "weights-lock.json"]
    lock = read_lock(folder)
    assert lock is not None
    assert lock.origin == "converted"
    assert set(lock.source) == set(repositories["speridlabs/idol"]) - {"birefnet.safetensors"}
    with safe_open(folder / "flow.safetensors", "pt") as file:
        assert file.get_slice("blocks.0.attn.qkv.weight").get_dtype() == "F16"
        assert file.get_slice("repo_layers.0.freqs_0").get_dtype() == "F32"
    assert get("idol") == folder
    told = "idol-turbo", "dinov3-vith16plus"
    with pytest.raises(InvalidOption, match="licence it may be used is not known"):
        get("idol-turbo")
    for name in ("idol-turbo", "dinov3-vith16plus", "flux2-vae"):
        get(name, allow=told)
    assert load(PortName.GENERATOR, "idol-turbo", tmp_path).name == "idol-turbo"
    (folder / "flow.safetensors").write_bytes(b"!" * (folder / "flow.safetensors").stat().st_size)
    (fault,) = verify(KNOWN.bundle("idol"), tmp_path)
    assert "flow.safetensors has changed" in fault


def test_repacks_and_another_copy_of_the_autoencoder_do_as_well(get: Fetch, tmp_path: Path) -> None:
    get("idol-fp16")
    get("dinov3-vith16plus", allow=("dinov3-vith16plus",))
    folder = get("flux2-vae-klein")
    assert (folder / "flux2-vae.safetensors").is_file()
    options = {"weights": "idol-fp16", "vae": "flux2-vae-klein"}
    assert load(PortName.GENERATOR, "idol", tmp_path, **options).name == "idol"


def test_the_copy_that_forbids_business_is_never_fetched_but_by_name(get: Fetch) -> None:
    with pytest.raises(InvalidOption, match=r"forbids commercial use.*--allow flux2-vae-dev"):
        get("flux2-vae-dev", allow=("flux2-vae", "dinov3-vith16plus"))


def test_turbo_files_by_hand_are_adopted_under_names_of_ours(tmp_path: Path) -> None:
    bundle = KNOWN.bundle("idol-turbo")
    write_turbo(tmp_path / "idol-turbo")
    with pytest.raises(InvalidOption, match="--allow idol-turbo"):
        adopt(bundle, tmp_path)
    adopt(bundle, tmp_path, allow=["idol-turbo"])
    assert find(bundle, tmp_path) == tmp_path / "idol-turbo"


def test_idol_s_files_by_hand_are_converted_in_any_order(tmp_path: Path) -> None:
    bundle = KNOWN.bundle("idol")
    files = write_idol(tmp_path / "downloads")
    folder = convert(bundle, files[::-1], tmp_path, precision="fp32")
    with safe_open(folder / "flow.safetensors", "pt") as file:
        assert torch.equal(
            file.get_tensor("blocks.0.attn.qkv.weight"), tiny("flow")["blocks.0.attn.qkv.weight"]
        )
    assert state_of(bundle, tmp_path).condition is Condition.READY


def test_files_of_something_else_are_not_converted(tmp_path: Path) -> None:
    bundle = KNOWN.bundle("idol")
    files = write_idol(tmp_path / "downloads")
    lora, _ = write_turbo(tmp_path / "downloads")
    with pytest.raises(Unavailable, match=r"slow\.safetensors holds a LoRA, not the flow network"):
        convert(bundle, [lora, *files[1:]], tmp_path)
    assert state_of(bundle, tmp_path).condition is Condition.MISSING
