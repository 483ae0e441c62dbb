"""The tiny networks of the golden run as files, in the layouts in which such are published.

It does not know how files are read.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from pipeline.engines.deg.position_tables import sobol_points
from tests.pipeline.engines.deg import golden_files


def tiny(word: str, start: str = "") -> dict[str, Tensor]:
    """A copy of the weights of a part whose names begin so, without that beginning."""
    return {
        name.removeprefix(start): tensor.clone()
        for name, tensor in golden_files.tiny_weights(word).items()
        if name.startswith(start)
    }


def write_triposplat(folder: Path) -> None:
    """The flow network, both decoders in one file, the encoders; and their sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tiny("flow"), folder / "flow.safetensors")
    save_file(tiny("decoder"), folder / "decoders.safetensors")
    unused = {"embeddings.mask_token": torch.zeros(1, 1, 4)}
    save_file(tiny("dinov3") | unused, folder / "dino.safetensors")
    halves = {"decoder.conv_in.weight": torch.zeros(4), "post_quant_conv.bias": torch.zeros(4)}
    count = {"bn.num_batches_tracked": torch.tensor(0)}
    save_file(tiny("vae_encoder") | halves | count, folder / "vae.safetensors")
    (folder / "config.json").write_text(golden_files.golden_config().to_json())


def write_idol(folder: Path) -> list[Path]:
    """A file for each network, without words before their names, and positions of the latent."""
    table = sobol_points(golden_files.golden_config().flow.latent_tokens)[None]
    files = {
        "denoiser": tiny("flow") | {"pos_pe": table},
        "decoder": tiny("decoder", "octree."),
        "decoder_gs": tiny("decoder", "gs."),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, tensors in files.items():
        save_file(tensors, folder / f"{name}.safetensors")
    return [folder / f"{name}.safetensors" for name in files]


#: The file of each part in the bundles of the catalogue.
_IN_BUNDLES = {
    "triposplat": {
        "diffusion_models/triposplat_fp16.safetensors": "flow",
        "vae/triposplat_vae_decoder_fp16.safetensors": "decoder",
    },
    # As a conversion leaves them.
    "idol": {"flow.safetensors": "flow", "decoders.safetensors": "decoder"},
    "dinov3-vith16plus": {"clip_vision/dino_v3_vit_h.safetensors": "dinov3"},
    "flux2-vae": {"vae/flux2-vae.safetensors": "vae_encoder"},
}


def write_tiny_deg(folder: Path, bundle: str) -> None:
    """A bundle of the catalogue with the networks of the golden run, and their sizes."""
    for path, word in _IN_BUNDLES[bundle].items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        save_file(tiny(word), folder / path)
    (folder / "config.json").write_text(golden_files.golden_config().to_json())


def write_turbo(folder: Path) -> tuple[Path, Path]:
    """The slow and the fast LoRA of the golden run."""
    from pipeline.engines.deg.turbo_phases import adapted_modules

    weights = golden_files.tiny_weights("flow")
    names = adapted_modules(golden_files.golden_config().flow)
    sizes = [(n, *reversed(weights[f"{n}.weight"].shape)) for n in names]
    folder.mkdir(parents=True, exist_ok=True)
    for phase in ("slow", "fast"):
        lora = golden_files.tiny_lora(sizes, phase)
        save_file(lora, folder / f"{phase}.safetensors")
    return folder / "slow.safetensors", folder / "fast.safetensors"
