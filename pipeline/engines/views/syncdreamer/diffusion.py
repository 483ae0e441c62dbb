"""One photo to the latents of its views and to pictures: conditions, sampling, decoding.

It does not know files, engines or requests; what is random comes in as `Noise`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.control import Control
from pipeline.engines.views.syncdreamer.config import LATENT_CHANNELS, LATENT_SIZE
from pipeline.engines.views.syncdreamer.network import SyncDreamerNetwork
from pipeline.engines.views.syncdreamer.sampler import Noise, sample
from pipeline.engines.views.syncdreamer.sampler_settings import SamplerSettings


@torch.inference_mode()
def sample_views(
    network: SyncDreamerNetwork,
    image: Tensor,
    elevation_rad: float,
    noise: Noise,
    settings: SamplerSettings,
    control: Control,
    *,
    views_at_once: int,
) -> Tensor:
    """Scaled latents of all views.

    Args:
        image: float32 [1, 3, 256, 256], -1..1, the object on white.
        elevation_rad: of the camera that took the photo.
        noise: drawn from for the photo's latent, the start, and between steps, in this order.
        views_at_once: views per run of the UNet; the result differs by rounding only.

    Returns:
        float32 [V, 4, 32, 32].

    Raises:
        Cancelled: a stop was asked for.
    """
    control.check()
    mean, std = network.encode(image)
    photo = mean + std * noise(tuple(mean.shape))
    conditions = network.condition(photo, network.embed_image(image), elevation_rad)
    start = noise((network.config.views, LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE))

    def predict(latents: Tensor, timestep: int) -> Tensor:
        return network.predict_noise(
            latents,
            timestep,
            conditions,
            guidance_scale=settings.guidance_scale,
            views_at_once=views_at_once,
        )

    return sample(predict, start, noise, settings, control)


@torch.inference_mode()
def decode_views(network: SyncDreamerNetwork, latents: Tensor, *, views_at_once: int) -> Tensor:
    """Scaled latents, float32 [V, 4, 32, 32], to images, float32 [V, 3, 256, 256] in -1..1."""
    parts = [network.decode(some) for some in torch.split(latents, views_at_once)]
    return torch.cat(parts).clamp(-1, 1)
