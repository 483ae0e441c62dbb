"""Projection and blending on the CPU as two differentiable torch operations.

It does not know render modes, spherical harmonics or user input:
`pipeline.splats.rasterize.cpu_backend` composes
the operations and `pipeline.splats.rasterize.rasterizer` checks what comes from outside. Float32
only. C cameras, N splats, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.splats.rasterize.binding import library, pointer

__all__ = ["Ellipses", "FrameSize", "TileLists", "blend", "list_tiles", "median_depth", "project"]

#: Channel counts the C++ is compiled for; others are padded with zeros to the next one.
CHANNEL_COUNTS = (1, 3, 4, 8, 32)

_GEOMETRY_GRADIENTS = 8  # per row of the gradient buffer, before the channels; see splats.cpp


@dataclass(frozen=True)
class FrameSize:
    """Image size in pixels and the numbers that shape the projection."""

    width: int
    height: int
    near_plane: float
    far_plane: float
    radius_clip: float
    eps2d: float
    antialiased: bool


@dataclass(frozen=True)
class Ellipses:
    """Projected splats.

    Attributes:
        radii: int32 [C, N, 2], half box in pixels, 0 = not visible.
        means2d: float32 [C, N, 2], pixels.
        depths: float32 [C, N], z in camera axes.
        conics: float32 [C, N, 3], inverse 2D covariance xx, xy, yy.
        compensations: float32 [C, N], opacity factor of the antialiased mode.
    """

    radii: Tensor
    means2d: Tensor
    depths: Tensor
    conics: Tensor
    compensations: Tensor


@dataclass(frozen=True)
class TileLists:
    """Splats per tile, front to back.

    Attributes:
        packed: float32 [C, N, 10], ellipses as the pixel loops read them.
        starts: int64 [C * N + 1], offsets: int64 [C * T + 1]; see tiles.cpp.
        ids: int32 [M], rows: int64 [M].
    """

    packed: Tensor
    starts: Tensor
    offsets: Tensor
    ids: Tensor
    rows: Tensor


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        viewmats: Tensor,
        Ks: Tensor,
        size: FrameSize,
    ) -> tuple[Tensor, ...]:
        means, quats, scales = means.contiguous(), quats.contiguous(), scales.contiguous()
        opacities, viewmats, Ks = opacities.contiguous(), viewmats.contiguous(), Ks.contiguous()
        C, N = len(viewmats), len(means)
        radii = torch.empty(C, N, 2, dtype=torch.int32)
        means2d, depths = torch.empty(C, N, 2), torch.empty(C, N)
        conics, compensations = torch.empty(C, N, 3), torch.empty(C, N)
        library().splats_project(
            C,
            N,
            *map(pointer, (means, quats, scales, opacities, viewmats, Ks)),
            size.width,
            size.height,
            size.eps2d,
            size.near_plane,
            size.far_plane,
            size.radius_clip,
            size.antialiased,
            *map(pointer, (radii, means2d, depths, conics, compensations)),
        )
        ctx.mark_non_differentiable(radii)
        ctx.save_for_backward(means, quats, scales, viewmats, Ks, radii, conics)
        ctx.size = size
        return radii, means2d, depths, conics, compensations

    @staticmethod
    def backward(
        ctx: Any, _radii: Any, v_means2d: Tensor, v_depths: Tensor, v_conics: Tensor, v_comp: Tensor
    ) -> tuple[Tensor | None, ...]:
        means, quats, scales, viewmats, Ks, radii, conics = ctx.saved_tensors
        size: FrameSize = ctx.size
        v_means, v_quats, v_scales = map(torch.empty_like, (means, quats, scales))
        incoming = [v.contiguous() for v in (v_means2d, v_depths, v_conics, v_comp)]
        library().splats_project_backward(
            len(viewmats),
            len(means),
            *map(pointer, (means, quats, scales, viewmats, Ks)),
            size.width,
            size.height,
            size.eps2d,
            *map(pointer, (radii, conics, *incoming, v_means, v_quats, v_scales)),
        )
        return v_means, v_quats, v_scales, None, None, None, None


class _Blend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        means2d: Tensor,
        conics: Tensor,
        opacities: Tensor,
        colors: Tensor,
        backgrounds: Tensor,
        lists: TileLists,
        size: FrameSize,
        absgrad: bool,
    ) -> tuple[Tensor, Tensor]:
        colors, backgrounds = colors.contiguous(), backgrounds.contiguous()
        C, N, D = colors.shape
        image = torch.empty(C, size.height, size.width, D)
        transmittance = torch.empty(C, size.height, size.width, 1)
        library().splats_forward(
            C,
            N,
            D,
            size.width,
            size.height,
            *map(pointer, (lists.packed, lists.offsets, lists.ids)),
            *map(pointer, (colors, backgrounds, image, transmittance)),
        )
        ctx.save_for_backward(means2d, colors, image, transmittance)
        ctx.lists, ctx.size, ctx.absgrad = lists, size, absgrad
        return image, 1.0 - transmittance

    @staticmethod
    def backward(ctx: Any, v_image: Tensor, v_alpha: Tensor) -> tuple[Tensor | None, ...]:
        means2d, colors, image, transmittance = ctx.saved_tensors
        lists: TileLists = ctx.lists
        C, N, D = colors.shape
        v_image, v_alpha = v_image.contiguous(), v_alpha.contiguous()
        gradients = torch.empty(len(lists.ids), _GEOMETRY_GRADIENTS + D)
        v_means2d, v_conics = torch.empty(C, N, 2), torch.empty(C, N, 3)
        v_opacities, v_colors = torch.empty(C, N), torch.empty_like(colors)
        absolute = torch.empty(C, N, 2)
        library().splats_backward(
            C,
            N,
            D,
            ctx.size.width,
            ctx.size.height,
            *map(pointer, (lists.packed, lists.offsets, lists.ids, lists.rows, lists.starts)),
            *map(pointer, (colors, image, transmittance, v_image, v_alpha, gradients)),
            *map(pointer, (v_means2d, v_conics, v_opacities, absolute, v_colors)),
        )
        if ctx.absgrad:
            means2d.absgrad = absolute
        v_background = None
        if ctx.needs_input_grad[4]:
            v_background = (v_image * transmittance).sum((1, 2))
        return v_means2d, v_conics, v_opacities, v_colors, v_background, None, None, None


def project(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    size: FrameSize,
) -> Ellipses:
    """Screen ellipses of all splats in all cameras.

    Differentiable in means, quats and scales. `opacities` [N] only shrinks the boxes.
    """
    apply: Any = _Project.apply
    return Ellipses(*apply(means, quats, scales, opacities, viewmats, Ks, size))


def list_tiles(ellipses: Ellipses, opacities: Tensor, size: FrameSize) -> TileLists:
    """Sorts the visible ellipses into the tiles of the image. `opacities` float32 [C, N]."""
    lib = library()
    C, N = ellipses.depths.shape
    tile = lib.splats_tile_size()
    tiles_x, tiles_y = -(-size.width // tile), -(-size.height // tile)
    with torch.no_grad():
        means2d, depths = ellipses.means2d.detach(), ellipses.depths.detach()
        packed = torch.empty(C, N, 10)
        sources = (means2d, ellipses.conics.detach(), opacities.detach().contiguous())
        lib.splats_pack(C * N, *map(pointer, (*sources, depths, ellipses.radii, packed)))
        starts = torch.empty(C * N + 1, dtype=torch.int64)
        offsets = torch.empty(C * tiles_x * tiles_y + 1, dtype=torch.int64)
        shape = (C, N, tile, tiles_x, tiles_y)
        boxes = (means2d, ellipses.radii)
        pairs = lib.splats_count_pairs(*shape, *map(pointer, (*boxes, starts, offsets)))
        ids = torch.empty(pairs, dtype=torch.int32)
        rows = torch.empty(pairs, dtype=torch.int64)
        lib.splats_list_pairs(*shape, *map(pointer, (*boxes, depths, starts, offsets, ids, rows)))
    return TileLists(packed, starts, offsets, ids, rows)


def blend(
    ellipses: Ellipses,
    opacities: Tensor,
    colors: Tensor,
    backgrounds: Tensor,
    size: FrameSize,
    *,
    absgrad: bool,
) -> tuple[Tensor, Tensor]:
    """Image [C, H, W, D] over `backgrounds` and alpha [C, H, W, 1].

    Args:
        opacities: float32 [C, N].
        colors: float32 [C, N, D], D at most 32.
        backgrounds: float32 [C, D].
        absgrad: set `.absgrad` of `ellipses.means2d` in the backward pass.
    """
    D = colors.shape[-1]
    padding = next(count for count in CHANNEL_COUNTS if count >= D) - D
    if padding:
        colors = torch.nn.functional.pad(colors, (0, padding))
        backgrounds = torch.nn.functional.pad(backgrounds, (0, padding))
    lists = list_tiles(ellipses, opacities, size)
    apply: Any = _Blend.apply
    image, alpha = apply(
        ellipses.means2d, ellipses.conics, opacities, colors, backgrounds, lists, size, absgrad
    )
    return (image[..., :D] if padding else image), alpha


def median_depth(ellipses: Ellipses, opacities: Tensor, size: FrameSize) -> Tensor:
    """Depth [C, H, W] where the transmittance falls to 1/2, 0 where it does not; no gradient."""
    C, N = ellipses.depths.shape
    lists = list_tiles(ellipses, opacities, size)
    depth = torch.empty(C, size.height, size.width)
    library().splats_median_depth(
        C,
        N,
        size.width,
        size.height,
        *map(pointer, (lists.packed, lists.offsets, lists.ids, depth)),
    )
    return depth
