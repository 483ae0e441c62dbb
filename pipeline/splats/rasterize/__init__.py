"""Draws splats: `rasterize(RasterRequest(...))`, differentiably, on the device of the tensors.

It does not know where splats come from. `arguments` checks what is asked, `rasterizer` picks the
backend: `cpu_backend` (C++ by way of `autograd` and `binding`) or `gsplat_backend`.
"""

from pipeline.splats.rasterize.arguments import (
    AS_VIEWERS,
    Projection,
    RasterRequest,
    RenderMode,
)
from pipeline.splats.rasterize.rasterizer import median_depth, rasterize

__all__ = [
    "AS_VIEWERS",
    "Projection",
    "RasterRequest",
    "RenderMode",
    "median_depth",
    "rasterize",
]
