"""How far rendered images are from their targets: SSIM, the photometric loss, the silhouette loss.

It does not know splats or cameras. Everything is differentiable in its first argument; `ssim` is
plain torch and differentiable in both. The photometric loss is compiled for CPU tensors and plain
torch for those of other devices.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from pipeline.splats.rasterize.binding import library, pointer

# Wang et al. 2004: 11 taps, sigma 1.5, k1 = .01, k2 = .03, for values 0..1.
TAPS, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2

#: Weight of (1 - SSIM) against L1, as in 3DGS (arXiv 2308.04079, equation 7).
SSIM_WEIGHT = 0.2


@lru_cache(maxsize=8)
def _window(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The Gaussian of the SSIM, [11], sums to 1."""
    distance = torch.arange(TAPS, dtype=dtype, device=device) - TAPS // 2
    window = torch.exp(-(distance**2) / (2 * _SIGMA**2))
    return window / window.sum()


def _blur(images: Tensor) -> Tensor:
    """Separable Gaussian blur of [B, C, H, W] where the window fits: [B, C, H-10, W-10]."""
    window, C = _window(images.dtype, images.device), images.shape[1]
    images = conv2d(images, window.expand(C, 1, 1, TAPS), groups=C)
    return conv2d(images, window.view(TAPS, 1).expand(C, 1, TAPS, 1), groups=C)


def _check(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(
            f"images must have one shape of 4 axes: {tuple(a.shape)}, {tuple(b.shape)}"
        )


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Mean structural similarity of two batches of images, -1..1; 1 for equal images.

    The mean is over the pixels whose 11 x 11 window lies inside of the image, as in Wang et al.
    and scikit-image.

    Args:
        a, b: float [B, 3, H, W] or [B, H, W, 3] (the last axis is looked at first), values 0..1,
            H and W at least 11.
    """
    _check(a, b)
    if a.shape[-1] == 3:
        a, b = a.permute(0, 3, 1, 2), b.permute(0, 3, 1, 2)
    if min(a.shape[-2:]) < TAPS:
        raise ValueError(f"images must be at least {TAPS} pixels wide and high: {tuple(a.shape)}")
    moments = _blur(torch.cat([a, b, a * a, b * b, a * b], dim=1))
    return _similarity(torch.split(moments, a.shape[1], dim=1)).mean()


def _similarity(moments: tuple[Tensor, ...]) -> Tensor:
    """Structural similarity of each window from its moments: means of a, b, aa, bb and ab."""
    mean_a, mean_b, aa, bb, ab = moments
    mean_aa, mean_bb, mean_ab = mean_a * mean_a, mean_b * mean_b, mean_a * mean_b
    similar = (2 * mean_ab + _C1) * (2 * (ab - mean_ab) + _C2)
    other = (mean_aa + mean_bb + _C1) * (aa - mean_aa + bb - mean_bb + _C2)
    return similar / other


class _L1AndSsim(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rendered: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        rendered, target = rendered.contiguous(), target.contiguous()
        B = len(rendered)
        l1, similarity = torch.empty(B), torch.empty(B)
        parts = torch.empty(3, *rendered.shape)
        library().loss_forward(
            *rendered.shape, *map(pointer, (rendered, target, l1, similarity, parts))
        )
        ctx.save_for_backward(rendered, target, parts)
        return l1, similarity

    @staticmethod
    def backward(ctx: Any, v_l1: Tensor, v_ssim: Tensor) -> tuple[Tensor, None]:
        rendered, target, parts = ctx.saved_tensors
        v_rendered = torch.empty_like(rendered)
        incoming = (v_l1.contiguous(), v_ssim.contiguous())
        library().loss_backward(
            *rendered.shape, *map(pointer, (rendered, target, parts, *incoming, v_rendered))
        )
        return v_rendered, None


class _BlurOfShifts(torch.autograd.Function):
    """Separable Gaussian blur of [B, H, W, C] where the window fits, as a sum of shifted images.

    Not a convolution: cuDNN's round to TF32 unless the whole process forbids it, and the moments of
    the SSIM cancel.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        return _shifted(_shifted(images, 1), 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # The window is symmetric: the transposed blur is the blur of the padded gradient.
        reach = TAPS - 1
        padded = torch.nn.functional.pad(gradient, (0, 0, reach, reach, reach, reach))
        return _shifted(_shifted(padded, 2), 1)


def _shifted(images: Tensor, axis: int) -> Tensor:
    """Weighted sum of `images` moved along `axis` by 0 to 10 pixels; 10 shorter there."""
    window = _window(torch.float64, torch.device("cpu")).tolist()
    length = images.shape[axis] - TAPS + 1
    total: Tensor = images.narrow(axis, 0, length) * window[0]
    for shift in range(1, TAPS):
        total.add_(images.narrow(axis, shift, length), alpha=window[shift])
    return total


def _l1_and_ssim(rendered: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """What `_L1AndSsim` computes, in torch."""
    target = target.detach()
    l1 = (rendered - target).abs().mean((1, 2, 3))
    products = (rendered * rendered, target * target, rendered * target)
    blur: Any = _BlurOfShifts.apply
    moments = blur(torch.cat([rendered, target, *products], dim=-1))
    similarity = _similarity(torch.split(moments, rendered.shape[-1], dim=-1))
    return l1, similarity.mean((1, 2, 3))


def photometric_loss(rendered: Tensor, target: Tensor) -> Tensor:
    """0.8 L1 + 0.2 (1 - SSIM) of each image, float32 [B]; bitwise reproducible.

    Args:
        rendered, target: float32 [B, H, W, C] on one device, values 0..1, H and W at least 11. No
            gradient reaches `target`.
    """
    _check(rendered, target)
    if min(rendered.shape[1:3]) < TAPS:
        raise ValueError(f"images must be at least {TAPS} pixels high and wide: {rendered.shape}")
    compiled: Any = _L1AndSsim.apply
    apply = compiled if rendered.device.type == "cpu" else _l1_and_ssim
    l1, similarity = apply(rendered, target)
    loss: Tensor = (1 - SSIM_WEIGHT) * l1 + SSIM_WEIGHT * (1 - similarity)
    return loss


def silhouette_loss(alpha: Tensor, mask: Tensor) -> Tensor:
    """Mean |alpha - mask| of each image, float [B], from float [B, H, W], values 0..1."""
    return (alpha - mask).abs().flatten(1).mean(1)
