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
- Its kernels are not launched for no splats: the CPU backend makes such a picture.
- It leaves means2d, depths and conics of splats that are not drawn uninitialised where the CPU
  backend writes zeros and depths: read them where radii > 0 only. Gradients of such splats are 0.
- The determinant of needles cancels in 32 bits: where they are antialiased it differs there.
- Its meta has more keys: those are left out.
- Its gradients are sums of atomics: two runs differ in the last bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import Unavailable
from pipeline.splats.rasterize import cpu_backend
from pipeline.splats.rasterize.arguments import Projection, RasterRequest
from pipeline.splats.rasterize.median import median_depth as median_of_projected

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
        return _nothing(request)
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
        rasterize_mode="antialiased" if request.antialiased else "classic",
        packed=False,
        render_mode=render_mode,
        **options,
    )
    projection = Projection(**{field.name: meta[field.name] for field in fields(Projection)})
    return image, alpha, projection


def _nothing(request: RasterRequest) -> tuple[Tensor, Tensor, Projection]:
    """The CPU backend's picture of no splats: the background; gradients reach empty tensors."""
    there, values = request.means.device, vars(request).items()
    tensors: dict[str, Any] = {k: v.cpu() for k, v in values if isinstance(v, Tensor)}
    image, alpha, projection = cpu_backend.rasterize(replace(request, **tensors))
    moved = {name: value.to(there) for name, value in vars(projection).items()}
    return image.to(there), alpha.to(there), Projection(**moved)
