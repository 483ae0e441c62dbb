"""Pictures whose light is coded in another way than sRGB's (ITU-T H.273), brought to sRGB.

It knows code points and curves, not the files that name them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.imaging.rounding import to_bytes
from pipeline.types import FloatArray, UInt8Array

#: Transfer functions of light for HDR screens: PQ and HLG.
_HDR = {16: "PQ", 18: "HLG"}
#: Of the same steepness as sRGB's, but for what no photo shows: BT.709, 601, sYCC, sRGB, 2020.
_LIKE_SRGB = (1, 6, 11, 13, 14, 15)

#: Diffuse white of HDR pictures, cd/m^2 (ITU-R BT.2408); peak of the screen that HLG is shown on.
_WHITE, _HLG_PEAK = 203.0, 1000.0
#: Light up to this share of white is shown as it is; what is brighter is squeezed below white.
_KNEE = 0.8

#: Linear RGB of other primaries to sRGB's, D65 all of them: BT.2020 (ITU-R BT.2087) and Display P3
#: (SMPTE EG 432-1).
_TO_SRGB = {
    9: (
        (1.660491, -0.587641, -0.072850),
        (-0.124550, 1.132900, -0.008349),
        (-0.018151, -0.100579, 1.118730),
    ),
    12: (
        (1.224940, -0.224940, 0.0),
        (-0.042057, 1.042057, 0.0),
        (-0.019638, -0.078636, 1.098274),
    ),
}


@dataclass(frozen=True)
class CodedLight:
    """How a file says that its numbers mean light.

    Attributes:
        primaries: `ColourPrimaries` of H.273.
        transfer: `TransferCharacteristics` of H.273.
    """

    primaries: int
    transfer: int

    @property
    def is_hdr(self) -> bool:
        """Whether it is for screens brighter than white paper: no colour profile says that."""
        return self.transfer in _HDR

    @property
    def is_srgb(self) -> bool:
        """Whether nothing needs to be done, or what is to be done is not known."""
        return not self.is_hdr and (
            self.primaries not in _TO_SRGB or self.transfer not in _LIKE_SRGB
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of the conversion."""
        if not self.is_hdr:
            return ()
        return (
            f"The photo is HDR ({_HDR[self.transfer]}): it was brought to standard colours, and "
            "what is brighter than white paper lost detail. Exported for standard screens by the "
            "camera it may look better.",
        )


def light_to_srgb(rgb: UInt8Array, light: CodedLight) -> UInt8Array:
    """A picture uint8 [H, W, 3] in sRGB.

    HDR is relative to diffuse white (203 cd/m^2). What is darker than four fifths of it stays; what
    is brighter is squeezed in between there and white, hue and saturation kept.
    """
    if light.is_srgb:
        return rgb
    linear = _linear(light.transfer)[rgb]
    if light.transfer == 18:
        linear = _shown(linear, light.primaries)
    if light.primaries in _TO_SRGB:
        mixed: FloatArray = linear @ np.array(_TO_SRGB[light.primaries], np.float32).T
        linear = mixed
    linear = np.maximum(linear, 0.0)
    if light.is_hdr:
        strongest = linear.max(-1, keepdims=True)
        squeezed = _KNEE + (1 - _KNEE) * (1 - np.exp((_KNEE - strongest) / (1 - _KNEE)))
        linear *= np.where(strongest > _KNEE, squeezed / np.maximum(strongest, 1e-6), 1.0)
    coded = np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-6) ** (1 / 2.4) - 0.055
    )
    return to_bytes(255 * np.minimum(coded, 1.0))


def _linear(transfer: int) -> FloatArray:
    """What each of 256 numbers means, float32 [256]: 1 is white; for HLG the light of the scene."""
    code = np.arange(256) / 255.0
    values: npt.NDArray[np.float64]
    if transfer == 16:  # SMPTE ST 2084
        m1, m2 = 2610 / 16384, 2523 / 32
        c1, c2, c3 = 3424 / 4096, 2413 / 128, 2392 / 128
        root = code ** (1 / m2)
        values = 10000 / _WHITE * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    elif transfer == 18:  # ITU-R BT.2100, table 5
        a = 0.17883277
        b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
        values = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    else:  # IEC 61966-2-1
        values = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    return values.astype(np.float32)


def _shown(scene: FloatArray, primaries: int) -> FloatArray:
    """HLG's light of the scene as a screen of 1000 cd/m^2 shows it, 1 is white (BT.2100: gamma 1.2
    on luminance)."""
    weights = (0.2627, 0.6780, 0.0593) if primaries == 9 else (0.2290, 0.6917, 0.0793)
    luminance = scene @ np.array(weights, np.float32)
    brighter = _HLG_PEAK / _WHITE * np.maximum(luminance, 1e-6) ** 0.2
    shown: FloatArray = (scene * brighter[..., None]).astype(np.float32)
    return shown
