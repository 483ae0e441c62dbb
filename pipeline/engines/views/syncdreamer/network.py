"""All networks of SyncDreamer together: from a photo to its conditions, from noisy views to noise.

It works on one photo and V views at a time. It does not know schedules, seeds, files or progress.
Parameters of the volumes and of the depth transformers carry the names of the released checkpoint,
(c) 2023 Yuan Liu, MIT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from pipeline.engines.views.syncdreamer.config import (
    IMAGE_SIZE,
    LATENT_CHANNELS,
    LATENT_SCALE,
    TRAINED_ELEVATION_DEG,
    VIEW_EMBEDDING_DIM,
    SyncDreamerConfig,
)
from pipeline.engines.views.syncdreamer.unet import ConstantTerms, SyncUNet
from pipeline.engines.views.syncdreamer.volume_geometry import Grids, make_grids
from pipeline.engines.views.syncdreamer.volumes import FrustumVolumes, ViewVolumes

#: Of the images CLIP was trained on, RGB.
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Conditions:
    """What the views of one photo are made under; the same in every step.

    Attributes:
        photo: [1, 4, 32, 32], unscaled latent of the photo.
        views: [V, 4], view embeddings.
        terms: what the UNet adds for the one token of each view and for absent conditions.
    """

    photo: Tensor
    views: Tensor
    terms: ConstantTerms


class SyncDreamerNetwork(nn.Module):
    """Autoencoder, image encoder, volume networks and UNet.

    Weights may be fp32, fp16 or bf16. The camera buffers, the sampling grids, the timestep's
    sinusoid and every input and output of the public methods are float32.
    """

    poses: Tensor
    Ks: Tensor
    azimuth: Tensor

    def __init__(self, config: SyncDreamerConfig) -> None:
        super().__init__()
        self.config = config
        self.vae = AutoencoderKL(
            in_channels=3,
            out_channels=3,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=config.vae_channels,
            layers_per_block=config.vae_layers,
            latent_channels=LATENT_CHANNELS,
            norm_num_groups=config.vae_norm_groups,
            scaling_factor=LATENT_SCALE,
            sample_size=IMAGE_SIZE,
        )
        self.clip = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=config.clip_width,
                intermediate_size=4 * config.clip_width,
                num_hidden_layers=config.clip_layers,
                num_attention_heads=config.clip_heads,
                image_size=config.clip_image_size,
                patch_size=config.clip_patch,
                projection_dim=config.context_dim,
                hidden_act="quick_gelu",
            )
        )
        self.time_embed = nn.Sequential(
            nn.Linear(config.time_dim, config.time_dim),
            nn.SiLU(),
            nn.Linear(config.time_dim, config.time_dim),
        )
        self.cc_projection = nn.Linear(config.context_dim + VIEW_EMBEDDING_DIM, config.context_dim)
        self.spatial_volume = ViewVolumes(config)
        self.denoiser = SyncUNet(config)
        # World-to-camera, OpenCV axes; pixels of a 256 x 256 image; radians.
        self.register_buffer("poses", torch.zeros(config.views, 3, 4))
        self.register_buffer("Ks", torch.zeros(config.views, 3, 3))
        self.register_buffer("azimuth", torch.zeros(config.views))
        self._grids: Grids | None = None

    @property
    def device(self) -> torch.device:
        return self.cc_projection.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.cc_projection.weight.dtype

    def use_channels_last(self) -> None:
        """Store convolution weights with channels last, for GPUs.

        Results differ by rounding; on the CPU, whose group norm of such volumes is less exact, by
        about 1e-3 in fp32.
        """
        # Not Module.to, which knows one format for weights with four and with five axes.
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                memory_format = torch.channels_last
            elif isinstance(layer, (nn.Conv3d, nn.ConvTranspose3d)):
                memory_format = torch.channels_last_3d
            else:
                continue
            layer.weight.data = layer.weight.data.contiguous(memory_format=memory_format)

    def compile_parts(self) -> None:
        """Compile what every step runs; shapes are static, the first step takes minutes."""
        self.denoiser.compile()
        self.spatial_volume.spatial_volume_feats.compile()
        self.spatial_volume.frustum_volume_feats.compile()

    def grids(self) -> Grids:
        """Sampling positions of these cameras; worked out once."""
        if self._grids is None:
            self._grids = make_grids(
                self.poses,
                self.Ks,
                volume_size=self.config.spatial_size,
                depths=self.config.frustum_depths,
            ).to(self.device)
        return self._grids

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of unscaled latents.

        Args:
            images: float32 [B, 3, 256, 256], -1..1.

        Returns:
            two float32 [B, 4, 32, 32].
        """
        posterior = self.vae.encode(images.to(self.dtype)).latent_dist
        return posterior.mean.float(), posterior.std.float()

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents [B, 4, 32, 32] to images [B, 3, 256, 256], about -1..1, both float32."""
        images: Tensor = self.vae.decode((latents / LATENT_SCALE).to(self.dtype)).sample
        return images.float()

    def embed_image(self, images: Tensor) -> Tensor:
        """CLIP's embedding: float32 [B, 3, 256, 256] in -1..1 -> float32 [B, 1, context_dim]."""
        side = self.config.clip_image_size
        # As in training: no antialiasing, corners aligned.
        small = functional.interpolate(images, (side, side), mode="bicubic", align_corners=True)
        mean = torch.tensor(_CLIP_MEAN, device=images.device).view(1, 3, 1, 1)
        std = torch.tensor(_CLIP_STD, device=images.device).view(1, 3, 1, 1)
        pixels = ((small + 1) / 2 - mean) / std
        embedding: Tensor = self.clip(pixel_values=pixels.to(self.dtype)).image_embeds
        return embedding[:, None].float()

    def embed_views(self, elevation_rad: float) -> Tensor:
        """`[elevation - 30 deg, sin, cos of the azimuth from view 0, 0]`, float32 [V, 4].

        Args:
            elevation_rad: of the camera that took the photo.
        """
        turn = self.azimuth - self.azimuth[0]
        rise = torch.full_like(turn, elevation_rad - math.radians(TRAINED_ELEVATION_DEG))
        return torch.stack([rise, turn.sin(), turn.cos(), torch.zeros_like(turn)], dim=-1)

    def embed_time(self, timestep: int) -> Tensor:
        """For the volume networks, [1, time_dim] in the weights' dtype."""
        wave = _sinusoid(timestep, self.config.time_dim, self.device)
        embedding: Tensor = self.time_embed(wave.to(self.dtype))
        return embedding

    def embed_context(self, image_embedding: Tensor, views: Tensor) -> Tensor:
        """[1, 1, context_dim] and [V, 4], float32 -> the token of each view [V, 1, context_dim]."""
        both = torch.cat([image_embedding.expand(len(views), -1, -1), views[:, None]], dim=-1)
        context: Tensor = self.cc_projection(both.to(self.dtype))
        return context

    def condition(self, photo: Tensor, image_embedding: Tensor, elevation_rad: float) -> Conditions:
        """Everything about one photo that does not change from step to step.

        Args:
            photo: float32 [1, 4, 32, 32], its unscaled latent.
            image_embedding: float32 [1, 1, context_dim].
            elevation_rad: of the camera that took it.
        """
        views = self.embed_views(elevation_rad)
        terms = self.denoiser.constant_terms(self.embed_context(image_embedding, views))
        return Conditions(photo.to(self.dtype), views.to(self.dtype), terms)

    def predict_noise(
        self,
        latents: Tensor,
        timestep: int,
        conditions: Conditions,
        *,
        guidance_scale: float,
        views_at_once: int,
    ) -> Tensor:
        """Noise in every view, with classifier-free guidance `u + s (c - u)`.

        Args:
            latents: float32 [V, 4, 32, 32], noisy, scaled.
            timestep: 0..999.
            guidance_scale: s; with 1 the unconditional half is not computed.
            views_at_once: views per run of the frustum networks and the UNet.

        Returns:
            float32 [V, 4, 32, 32].
        """
        grids = self.grids()
        time = self.embed_time(timestep)
        noisy = latents.to(self.dtype)
        volume = self.spatial_volume.spatial(noisy, time, conditions.views, grids.vertices)
        parts = []
        for first in range(0, len(latents), views_at_once):
            some = slice(first, first + views_at_once)
            volumes = self.spatial_volume.frustums(
                volume, time, conditions.views[some], grids.frustums[some]
            )
            parts.append(
                self._guided(noisy[some], timestep, conditions, some, volumes, guidance_scale)
            )
        return torch.cat(parts)

    def _guided(
        self,
        noisy: Tensor,
        timestep: int,
        conditions: Conditions,
        some: slice,
        volumes: FrustumVolumes,
        scale: float,
    ) -> Tensor:
        """Guided noise of the views `some`, float32 [n, 4, 32, 32]."""
        n = len(noisy)
        t = torch.full((1,), timestep, dtype=torch.long, device=noisy.device)
        photo = conditions.photo.expand(n, -1, -1, -1)
        x = torch.cat([noisy, photo], dim=1)
        guided = scale != 1
        if guided:
            x = torch.cat([x, torch.cat([noisy, torch.zeros_like(photo)], dim=1)])
        noise: Tensor = self.denoiser(x, t, conditions.terms.select(some), volumes).float()
        if not guided:
            return noise
        with_condition, without = noise.chunk(2)
        return without + scale * (with_condition - without)


def _sinusoid(timestep: int, dim: int, device: torch.device) -> Tensor:
    """`[cos, sin]` of a timestep at dim / 2 frequencies, longest period 10^4, float32 [1, dim]."""
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float32, device=device) / half
    angles = timestep * torch.exp(-math.log(10_000) * exponents)
    return torch.cat([angles.cos(), angles.sin()])[None]
