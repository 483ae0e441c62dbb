"""Draws what a `RasterRequest` asks for, with the semantics of gsplat 1.5.3.

It does not know where splats come from or how they are drawn: the device of the tensors picks
the backend, the C++ of `pipeline.native` for CPU tensors and gsplat for CUDA tensors.
"""

from __future__ import annotations

from types import ModuleType

from torch import Tensor

from pipeline.splats.rasterize import cpu_backend, gsplat_backend
from pipeline.splats.rasterize.arguments import Projection, RasterRequest
from pipeline.torch_threads import one_torch_thread


def _backend(request: RasterRequest) -> ModuleType:
    """Dispatch on the device, never on what is installed: equal calls are drawn equally."""
    return gsplat_backend if request.means.is_cuda else cpu_backend


@one_torch_thread()
def rasterize(request: RasterRequest) -> tuple[Tensor, Tensor, Projection]:
    """Draws N splats with C cameras, differentiably.

    Gradients reach means, quats, scales, opacities, colors and backgrounds, not the cameras. On
    the CPU, image and gradients are bitwise the same for any number of threads; on a GPU gradients
    are sums of atomics, and two runs differ in their last bits.

    Returns:
        render: float32 [C, H, W, D'], channels, then depth where the mode has it.
        alpha: float32 [C, H, W, 1].
        projection: where the splats are on the screen.

    Raises:
        Unavailable: gsplat is not installed or a backend cannot be compiled.
    """
    drawn: tuple[Tensor, Tensor, Projection] = _backend(request).rasterize(request)
    return drawn


@one_torch_thread()
def median_depth(request: RasterRequest) -> Tensor:
    """z-depth [C, H, W] at which half of the light is absorbed, 0 where it never is.

    Unlike expected depth (RGB+ED) it does not mix the front with what is behind, so surfaces can be
    made from it. No gradient; colours and the render mode do not matter.
    """
    depth: Tensor = _backend(request).median_depth(request)
    return depth
