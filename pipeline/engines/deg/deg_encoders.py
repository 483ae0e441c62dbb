"""What a prepared photo says to the flow network: DINOv3 and the encoder of the FLUX.2 autoencoder.

It does not know the flow network, nor where weights lie. The networks are transformers' and
diffusers'; names of their weights are those of the released files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle

from pipeline.engines.deg.deg_canvas import PreparedPhoto
from pipeline.engines.deg.deg_config import (
    LEADING_TOKENS,
    PATCH,
    REGISTERS,
    DegConfig,
    DinoConfig,
    VaeConfig,
)
from pipeline.engines.deg.deg_draws import Draw, normal_noise
from pipeline.engines.deg.deg_layers import plain_norm
from pipeline.engines.deg.flow_network import PhotoFeatures
from pipeline.errors import Unavailable

_FEATURE_EPS = 1e-5
#: Of the reference's inference code; diffusers' own is 1e-4, as training had it.
_LATENT_NORM_EPS = 1e-5
#: ImageNet's mean and deviation of RGB in 0..1.
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
#: The autoencoder reduces by 8, and a token is 2 x 2 of its pixels.
_VAE_REDUCTION = 8


class DinoEncoder(nn.Module):
    """DINOv3 ViT, on the meta device until it gets weights, but for its frequencies."""

    def __init__(self, config: DinoConfig) -> None:
        """Raises Unavailable where transformers is not installed."""
        super().__init__()
        with torch.device("meta"):
            model = _dino(config)
        self.embeddings = model.embeddings
        # For training only; it is in the file and is left out.
        self.embeddings.mask_token = None
        self.rope_embeddings = model.rope_embeddings
        head = config.width // config.heads
        # No file has them: 100^(-4j / head).
        frequencies = 1 / 100.0 ** torch.arange(0, 1, 4 / head, dtype=torch.float32, device="cpu")
        self.rope_embeddings.inv_freq = frequencies
        self.layer = model.model.layer
        self.norm = model.norm

    def forward(self, pixels: Tensor) -> Tensor:
        """[1, 3, canvas, canvas], normalised -> [1, tokens, width] in the weights' dtype.

        Tokens are class, registers, patches row by row.
        """
        pixels = pixels.to(self.embeddings.patch_embeddings.weight.dtype)
        h = self.embeddings(pixels)
        positions = self.rope_embeddings(pixels)
        for layer in self.layer:
            h = layer(h, position_embeddings=positions)
        out: Tensor = self.norm(h)
        return out


class LatentNorm(nn.Module):
    """Mean and variance of every channel of a token of the autoencoder; always float32."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels, dtype=torch.float32))
        self.register_buffer("running_var", torch.ones(channels, dtype=torch.float32))

    def forward(self, tokens: Tensor) -> Tensor:
        """[1, n, channels] -> the same, float32."""
        deviation = torch.sqrt(self.running_var.float() + _LATENT_NORM_EPS)
        return (tokens.float() - self.running_mean.float()) / deviation


class VaeEncoder(nn.Module):
    """The encoding half of the FLUX.2 autoencoder, on the meta device until it gets weights."""

    def __init__(self, config: VaeConfig) -> None:
        """Raises Unavailable where diffusers is not installed."""
        super().__init__()
        with torch.device("meta"):
            model = _autoencoder(config)
            self.bn = LatentNorm(config.token_channels)
        self.encoder = model.encoder
        self.quant_conv = model.quant_conv

    def forward(self, pixels: Tensor) -> Tensor:
        """[1, 3, canvas, canvas] in -1..1 -> mean and log variance [1, 2 * latent, h, w], float32.

        The latent has an eighth of the canvas's side.
        """
        dtype = self.quant_conv.weight.dtype
        moments: Tensor = self.quant_conv(self.encoder(pixels.to(dtype)))
        return moments.float()

    def tokens(self, moments: Tensor, noise: Tensor) -> Tensor:
        """A sample, as normed tokens.

        Args:
            moments: of `forward`.
            noise: standard normal, [1, latent, h, w].

        Returns:
            [1, h * w / 4, 4 * latent], float32, row by row; channel 4 c + 2 (y % 2) + (x % 2).
        """
        mean, log_variance = moments.chunk(2, dim=1)
        z = mean + torch.exp(log_variance / 2) * noise.to(mean)
        tokens: Tensor = self.bn(pixel_unshuffle(z, 2).flatten(2).transpose(1, 2))
        return tokens


@dataclass(frozen=True)
class PhotoEncoders:
    """Both encoders, on one device."""

    dino: DinoEncoder
    vae: VaeEncoder


def empty_encoders(config: DegConfig) -> PhotoEncoders:
    """Encoders without weights: assign them, then move all to the device with `.to(device)`.

    Raises:
        Unavailable: transformers or diffusers is not installed.
    """
    return PhotoEncoders(DinoEncoder(config.dino).eval(), VaeEncoder(config.vae).eval())


def vae_noise(config: DegConfig, seed: int, photo: int = 0) -> Tensor:
    """Noise for `encode_photo`, [1, latent, h, w], of a request's seed."""
    side = config.canvas // _VAE_REDUCTION
    shape = (1, config.vae.latent_channels, side, side)
    return normal_noise(seed, Draw.VAE_NOISE, shape, photo)


@torch.no_grad()
def encode_photo(
    encoders: PhotoEncoders, prepared: PreparedPhoto, noise_vae: Tensor
) -> PhotoFeatures:
    """Features of a photo, float32, on the encoders' device.

    Args:
        noise_vae: of `vae_noise`.
    """
    device = encoders.vae.quant_conv.weight.device
    # A copy: Pillow's pixels may not be written to, and torch warns of such memory.
    rgb = torch.from_numpy(prepared.rgb.copy()).to(device).permute(2, 0, 1)[None].float() / 255
    feature1 = plain_norm(encoders.dino(imagenet_pixels(rgb)), _FEATURE_EPS)
    tokens = encoders.vae.tokens(encoders.vae(2 * rgb - 1), noise_vae.to(device))
    # They face the class and the registers, for which the autoencoder has nothing.
    nothing = tokens.new_zeros(1, LEADING_TOKENS, tokens.shape[-1])
    return PhotoFeatures(feature1, torch.cat([nothing, tokens], dim=1))


def imagenet_pixels(rgb: Tensor) -> Tensor:
    """[1, 3, h, w] in 0..1, normalised by ImageNet's mean and deviation."""
    mean, deviation = (rgb.new_tensor(x)[:, None, None] for x in (_MEAN, _DEVIATION))
    return (rgb - mean) / deviation


def _dino(config: DinoConfig) -> Any:
    try:
        from transformers import DINOv3ViTConfig, DINOv3ViTModel
    except ImportError as error:
        raise _not_installed(error) from error
    return DINOv3ViTModel(
        DINOv3ViTConfig(
            hidden_size=config.width,
            num_attention_heads=config.heads,
            num_hidden_layers=config.layers,
            intermediate_size=config.mlp_width,
            num_register_tokens=REGISTERS,
            patch_size=PATCH,
            use_gated_mlp=True,
            hidden_act="silu",
            key_bias=False,
            layer_norm_eps=1e-5,
            rope_theta=100.0,
            attn_implementation="sdpa",
        )
    )


def _autoencoder(config: VaeConfig) -> Any:
    try:
        from diffusers import AutoencoderKLFlux2
    except ImportError as error:
        raise _not_installed(error) from error
    return AutoencoderKLFlux2(
        block_out_channels=config.channels, latent_channels=config.latent_channels
    )


def _not_installed(error: ImportError) -> Unavailable:
    needs = "The DeG engines need the packages diffusers and transformers"
    run = "run `pip install -e '.[models]'` in the project's folder."
    return Unavailable(f"{needs} ({error}): {run}", public=f"{needs}: {run}")
