"""The CUDA backend: gsplat 1.5.3 behind `pipeline.splats.rasterize`.

It does not check input and does not import gsplat before the first call: a process without CUDA
tensors never loads it.

Read beside `cpu_backend`, both draw the same pictures (blur, clamps, 1/255, .999, the stop rule,
boxes that end where alpha falls to 1/255, SH basis, depth in the last channel, ED divided by
alpha). What differs, and what is done about it:

- gsplat packs by default: packed=False is passed, so that every result is [C, N, ...].
- It has no median depth: mode D projects, with one channel of zeros for the colours it reads, and
  `median_depth` blends.
- It takes gradients to `viewmats`: they are detached, as the cameras of the CPU backend are.
- Its kernels are not launched for no splats: such a picture is made here.
- It leaves means2d, depths and conics of splats that are not drawn uninitialised where the CPU
  backend writes zeros and depths: read them where radii > 0 only. Gradients of such splats are 0.
- Its meta has more keys: those are left out.
- Its gradients are sums of atomics: two runs differ in the last bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import Unavailable
from pipeline.splats.rasterize.arguments import Projection, RasterRequest
from pipeline.splats.rasterize.median import median_depth as median_of_projected

__all__ = ["median_depth", "rasterize"]

_INSTALL = (
    "Splats on a GPU are drawn by gsplat. Install it with `pip install -e '.[gpu]'` in the "
    "project's folder; it compiles itself once and needs nvcc for that. The image of "
    "deploy/Dockerfile has it compiled."
)


def _rasterization() -> Callable[..., tuple[Tensor, Tensor, dict[str, Any]]]:
    """gsplat's function, compiled."""
    try:
        from gsplat import rasterization

        # Compiles on first import; without nvcc it is None.
        from gsplat.cuda._backend import _C
    except (ImportError, OSError, RuntimeError) as error:
        raise Unavailable(f"{_INSTALL} It said: {error}") from error
    if _C is None:
        raise Unavailable(f"{_INSTALL} It is installed but not compiled.")
    function: Callable[..., tuple[Tensor, Tensor, dict[str, Any]]] = rasterization
    return function


def rasterize(request: RasterRequest) -> tuple[Tensor, Tensor, Projection]:
    """`pipeline.splats.rasterize.rasterize` for CUDA tensors.

    Raises:
        Unavailable: gsplat is not installed or was not compiled.
    """
    return _draw(
        request,
        colors=request.colors,
        sh_degree=request.sh_degree,
        backgrounds=request.backgrounds,
        render_mode=request.render_mode,
        absgrad=request.absgrad,
    )


@torch.no_grad()
def median_depth(request: RasterRequest) -> Tensor:
    """`pipeline.splats.rasterize.median_depth` for CUDA tensors.

    gsplat projects; `median_of_projected` blends in torch, on the device: about a hundred launches
    per view instead of a copy of the splats to the CPU and its time there.
    """
    colors = request.means.new_zeros(len(request.means), 1)
    _, _, projection = _draw(request, colors=colors, render_mode="D")
    return median_of_projected(projection, request.width, request.height)


def _draw(
    request: RasterRequest, *, colors: Tensor, render_mode: str, **options: Any
) -> tuple[Tensor, Tensor, Projection]:
    draw = _rasterization()
    if len(request.means) == 0 or len(request.viewmats) == 0:
        return _nothing(request, colors, with_depth=render_mode == "RGB+ED")
    image, alpha, meta = draw(
        means=request.means,
        quats=request.quats,
        scales=request.scales,
        opacities=request.opacities,
        colors=colors,
        viewmats=request.viewmats.detach(),
        Ks=request.Ks.detach(),
        width=request.width,
        height=request.height,
        near_plane=request.near_plane,
        far_plane=request.far_plane,
        radius_clip=request.radius_clip,
        eps2d=request.eps2d,
        packed=False,
        render_mode=render_mode,
        **options,
    )
    return (
        image,
        alpha,
        Projection(**{field.name: meta[field.name] for field in fields(Projection)}),
    )


def _nothing(
    request: RasterRequest, colors: Tensor, *, with_depth: bool
) -> tuple[Tensor, Tensor, Projection]:
    """The picture of no splats: the background; gradients reach empty tensors."""
    C, N = len(request.viewmats), len(request.means)
    H, W, new = request.height, request.width, request.means.new_zeros
    inputs = (request.means, request.quats, request.scales, request.opacities, colors)
    anchor = sum((value.sum() for value in inputs), new(()))
    image = new(C, H, W, colors.shape[-1] + with_depth) + anchor
    if request.backgrounds is not None:
        missing = image.shape[-1] - request.backgrounds.shape[-1]
        ground = torch.nn.functional.pad(request.backgrounds, (0, missing))
        image = image + ground[:, None, None]
    projection = Projection(
        radii=new(C, N, 2, dtype=torch.int32),
        means2d=new(C, N, 2) + anchor,
        depths=new(C, N),
        conics=new(C, N, 3),
        opacities=request.opacities.expand(C, -1),
    )
    return image, new(C, H, W, 1) + anchor, projection
