"""The networks of the enhancer, read from the released files.

It knows how SDXL is put together and not what is done with it.
"""

from __future__ import annotations

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
    diffusers = import_diffusers()
    unet = _read_config(folders.base / "unet", diffusers.UNet2DConditionModel)
    controlnet = _read_config(folders.controlnet, diffusers.ControlNetModel)
    vae = _read_config(folders.vae, diffusers.AutoencoderKL)
    scheduler = read_json(find_file(folders.base / "scheduler", "scheduler_config.json"))
    stem = "diffusion_pytorch_model"
    where, dtype = device.torch_device, device.dtype
    load_strictly(unet, folders.unet, where, dtype)
    load_strictly(controlnet, find_weights(folders.controlnet, stem), where, dtype)
    load_strictly(vae, find_weights(folders.vae, stem), where, _vae_dtype(vae, device))
    return Networks(unet, controlnet, vae, lightning_scheduler(diffusers, scheduler))


def import_diffusers() -> Any:
    """The package, with what the enhancer needs of it imported without remarks in the log.

    Raises:
        Unavailable: it, or transformers, is not installed.
    """
    try:
        import diffusers
        import transformers
    except ImportError as error:
        needs = "The sdxl enhancer needs the packages diffusers and transformers"
        run = "run `pip install -e '.[models]'` in the project's folder."
        raise Unavailable(f"{needs} ({error}): {run}", public=f"{needs}: {run}") from error
    # transformers tells of every image processor that torchvision is not there; none is used.
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        diffusers.StableDiffusionXLControlNetImg2ImgPipeline  # noqa: B018  imports it
    finally:
        transformers.logging.set_verbosity(level)
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


def lightning_scheduler(diffusers: Any, config: dict[str, Any]) -> Any:
    """The sampler that SDXL-Lightning was distilled for: Euler, spacing from the last timestep."""
    scheduler = diffusers.EulerDiscreteScheduler.from_config(config, timestep_spacing="trailing")
    # It makes an array of the tensor in every call, in a way that numpy 2 warns of.
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.numpy()
    return scheduler


def _vae_dtype(vae: Any, device: Device) -> torch.dtype:
    """SDXL's own VAE overflows in fp16 and says so in its configuration; the fixed one does not."""
    overflows = vae.config.force_upcast and device.precision is Precision.FP16
    return torch.float32 if overflows else device.dtype
