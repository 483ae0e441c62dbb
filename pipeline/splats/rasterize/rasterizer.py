"""Draws splats into images: one call, with the arguments and results of gsplat 1.5.3.

It does not know where splats come from or how they are drawn: the device of the tensors picks
the backend, the C++ of `pipeline.native` for CPU tensors and gsplat for CUDA tensors.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Literal

from torch import Tensor

from pipeline.errors import InvalidInput, Unavailable
from pipeline.splats.rasterize import cpu_backend, gsplat_backend
from pipeline.splats.rasterize.arguments import RENDER_MODES, RasterRequest
from pipeline.splats.torch_threads import one_torch_thread

__all__ = ["RENDER_MODES", "RasterizeMode", "RenderMode", "median_depth", "rasterize"]

RenderMode = Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"]
RasterizeMode = Literal["classic", "antialiased"]


def _backend(means: Tensor) -> ModuleType:
    """Dispatch on the device, never on what is installed: equal calls are drawn equally."""
    kind = means.device.type if isinstance(means, Tensor) else "cpu"
    if kind not in ("cpu", "cuda"):
        raise Unavailable(
            f"There is no rasteriser for {kind} tensors; "
            "move the splats and cameras to the CPU or to a CUDA device."
        )
    return gsplat_backend if kind == "cuda" else cpu_backend


@one_torch_thread()
def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor | None,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    packed: bool = False,
    tile_size: int = 16,
    backgrounds: Tensor | None = None,
    render_mode: RenderMode = "RGB",
    absgrad: bool = False,
    rasterize_mode: RasterizeMode = "classic",
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Draws N splats with C cameras, differentiably.

    Gradients reach means, quats, scales, opacities, colors and backgrounds, not the cameras. On
    the CPU, image and gradients are bitwise the same for any number of threads; on a GPU gradients
    are sums of atomics, and two runs differ in their last bits.

    Args:
        means: float32 [N, 3], world frame, at most 1e6 away. All tensors share one device.
        quats: float32 [N, 4], wxyz, any length but zero.
        scales: float32 [N, 3], standard deviations in world units (linear), at most 1e6.
        opacities: float32 [N], 0..1.
        colors: float32 [N, D] or [C, N, D] with D up to 32 (31 with depth); with `sh_degree`,
            spherical harmonics [N, K, 3]. None is allowed in modes D and ED.
        viewmats: float32 [C, 4, 4], world-to-camera, OpenCV axes.
        Ks: float32 [C, 3, 3], pixels; pixel centres at +0.5.
        width, height: image size in pixels.
        near_plane, far_plane: splats with z-depth outside of these are not drawn, world units.
        radius_clip: splats whose box is this small or smaller are not drawn, pixels.
        eps2d: variance added to each projected splat, pixels squared.
        sh_degree: 0..3, or None when `colors` holds colours.
        packed: must stay False; the argument exists because gsplat has it.
        tile_size: a hint for backends; the image does not depend on it.
        backgrounds: float32 [C, D], drawn behind the splats; black without.
        render_mode: RGB, D (depth weighted by alpha), ED (D divided by alpha) or both.
        absgrad: set `meta["means2d"].absgrad` in the backward pass: float32 [C, N, 2], sums over
            pixels of the absolute gradients.
        rasterize_mode: "antialiased" takes the light that `eps2d` adds out of the opacity.

    Returns:
        render: float32 [C, H, W, D'], channels, then depth where the mode has it.
        alpha: float32 [C, H, W, 1].
        meta: radii int32 [C, N, 2] (0 = not drawn), means2d [C, N, 2] (`retain_grad` works),
            depths [C, N], conics [C, N, 3], opacities [C, N], gaussian_ids and camera_ids (None),
            width, height, tile_size, n_cameras. On a GPU means2d, depths and conics of what is not
            drawn are undefined.

    Raises:
        InvalidInput: an argument has a wrong shape, dtype or value (NaN, infinity, out of
            range); it is named.
        Unavailable: no backend for the device, or it is not installed or cannot be compiled.
    """
    if packed:
        raise InvalidInput("packed must be False: results are always [C, N, ...]")
    backend = _backend(means)
    request = RasterRequest(
        means=means,
        quats=quats,
        scales=scales,
        opacities=opacities,
        colors=colors,
        viewmats=viewmats,
        Ks=Ks,
        width=width,
        height=height,
        near_plane=near_plane,
        far_plane=far_plane,
        radius_clip=radius_clip,
        eps2d=eps2d,
        sh_degree=sh_degree,
        tile_size=tile_size,
        backgrounds=backgrounds,
        render_mode=render_mode,
        absgrad=absgrad,
        rasterize_mode=rasterize_mode,
    )
    drawn: tuple[Tensor, Tensor, dict[str, Any]] = backend.rasterize(request)
    return drawn


@one_torch_thread()
def median_depth(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    rasterize_mode: RasterizeMode = "classic",
) -> Tensor:
    """z-depth [C, H, W] at which half of the light is absorbed, 0 where it never is.

    Unlike expected depth (mode ED) it does not mix the front with what is behind, so surfaces
    can be made from it. No gradient. Arguments as for `rasterize`.
    """
    backend = _backend(means)
    request = RasterRequest(
        means=means,
        quats=quats,
        scales=scales,
        opacities=opacities,
        colors=None,
        viewmats=viewmats,
        Ks=Ks,
        width=width,
        height=height,
        near_plane=near_plane,
        far_plane=far_plane,
        eps2d=eps2d,
        render_mode="D",
        rasterize_mode=rasterize_mode,
    )
    depth: Tensor = backend.median_depth(request)
    return depth
