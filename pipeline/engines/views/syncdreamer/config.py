"""Sizes of a SyncDreamer network, and the numbers that the method itself fixes.

It does not build anything and imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from pipeline.errors import Unavailable
from pipeline.rig import VIEW_COUNT

#: Side of the input image and of the views, pixels.
IMAGE_SIZE = 256
#: Side of a latent image: the autoencoder reduces by 8.
LATENT_SIZE = 32
LATENT_CHANNELS = 4
#: Noisy views live in latents times this number (Stable Diffusion 1.5); the photo's does not.
LATENT_SCALE = 0.18215
#: [elevation, sin azimuth, cos azimuth, 0].
VIEW_EMBEDDING_DIM = 4
#: The spatial volume is the cube [-0.5, 0.5]^3, world units.
VOLUME_HALF_SIDE = 0.5
#: Elevation of the views the network was trained to make.
TRAINED_ELEVATION_DEG = 30.0
#: Elevations of the photos it was trained with, degrees.
PHOTO_ELEVATIONS_DEG = (-10.0, 40.0)
#: Frustum volumes reach so far before and behind the origin, world units: half the diagonal of the
#: unit cube, to the five digits of the reference.
FRUSTUM_HALF_DEPTH = 0.86603
VOLUME_NORM_GROUPS = 8

#: UNet channels are `model_channels` times these, from 32 x 32 down to 4 x 4 pixels.
CHANNEL_MULTIPLES = (1, 2, 4, 4)
_LEVELS = len(CHANNEL_MULTIPLES)


@dataclass(frozen=True)
class SyncDreamerConfig:
    """Sizes of the networks; the defaults are those of the released checkpoint.

    Attributes:
        views: target views that are made together.
        model_channels: UNet channels at the finest level.
        unet_heads: heads of the UNet's self and cross attention.
        unet_norm_groups: groups of the UNet's group norms.
        vae_channels: of the autoencoder, finest level first.
        vae_layers: residual blocks per level of the autoencoder.
        vae_norm_groups: groups of the autoencoder's group norms.
        clip_width, clip_layers, clip_heads: of the vision transformer; its MLP is 4 times as wide.
        clip_patch: side of a patch, pixels.
        clip_image_size: side of the image it looks at, pixels.
        context_dim: of the image embedding and of the one token every view attends to.
        time_dim: of the time embedding of the volume networks.
        target_dim: channels of the encoder of noisy views.
        spatial_dims: channels of the 3D U-Net on the spatial volume, finest level first.
        frustum_dims: channels of the 3D U-Net on the frustum volumes, finest level first; also
            those of the depth attention.
        spatial_size: vertices along a side of the spatial volume.
        frustum_depths: depth planes of a frustum volume.
    """

    views: int = VIEW_COUNT
    model_channels: int = 320
    unet_heads: int = 8
    unet_norm_groups: int = 32
    vae_channels: tuple[int, ...] = (128, 256, 512, 512)
    vae_layers: int = 2
    vae_norm_groups: int = 32
    clip_width: int = 1024
    clip_layers: int = 24
    clip_heads: int = 16
    clip_patch: int = 14
    clip_image_size: int = 224
    context_dim: int = 768
    time_dim: int = 256
    target_dim: int = 16
    spatial_dims: tuple[int, ...] = (64, 128, 256, 512)
    frustum_dims: tuple[int, ...] = (64, 128, 256, 512)
    spatial_size: int = 32
    frustum_depths: int = 48

    def __post_init__(self) -> None:
        if not 1 <= self.views <= VIEW_COUNT:
            raise ValueError(f"views must be 1 to {VIEW_COUNT}, got {self.views}")
        for name in ("vae_channels", "spatial_dims", "frustum_dims"):
            sizes = getattr(self, name)
            if len(sizes) != _LEVELS:
                raise ValueError(f"{name} must hold {_LEVELS} numbers, got {sizes}")
        divisors = {
            "model_channels": (self.unet_norm_groups, self.unet_heads),
            "vae_channels": (self.vae_norm_groups,),
            "clip_width": (self.clip_heads,),
            "clip_image_size": (self.clip_patch,),
            "time_dim": (2,),
            "target_dim": (VOLUME_NORM_GROUPS,),
            "spatial_dims": (VOLUME_NORM_GROUPS,),
            "frustum_dims": (VOLUME_NORM_GROUPS,),
            # Three halvings on the way down.
            "spatial_size": (8,),
            "frustum_depths": (8,),
        }
        for name, wanted in divisors.items():
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                for divisor in wanted:
                    if number < 1 or number % divisor:
                        raise ValueError(f"{name} must be a multiple of {divisor}, got {number}")

    @classmethod
    def released(cls) -> SyncDreamerConfig:
        """`syncdreamer-pretrain.ckpt`: 1.354 billion parameters."""
        return cls()

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SyncDreamerConfig:
        """Rebuild from `to_json`.

        Raises:
            Unavailable: a name is unknown or missing, or the sizes do not fit together.
        """
        known = {field.name for field in fields(cls)}
        if set(values) != known:
            odd = sorted(set(values) ^ known)
            raise Unavailable(f"SyncDreamer's config.json has unknown or missing names: {odd}.")
        try:
            sizes: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
            }
            return cls(**sizes)
        except (TypeError, ValueError) as error:
            raise Unavailable(f"SyncDreamer's config.json cannot be used: {error}.") from error

    def to_json(self) -> dict[str, Any]:
        """Every size with its name, JSON-ready."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
