"""The images a model is fitted to, as tensors on the device of the fit.

It does not know how they were made, or how far each is believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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

    def select(self, indices: list[int]) -> Targets:
        """The targets at `indices`, in that order."""
        return replace(
            self,
            premultiplied=self.premultiplied[indices],
            alphas=self.alphas[indices],
            viewmats=self.viewmats[indices],
            Ks=self.Ks[indices],
        )

    def window(self, index: int, corner: tuple[int, int], size: tuple[int, int]) -> Targets:
        """A part of one target, as a target of its own.

        Args:
            corner: column and row of its first pixel.
            size: width and height in pixels; it lies inside of the target.
        """
        (x, y), (width, height) = corner, size
        shift = torch.zeros(3, 3, device=self.Ks.device)
        shift[0, 2], shift[1, 2] = x, y
        rows, columns = slice(y, y + height), slice(x, x + width)
        return Targets(
            self.premultiplied[index : index + 1, rows, columns],
            self.alphas[index : index + 1, rows, columns],
            self.viewmats[index : index + 1],
            self.Ks[index : index + 1] - shift,
            width,
            height,
        )

    @classmethod
    def joined(cls, parts: Sequence[Targets]) -> Targets:
        """All targets of `parts`, which have one size, one after another."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            premultiplied=torch.cat([part.premultiplied for part in parts]),
            alphas=torch.cat([part.alphas for part in parts]),
            viewmats=torch.cat([part.viewmats for part in parts]),
            Ks=torch.cat([part.Ks for part in parts]),
            width=parts[0].width,
            height=parts[0].height,
        )

    def on(self, backgrounds: Tensor) -> Tensor:
        """Images [V, H, W, 3] on `backgrounds` [V, 3]."""
        uncovered = 1 - self.alphas[..., None]
        return self.premultiplied + uncovered * backgrounds[:, None, None]


def _unit(values: UInt8Array | FloatArray) -> FloatArray:
    """0..1, always a new array: sources may be read-only, which torch does not accept."""
    if values.dtype == np.uint8:
        return (values / np.float32(255)).astype(np.float32)
    return np.array(values, np.float32)
