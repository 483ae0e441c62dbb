"""The CPU backend: render modes and spherical harmonics around `autograd`.

It does not check input; `pipeline.splats.rasterize.arguments` has done so.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.geometry.spherical_harmonics import sh_colors
from pipeline.splats.rasterize import autograd
from pipeline.splats.rasterize.arguments import Projection, RasterRequest


def _colors(request: RasterRequest) -> Tensor:
    """Colours [C, N, D] as each camera sees them."""
    C, N = len(request.viewmats), len(request.means)
    if request.sh_degree is None:
        return request.colors.expand(C, N, -1)
    # Camera centre -R^T t.
    R, t = request.viewmats[:, :3, :3], request.viewmats[:, :3, 3]
    centres = -(R.transpose(1, 2) @ t[:, :, None])[:, :, 0]
    directions = request.means[None] - centres[:, None]
    return sh_colors(request.sh_degree, directions, request.colors)


def rasterize(request: RasterRequest) -> tuple[Tensor, Tensor, Projection]:
    """`pipeline.splats.rasterize.rasterize` for CPU tensors."""
    ellipses, colors = autograd.project(request), _colors(request)
    with_depth = request.render_mode == "RGB+ED"
    if with_depth:
        colors = torch.cat([colors, ellipses.depths[..., None]], dim=-1)
    backgrounds = torch.zeros(len(request.viewmats), colors.shape[-1])
    if request.backgrounds is not None:
        # Depth has no background: nothing is behind the object.
        missing = colors.shape[-1] - request.backgrounds.shape[-1]
        backgrounds = torch.nn.functional.pad(request.backgrounds, (0, missing))
    image, alpha = autograd.blend(ellipses, colors, backgrounds, request)
    if with_depth:
        expected = image[..., -1:] / alpha.clamp_min(1e-10)
        image = torch.cat([image[..., :-1], expected], dim=-1)
    return image, alpha, ellipses


@torch.no_grad()
def median_depth(request: RasterRequest) -> Tensor:
    """`pipeline.splats.rasterize.median_depth` for CPU tensors."""
    return autograd.median_depth(autograd.project(request), request.width, request.height)
