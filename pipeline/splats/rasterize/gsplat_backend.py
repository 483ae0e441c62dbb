"""The CUDA backend: gsplat 1.5.3 behind the arguments and results of
`pipeline.splats.rasterize.rasterizer`.

It does not check input and does not import gsplat before the first call: a process without CUDA
tensors never loads it.

Read beside `_cpu`, both draw the same pictures (blur, clamps, 1/255, .999, the stop rule, boxes
that end where alpha falls to 1/255, SH basis, depth in the last channel, ED divided by alpha). What
differs, and what is done about it:

- gsplat packs by default: packed=False is passed, so that every result is [C, N, ...].
- It reads `colors` in all modes: modes D and ED pass one channel of zeros.
- It takes gradients to `viewmats`: they are detached, as the cameras of the CPU backend are.
- Tiles of more than 32 pixels are more threads than a block has: it always gets 16.
- Its kernels are not launched for no splats: such a picture is made here.
- It leaves means2d, depths and conics of splats that are not drawn uninitialised where the CPU
  backend writes zeros and depths: read them where radii > 0 only. Gradients of such splats are 0.
- Its meta has more keys: those are left out, nobody can rely on them.
- The determinant of needles cancels in 32 bits: the antialiased mode differs there.
- Its gradients are sums of atomics: two runs differ in the last bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import Unavailable
from pipeline.splats.rasterize.arguments import RasterRequest
from pipeline.splats.rasterize.median_depth import median_depth as median_of_projected

__all__ = ["median_depth", "rasterize"]

_TILE = 16

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


def rasterize(request: RasterRequest) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """See `pipeline.splats.rasterize.rasterizer.rasterize`.

    Raises:
        Unavailable: gsplat is not installed or was not compiled.
    """
    draw = _rasterization()
    N, C = len(request.means), len(request.viewmats)
    only_depth = request.render_mode in ("D", "ED")
    colors = request.means.new_zeros(N, 1) if only_depth else request.colors
    assert colors is not None, "checked by RasterRequest"
    if N == 0 or C == 0:
        return _nothing(request, colors)
    image, alpha, found = draw(
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
        sh_degree=None if only_depth else request.sh_degree,
        packed=False,
        tile_size=_TILE,
        backgrounds=None if only_depth else request.backgrounds,
        render_mode=request.render_mode,
        absgrad=request.absgrad,
        rasterize_mode=request.rasterize_mode,
    )
    names = ("radii", "means2d", "depths", "conics", "opacities")
    return image, alpha, _meta(request, {name: found[name] for name in names})


def median_depth(request: RasterRequest) -> Tensor:
    """See `pipeline.splats.rasterize.rasterizer.median_depth`.

    gsplat projects; `_median` blends in torch, on the device: about a hundred launches per view
    instead of a copy of the splats to the CPU and its time there.
    """
    with torch.no_grad():
        _, _, meta = rasterize(request)
        return median_of_projected(meta, request.width, request.height)


def _meta(request: RasterRequest, tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {
        "camera_ids": None,
        "gaussian_ids": None,
        **tensors,
        "width": request.width,
        "height": request.height,
        "tile_size": request.tile_size,
        "n_cameras": len(request.viewmats),
    }


def _nothing(request: RasterRequest, colors: Tensor) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """The picture of no splats: the background; gradients reach empty tensors."""
    C, N = len(request.viewmats), len(request.means)
    H, W, new = request.height, request.width, request.means.new_zeros
    mode = request.render_mode
    only_depth = mode in ("D", "ED")
    channels = 1 if only_depth else colors.shape[-1] + (mode != "RGB")
    inputs = (request.means, request.quats, request.scales, request.opacities, colors)
    anchor = sum((value.sum() for value in inputs), new(()))
    image = new(C, H, W, channels) + anchor
    if request.backgrounds is not None and not only_depth:
        missing = channels - request.backgrounds.shape[-1]
        ground = torch.nn.functional.pad(request.backgrounds, (0, missing))
        image = image + ground[:, None, None]
    empty = {
        "radii": new(C, N, 2, dtype=torch.int32),
        "means2d": new(C, N, 2) + anchor,
        "depths": new(C, N),
        "conics": new(C, N, 3),
        "opacities": request.opacities.expand(C, -1),
    }
    return image, new(C, H, W, 1) + anchor, _meta(request, empty)
