"""The networks of the enhancer: read from the released files, or built at full size at random.

It knows how SDXL is put together and not what is done with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.device import Device, Precision
from pipeline.engines.enhance.sdxl.sdxl_files import (
    find_file,
    find_weights,
    load_strictly,
    read_json,
)
from pipeline.engines.enhance.sdxl.sdxl_options import SdxlFolders
from pipeline.errors import Unavailable

__all__ = ["Networks", "load_networks", "random_networks"]

_UNET: dict[str, Any] = {
    "sample_size": 128,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "transformer_layers_per_block": (1, 2, 10),
    "projection_class_embeddings_input_dim": 2816,
    "cross_attention_dim": 2048,
}
_CONTROLNET: dict[str, Any] = {
    **{
        k: v for k, v in _UNET.items() if k not in ("sample_size", "out_channels", "up_block_types")
    },
    "conditioning_embedding_out_channels": (16, 32, 96, 256),
}
_VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "sample_size": 512,
    "scaling_factor": 0.13025,
    "force_upcast": False,
}
_SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


@dataclass(frozen=True)
class Networks:
    """SDXL without its text encoders; instances of diffusers' classes on one device."""

    unet: Any
    controlnet: Any
    vae: Any
    scheduler: Any


def load_networks(folders: SdxlFolders, device: Device) -> Networks:
    """Read the released files.

    Raises:
        Unavailable: diffusers is not installed, a file is missing or does not fit its network.
    """
    diffusers = _diffusers()
    unet = _read_config(folders.base / "unet", diffusers.UNet2DConditionModel)
    controlnet = _read_config(folders.controlnet, diffusers.ControlNetModel)
    vae = _read_config(folders.vae, diffusers.AutoencoderKL)
    scheduler = read_json(find_file(folders.base / "scheduler", "scheduler_config.json"))
    stem = "diffusion_pytorch_model"
    where, dtype = device.torch_device, device.dtype
    load_strictly(unet, folders.unet, where, dtype)
    load_strictly(controlnet, find_weights(folders.controlnet, stem), where, dtype)
    load_strictly(vae, find_weights(folders.vae, stem), where, _vae_dtype(vae, device))
    return Networks(unet, controlnet, vae, _scheduler(diffusers, scheduler))


def random_networks(device: Device, seed: int = 0) -> Networks:
    """The released architecture with random weights, drawn on the device; 7.8 GB in fp16.

    Raises:
        Unavailable: diffusers is not installed.
    """
    diffusers = _diffusers()
    generator = torch.Generator(device.torch_device).manual_seed(seed)
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel.from_config(_UNET)
        controlnet = diffusers.ControlNetModel.from_config(_CONTROLNET)
        vae = diffusers.AutoencoderKL.from_config(_VAE)
    for network in (unet, controlnet, vae):
        # diffusers' own `to` tells at length that nothing is kept in fp32.
        torch.nn.Module.to(network, device.dtype)
        network.to_empty(device=device.torch_device)
        _fill(network, generator)
        network.eval().requires_grad_(False)
    return Networks(unet, controlnet, vae, _scheduler(diffusers, _SCHEDULER))


def _diffusers() -> Any:
    try:
        import diffusers
        import transformers
    except ImportError as error:
        raise Unavailable(
            f"The sdxl enhancer needs the packages diffusers and transformers ({error}): run "
            "`pip install -e '.[models]'` in the project's folder."
        ) from error
    # transformers tells of every image processor that torchvision is not there; none is used.
    told = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        diffusers.StableDiffusionXLControlNetImg2ImgPipeline  # noqa: B018  imports it
    finally:
        transformers.logging.set_verbosity(told)
    return diffusers


def _read_config(folder: Path, kind: Any) -> Any:
    """The network that the folder's configuration describes, on the meta device."""
    path = find_file(folder, "config.json")
    config = read_json(path)
    if config.get("_class_name") != kind.__name__:
        raise Unavailable(
            f"{path} describes a {config.get('_class_name')!r}, not a {kind.__name__}: these are "
            "other weights."
        )
    try:
        with torch.device("meta"):
            return kind.from_config(config)
    except (TypeError, ValueError) as error:
        raise Unavailable(f"{path} describes no {kind.__name__}: {error}") from error


def _scheduler(diffusers: Any, config: dict[str, Any]) -> Any:
    """The sampler that SDXL-Lightning was distilled for: Euler, spacing from the last timestep."""
    scheduler = diffusers.EulerDiscreteScheduler.from_config(config, timestep_spacing="trailing")
    # It makes an array of the tensor in every call, in a way that numpy 2 warns of.
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.numpy()
    return scheduler


def _vae_dtype(vae: Any, device: Device) -> torch.dtype:
    """SDXL's own VAE overflows in fp16 and says so in its configuration; the fixed one does not."""
    overflows = vae.config.force_upcast and device.precision is Precision.FP16
    return torch.float32 if overflows else device.dtype


@torch.no_grad()
def _fill(network: torch.nn.Module, generator: torch.Generator) -> None:
    """Numbers that keep activations finite through every layer."""
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            scale = 0.7 / math.sqrt(math.prod(parameter.shape[1:]))
            parameter.normal_(0.0, scale, generator=generator)
        else:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
