"""SuperSplat's compressed .ply: 16 bytes a splat, relative to the bounds of its chunk of 256.

It does not know frames, nor what is done with damaged splats. Source: playcanvas/splat-transform,
src/lib/readers/decompress-ply.ts.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.errors import InvalidModelFile
from pipeline.formats.ply_header import Header
from pipeline.formats.ply_tables import Table, read_tables
from pipeline.formats.read_splats import clipped_logits, with_largest
from pipeline.types import SH_C0, FloatArray, SplatModel

_CHUNK = 256
_PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
#: A byte of a harmonic stands for -4 to 4.
_SH_RANGE = 8.0

Packed = npt.NDArray[np.uint32]


def is_compressed(header: Header) -> bool:
    """Whether the header is that of a compressed .ply."""
    vertex = header.element("vertex")
    names = {p.name for p in vertex.properties} if vertex is not None else set()
    return header.element("chunk") is not None and names.issuperset(_PACKED)


def read_compressed(data: bytes, header: Header) -> tuple[SplatModel, int, str]:
    """The model in the file's frame, where its tables end, and the name of the last of them.

    Raises:
        InvalidModelFile: truncated, or the tables do not fit each other.
    """
    wanted = ["chunk", "vertex", *(["sh"] if header.element("sh") is not None else [])]
    tables, end = read_tables(data, header, frozenset(wanted))
    last = [element.name for element in header.elements if element.name in wanted][-1]
    chunks, vertices = tables["chunk"], tables["vertex"]
    packed = [_words(vertices, name) for name in _PACKED]
    count = len(packed[0])
    corners = {name: _corner(chunks, name) for name in ("min", "max", "min_scale", "max_scale")}
    if len(corners["min"]) * _CHUNK < count:
        raise InvalidModelFile(
            f"The compressed .ply has {len(corners['min']):,} chunks, too few for {count:,} splats."
        )
    chunk = np.arange(count) // _CHUNK

    def between(low: FloatArray, high: FloatArray, share: FloatArray) -> FloatArray:
        mixed: FloatArray = low[chunk] * (1 - share) + high[chunk] * share
        return mixed.astype(np.float32)

    position, rotation, scale, color = packed
    with np.errstate(over="ignore", invalid="ignore"):  # `finish` judges what comes of it
        rgba = np.stack([_share(color, shift, 8) for shift in (24, 16, 8, 0)], axis=1)
        rgb = rgba[:, :3]
        if "min_r" in chunks:
            low, high = (
                _columns(chunks, f"{end}_r", f"{end}_g", f"{end}_b") for end in ("min", "max")
            )
            rgb = between(low, high, rgb)
        sh = ((rgb - 0.5) / SH_C0)[:, None].astype(np.float32)
        if "sh" in tables:
            sh = np.concatenate([sh, _harmonics(tables["sh"], count)], axis=1)
        model = SplatModel(
            means=between(corners["min"], corners["max"], _eleven_ten_eleven(position)),
            quats=_quaternions(rotation),
            log_scales=between(
                corners["min_scale"], corners["max_scale"], _eleven_ten_eleven(scale)
            ),
            logit_opacities=clipped_logits(rgba[:, 3], 1 / 255),
            sh=sh,
        )
    return model, end, last


def _words(table: Table, name: str) -> Packed:
    column = table[name]
    if column.dtype.kind == "f":  # of an ascii file
        with np.errstate(invalid="ignore"):
            return np.clip(column.astype(np.float64), 0, 2**32 - 1).astype(np.uint32)
    return column.astype(np.uint32)


def _columns(table: Table, *names: str) -> FloatArray:
    missing = [name for name in names if name not in table]
    if missing:
        raise InvalidModelFile(f"The compressed .ply has no property {missing[0]!r}.")
    with np.errstate(over="ignore"):
        return np.stack([table[name] for name in names], axis=1).astype(np.float32)


def _corner(chunks: Table, name: str) -> FloatArray:
    return _columns(chunks, f"{name}_x", f"{name}_y", f"{name}_z")


def _share(words: Packed, shift: int, bits: int) -> FloatArray:
    """`bits` of each word, counted from bit `shift`, as 0..1."""
    largest = (1 << bits) - 1
    share: FloatArray = (words >> np.uint32(shift) & np.uint32(largest)).astype(np.float32)
    return share / np.float32(largest)


def _eleven_ten_eleven(words: Packed) -> FloatArray:
    return np.stack([_share(words, 21, 11), _share(words, 11, 10), _share(words, 0, 11)], axis=1)


def _quaternions(words: Packed) -> FloatArray:
    """wxyz, float32 [N, 4]: two bits name the largest, three times ten bits say the others."""
    three = np.stack([_share(words, shift, 10) for shift in (20, 10, 0)], axis=1)
    three = (three - np.float32(0.5)) * np.float32(np.sqrt(2))
    return with_largest(three, words >> np.uint32(30))


def _harmonics(table: Table, count: int) -> FloatArray:
    """Degrees 1 and up, float32 [N, K - 1, 3]."""
    rest = sum(name.startswith("f_rest_") for name in table)
    if rest not in (9, 24, 45):
        raise InvalidModelFile(f"The compressed .ply has {rest} f_rest properties.")
    levels = _columns(table, *(f"f_rest_{i}" for i in range(rest)))
    if len(levels) != count:
        raise InvalidModelFile(
            f"The compressed .ply has harmonics of {len(levels):,} of {count:,} splats."
        )
    # The first and last level stand for the ends of the range, the others for their middles.
    shares = np.where(levels == 0, 0.0, np.where(levels == 255, 1.0, (levels + 0.5) / 256))
    values: FloatArray = ((shares - 0.5) * _SH_RANGE).astype(np.float32)
    return values.reshape(count, 3, rest // 3).transpose(0, 2, 1)
