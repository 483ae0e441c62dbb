"""The CPU backend: render modes, antialiasing and spherical harmonics around `_autograd`.

It does not check input; `pipeline.splats.rasterize.rasterizer` has done so.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipeline.geometry.spherical_harmonics import sh_colors
from pipeline.splats.rasterize import autograd
from pipeline.splats.rasterize.arguments import RasterRequest

__all__ = ["median_depth", "rasterize"]


def _size(request: RasterRequest) -> autograd.FrameSize:
    return autograd.FrameSize(
        request.width,
        request.height,
        request.near_plane,
        request.far_plane,
        request.radius_clip,
        request.eps2d,
        request.rasterize_mode == "antialiased",
    )


def _project(request: RasterRequest) -> tuple[autograd.Ellipses, Tensor]:
    """Ellipses and the opacity of each in each camera, [C, N]."""
    ellipses = autograd.project(
        request.means,
        request.quats,
        request.scales,
        request.opacities,
        request.viewmats,
        request.Ks,
        _size(request),
    )
    opacities = request.opacities.expand(len(request.viewmats), -1)
    if request.rasterize_mode == "antialiased":
        opacities = opacities * ellipses.compensations
    return ellipses, opacities


def _colors(request: RasterRequest) -> Tensor:
    """Colours [C, N, D] as each camera sees them."""
    C, N = len(request.viewmats), len(request.means)
    colors = request.colors
    assert colors is not None
    if request.sh_degree is None:
        return colors.expand(C, N, -1)
    # Camera centre -R^T t.
    R, t = request.viewmats[:, :3, :3], request.viewmats[:, :3, 3]
    centres = -(R.transpose(1, 2) @ t[:, :, None])[:, :, 0]
    directions = request.means[None] - centres[:, None]
    return sh_colors(request.sh_degree, directions, colors)


def rasterize(request: RasterRequest) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """See `pipeline.splats.rasterize.rasterizer.rasterize`."""
    ellipses, opacities = _project(request)
    mode = request.render_mode
    depths = ellipses.depths[..., None]
    if mode == "RGB":
        colors = _colors(request)
    elif mode in ("D", "ED"):
        colors = depths
    else:
        colors = torch.cat([_colors(request), depths], dim=-1)

    backgrounds = torch.zeros(len(request.viewmats), colors.shape[-1])
    if request.backgrounds is not None and mode not in ("D", "ED"):
        # Depth has no background: nothing is behind the object.
        missing = colors.shape[-1] - request.backgrounds.shape[-1]
        backgrounds = torch.nn.functional.pad(request.backgrounds, (0, missing))
    image, alpha = autograd.blend(
        ellipses, opacities, colors, backgrounds, _size(request), absgrad=request.absgrad
    )
    if mode in ("ED", "RGB+ED"):
        expected = image[..., -1:] / alpha.clamp_min(1e-10)
        image = torch.cat([image[..., :-1], expected], dim=-1)
    meta = {
        "camera_ids": None,  # these two are for gsplat's packed mode, which this one never is
        "gaussian_ids": None,
        "radii": ellipses.radii,
        "means2d": ellipses.means2d,
        "depths": ellipses.depths,
        "conics": ellipses.conics,
        "opacities": opacities,
        "width": request.width,
        "height": request.height,
        "tile_size": request.tile_size,
        "n_cameras": len(request.viewmats),
    }
    return image, alpha, meta


def median_depth(request: RasterRequest) -> Tensor:
    """See `pipeline.splats.rasterize.rasterizer.median_depth`."""
    with torch.no_grad():
        ellipses, opacities = _project(request)
        return autograd.median_depth(ellipses, opacities, _size(request))
