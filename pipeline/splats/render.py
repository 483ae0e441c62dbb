"""Images of a splat model from many cameras, as numpy arrays; no gradients.

It does not know what the images are for: previews, scores, turntables and meshing use it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.control import UNATTENDED, Control
from pipeline.splats.rasterize import AS_VIEWERS, RasterRequest, median_depth, rasterize
from pipeline.torch_threads import one_torch_thread
from pipeline.types import Cameras, FloatArray, SplatModel

#: Views per call of the rasteriser: enough to keep all threads busy, few enough that the
#: intermediate values of 200k splats stay below 100 MB.
_VIEWS_AT_ONCE = 4


@dataclass(frozen=True)
class Rendering:
    """V views of a model.

    Attributes:
        images: float32 [V, H, W, 3], 0..1, composited on the background.
        alphas: float32 [V, H, W], 0..1.
        median_depth: float32 [V, H, W], z-depth in world units, 0 where alpha stays below 1/2;
            None unless asked for.
    """

    images: FloatArray
    alphas: FloatArray
    median_depth: FloatArray | None


def render_model(
    model: SplatModel,
    cameras: Cameras,
    *,
    background: float = 1.0,
    with_depth: bool = False,
    device: torch.device | None = None,
    control: Control = UNATTENDED,
    plain: bool = False,
) -> Rendering:
    """Draws `model` from all `cameras` on a grey background (1 = white).

    Args:
        with_depth: fill `median_depth`.
        device: where to draw; None is the CPU.
        control: asked for a stop after every few views.
        plain: as viewers draw that know nothing better, and not as a fit does; for comparisons.

    Raises:
        Cancelled: a stop was asked for.
        InvalidInput: the model or the cameras hold NaN or infinity.
        Unavailable: the rasteriser of the device is not there or cannot be compiled.
    """
    V, H, W = len(cameras), cameras.height, cameras.width
    images = np.empty((V, H, W, 3), np.float32)
    alphas = np.empty((V, H, W), np.float32)
    depths = np.empty((V, H, W), np.float32) if with_depth else None
    means, quats, scales, opacities, sh, viewmats, Ks = (
        _tensor(array).to(device)
        for array in (
            model.means,
            model.quats,
            model.scales,
            model.opacities,
            model.sh,
            cameras.viewmats,
            cameras.intrinsics,
        )
    )
    with torch.no_grad(), one_torch_thread():
        for start in range(0, V, _VIEWS_AT_ONCE):
            control.check()
            part = slice(start, min(start + _VIEWS_AT_ONCE, V))
            request = RasterRequest(
                means,
                quats,
                scales,
                opacities,
                sh,
                viewmats[part],
                Ks[part],
                W,
                H,
                sh_degree=model.sh_degree,
                backgrounds=torch.full((part.stop - start, 3), background, device=device),
                **(AS_VIEWERS if plain else {}),
            )
            image, alpha, _ = rasterize(request)
            images[part] = image.clamp(0.0, 1.0).cpu().numpy()
            alphas[part] = alpha[..., 0].cpu().numpy()
            if depths is not None:
                depths[part] = median_depth(request).cpu().numpy()
    return Rendering(images, alphas, depths)


def _tensor(array: FloatArray) -> Tensor:
    """A float32 tensor; copies read-only arrays, which torch does not accept silently."""
    if not array.flags.writeable:
        array = array.copy()
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
