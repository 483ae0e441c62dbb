"""The network of the learned prior: a cut-out in, both sides of the object and its camera out.

It works on tensors of one size and does not know photos, meshes, weights files or training.

Its body works at 28, 14 and 7 px only: what is hidden is a question of the whole picture, not of
its pixels, and the outline stays sharp because it comes from the cut-out itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Sides in pixels of the picture that goes in (the middle of a frame of 128) and of the maps that
#: come out.
PICTURE_SIZE = 112
MAP_SIZE = 56

#: Hypotheses of the colours of the back.
HYPOTHESES = 3

#: Of the surface: the middle and the half thickness, the two logarithms of their errors.
_SURFACE_CHANNELS = 4
#: Of each hypothesis: a colour and how much of the photo is copied.
_BACK_CHANNELS = 4
#: Picture, silhouette, position, elevation: see `PriorNetwork._inputs`.
_INPUT_CHANNELS = 4 * 16 + 4 + 2 + 2

#: Sharpness of the soft floor that keeps the back behind the front, per frame width: without
#: anything to add a thickness of 0 becomes .06 and one of .3 stays .3.
_THICKNESS_SHARPNESS = 12.0


@dataclass(frozen=True)
class Answer:
    """What the network says about B pictures; offsets as in `guess.Guess`.

    Attributes:
        front, back: [B, 1, 56, 56], offsets of the first and the last surface.
        log_errors: [B, 2, 56, 56], logarithms of the expected absolute errors of both.
        colors: [B, H, 3, 56, 56], sRGB 0..1, hypotheses of the colours of the last surface.
        copies: [B, H, 1, 56, 56], 0..1, share of the photo's own colour in each.
        scores: [B, H], logits of the hypotheses.
        camera: [B, 4]: elevation / 30 degrees and the logarithm of the error of that, logarithm
            of the focal length in frame widths and the logarithm of the error of that.
    """

    front: Tensor
    back: Tensor
    log_errors: Tensor
    colors: Tensor
    copies: Tensor
    scores: Tensor
    camera: Tensor


class Convolution(nn.Module):
    """A 2-D convolution that keeps its kernel as a matrix [out, in * k * k].

    Optimisers that treat weights as matrices (Muon) then need no special case.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1) -> None:
        super().__init__()
        self.inputs, self.kernel, self.stride = inputs, kernel, stride
        fan = inputs * kernel * kernel
        self.weight = nn.Parameter(torch.randn(outputs, fan) / fan**0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.weight.view(-1, self.inputs, self.kernel, self.kernel)
        padding = self.kernel // 2 if self.stride == 1 else 0
        return functional.conv2d(x, kernel, self.bias, stride=self.stride, padding=padding)


def _silent(layer: Convolution | nn.Linear) -> Convolution | nn.Linear:
    """The last layer of a residual branch: it starts at zero, so that the branch adds nothing."""
    nn.init.zeros_(layer.weight)
    return layer


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside the identity (He et al., 2016, pre-activation)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm_a, self.norm_b = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.a = Convolution(channels, channels)
        self.b = _silent(Convolution(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(functional.silu(self.norm_a(x)))
        return x + self.b(functional.silu(self.norm_b(y)))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """A transformer block over the tokens [B, N, C] of the coarsest map."""

    def __init__(self, channels: int, *, head: int = 48, widening: int = 4) -> None:
        super().__init__()
        self.heads = max(1, channels // head)
        self.norm_a, self.norm_b = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.query_key_value = nn.Linear(channels, 3 * channels, bias=False)
        self.out = _silent(nn.Linear(channels, channels, bias=False))
        self.widen = nn.Linear(channels, widening * channels)
        self.narrow = _silent(nn.Linear(widening * channels, channels))

    def forward(self, tokens: Tensor) -> Tensor:
        b, n, c = tokens.shape
        joined = self.query_key_value(self.norm_a(tokens)).view(b, n, 3, self.heads, -1)
        query, key, value = joined.permute(2, 0, 3, 1, 4)
        heard = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.out(heard.transpose(1, 2).reshape(b, n, c))
        wide = functional.gelu(self.widen(self.norm_b(tokens)), approximate="tanh")
        return tokens + self.narrow(wide)  # type: ignore[no-any-return]


class PriorNetwork(nn.Module):
    """A small U-Net with attention at its bottom.

    Args:
        widths: channels at 28, 14 and 7 px.
        depths: residual blocks on each side at 28 and at 14 px, transformer blocks at 7 px.
    """

    def __init__(
        self,
        widths: tuple[int, int, int] = (48, 96, 192),
        depths: tuple[int, int, int] = (1, 2, 3),
    ) -> None:
        super().__init__()
        fine, middle, coarse = widths

        def blocks(channels: int, count: int) -> nn.Sequential:
            return nn.Sequential(*(Residual(channels) for _ in range(count)))

        self.stem = nn.Sequential(
            Convolution(_INPUT_CHANNELS, 2 * fine, 1), nn.SiLU(), Convolution(2 * fine, fine)
        )
        self.fine_in, self.middle_in = blocks(fine, depths[0]), blocks(middle, depths[1])
        self.to_middle = Convolution(fine, middle, 2, stride=2)
        self.to_coarse = Convolution(middle, coarse, 2, stride=2)
        side = PICTURE_SIZE // 16
        self.position = nn.Parameter(0.02 * torch.randn(1, coarse, side, side))
        self.coarse_in, self.coarse_out = Residual(coarse), Residual(coarse)
        self.attention = nn.Sequential(*(Attention(coarse) for _ in range(depths[2])))
        self.from_coarse = Convolution(middle + coarse, middle, 1)
        self.from_middle = Convolution(fine + middle, fine, 1)
        self.middle_out, self.fine_out = blocks(middle, depths[1]), blocks(fine, depths[0])
        channels = _SURFACE_CHANNELS + HYPOTHESES * _BACK_CHANNELS
        self.maps = Convolution(fine, 4 * channels)
        self.whole = nn.Sequential(
            nn.LayerNorm(coarse),
            nn.Linear(coarse, 2 * coarse),
            nn.SiLU(),
            nn.Linear(2 * coarse, 4 + HYPOTHESES),
        )
        with torch.no_grad():
            self.maps.weight.mul_(0.3)

    def forward(self, rgba: Tensor, inflated: Tensor, elevation: Tensor, known: Tensor) -> Answer:
        """
        Args:
            rgba: [B, 4, 112, 112] in 0..1, straight alpha.
            inflated: [B, 1, 56, 56], half thickness of the inflated outline in frame widths.
            elevation: [B], degrees; counts where `known` [B] is 1 and not where it is 0.
        """
        fine = self.fine_in(self.stem(self._inputs(rgba, inflated, elevation, known)))
        middle = self.middle_in(self.to_middle(fine))
        coarse = self.coarse_in(self.to_coarse(middle) + self.position)
        tokens = self.attention(coarse.flatten(2).transpose(1, 2))
        coarse = self.coarse_out(tokens.transpose(1, 2).reshape(coarse.shape))
        middle = self.middle_out(self.from_coarse(torch.cat([_twice(coarse), middle], 1)))
        fine = self.fine_out(self.from_middle(torch.cat([_twice(middle), fine], 1)))
        maps = functional.pixel_shuffle(self.maps(functional.silu(fine)), 2).float()
        whole = self.whole(coarse.mean((2, 3))).float()
        return _answer(maps, whole, inflated)

    @staticmethod
    def _inputs(rgba: Tensor, inflated: Tensor, elevation: Tensor, known: Tensor) -> Tensor:
        """Everything at 28 px, [B, 72, 28, 28]."""
        alpha = rgba[:, 3:]
        picture = torch.cat([2.0 * (rgba[:, :3] - 0.5) * alpha, alpha], 1)
        b, side = len(rgba), PICTURE_SIZE // 4
        line = torch.linspace(-1.0, 1.0, side, device=rgba.device)
        position = torch.stack(torch.meshgrid(line, line, indexing="ij"))
        told = torch.stack([known * elevation / 30.0, known], 1)[:, :, None, None]
        return torch.cat(
            [
                functional.pixel_unshuffle(picture, 4),
                functional.pixel_unshuffle(4.0 * inflated, 2),
                position.expand(b, 2, side, side),
                told.expand(b, 2, side, side),
            ],
            1,
        ).contiguous(memory_format=torch.channels_last)


def _twice(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")


def _answer(maps: Tensor, whole: Tensor, inflated: Tensor) -> Answer:
    """The heads: what is added to the inflated outline, and colours.

    Args:
        maps: [B, 4 + 4 H, 56, 56].
        whole: [B, 4 + H].
    """
    middle = 0.3 * maps[:, :1]
    half = (
        functional.softplus(_THICKNESS_SHARPNESS * inflated + maps[:, 1:2]) / _THICKNESS_SHARPNESS
    )
    b, _, side, _ = maps.shape
    backs = maps[:, _SURFACE_CHANNELS:].view(b, HYPOTHESES, _BACK_CHANNELS, side, side)
    return Answer(
        front=middle - half,
        back=middle + half,
        log_errors=maps[:, 2:_SURFACE_CHANNELS] - 3.0,
        colors=torch.sigmoid(backs[:, :, :3]),
        copies=torch.sigmoid(backs[:, :, 3:] - 1.0),
        scores=whole[:, 4:],
        camera=whole[:, :4],
    )
