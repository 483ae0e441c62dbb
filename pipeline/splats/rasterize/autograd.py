"""Projection and blending on the CPU as two differentiable torch operations.

It does not know render modes or spherical harmonics: `pipeline.splats.rasterize.cpu_backend`
composes the operations. Float32 only. C cameras, N splats, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.splats.rasterize.arguments import Projection, RasterRequest
from pipeline.splats.rasterize.binding import library, pointer

#: Channel counts the C++ is compiled for; others are padded with zeros to the next one.
CHANNEL_COUNTS = (1, 3, 4, 8, 32)

_GEOMETRY_GRADIENTS = 8  # per row of the gradient buffer, before the channels; see splats.cpp


@dataclass(frozen=True)
class _TileLists:
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
        request: RasterRequest,
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
            request.width,
            request.height,
            request.eps2d,
            request.near_plane,
            request.far_plane,
            request.radius_clip,
            request.antialiased,
            *map(pointer, (radii, means2d, depths, conics, compensations)),
        )
        ctx.mark_non_differentiable(radii)
        ctx.save_for_backward(means, quats, scales, viewmats, Ks, radii, conics)
        ctx.frame = request.width, request.height, request.eps2d
        return radii, means2d, depths, conics, compensations

    @staticmethod
    def backward(
        ctx: Any,
        _radii: Any,
        v_means2d: Tensor,
        v_depths: Tensor,
        v_conics: Tensor,
        v_compensations: Tensor,
    ) -> tuple[Tensor | None, ...]:
        means, quats, scales, viewmats, Ks, radii, conics = ctx.saved_tensors
        v_means, v_quats, v_scales = map(torch.empty_like, (means, quats, scales))
        incoming = [v.contiguous() for v in (v_means2d, v_depths, v_conics, v_compensations)]
        library().splats_project_backward(
            len(viewmats),
            len(means),
            *map(pointer, (means, quats, scales, viewmats, Ks)),
            *ctx.frame,
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
        lists: _TileLists,
        width: int,
        height: int,
        absgrad: bool,
    ) -> tuple[Tensor, Tensor]:
        colors, backgrounds = colors.contiguous(), backgrounds.contiguous()
        C, N, D = colors.shape
        image, transmittance = torch.empty(C, height, width, D), torch.empty(C, height, width, 1)
        library().splats_forward(
            C,
            N,
            D,
            width,
            height,
            *map(pointer, (lists.packed, lists.offsets, lists.ids)),
            *map(pointer, (colors, backgrounds, image, transmittance)),
        )
        ctx.save_for_backward(means2d, colors, image, transmittance)
        ctx.lists, ctx.frame, ctx.absgrad = lists, (width, height), absgrad
        return image, 1.0 - transmittance

    @staticmethod
    def backward(ctx: Any, v_image: Tensor, v_alpha: Tensor) -> tuple[Tensor | None, ...]:
        means2d, colors, image, transmittance = ctx.saved_tensors
        lists: _TileLists = ctx.lists
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
            *ctx.frame,
            *map(pointer, (lists.packed, lists.offsets, lists.ids, lists.rows, lists.starts)),
            *map(pointer, (colors, image, transmittance, v_image, v_alpha, gradients)),
            *map(pointer, (v_means2d, v_conics, v_opacities, absolute, v_colors)),
        )
        if ctx.absgrad:
            means2d.absgrad = absolute
        v_background = None
        if ctx.needs_input_grad[4]:
            v_background = (v_image * transmittance).sum((1, 2))
        return v_means2d, v_conics, v_opacities, v_colors, v_background, *[None] * 4


def project(request: RasterRequest) -> Projection:
    """Screen ellipses of all splats in all cameras, differentiable in means, quats and scales."""
    r = request
    apply: Any = _Project.apply
    radii, means2d, depths, conics, compensations = apply(
        r.means, r.quats, r.scales, r.opacities, r.viewmats, r.Ks, r
    )
    opacities = r.opacities.expand(len(r.viewmats), -1)
    if r.antialiased:
        opacities = opacities * compensations
    return Projection(radii, means2d, depths, conics, opacities)


def _list_tiles(ellipses: Projection, width: int, height: int) -> _TileLists:
    """Sorts the visible ellipses into the tiles of the image."""
    lib = library()
    C, N = ellipses.depths.shape
    tile = lib.splats_tile_size()
    tiles_x, tiles_y = -(-width // tile), -(-height // tile)
    with torch.no_grad():
        means2d, depths = ellipses.means2d.detach(), ellipses.depths.detach()
        packed = torch.empty(C, N, 10)
        sources = (means2d, ellipses.conics.detach(), ellipses.opacities.detach().contiguous())
        lib.splats_pack(C * N, *map(pointer, (*sources, depths, ellipses.radii, packed)))
        starts = torch.empty(C * N + 1, dtype=torch.int64)
        offsets = torch.empty(C * tiles_x * tiles_y + 1, dtype=torch.int64)
        shape = (C, N, tile, tiles_x, tiles_y)
        boxes = (means2d, ellipses.radii)
        pairs = lib.splats_count_pairs(*shape, *map(pointer, (*boxes, starts, offsets)))
        ids = torch.empty(pairs, dtype=torch.int32)
        rows = torch.empty(pairs, dtype=torch.int64)
        lib.splats_list_pairs(*shape, *map(pointer, (*boxes, depths, starts, offsets, ids, rows)))
    return _TileLists(packed, starts, offsets, ids, rows)


def blend(
    ellipses: Projection, colors: Tensor, backgrounds: Tensor, request: RasterRequest
) -> tuple[Tensor, Tensor]:
    """Image [C, H, W, D] over `backgrounds` and alpha [C, H, W, 1].

    Args:
        colors: float32 [C, N, D], D at most 32.
        backgrounds: float32 [C, D].
        request: says the size and whether `.absgrad` of `ellipses.means2d` is set in the backward
            pass.
    """
    D, size = colors.shape[-1], (request.width, request.height)
    padding = next(count for count in CHANNEL_COUNTS if count >= D) - D
    if padding:
        colors = torch.nn.functional.pad(colors, (0, padding))
        backgrounds = torch.nn.functional.pad(backgrounds, (0, padding))
    lists = _list_tiles(ellipses, *size)
    leaves = (ellipses.means2d, ellipses.conics, ellipses.opacities, colors, backgrounds)
    apply: Any = _Blend.apply
    image, alpha = apply(*leaves, lists, *size, request.absgrad)
    return (image[..., :D] if padding else image), alpha


def median_depth(ellipses: Projection, width: int, height: int) -> Tensor:
    """Depth [C, H, W] where the transmittance falls to 1/2, 0 where it does not; no gradient."""
    C, N = ellipses.depths.shape
    lists = _list_tiles(ellipses, width, height)
    depth = torch.empty(C, height, width)
    tensors = (lists.packed, lists.offsets, lists.ids, depth)
    library().splats_median_depth(C, N, width, height, *map(pointer, tensors))
    return depth
