"""Reads .spz files of versions 2 to 4 (Niantic): quantised columns, compressed together or each.

It does not know where files are kept. Source: nianticlabs/spz, README.md, src/cc/load-spz.cc and
extensions/cc/coordinate-system-adobe.cc.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from dataclasses import dataclass, replace

import numpy as np

from pipeline.errors import InvalidModelFile
from pipeline.formats.read_splats import ReadModel, clipped_logits, finish, refuse_too_many
from pipeline.formats.spz import COLOR_SCALE, RUB_FROM_WORLD, SPZ_MAGIC
from pipeline.geometry.frames import rotate_model
from pipeline.types import FloatArray, SplatModel, UInt8Array

_HEADER = struct.Struct("<IIIBBBB")
#: Of version 4: also where the table of its streams stands, and reserved bytes.
_LONG_HEADER = struct.Struct("<IIIBBBBI12x")
#: Sizes of a stream, compressed and not.
_STREAM = struct.Struct("<QQ")
#: Bytes of a rotation by version.
_ROTATION = {2: 3, 3: 4, 4: 4}
_MOST_DEGREE = 3
#: A bit of the flags: records of others stand in the file.
_HAS_EXTENSIONS = 0x2
#: The type of the record that names the axes of the file, and the axes by number, each direction
#: by its letter: right or left, up or down, back or front.
_AXES_RECORD = 0xADBE0003
_AXES = (
    *("RUB", "LDB", "RDB", "LUB", "RUB", "LDF", "RDF", "LUF", "RUF"),
    *("LFD", "RFD", "LFU", "RFU", "LBD", "RBD", "LBU", "RBU"),
)
_DIRECTIONS = {
    **{"R": (1, 0, 0), "U": (0, 1, 0), "B": (0, 0, 1)},
    **{"L": (-1, 0, 0), "D": (0, -1, 0), "F": (0, 0, -1)},
}
#: More bytes of such records are not looked at.
_MOST_RECORDS = 1 << 16
#: What zstandard may take for its window: no encoder of these files asks for more.
_MOST_WINDOW = 1 << 27


@dataclass(frozen=True)
class _Packed:
    """What the two containers hold.

    Attributes:
        columns: uint8 [N, width]: positions, opacities, colours, scales, rotations, harmonics.
        bits: of the fraction of a position.
        extensions: bytes of the records of others.
        longer: whether the file goes on behind what its header says.
    """

    version: int
    degree: int
    bits: int
    columns: tuple[UInt8Array, ...]
    extensions: bytes
    longer: bool


def load_spz(data: bytes) -> ReadModel:
    """The model of a .spz, in the world frame, and notes.

    Raises:
        InvalidModelFile: no .spz of these versions, damaged or truncated.
    """
    packed = _unpack_streams(data) if data.startswith(b"NGSP") else _unpack_gzip(data)
    faults: tuple[str, ...] = ()
    if packed.longer:
        faults += ("The .spz is longer than its header says; the rest was ignored.",)
    positions, alphas, colors, scales, rotations, harmonics = packed.columns
    kept = min(packed.degree, _MOST_DEGREE)
    remarks: tuple[str, ...] = ()
    if kept < packed.degree:
        remarks += ("Spherical harmonics above degree 3 were left out.",)
    count = len(positions)
    sh = np.empty((count, (kept + 1) ** 2, 3), np.float32)
    sh[:, 0] = (colors / 255.0 - 0.5) / COLOR_SCALE
    higher = harmonics.reshape(count, harmonics.shape[1] // 3, 3)[:, : (kept + 1) ** 2 - 1]
    sh[:, 1:] = (higher.astype(np.float32) - 128.0) / 128.0
    model = SplatModel(
        means=_positions(positions, packed.bits),
        quats=_first_three(rotations) if packed.version == 2 else _smallest_three(rotations),
        log_scales=(scales / 16.0 - 10.0).astype(np.float32),
        logit_opacities=clipped_logits(alphas[:, 0] / 255.0, 1 / 255),
        sh=sh,
    )
    axes = _axes(packed.extensions)
    if axes != "RUB":
        model = _in_rub(model, axes)
        remarks += (f"The .spz says that its axes are {axes}; the model was turned accordingly.",)
    frame = np.ascontiguousarray(RUB_FROM_WORLD.T)
    return finish(model, frame, ".spz", faults=faults, remarks=remarks)


def _widths(version: int, degree: int, bits: int) -> tuple[int, ...]:
    """Bytes a splat has in each column."""
    if version not in _ROTATION:
        raise InvalidModelFile(
            f"The .spz is of version {version}; only 2, 3 and 4 can be read. Convert it to .ply."
        )
    if degree > 4 or bits > 30:
        raise InvalidModelFile("The header of the .spz is damaged.")
    return 9, 1, 3, 3, _ROTATION[version], 3 * ((degree + 1) ** 2 - 1)


def _unpack_gzip(data: bytes) -> _Packed:
    """Versions 2 and 3: one gzip stream."""
    stream = gzip.GzipFile(fileobj=io.BytesIO(data))
    try:
        head = stream.read(_HEADER.size)
        if len(head) < _HEADER.size:
            raise InvalidModelFile("Not a .spz file, or truncated: it has no header.")
        magic, version, count, degree, bits, flags, _ = _HEADER.unpack(head)
        if magic != SPZ_MAGIC:
            raise InvalidModelFile(
                "Not a .spz file: it is compressed with gzip and of another kind."
            )
        widths = _widths(version, degree, bits)
        if version > 3:
            raise InvalidModelFile(f"The .spz of version {version} has another's compression.")
        refuse_too_many(count, len(data), ".spz")
        expected = count * sum(widths)
        payload = stream.read(expected)
        if len(payload) < expected:
            raise InvalidModelFile(f"The .spz is truncated: it holds fewer than {count:,} splats.")
        # Records of others end the stream.
        rest = stream.read(_MOST_RECORDS)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidModelFile(f"The .spz is damaged or truncated: {error}") from error
    bytes_of = np.frombuffer(payload, np.uint8)
    cuts = np.cumsum([count * width for width in widths])[:-1]
    columns = tuple(
        part.reshape(count, width)
        for part, width in zip(np.split(bytes_of, cuts), widths, strict=True)
    )
    known = bool(flags & _HAS_EXTENSIONS)
    return _Packed(version, degree, bits, columns, rest if known else b"", bool(rest) and not known)


def _unpack_streams(data: bytes) -> _Packed:
    """Version 4: a plain header, records of others, and a zstd stream for each column."""
    if len(data) < _LONG_HEADER.size:
        raise InvalidModelFile("Not a .spz file, or truncated: it has no header.")
    _, version, count, degree, bits, flags, streams, table = _LONG_HEADER.unpack_from(data)
    if version < 4:
        raise InvalidModelFile("The .spz is damaged: its version is compressed with gzip.")
    widths = _widths(version, degree, bits)
    refuse_too_many(count, len(data), ".spz")
    expected = [count * width for width in widths]
    if streams != sum(size > 0 for size in expected) or table < _LONG_HEADER.size:
        raise InvalidModelFile("The .spz is damaged: it has other columns than its header says.")
    at = table + streams * _STREAM.size
    if at > len(data):
        raise InvalidModelFile("The .spz is truncated: it ends before its columns.")
    entries = iter(_STREAM.iter_unpack(data[table:at]))
    columns = []
    for size, width in zip(expected, widths, strict=True):
        if not size:
            columns.append(np.zeros((count, width), np.uint8))
            continue
        compressed, uncompressed = next(entries)
        if uncompressed != size:
            raise InvalidModelFile("The .spz is damaged: a column is longer or shorter than all.")
        if at + compressed > len(data):
            raise InvalidModelFile("The .spz is truncated: it ends within its columns.")
        column = _inflate(data[at : at + compressed], size)
        columns.append(np.frombuffer(column, np.uint8).reshape(count, width))
        at += compressed
    extensions = data[_LONG_HEADER.size : table] if flags & _HAS_EXTENSIONS else b""
    return _Packed(version, degree, bits, tuple(columns), extensions, at < len(data))


def _inflate(compressed: bytes, size: int) -> bytes:
    """The bytes of a zstd stream, and no more than `size` are ever held."""
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=_MOST_WINDOW)
    try:
        with decompressor.stream_reader(compressed) as stream:
            found = stream.read(size)
    except zstandard.ZstdError as error:
        raise InvalidModelFile(f"The .spz is damaged: {error}.") from error
    if len(found) < size:
        raise InvalidModelFile("The .spz is truncated: a column of it is not whole.")
    return found


def _axes(records: bytes) -> str:
    """The axes that the records name, else those of the format."""
    at = 0
    while at + 8 <= len(records):
        kind, length = struct.unpack_from("<II", records, at)
        payload = records[at + 8 : at + 8 + length]
        if kind == _AXES_RECORD and len(payload) == 4:
            (number,) = struct.unpack("<I", payload)
            if number >= len(_AXES):
                raise InvalidModelFile(f"The .spz has axes of an unknown kind, {number}.")
            return _AXES[number]
        at += 8 + length
    return "RUB"


def _in_rub(model: SplatModel, axes: str) -> SplatModel:
    """The model whose axes point as the letters say, in the axes right, up, back."""
    matrix = np.array([_DIRECTIONS[letter] for letter in axes], np.float32).T
    if np.linalg.det(matrix) > 0:
        return rotate_model(model, matrix)
    # Mirrored: turned the other way, then every point is mirrored at the origin. An ellipsoid does
    # not notice that; of the harmonics those of odd degree change their sign.
    turned = rotate_model(model, -matrix)
    degrees = np.sqrt(np.arange(model.sh.shape[1])).astype(int)
    signs = np.where(degrees % 2, -1, 1).astype(np.float32)
    return replace(turned, means=-turned.means, sh=turned.sh * signs[:, None])


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
