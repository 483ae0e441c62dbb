"""The images a model is fitted to, as numpy arrays outside and as tensors inside of the loop.

It does not know how they were made or who fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import InvalidInput
from pipeline.types import Cameras, FloatArray, UInt8Array, ViewSet

__all__ = ["TargetTensors", "Targets"]


@dataclass(frozen=True)
class Targets:
    """V images to be reproduced.

    Attributes:
        images: uint8 0..255 or float32 0..1 [V, H, W, 3], composited on white.
        alphas: uint8 0..255 or float32 0..1 [V, H, W], opaque inside the object.
        cameras: V cameras of size (W, H).
        weights: float32 [V], at least 0, how much each view counts; None = all 1.

    Raises:
        InvalidInput: shapes do not fit or a value is not finite.
    """

    images: UInt8Array | FloatArray
    alphas: UInt8Array | FloatArray
    cameras: Cameras
    weights: FloatArray | None = None

    def __post_init__(self) -> None:
        shape = (len(self.cameras), self.cameras.height, self.cameras.width)
        if self.images.shape != (*shape, 3) or self.alphas.shape != shape:
            raise InvalidInput(
                f"targets must be images {(*shape, 3)} and alphas {shape}, "
                f"got {self.images.shape} and {self.alphas.shape}"
            )
        if self.weights is not None and (
            self.weights.shape != shape[:1] or not (self.weights >= 0).all()
        ):
            raise InvalidInput(f"weights must be {shape[0]} numbers of at least 0")
        for name in ("images", "alphas"):
            if not np.isfinite(getattr(self, name)).all():
                raise InvalidInput(f"{name} of the targets contain NaN or infinity")

    @classmethod
    def of_views(cls, views: ViewSet) -> Targets:
        """All views, equally weighted."""
        return cls(views.images, views.alphas, views.cameras)

    def tensors(self, device: torch.device | None = None) -> TargetTensors:
        """The same values as the loop reads them, on `device` (None = the CPU)."""
        images, alphas = _unit(self.images), _unit(self.alphas)
        # On white: image = color * alpha + (1 - alpha).
        premultiplied = np.clip(images - (1 - alphas[..., None]), 0.0, 1.0)
        weights = np.ones(len(self.cameras)) if self.weights is None else self.weights
        return TargetTensors(
            torch.from_numpy(np.ascontiguousarray(premultiplied)).to(device),
            torch.from_numpy(alphas).to(device),
            torch.from_numpy(np.array(self.cameras.viewmats, np.float32)).to(device),
            torch.from_numpy(np.array(self.cameras.intrinsics, np.float32)).to(device),
            torch.from_numpy(np.array(weights, np.float32)).to(device),
            self.cameras.width,
            self.cameras.height,
        )


@dataclass(frozen=True)
class TargetTensors:
    """Targets as float32 tensors: premultiplied colours [V, H, W, 3], alphas [V, H, W],
    viewmats [V, 4, 4], Ks [V, 3, 3], weights [V]; all on one device."""

    premultiplied: Tensor
    alphas: Tensor
    viewmats: Tensor
    Ks: Tensor
    weights: Tensor
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.alphas)

    def on(self, views: list[int], background: Tensor) -> Tensor:
        """Images [B, H, W, 3] of `views` on `background` [B, 3]."""
        uncovered = 1 - self.alphas[views][..., None]
        return self.premultiplied[views] + uncovered * background[:, None, None]


def _unit(values: UInt8Array | FloatArray) -> FloatArray:
    """0..1, always a new array: sources may be read-only, which torch does not accept."""
    if values.dtype == np.uint8:
        return (values / np.float32(255)).astype(np.float32)
    return np.array(values, np.float32)
