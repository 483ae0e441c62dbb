"""What ties the views together: noisy views to one volume, and that volume to each view's frustum.

It knows the volume networks (arXiv 2309.03453, section 3.3) and nothing of the UNet that reads
their output. Names of parameters are those of the released checkpoint, (c) 2023 Yuan Liu, MIT.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from pipeline.engines.views.syncdreamer.config import (
    LATENT_CHANNELS,
    VIEW_EMBEDDING_DIM,
    VOLUME_NORM_GROUPS,
    SyncDreamerConfig,
)

#: Features of a view's frustum by their side in pixels: 32, 16, 8 and 4.
FrustumVolumes = dict[int, Tensor]


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(VOLUME_NORM_GROUPS, channels)


class _TargetBlock(nn.Module):
    """`x + conv(x + time + view)`, two 3 x 3 convolutions."""

    def __init__(self, channels: int, time_dim: int) -> None:
        super().__init__()
        self.time_embed = nn.Conv2d(time_dim, channels, 1)
        self.view_embed = nn.Conv2d(VIEW_EMBEDDING_DIM, channels, 1)
        self.conv = nn.Sequential(
            _norm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            _norm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor, time: Tensor, view: Tensor) -> Tensor:
        out: Tensor = x + self.conv(x + self.time_embed(time) + self.view_embed(view))
        return out


class TargetEncoder(nn.Module):
    """Noisy latents of a view to features of the same size."""

    def __init__(self, channels: int, time_dim: int) -> None:
        super().__init__()
        self.init_conv = nn.Conv2d(LATENT_CHANNELS, channels, 3, padding=1)
        self.out_conv0 = _TargetBlock(channels, time_dim)
        self.out_conv1 = _TargetBlock(channels, time_dim)
        self.out_conv2 = _TargetBlock(channels, time_dim)
        self.final_out = nn.Sequential(
            _norm(channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, latents: Tensor, time: Tensor, view: Tensor) -> Tensor:
        """[V, 4, h, w], [1 or V, time_dim], [V, 4] -> [V, channels, h, w]."""
        time, view = time[..., None, None], view[..., None, None]
        x = self.init_conv(latents)
        for block in (self.out_conv0, self.out_conv1, self.out_conv2):
            x = block(x, time, view)
        features: Tensor = self.final_out(x)
        return features


class _Block3d(nn.Module):
    """`conv(SiLU(GN(x + time [+ view])))`; stride 2 halves every side."""

    def __init__(
        self, inputs: int, outputs: int, time_dim: int, *, stride: int = 1, views: bool = False
    ) -> None:
        super().__init__()
        self.t_conv = nn.Conv3d(time_dim, inputs, 1)
        self.v_conv = nn.Conv3d(VIEW_EMBEDDING_DIM, inputs, 1) if views else None
        self.bn = _norm(inputs)
        self.conv = nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1)

    def forward(self, x: Tensor, time: Tensor, view: Tensor | None = None) -> Tensor:
        """[B, inputs, d, h, w], [1 or B, time_dim, 1, 1, 1], [B, 4, 1, 1, 1]."""
        shift = self.t_conv(time)
        if self.v_conv is not None:
            shift = shift + self.v_conv(view)
        out: Tensor = self.conv(functional.silu(self.bn(x + shift)))
        return out


class _UpBlock3d(nn.Module):
    """The same with a transposed convolution that doubles every side."""

    def __init__(self, inputs: int, outputs: int, time_dim: int, *, views: bool = False) -> None:
        super().__init__()
        self.t_conv = nn.Conv3d(time_dim, inputs, 1)
        self.v_conv = nn.Conv3d(VIEW_EMBEDDING_DIM, inputs, 1) if views else None
        self.norm = _norm(inputs)
        self.conv = nn.ConvTranspose3d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)

    def forward(self, x: Tensor, time: Tensor, view: Tensor | None = None) -> Tensor:
        shift = self.t_conv(time)
        if self.v_conv is not None:
            shift = shift + self.v_conv(view)
        out: Tensor = self.conv(functional.silu(self.norm(x + shift)))
        return out


class SpatialVolumeNet(nn.Module):
    """3D U-Net over the features of all views at the vertices of the cube."""

    def __init__(self, inputs: int, dims: tuple[int, ...], time_dim: int) -> None:
        super().__init__()
        a, b, c, d = dims
        self.init_conv = nn.Conv3d(inputs, a, 3, padding=1)
        self.conv0 = _Block3d(a, a, time_dim)
        self.conv1 = _Block3d(a, b, time_dim, stride=2)
        self.conv2_0 = _Block3d(b, b, time_dim)
        self.conv2_1 = _Block3d(b, b, time_dim)
        self.conv3 = _Block3d(b, c, time_dim, stride=2)
        self.conv4_0 = _Block3d(c, c, time_dim)
        self.conv4_1 = _Block3d(c, c, time_dim)
        self.conv5 = _Block3d(c, d, time_dim, stride=2)
        self.conv6_0 = _Block3d(d, d, time_dim)
        self.conv6_1 = _Block3d(d, d, time_dim)
        self.conv7 = _UpBlock3d(d, c, time_dim)
        self.conv8 = _UpBlock3d(c, b, time_dim)
        self.conv9 = _UpBlock3d(b, a, time_dim)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """[1, inputs, S, S, S], [1, time_dim] -> [1, dims[0], S, S, S]."""
        t = time[..., None, None, None]
        x0 = self.conv0(self.init_conv(x), t)
        x1 = self.conv2_1(self.conv2_0(self.conv1(x0, t), t), t)
        x2 = self.conv4_1(self.conv4_0(self.conv3(x1, t), t), t)
        x3 = self.conv6_1(self.conv6_0(self.conv5(x2, t), t), t)
        x2 = x2 + self.conv7(x3, t)
        x1 = x1 + self.conv8(x2, t)
        out: Tensor = x0 + self.conv9(x1, t)
        return out


class FrustumVolumeNet(nn.Module):
    """3D U-Net over the frustum of one view; every level of its way up is an output."""

    def __init__(self, inputs: int, dims: tuple[int, ...], time_dim: int) -> None:
        super().__init__()
        a, b, c, d = dims
        self.conv0 = nn.Conv3d(inputs, a, 3, padding=1)
        self.conv1 = _Block3d(a, b, time_dim, stride=2, views=True)
        self.conv2 = _Block3d(b, b, time_dim, views=True)
        self.conv3 = _Block3d(b, c, time_dim, stride=2, views=True)
        self.conv4 = _Block3d(c, c, time_dim, views=True)
        self.conv5 = _Block3d(c, d, time_dim, stride=2, views=True)
        self.conv6 = _Block3d(d, d, time_dim, views=True)
        self.up0 = _UpBlock3d(d, c, time_dim, views=True)
        self.up1 = _UpBlock3d(c, b, time_dim, views=True)
        self.up2 = _UpBlock3d(b, a, time_dim, views=True)

    def forward(self, x: Tensor, time: Tensor, view: Tensor) -> FrustumVolumes:
        """[n, inputs, D, h, w], [1, time_dim], [n, 4] -> {h / 2^l: [n, dims[l], D / 2^l, ...]}."""
        t, v = time[..., None, None, None], view[..., None, None, None]
        x0 = self.conv0(x)
        x1 = self.conv2(self.conv1(x0, t, v), t, v)
        x2 = self.conv4(self.conv3(x1, t, v), t, v)
        x3 = self.conv6(self.conv5(x2, t, v), t, v)
        x2 = x2 + self.up0(x3, t, v)
        x1 = x1 + self.up1(x2, t, v)
        x0 = x0 + self.up2(x1, t, v)
        return {level.shape[-1]: level for level in (x0, x1, x2, x3)}


class ViewVolumes(nn.Module):
    """All volume networks. Sampling positions are float32: half a vertex is lost in bf16."""

    def __init__(self, config: SyncDreamerConfig) -> None:
        super().__init__()
        self.target_encoder = TargetEncoder(config.target_dim, config.time_dim)
        self.spatial_volume_feats = SpatialVolumeNet(
            config.target_dim * config.views, config.spatial_dims, config.time_dim
        )
        self.frustum_volume_feats = FrustumVolumeNet(
            config.spatial_dims[0], config.frustum_dims, config.time_dim
        )

    def spatial(self, latents: Tensor, time: Tensor, views: Tensor, grid: Tensor) -> Tensor:
        """The volume that all noisy views build together.

        Args:
            latents: [V, 4, 32, 32], noisy and scaled, in the networks' dtype.
            time: [1, time_dim].
            views: [V, 4], view embeddings.
            grid: float32 [V, S, S * S, 2], `Grids.vertices`.

        Returns:
            [1, C, S, S, S] in the order [z, y, x].
        """
        features = self.target_encoder(latents, time, views)
        sampled = functional.grid_sample(
            features.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=True
        )
        size = grid.shape[1]
        # View-major: channels of view 0, then of view 1, ...
        stacked = sampled.reshape(1, -1, size, size, size).to(features.dtype)
        volume: Tensor = self.spatial_volume_feats(stacked, time)
        return volume

    def frustums(self, volume: Tensor, time: Tensor, views: Tensor, grid: Tensor) -> FrustumVolumes:
        """The volume as n of the views see it.

        Args:
            volume: [1, C, S, S, S], from `spatial`.
            time: [1, time_dim].
            views: [n, 4], embeddings of these views.
            grid: float32 [n, D, 32, 32, 3], their part of `Grids.frustums`.

        Returns:
            {32: [n, C0, D, 32, 32], 16: [n, C1, D/2, 16, 16], 8: ..., 4: ...}.
        """
        sampled = functional.grid_sample(
            volume.float().expand(len(grid), -1, -1, -1, -1),
            grid,
            mode="bilinear",
            padding_mode="zeros",
            align_corners=True,
        )
        levels: FrustumVolumes = self.frustum_volume_feats(sampled.to(volume.dtype), time, views)
        return levels
