"""Writes Gaussian splats as .spz version 3 (Niantic): everything quantised, one gzip stream.

It does not know where files are kept; `spz_reader` reads them. Version 3 and not 4 because the
web viewer Spark 2.2 cannot open 4. Source: nianticlabs/spz, README.md and src/cc/load-spz.cc
(`packGaussians`).
"""

from __future__ import annotations

import gzip
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InvalidInput
from pipeline.geometry.core import core, visible_weights
from pipeline.geometry.frames import PLY_FROM_WORLD, rotate_model, unit_rows
from pipeline.imaging.rounding import to_bytes
from pipeline.types import FloatArray, SplatModel, UInt8Array

#: Rotation [3, 3] to the frame of .spz files, "RUB": x right, y up, z back. The specification
#: counts a .ply as RDF (x right, y down, z front), which is our .ply's frame too, so the way from
#: there is (x, -y, -z). Readers that follow it turn the model back: upright, front where the
#: .ply's is. Readers that show the bare numbers show it upright from behind.
RUB_FROM_WORLD: FloatArray = np.diag([1.0, -1.0, -1.0]).astype(np.float32) @ PLY_FROM_WORLD

SPZ_MAGIC, _VERSION = 0x5053474E, 3
#: The reference's. A small model gets more, so that it is no less exact than one of this radius.
_FRACTIONAL_BITS, _PLAIN_RADIUS = 12, 0.25
#: Readers shift a 32-bit one so far.
_MOST_BITS = 30
#: Logarithms of the smallest and largest scale.
_SCALES = (-10.0, 255 / 16 - 10)
_LARGEST_FIXED = (1 << 23) - 1
#: A model so far from the origin that its positions lose more bits than this is refused: with
#: them a radius of .25 is still 16 steps.
_LOST_BITS = 6
#: Strays with more than this share of the opacity are no strays.
_MOST_STRAYS = 0.05
#: The reference's. Level 9 takes 2.9 s instead of 0.3 s for 50,000 splats of degree 3: 3 % smaller.
_GZIP_LEVEL = 6
#: Range of the colour byte: sh = (byte / 255 - 1/2) / 0.15, somewhat wider than 0..1 in rgb.
COLOR_SCALE = 0.15
#: Steps of a harmonic's byte by its degree: 5 bits for degree 1, 4 bits above, as the reference.
_SH_STEP = {1: 8, 2: 16, 3: 16}


def write_spz(model: SplatModel, *, compact: bool = False) -> bytes:
    """The file's bytes, in the frame `RUB_FROM_WORLD`, harmonics turned along; deterministic.

    What is lost, as the reference does it:
        positions: rounded to 2^-12 world units; fewer fractional bits where a splat lies beyond
            2048, so that 24 bits hold it, more where the whole model is smaller than .25.
        scales: logarithms in steps of 1/16 from -10 to 5.94.
        opacities: steps of 1/255.
        colours: the zeroth harmonic in steps of 1/38, .0074 in rgb, from -.44 to 1.44.
        harmonics: steps of 1/16 (degree 1) and 1/8 (degrees 2 and 3) from -1 to 1.
        quaternions: three components in steps of .0014.

    Args:
        compact: the format has one encoding only.

    Raises:
        InvalidInput: a value is NaN or infinite, a splat lies beyond 4.19 million units, or the
            model is smaller or larger than the format's scales and positions can say.
    """
    del compact
    for name in ("means", "quats", "log_scales", "sh"):
        if not np.isfinite(getattr(model, name)).all():
            raise InvalidInput(f"The model holds NaN or infinity in its {name}.")
    _refuse_sizes_it_cannot_say(model.log_scales)
    model = rotate_model(model, RUB_FROM_WORLD)
    bits, fixed = _fixed_point(model.means)
    header = struct.pack("<IIIBBBB", SPZ_MAGIC, _VERSION, len(model), model.sh_degree, bits, 0, 0)
    colors = 255 * (0.5 + COLOR_SCALE * model.sh[:, 0].astype(np.float64))
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


def fitted(model: SplatModel) -> tuple[SplatModel, tuple[str, ...]]:
    """A model that fits into the format, and notes.

    What lies so far away that the positions of all others would become coarse is left out, where
    it is a small part. What stands too far from the origin, such as a geo-referenced scan, is
    moved there by whole units.
    """
    model, notes = _without_strays(model)
    if not len(model) or not np.isfinite(model.means).all():
        return model, notes
    if _bits(model.means) >= max(_bits_needed(model.means) - _LOST_BITS, 1):
        return model, notes
    exact = model.means.astype(np.float64)
    offset = np.round((exact.min(axis=0) + exact.max(axis=0)) / 2)
    moved = (exact - offset).astype(np.float32)
    if _bits(moved) <= _bits(model.means):
        return model, notes
    x, y, z = -(RUB_FROM_WORLD @ offset) + 0.0  # no minus zero
    note = (
        "Moved to the origin, from which a .spz file reaches not far enough: by "
        f"{x:,.0f}, {y:,.0f}, {z:,.0f} along its axes."
    )
    return replace(model, means=moved), (*notes, note)


def _without_strays(model: SplatModel) -> tuple[SplatModel, tuple[str, ...]]:
    if not len(model) or not np.isfinite(model.means).all():
        return model, ()
    bulk = core(model)
    if bulk.all() or _bits(model.means) >= _bits_needed(model.means[bulk]):
        return model, ()
    weights = visible_weights(model)
    if weights[~bulk].sum() > _MOST_STRAYS * weights.sum():
        return model, ()
    note = (
        f"Left out far away from the object: {int((~bulk).sum()):,} of {len(model):,} splats. "
        "With them the positions of a .spz file would be too coarse for all others."
    )
    return model.select(bulk), (note,)


def _bits(means: FloatArray) -> int:
    """Most fractional bits, at most 30, with which 24 bits hold all positions; 0 for none."""
    reach = float(np.abs(means).max(initial=0.0))
    bits = range(_MOST_BITS, 0, -1)
    return next((b for b in bits if round(reach * 2.0**b) <= _LARGEST_FIXED), 0)


def _bits_needed(means: FloatArray) -> int:
    """Fractional bits with which a model is as exact as one of radius .25 with twelve."""
    if len(means) < 2:
        return _FRACTIONAL_BITS
    radius = float(np.ptp(means.astype(np.float64), axis=0).max()) / 2
    steps = _PLAIN_RADIUS * 2**_FRACTIONAL_BITS
    if radius <= 0:
        return _FRACTIONAL_BITS
    return int(np.clip(np.ceil(np.log2(steps / radius)), 1, _MOST_BITS))


def _fixed_point(means: FloatArray) -> tuple[int, UInt8Array]:
    """Fractional bits 1..30, and positions as signed 24-bit numbers, uint8 [N, 3, 3].

    Raises:
        InvalidInput: the model lies too far from the origin.
    """
    reach = float(np.abs(means).max(initial=0.0))
    most, needed = _bits(means), _bits_needed(means)
    bits = min(most, max(needed, _FRACTIONAL_BITS))
    if not bits or (len(means) > 1 and bits < needed - _LOST_BITS):
        raise InvalidInput(
            f"A splat lies {reach:g} units away: too far for a .spz file. Move the model to the "
            "origin first, or choose ply, splat or glb-splat, which hold any position."
        )
    fixed = np.round(means.astype(np.float64) * 2**bits).astype("<i4")
    return bits, fixed[..., None].view(np.uint8)[..., :3]


def _refuse_sizes_it_cannot_say(log_scales: FloatArray) -> None:
    """Raises InvalidInput where half of the splats would change their size."""
    largest = log_scales.max(axis=1, initial=-np.inf)
    low, high = _SCALES
    for outside, what, factor in (
        (largest < low, "small", "up"),
        (largest > high, "large", "down"),
    ):
        if 2 * int(outside.sum()) > len(largest):
            raise InvalidInput(
                f"The model is too {what} for a .spz file, which holds splats from "
                f"{np.exp(low):.1g} to {np.exp(high):.0f} units large: scale it {factor} first, or "
                "choose ply, splat or glb-splat, which hold any size."
            )


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
