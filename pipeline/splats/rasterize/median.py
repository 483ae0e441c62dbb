"""Median depth of projected splats in plain torch, on the device where they are.

It does not know which backend projected them; gsplat has no median depth for 3D splats, and the
C++ of the CPU is no help to tensors on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.splats.rasterize.arguments import Projection

_TILE = 16
_MIN_ALPHA, _MAX_ALPHA = 1 / 255, 0.999

#: Splats of every tile that are blended at once: few launches, and 16 kB per tile and temporary.
_RANKS = 16


@dataclass(frozen=True)
class _Tiles:
    """Visible splats of one camera, tile by tile and front to back.

    Attributes:
        ids: int64 [M], splat of each pair.
        starts, lengths: int64 [T], where a tile's pairs begin and how many they are.
    """

    ids: Tensor
    starts: Tensor
    lengths: Tensor


@torch.no_grad()
def median_depth(projection: Projection, width: int, height: int) -> Tensor:
    """z-depth [C, H, W] at which the transmittance falls to 1/2, 0 where it does not.

    Args:
        projection: of any backend.
        width, height: image size in pixels.
    """
    p = projection
    cameras = zip(p.radii, p.means2d, p.conics, p.opacities, p.depths, strict=True)
    maps = [_of_camera(*camera, width, height) for camera in cameras]
    return torch.stack(maps) if maps else p.depths.new_zeros(0, height, width)


def _of_camera(
    radii: Tensor,
    means2d: Tensor,
    conics: Tensor,
    opacities: Tensor,
    depths: Tensor,
    width: int,
    height: int,
) -> Tensor:
    tiles_x, tiles_y = -(-width // _TILE), -(-height // _TILE)
    lists = _tiles(radii, means2d, opacities, depths, tiles_x, tiles_y)
    device, T = means2d.device, tiles_x * tiles_y
    # Pixel centres [T, 256] of every tile.
    tile, pixel = torch.arange(T, device=device), torch.arange(_TILE**2, device=device)
    x = ((tile % tiles_x) * _TILE)[:, None] + pixel % _TILE + 0.5
    y = ((tile // tiles_x) * _TILE)[:, None] + pixel // _TILE + 0.5
    light = torch.ones(T, _TILE**2, device=device)
    depth = torch.zeros_like(light)

    ranks = torch.arange(_RANKS, device=device)
    for first in range(0, int(lists.lengths.max()), _RANKS):
        unfinished = (lists.lengths > first) & (light > 0.5).any(1)
        which = torch.nonzero(unfinished)[:, 0]
        if not len(which):
            break
        there = first + ranks < lists.lengths[which][:, None]
        pair = torch.where(there, lists.starts[which][:, None] + first + ranks, 0)
        splat = lists.ids[pair]
        dx, dy = (
            means2d[splat, axis][:, None] - centres[which][:, :, None]
            for axis, centres in ((0, x), (1, y))
        )
        a, b, c = conics[splat].unbind(-1)
        sigma = 0.5 * (a[:, None] * dx * dx + c[:, None] * dy * dy) + b[:, None] * dx * dy
        alpha = (opacities[splat][:, None] * torch.exp(-sigma)).clamp_max(_MAX_ALPHA)
        drawn = there[:, None] & (sigma >= 0) & (alpha >= _MIN_ALPHA)
        after = light[which][:, :, None] * torch.where(drawn, 1 - alpha, 1.0).cumprod(-1)
        crossed = after <= 0.5
        found = crossed.any(-1) & (light[which] > 0.5)
        rank = crossed.to(torch.uint8).argmax(-1)  # the first of them
        depth[which] = torch.where(found, depths[splat].gather(1, rank), depth[which])
        light[which] = after[..., -1]
    whole = depth.view(tiles_y, tiles_x, _TILE, _TILE).transpose(1, 2)
    return whole.reshape(tiles_y * _TILE, tiles_x * _TILE)[:height, :width]


def _tiles(
    radii: Tensor, means2d: Tensor, opacities: Tensor, depths: Tensor, tiles_x: int, tiles_y: int
) -> _Tiles:
    # Backends leave what they do not draw undefined: it is selected away before anything is
    # computed from it.
    visible = torch.nonzero((radii > 0).all(-1) & (opacities >= _MIN_ALPHA))[:, 0]
    visible = visible[torch.argsort(depths[visible], stable=True)]
    centre, reach = means2d[visible], radii[visible].to(means2d.dtype)
    limit = torch.tensor([tiles_x, tiles_y], device=means2d.device)
    low = torch.floor((centre - reach) / _TILE).long().clamp_min(0)
    high = torch.minimum(torch.ceil((centre + reach) / _TILE).long(), limit)
    columns, rows = (high - low).clamp_min(0).unbind(-1)
    count = columns * rows
    owner = torch.repeat_interleave(torch.arange(len(visible), device=count.device), count)
    rank = torch.arange(len(owner), device=count.device) - (count.cumsum(0) - count)[owner]
    column = low[owner, 0] + rank % columns[owner]
    tile = (low[owner, 1] + torch.div(rank, columns[owner], rounding_mode="floor")) * tiles_x
    tile += column
    order = torch.argsort(tile, stable=True)  # keeps the order in depth within each tile
    lengths = torch.bincount(tile, minlength=tiles_x * tiles_y)
    return _Tiles(visible[owner[order]], lengths.cumsum(0) - lengths, lengths)
