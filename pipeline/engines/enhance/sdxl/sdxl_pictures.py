"""What goes into the diffusion model and what is kept of its answer: sizes, depth, grids, detail.

It knows arrays of pixels and neither the networks nor the cameras.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from pipeline.engines.enhance.detail import add_detail, inner_weight
from pipeline.engines.enhance.sdxl.sdxl_memory import VIEWS_PER_GRID
from pipeline.types import FloatArray, UInt8Array

#: Towards the silhouette the change fades out over so many pixels of a view of 256. Measured with
#: Real-ESRGAN (`pipeline.engines.enhance.realesrgan`).
RIM = 4.0
#: Share of the depths left out at either end: the range is not that of a few stray splats.
_STRAY = 0.005


def work_size(height: int, width: int, resolution: int, multiple: int) -> tuple[int, int]:
    """Height and width inside the network: the longest side is `resolution`, both are multiples."""
    scale = resolution / max(height, width)
    h, w = (max(1, round(side * scale / multiple)) * multiple for side in (height, width))
    return h, w


def resized(pictures: FloatArray, size: tuple[int, int], *, overshoot: bool = True) -> FloatArray:
    """float32 [V, H, W, C] at height and width `size`: areas when smaller, cubic when larger.

    Cubic keeps more detail and leaves the range of the input beside an edge; without `overshoot`
    it is linear.
    """
    height, width = size
    smaller = height < pictures.shape[1] or width < pictures.shape[2]
    larger = cv2.INTER_CUBIC if overshoot else cv2.INTER_LINEAR
    how = cv2.INTER_AREA if smaller else larger
    # OpenCV drops an axis of length 1.
    out = [cv2.resize(p, (width, height), interpolation=how) for p in pictures]
    return np.stack(out).reshape(len(pictures), height, width, pictures.shape[3])


def depth_pictures(depth: FloatArray, alphas: UInt8Array) -> FloatArray:
    """Depth as the ControlNet was trained to read it: near is white, far and nothing are black.

    Linear in inverse depth, as are the maps of the monocular networks it was trained with, between
    the nearest and the farthest point of all views together: one brightness is one depth in all.

    Args:
        depth: float32 [V, H, W], z-depth in world units, 0 where there is nothing.
        alphas: uint8 [V, H, W]; where it is below one half the depth is no surface.

    Returns:
        float32 [V, H, W, 3] within 0..1.
    """
    there = (depth > 0.0) & (alphas >= 128)
    inverse = np.where(there, 1.0 / np.where(there, depth, 1.0), 0.0)
    if there.any():
        far, near = np.quantile(inverse[there], (_STRAY, 1.0 - _STRAY))
        # Everything at one depth is near.
        scaled = (inverse - far) / (near - far) if near > far else np.ones_like(inverse)
        inverse = np.where(there, np.clip(scaled, 0.0, 1.0), 0.0)
    return np.repeat(inverse[..., None], 3, axis=-1).astype(np.float32)


def pack_grids(pictures: torch.Tensor) -> torch.Tensor:
    """[V, C, H, W] -> [ceil(V / 4), C, 2 H, 2 W], row by row.

    The last grid is filled with the first views again: they follow in the ring.
    """
    count, channels, height, width = pictures.shape
    filled = torch.arange(-(-count // VIEWS_PER_GRID) * VIEWS_PER_GRID) % count
    cells = pictures[filled].reshape(-1, 2, 2, channels, height, width)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, 2 * height, 2 * width)


def unpack_grids(grids: torch.Tensor, views: int) -> torch.Tensor:
    """The first `views` views of what `pack_grids` made."""
    count, channels, height, width = grids.shape
    cells = grids.reshape(count, channels, 2, height // 2, 2, width // 2)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, height // 2, width // 2)[:views]


def keep_detail(
    images: UInt8Array, alphas: UInt8Array, change: FloatArray, sigma: float
) -> UInt8Array:
    """The renders with the detail of a change: no drift of colour, nothing outside of the object.

    Args:
        images: uint8 [V, H, W, 3] on white.
        alphas: uint8 [V, H, W].
        change: float32 [V, H, W, 3], what the network would add, in 0..255.
        sigma: pixels of a view of 256; what this blur sees of the change is taken back.

    Returns:
        uint8 [V, H, W, 3]; 255 where alpha is 0, unchanged where it is below one half.
    """
    scale = max(images.shape[1:3]) / 256.0
    enhanced = np.empty_like(images)
    for i, (image, alpha) in enumerate(zip(images, alphas, strict=True)):
        weight = inner_weight(alpha, RIM * scale)
        picture = image.astype(np.float32)
        enhanced[i] = add_detail(picture, change[i], weight, sigma * scale)
        enhanced[i][alpha == 0] = 255
    return enhanced
