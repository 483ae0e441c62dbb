"""Gaussian splats as .spz version 3 (Niantic): everything quantised, one gzip stream.

It does not know where files are kept. Version 3 and not 4 because the web viewer Spark 2.2 cannot
open 4. Source: nianticlabs/spz, README.md and src/cc/load-spz.cc (`packGaussians`).
"""

from __future__ import annotations

import gzip
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InvalidInput
from pipeline.geometry.frames import PLY_FROM_WORLD, rotate_model, unit_rows
from pipeline.imaging.rounding import to_bytes
from pipeline.types import FloatArray, SplatModel, UInt8Array

#: Rotation [3, 3] to the frame of .spz files, "RUB": x right, y up, z back. The specification
#: counts a .ply as RDF (x right, y down, z front), which is our .ply's frame too, so the way from
#: there is (x, -y, -z). Readers that follow it turn the model back: upright, front where the
#: .ply's is. Readers that show the bare numbers show it upright from behind.
RUB_FROM_WORLD: FloatArray = np.diag([1.0, -1.0, -1.0]).astype(np.float32) @ PLY_FROM_WORLD

_MAGIC, _VERSION = 0x5053474E, 3
_FRACTIONAL_BITS = 12
_LARGEST_FIXED = (1 << 23) - 1
#: The reference's. Level 9 takes 2.9 s instead of 0.3 s for 50,000 splats of degree 3: 3 % smaller.
_GZIP_LEVEL = 6
#: Range of the colour byte: sh = (byte / 255 - 1/2) / 0.15, somewhat wider than 0..1 in rgb.
_COLOR_SCALE = 0.15
#: Steps of a harmonic's byte by its degree: 5 bits for degree 1, 4 bits above, as the reference.
_SH_STEP = {1: 8, 2: 16, 3: 16}


def write_spz(model: SplatModel, *, compact: bool = False) -> bytes:
    """The file's bytes, in the frame `RUB_FROM_WORLD`, harmonics turned along; deterministic.

    What is lost, as the reference does it:
        positions: rounded to 2^-12 world units; fewer fractional bits where a splat lies beyond
            2048, so that 24 bits hold it.
        scales: logarithms in steps of 1/16 from -10 to 5.94.
        opacities: steps of 1/255.
        colours: the zeroth harmonic in steps of 1/38, .0074 in rgb, from -.44 to 1.44.
        harmonics: steps of 1/16 (degree 1) and 1/8 (degrees 2 and 3) from -1 to 1.
        quaternions: three components in steps of .0014.

    Args:
        compact: the format has one encoding only.

    Raises:
        InvalidInput: a value is NaN or infinite, or a splat lies beyond 4.19 million units.
    """
    del compact
    for name in ("means", "quats", "log_scales", "sh"):
        if not np.isfinite(getattr(model, name)).all():
            raise InvalidInput(f"The model holds NaN or infinity in its {name}.")
    model = rotate_model(model, RUB_FROM_WORLD)
    bits, fixed = _fixed_point(model.means)
    header = struct.pack("<IIIBBBB", _MAGIC, _VERSION, len(model), model.sh_degree, bits, 0, 0)
    colors = 255 * (0.5 + _COLOR_SCALE * model.sh[:, 0].astype(np.float64))
    sections: list[npt.NDArray[Any]] = [
        fixed,
        to_bytes(255 * model.opacities.astype(np.float64)),
        to_bytes(colors),
        to_bytes(16 * (model.log_scales.astype(np.float64) + 10)),
        _smallest_three(model.quats),
        _quantize_harmonics(model.sh),
    ]
    payload = header + b"".join(section.tobytes() for section in sections)
    return gzip.compress(payload, compresslevel=_GZIP_LEVEL, mtime=0)


def _fixed_point(means: FloatArray) -> tuple[int, UInt8Array]:
    """Fractional bits 1..12, and positions as signed 24-bit numbers, uint8 [N, 3, 3]."""
    reach = float(np.abs(means).max(initial=0.0))
    bits = next(
        (b for b in range(_FRACTIONAL_BITS, 0, -1) if round(reach * 2**b) <= _LARGEST_FIXED), None
    )
    if bits is None:
        raise InvalidInput(f"A splat lies {reach:g} units away: too far for a .spz file.")
    fixed = np.round(means.astype(np.float64) * 2**bits).astype("<i4")
    return bits, fixed[..., None].view(np.uint8)[..., :3]


def _smallest_three(quats: FloatArray) -> npt.NDArray[np.uint32]:
    """Quaternions [N, 4] wxyz packed into 32 bits (`packQuaternionSmallestThree`).

    Two bits name the largest component of xyzw; the others follow, each a sign and 9 bits of its
    size in units of sqrt(1/2)/511. The signs are those of the quaternion whose largest component
    is positive. A quaternion of length zero becomes the identity.
    """
    xyzw = unit_rows(quats[:, [1, 2, 3, 0]], [0, 0, 0, 1])
    largest = np.abs(xyzw).argmax(axis=1)
    at_largest = np.take_along_axis(xyzw, largest[:, None], axis=1)
    xyzw = np.where(at_largest < 0, -xyzw, xyzw)
    magnitudes = np.floor(511 * np.abs(xyzw) / np.sqrt(0.5) + 0.5).astype(np.uint32)
    fields = (xyzw < 0).astype(np.uint32) << np.uint32(9) | np.minimum(magnitudes, np.uint32(511))
    packed: npt.NDArray[np.uint32] = largest.astype("<u4")
    for axis in range(4):
        shifted = packed << np.uint32(10) | fields[:, axis]
        packed = np.where(largest == axis, packed, shifted).astype("<u4")
    return packed


def _quantize_harmonics(sh: FloatArray) -> UInt8Array:
    """Degrees 1 and up, uint8 [N, K - 1, 3]: 128 is zero, always a step's centre."""
    levels = np.round(128 * sh[:, 1:].astype(np.float64)).astype(np.int64) + 128
    for degree, step in _SH_STEP.items():
        rows = slice(degree**2 - 1, (degree + 1) ** 2 - 1)
        levels[:, rows] = (levels[:, rows] + step // 2) // step * step
    return np.clip(levels, 0, 255).astype(np.uint8)
