"""Reads .spz files of versions 2 and 3 (Niantic): one gzip stream of quantised columns.

It does not know where files are kept. Source: nianticlabs/spz, src/cc/load-spz.cc.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib

import numpy as np

from pipeline.errors import InvalidModelFile
from pipeline.formats.read_splats import ReadModel, clipped_logits, finish
from pipeline.formats.spz import COLOR_SCALE, RUB_FROM_WORLD, SPZ_MAGIC
from pipeline.types import FloatArray, SplatModel, UInt8Array

_HEADER = struct.Struct("<IIIBBBB")
#: Deflate makes nothing smaller than this share.
_MOST_COMPRESSION = 1100
#: Bytes of a rotation by version.
_ROTATION = {2: 3, 3: 4}
_MOST_DEGREE = 3


def load_spz(data: bytes) -> ReadModel:
    """The model of a .spz, in the world frame, and notes.

    Raises:
        InvalidModelFile: no .spz of these versions, damaged or truncated.
    """
    stream = gzip.GzipFile(fileobj=io.BytesIO(data))
    try:
        head = stream.read(_HEADER.size)
        if len(head) < _HEADER.size:
            raise InvalidModelFile("Not a .spz file, or truncated: it has no header.")
        magic, version, count, degree, bits, _, _ = _HEADER.unpack(head)
        if magic != SPZ_MAGIC:
            raise InvalidModelFile(
                "Not a .spz file: it is compressed with gzip and of another kind."
            )
        if version not in _ROTATION:
            raise InvalidModelFile(
                f"The .spz is of version {version}; only 2 and 3 can be read. Convert it to .ply."
            )
        if degree > 4 or bits > 30:
            raise InvalidModelFile("The header of the .spz is damaged.")
        rest = (degree + 1) ** 2 - 1
        widths = (9, 1, 3, 3, _ROTATION[version], 3 * rest)
        expected = count * sum(widths)
        # Before anything is allocated, as the count may be any number.
        payload = stream.read(expected) if expected <= _MOST_COMPRESSION * len(data) else b""
        if len(payload) < expected:
            raise InvalidModelFile(f"The .spz is truncated: it holds fewer than {count:,} splats.")
        notes: tuple[str, ...] = ()
        if stream.read(1):
            notes += ("The .spz is longer than its header says; the rest was ignored.",)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidModelFile(f"The .spz is damaged or truncated: {error}") from error
    bytes_of = np.frombuffer(payload, np.uint8)
    cuts = np.cumsum([count * width for width in widths])[:-1]
    sections = [
        part.reshape(count, width)
        for part, width in zip(np.split(bytes_of, cuts), widths, strict=True)
    ]
    positions, alphas, colors, scales, rotations, harmonics = sections
    kept = min(degree, _MOST_DEGREE)
    if kept < degree:
        notes += ("Spherical harmonics above degree 3 were left out.",)
    sh = np.empty((count, (kept + 1) ** 2, 3), np.float32)
    sh[:, 0] = (colors / 255.0 - 0.5) / COLOR_SCALE
    higher = harmonics.reshape(count, rest, 3)[:, : (kept + 1) ** 2 - 1]
    sh[:, 1:] = (higher.astype(np.float32) - 128.0) / 128.0
    model = SplatModel(
        means=_positions(positions, bits),
        quats=_smallest_three(rotations) if version == 3 else _first_three(rotations),
        log_scales=(scales / 16.0 - 10.0).astype(np.float32),
        logit_opacities=clipped_logits(alphas[:, 0] / 255.0, 1 / 255),
        sh=sh,
    )
    return finish(model, np.ascontiguousarray(RUB_FROM_WORLD.T), ".spz", notes)


def _positions(columns: UInt8Array, bits: int) -> FloatArray:
    """float32 [N, 3] of signed 24-bit numbers with so many fractional bits."""
    words = np.zeros((len(columns), 3, 4), np.uint8)
    words[..., 1:] = columns.reshape(-1, 3, 3)
    # In the upper three bytes, so that the sign is the word's own.
    fixed = words.view("<i4")[..., 0] >> 8
    return (fixed / 2.0**bits).astype(np.float32)


def _first_three(columns: UInt8Array) -> FloatArray:
    """Quaternions wxyz, float32 [N, 4], of version 2: x, y, z in a byte each, w >= 0."""
    xyz = columns / 127.5 - 1.0
    w = np.sqrt(np.maximum(0.0, 1.0 - (xyz**2).sum(axis=1)))
    return np.column_stack([w, xyz]).astype(np.float32)


def _smallest_three(columns: UInt8Array) -> FloatArray:
    """Quaternions wxyz, float32 [N, 4]: the inverse of how `spz` packs them."""
    packed = np.ascontiguousarray(columns).view("<u4")[:, 0]
    largest = packed >> np.uint32(30)
    xyzw = np.zeros((len(packed), 4))
    for axis in (3, 2, 1, 0):
        here = largest != axis
        field = packed & np.uint32(1023)
        size = (field & np.uint32(511)) / 511.0 * np.sqrt(0.5)
        value = np.where(field >> np.uint32(9), -size, size)
        xyzw[:, axis] = np.where(here, value, 0.0)
        packed = np.where(here, packed >> np.uint32(10), packed).astype(np.uint32)
    missing = np.sqrt(np.maximum(0.0, 1.0 - (xyzw**2).sum(axis=1)))
    xyzw[np.arange(len(xyzw)), largest] = missing
    return xyzw[:, [3, 0, 1, 2]].astype(np.float32)
