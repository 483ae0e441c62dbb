"""The images a model is fitted to, as tensors on the device of the fit.

It does not know how they were made, or how far each is believed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import InvalidInput
from pipeline.types import Cameras, FloatArray, UInt8Array, ViewSet


@dataclass(frozen=True)
class Targets:
    """V images to be reproduced, float32 on one device.

    Attributes:
        premultiplied: [V, H, W, 3], colours times alpha, 0..1.
        alphas: [V, H, W], 0..1, opaque inside the object.
        viewmats, Ks: [V, 4, 4] and [V, 3, 3].
        width, height: pixels.
    """

    premultiplied: Tensor
    alphas: Tensor
    viewmats: Tensor
    Ks: Tensor
    width: int
    height: int

    @classmethod
    def of(
        cls,
        images: UInt8Array | FloatArray,
        alphas: UInt8Array | FloatArray,
        cameras: Cameras,
        device: torch.device | None = None,
    ) -> Targets:
        """
        Args:
            images: uint8 0..255 or float32 0..1 [V, H, W, 3], composited on white.
            alphas: uint8 0..255 or float32 0..1 [V, H, W].
            cameras: V cameras of size (W, H).
            device: of the tensors; None is the CPU.

        Raises:
            InvalidInput: shapes do not fit or a value is not finite.
        """
        shape = (len(cameras), cameras.height, cameras.width)
        if images.shape != (*shape, 3) or alphas.shape != shape:
            raise InvalidInput(
                f"targets must be images {(*shape, 3)} and alphas {shape}, "
                f"got {images.shape} and {alphas.shape}"
            )
        for name, values in (("images", images), ("alphas", alphas)):
            if not np.isfinite(values).all():
                raise InvalidInput(f"{name} of the targets contain NaN or infinity")
        images, alphas = _unit(images), _unit(alphas)
        # On white: image = color * alpha + (1 - alpha).
        premultiplied = np.clip(images - (1 - alphas[..., None]), 0.0, 1.0)
        colors, masks, viewmats, Ks = (
            torch.from_numpy(np.array(values, np.float32, order="C")).to(device)
            for values in (premultiplied, alphas, cameras.viewmats, cameras.intrinsics)
        )
        return cls(colors, masks, viewmats, Ks, cameras.width, cameras.height)

    @classmethod
    def of_views(cls, views: ViewSet, device: torch.device | None = None) -> Targets:
        return cls.of(views.images, views.alphas, views.cameras, device)

    def __len__(self) -> int:
        return len(self.alphas)

    def on(self, views: list[int], backgrounds: Tensor) -> Tensor:
        """Images [B, H, W, 3] of `views` on `backgrounds` [B, 3]."""
        uncovered = 1 - self.alphas[views][..., None]
        return self.premultiplied[views] + uncovered * backgrounds[:, None, None]


def _unit(values: UInt8Array | FloatArray) -> FloatArray:
    """0..1, always a new array: sources may be read-only, which torch does not accept."""
    if values.dtype == np.uint8:
        return (values / np.float32(255)).astype(np.float32)
    return np.array(values, np.float32)
