"""Colours as the file formats want them: linear numbers, and textures as PNG or JPEG.

It does not know meshes, splats or which format asks.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.imaging.decoding import encode_png
from pipeline.types import UInt8Array

#: Of the compact textures, always with full chroma. Measured on an atlas of 768 x 512 px with six
#: charts: error 1.2/255 root mean square, 10/255 at most, 30 % of the PNG's size. Half chroma
#: (4:2:0) saves another third, but its largest error is 70/255, at the borders of the charts.
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class EncodedTexture:
    """A picture file. `suffix` is "png" or "jpg", `media_type` the one that goes with it."""

    data: bytes
    suffix: str
    media_type: str


def encode_texture(texture: UInt8Array, *, compact: bool) -> EncodedTexture:
    """The file of a uint8 [H, W, 3] sRGB picture: PNG, or JPEG with full chroma if `compact`."""
    if not compact:
        return EncodedTexture(encode_png(texture), "png", "image/png")
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(texture)).save(
        buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0
    )
    return EncodedTexture(buffer.getvalue(), "jpg", "image/jpeg")


def linear_from_srgb(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Linear light of sRGB values, both 0..1 and of any shape (IEC 61966-2-1)."""
    v = np.asarray(values, np.float64)
    linear: npt.NDArray[np.float64] = np.where(
        v <= 0.04045, v / 12.92, ((np.maximum(v, 0.0) + 0.055) / 1.055) ** 2.4
    )
    return linear
