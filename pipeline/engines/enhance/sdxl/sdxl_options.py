"""What a user of the SDXL enhancer decides: where its weights lie and how it works.

It knows no network and reads no file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InvalidOption

DEFAULT_PROMPT = "a sharp, detailed studio photograph of one object on a white background"


@dataclass(frozen=True)
class SdxlFolders:
    """Where the released weights lie.

    Attributes:
        base: folder of stabilityai/stable-diffusion-xl-base-1.0 in the layout of diffusers:
            text_encoder, text_encoder_2, tokenizer, tokenizer_2, scheduler and unet/config.json.
            The weights of its UNet are not read. Files named `*.fp16.safetensors` are preferred.
        unet: sdxl_lightning_8step_unet.safetensors of ByteDance/SDXL-Lightning.
        controlnet: folder of xinsir/controlnet-depth-sdxl-1.0 or
            diffusers/controlnet-depth-sdxl-1.0.
        vae: folder of madebyollin/sdxl-vae-fp16-fix.
    """

    base: Path
    unet: Path
    controlnet: Path
    vae: Path


@dataclass(frozen=True)
class SdxlOptions:
    """How the enhancer works.

    Attributes:
        resolution: longest side of a view inside the network, pixels; a multiple of 32 for the
            released weights. SDXL was trained on pictures of 1024 pixels.
        grid: four views side by side are one picture of twice the resolution. They share their
            self-attention, and a view at 512 costs a quarter of what it does at 1024.
        cross_view: every view also attends to its neighbours in the ring and to the first view.
            All views of a call are computed at once then. Not together with `grid`.
        controlnet_scale: how strongly the depth holds the picture, 0..2.
        views_at_once: None decides by free memory; with `grid` it is rounded down to whole
            pictures of four views, at least one.
        low_frequency_sigma: pixels of a view of 256 pixels; what a Gaussian blur of this width
            still sees of the change is taken back.
        prompt: used where the settings of a call name none.
        keep_text_encoders: in main memory (3.3 GB); else they are read again for every new prompt.

    Raises:
        InvalidOption: a value is out of range.
    """

    resolution: int = 512
    grid: bool = True
    cross_view: bool = False
    controlnet_scale: float = 0.6
    views_at_once: int | None = None
    # A latent pixel is 8 pixels of the network, 4 of a view of 256: wider than that the network
    # draws shading, not detail.
    low_frequency_sigma: float = 4.0
    prompt: str = DEFAULT_PROMPT
    keep_text_encoders: bool = False

    def __post_init__(self) -> None:
        if self.grid and self.cross_view:
            raise InvalidOption("grid and cross_view are two ways to join views: choose one")
        if self.resolution < 1:
            raise InvalidOption(f"resolution must be at least 1, got {self.resolution}")
        if not 0.0 <= self.controlnet_scale <= 2.0:
            raise InvalidOption(
                f"controlnet_scale must be within 0..2, got {self.controlnet_scale}"
            )
        if self.views_at_once is not None and self.views_at_once < 1:
            raise InvalidOption(f"views_at_once must be at least 1, got {self.views_at_once}")
        if not (self.low_frequency_sigma > 0.0 and math.isfinite(self.low_frequency_sigma)):
            raise InvalidOption(
                f"low_frequency_sigma must be above 0, got {self.low_frequency_sigma}"
            )
