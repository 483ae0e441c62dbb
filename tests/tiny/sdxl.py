"""A small random SDXL with ControlNet, VAE and text encoders, in the released files and names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from pipeline.engines.enhance.sdxl import SdxlFolders
from tests.random_networks import CONTROLNET, SCHEDULER, UNET, VAE

__all__ = ["TINY_CONTROLNET", "TINY_RESOLUTION", "TINY_UNET", "TINY_VAE", "write_tiny_sdxl"]

#: A resolution at which 14 views take seconds on two CPU cores.
TINY_RESOLUTION = 64

_TEXT = 32
#: The released architecture with less of everything.
TINY_UNET: dict[str, Any] = {
    **UNET,
    "sample_size": 16,
    "block_out_channels": [32, 32, 64],
    "layers_per_block": 1,
    "attention_head_dim": [2, 2, 4],
    "addition_time_embed_dim": 8,
    "transformer_layers_per_block": [1, 1, 2],
    "projection_class_embeddings_input_dim": 6 * 8 + _TEXT,
    "cross_attention_dim": 2 * _TEXT,
}
TINY_CONTROLNET: dict[str, Any] = {
    **{name: TINY_UNET[name] for name in CONTROLNET if name in TINY_UNET},
    "conditioning_embedding_out_channels": [8, 8, 16, 16],
}
TINY_VAE: dict[str, Any] = {
    **VAE,
    "block_out_channels": [32, 32, 32, 32],
    "layers_per_block": 1,
    "sample_size": 64,
}
#: As released, with what other samplers read.
_SCHEDULER: dict[str, Any] = {
    "_class_name": "EulerDiscreteScheduler",
    "_diffusers_version": "0.19.0.dev0",
    **SCHEDULER,
    "clip_sample": False,
    "interpolation_type": "linear",
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": False,
}


def write_tiny_sdxl(root: Path, seed: int = 0) -> SdxlFolders:
    """Write the models below `root`; the same seed writes the same numbers."""
    import diffusers

    folders = SdxlFolders(
        base=root / "sdxl-base",
        unet=root / "sdxl_lightning_8step_unet.safetensors",
        controlnet=root / "controlnet-depth-sdxl",
        vae=root / "sdxl-vae-fp16-fix",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = diffusers.UNet2DConditionModel.from_config(TINY_UNET)
        controlnet = diffusers.ControlNetModel.from_config(TINY_CONTROLNET)
        vae = diffusers.AutoencoderKL.from_config(TINY_VAE)
        # A ControlNet is born silent: what leaves it is multiplied by zeros until it is trained.
        for name, parameter in controlnet.named_parameters():
            if name.startswith(("controlnet_", "controlnet_cond_embedding.conv_out")):
                torch.nn.init.normal_(parameter, 0.0, 0.2)
        for suffix, projected in (("", False), ("_2", True)):
            _write_text_encoder(folders.base / f"text_encoder{suffix}", projected=projected)
    for suffix, pad in (("", "<|endoftext|>"), ("_2", "!")):
        _write_tokenizer(folders.base / f"tokenizer{suffix}", pad)
    _write_json(folders.base / "scheduler/scheduler_config.json", _SCHEDULER)
    _write_json(folders.base / "unet/config.json", _named(TINY_UNET, "UNet2DConditionModel"))
    _write_json(folders.controlnet / "config.json", _named(TINY_CONTROLNET, "ControlNetModel"))
    _write_json(folders.vae / "config.json", _named(TINY_VAE, "AutoencoderKL"))
    _write_json(folders.base / "model_index.json", {"_class_name": "StableDiffusionXLPipeline"})
    save_file(unet.state_dict(), folders.unet)
    weights = "diffusion_pytorch_model.safetensors"
    save_file(controlnet.state_dict(), folders.controlnet / weights)
    save_file(vae.state_dict(), folders.vae / weights)
    return folders


def _named(config: dict[str, Any], name: str) -> dict[str, Any]:
    return {"_class_name": name, "_diffusers_version": "0.19.0.dev0", **config}


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2), "utf-8")


def _vocabulary() -> dict[str, int]:
    """Every printable character, alone and at the end of a word; CLIP's special tokens last."""
    characters = [chr(code) for code in range(33, 127)]
    tokens = [*characters, *(c + "</w>" for c in characters), "<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}


def _write_tokenizer(folder: Path, pad: str) -> None:
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    start, end = ({"content": f"<|{word}|>", **flags} for word in ("startoftext", "endoftext"))
    special = {"bos_token": start, "eos_token": end, "pad_token": pad, "unk_token": end}
    _write_json(folder / "vocab.json", _vocabulary())
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    _write_json(folder / "special_tokens_map.json", special)
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": 77,
            "do_lower_case": True,
            "errors": "replace",
            **{
                name: {"__type": "AddedToken", **token} if isinstance(token, dict) else token
                for name, token in special.items()
            },
        },
    )


def _write_text_encoder(folder: Path, *, projected: bool) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    vocabulary = _vocabulary()
    sizes = {
        "hidden_size": _TEXT,
        "intermediate_size": 37,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "vocab_size": len(vocabulary),
        "max_position_embeddings": 77,
        "hidden_act": "gelu" if projected else "quick_gelu",
        "projection_dim": _TEXT,
        # As released: the end is found as the largest token.
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    encoder = kind(CLIPTextConfig(**sizes))
    named = {
        name if name.startswith("text_") else f"text_model.{name}": tensor.half().contiguous()
        for name, tensor in encoder.state_dict().items()
    }
    named["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    released = {"model_type": "clip_text_model", "torch_dtype": "float16", "dropout": 0.0}
    _write_json(folder / "config.json", {"architectures": [kind.__name__], **released, **sizes})
    save_file(named, folder / "model.fp16.safetensors")
