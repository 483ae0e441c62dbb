"""Splats and cameras to draw, the same for every test of the rasteriser, and calls of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.geometry.cameras import orbit_cameras
from pipeline.splats import rasterize as rasterizer
from pipeline.splats.rasterize import AS_VIEWERS, Projection, RasterRequest

#: Arguments of `rasterize` in the order of a scene's values.
NAMES = ("means", "quats", "scales", "opacities", "colors", "viewmats", "Ks")


@dataclass(frozen=True)
class Scene:
    """Splats (means, quats, scales, opacities, colors), C cameras."""

    splats: tuple[Tensor, ...]
    viewmats: Tensor
    Ks: Tensor


def scene(count: int = 150, cameras: int = 1, channels: int = 3, seed: int = 0) -> Scene:
    """Splats of all sizes around the origin, half of them opaque; off-centre K, fx != fy."""
    g = torch.Generator().manual_seed(seed)
    splats = (
        0.4 * torch.randn(count, 3, generator=g),
        torch.randn(count, 4, generator=g),
        torch.exp(0.6 * torch.randn(count, 3, generator=g) - 2.8),
        torch.sigmoid(2 * torch.randn(count, generator=g)),
        torch.rand(count, channels, generator=g),
    )
    rig = orbit_cameras([10.0 + 70 * i for i in range(cameras)], [20.0] * cameras, size=64)
    Ks = torch.from_numpy(rig.intrinsics).clone()
    Ks[:, 0, 0] *= 1.2
    Ks[:, 0, 2] += 13.5
    Ks[:, 1, 2] += 2.25
    return Scene(splats, torch.from_numpy(rig.viewmats), Ks)


def rasterize(*arguments: Any, **options: Any) -> tuple[Tensor, Tensor, Projection]:
    """Draws a `RasterRequest` of these arguments, without options as gsplat would without."""
    return rasterizer.rasterize(RasterRequest(*arguments, **AS_VIEWERS | options))


def median_depth(*arguments: Any, **options: Any) -> Tensor:
    return rasterizer.median_depth(RasterRequest(*arguments, **AS_VIEWERS | options))
