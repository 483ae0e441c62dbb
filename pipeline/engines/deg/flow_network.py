"""The flow network: which way a noisy latent and a noisy camera lead, given a photo's features.

It does not know how steps are taken, nor what the latent means. Names of its weights are those of
the released files. Its tokens are kept in float32; blocks compute in the dtype of their weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.engines.deg.deg_config import FlowConfig
from pipeline.engines.deg.deg_layers import (
    AffineNorm,
    Dense,
    MultiHeadNorm,
    TwoLayers,
    block_mlp,
    modulated,
)
from pipeline.engines.deg.fused_attention import Attention, RepeatedKey
from pipeline.engines.deg.learned_rotation import LearnedRotation, rotate
from pipeline.engines.deg.position_tables import flow_positions, sobol_points, time_waves

_BLOCK_EPS = 1e-6
_HEAD_EPS = 1e-5
_TIME_CHANNELS = 256
#: Shift, scale and gate of the attention, then of the MLP.
_MODULATIONS = 6


@dataclass(frozen=True)
class PhotoFeatures:
    """What the encoders see in a photo.

    Attributes:
        feature1: [1, n, feature1_channels], of the vision transformer.
        feature2: [1, n, feature2_channels], of the autoencoder, zero at the leading tokens.
    """

    feature1: Tensor
    feature2: Tensor


@dataclass(frozen=True)
class PhotoContext:
    """A photo's tokens as the blocks take them: they depend on neither the latent nor the time.

    Attributes:
        tokens: [1, n, width], float32.
        count: how many equal tokens the only one stands for; 1 where each stands for itself.
    """

    tokens: Tensor
    count: int = 1

    def __post_init__(self) -> None:
        if self.count > 1 and self.tokens.shape[1] != 1:
            raise ValueError("only a single token can stand for several")


class Moment(NamedTuple):
    """What the network takes of the time.

    Attributes:
        embedding: [1, width].
        modulation: [1, 6 * width], shared by all blocks.
    """

    embedding: Tensor
    modulation: Tensor


class Velocity(NamedTuple):
    """d/dt of the latent, [1, tokens, channels], and of the camera, [1, 1, 5]; float32."""

    latent: Tensor
    camera: Tensor


class RotatedAttention(nn.Module):
    """Self-attention whose queries and keys are rotated first and normed afterwards."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = Dense(config.width, 3 * config.width)
        self.q_norm = MultiHeadNorm(config.heads, config.head_width)
        self.k_norm = MultiHeadNorm(config.heads, config.head_width)
        self.attend = Attention()
        self.out = Dense(config.width, config.width)

    def forward(self, x: Tensor, turn: Tensor, repeated: RepeatedKey | None) -> Tensor:
        """[1, n, width] -> [1, n, width]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        q = self.q_norm(rotate(q, turn))
        k = self.k_norm(rotate(k, turn))
        out: Tensor = self.out(self.attend(q, k, v, repeated))
        return out


class ModulatedBlock(nn.Module):
    """Attention and MLP, each shifted, scaled and gated by the time."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.shift_table = nn.Parameter(torch.zeros(1, _MODULATIONS * config.width))
        self.attn = RotatedAttention(config)
        self.mlp = block_mlp(config.width, config.mlp_ratio)

    def forward(
        self, h: Tensor, modulation: Tensor, turn: Tensor, repeated: RepeatedKey | None
    ) -> Tensor:
        """h [1, n, width] float32, modulation [1, 6 * width] -> [1, n, width] float32."""
        parts = (modulation + self.shift_table).float().chunk(_MODULATIONS, dim=-1)
        shift1, scale1, gate1, shift2, scale2, gate2 = parts
        attended = self.attn(modulated(h, shift1, scale1, _BLOCK_EPS), turn, repeated)
        h = torch.addcmul(h, gate1, attended)
        made = self.mlp(modulated(h, shift2, scale2, _BLOCK_EPS))
        return torch.addcmul(h, gate2, made)


class PlainBlock(nn.Module):
    """Attention and MLP on the photo's tokens; it sees neither the time nor the latent."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.norm1 = AffineNorm(config.width, eps=_BLOCK_EPS)
        self.norm2 = AffineNorm(config.width, eps=_BLOCK_EPS)
        self.attn = RotatedAttention(config)
        self.mlp = block_mlp(config.width, config.mlp_ratio)

    def forward(self, h: Tensor, turn: Tensor) -> Tensor:
        """[1, n, width] float32 -> the same."""
        h = h + self.attn(self.norm1(h), turn, None)
        made: Tensor = self.mlp(self.norm2(h))
        return h + made


class FlowNetwork(nn.Module):
    """The flow network of one photo.

    The position table is no weight: it is there as soon as the network is, also on the meta device,
    and follows the weights to their device at the first call.
    """

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        width, heads = config.width, config.heads
        self.config = config
        self._positions: Tensor = flow_positions(sobol_points(config.latent_tokens), width)

        self.shift_table = nn.Parameter(torch.zeros(1, 2, width))
        self.t_embedder = TwoLayers(_TIME_CHANNELS, width, width, nn.SiLU())
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), Dense(width, _MODULATIONS * width))
        self.input_layer = Dense(config.latent_channels, width)
        self.cond_embedder = Dense(config.feature1_channels, width)
        self.cond_embedder2 = Dense(config.feature2_channels, width)
        gelu = nn.GELU(approximate="tanh")
        self.cam_refiner = TwoLayers(config.camera_channels, width, width, gelu)

        def rotations(count: int) -> nn.ModuleList:
            return nn.ModuleList(LearnedRotation(width, heads) for _ in range(count))

        refiners = config.refiner_blocks
        self.noise_repo_layers = rotations(refiners)
        self.context_repo_layers = rotations(refiners)
        self.repo_layers = rotations(config.blocks)
        self.noise_refiner = nn.ModuleList(ModulatedBlock(config) for _ in range(refiners))
        self.context_refiner = nn.ModuleList(PlainBlock(config) for _ in range(refiners))
        self.blocks = nn.ModuleList(ModulatedBlock(config) for _ in range(config.blocks))
        self.out_layer = Dense(width, config.latent_channels)
        self.cam_out_layer = Dense(width, config.camera_channels)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.shift_table.device

    def network_at(self, t: float) -> FlowNetwork:
        """Itself, at every time."""
        return self

    def with_weights(self, changed: Mapping[str, Tensor]) -> FlowNetwork:
        """Another network with some weights changed; it shares all the others with this one.

        Args:
            changed: by name; they are cast to the dtypes and the device of those they replace.
        """
        weights = self.state_dict()
        for name, value in changed.items():
            weights[name] = value.to(weights[name])
        with torch.device("meta"):
            twin = FlowNetwork(self.config)
        twin.load_state_dict(weights, strict=True, assign=True)
        twin._positions = self._table()
        for own, other in zip(self.modules(), twin.modules(), strict=True):
            if isinstance(own, Attention) and isinstance(other, Attention):
                other.kernel = own.kernel
        return twin.requires_grad_(False).eval()

    def photo_context(self, features: PhotoFeatures) -> PhotoContext:
        """The photo's tokens, the same for every step: compute them once for each photo."""
        h = self.cond_embedder(features.feature1).float()
        h = self._refined(h + self.cond_embedder2(features.feature2).float())
        return PhotoContext(h)

    def empty_context(self, tokens: int) -> PhotoContext:
        """No photo, as one token that stands for as many as a photo has.

        With features of zero all tokens of the photo are equal, and stay equal through every block,
        because positions come from content: what each would attend to is the same.

        Args:
            tokens: of the photo that it is compared with.
        """
        weight = self.cond_embedder.weight
        zero1 = weight.new_zeros(1, 1, self.config.feature1_channels)
        zero2 = weight.new_zeros(1, 1, self.config.feature2_channels)
        return PhotoContext(self.photo_context(PhotoFeatures(zero1, zero2)).tokens, tokens)

    def moments(self, t: Tensor) -> list[Moment]:
        """What the network takes of each time, all at once.

        Args:
            t: [s], 1 is noise and 0 the photo's object.
        """
        embedding = self.t_embedder(time_waves(t.to(self.device))).float()
        modulation = self.adaLN_modulation(embedding).float()
        return [Moment(e[None], m[None]) for e, m in zip(embedding, modulation, strict=True)]

    def forward(
        self, latent: Tensor, camera: Tensor, moment: Moment, context: PhotoContext
    ) -> Velocity:
        """The velocity of latent and camera.

        Args:
            latent: [1, latent_tokens, latent_channels], float32.
            camera: [1, 1, camera_channels], float32.
            moment: of `moments`.
            context: of `photo_context` or `empty_context`.
        """
        h = self.refined_latent(latent, moment)
        count = h.shape[1]
        repeated = RepeatedKey(count, context.count) if context.count > 1 else None
        h = torch.cat([h, context.tokens, self.cam_refiner(camera).float()], dim=1)
        for block, rotation in zip(self.blocks, self.repo_layers, strict=True):
            h = block(h, moment.modulation, rotation(h), repeated)
        h = torch.cat([h[:, :count], h[:, -1:]], dim=1)
        shift, scale = (self.shift_table + moment.embedding[:, None]).float().unbind(dim=1)
        h = modulated(h, shift, scale, _HEAD_EPS)
        return Velocity(self.out_layer(h[:, :-1]).float(), self.cam_out_layer(h[:, -1:]).float())

    def refined_latent(self, latent: Tensor, moment: Moment) -> Tensor:
        """The latent's tokens before they meet the photo's, [1, latent_tokens, width], float32."""
        h: Tensor = self.input_layer(latent).float() + self._table()
        for block, rotation in zip(self.noise_refiner, self.noise_repo_layers, strict=True):
            h = block(h, moment.modulation, rotation(h), None)
        return h

    def _refined(self, h: Tensor) -> Tensor:
        for block, rotation in zip(self.context_refiner, self.context_repo_layers, strict=True):
            h = block(h, rotation(h))
        return h

    def _table(self) -> Tensor:
        if self._positions.device != self.device:
            self._positions = self._positions.to(self.device)
        return self._positions
