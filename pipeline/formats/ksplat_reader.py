"""Reads .ksplat (mkkellogg/GaussianSplats3D): sections of rows, positions relative to buckets.

It does not know where files are kept. Sources: mkkellogg/GaussianSplats3D,
src/loaders/SplatBuffer.js, and playcanvas/splat-transform, src/lib/readers/read-ksplat.ts.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.errors import InvalidModelFile
from pipeline.formats.read_splats import ReadModel, clipped_logits, finish, joined
from pipeline.geometry.frames import PLY_FROM_WORLD
from pipeline.types import SH_C0, FloatArray, SplatModel

_HEADER, _SECTION = 4096, 1024
#: Coefficients above degree 0, times three, by degree.
_HARMONICS = (0, 9, 24, 45)
#: By compression level: numpy's types of positions, of scales and rotations, and of harmonics.
_LEVELS = (("<f4", "<f4", "<f4"), ("<u2", "<f2", "<f2"), ("<u2", "<f2", "u1"))
#: Of the three coordinates of a bucket's centre.
_BUCKET_BYTES = 12
#: In the order of `_Section`.
_SECTION_NUMBERS = struct.Struct("<IIIIfH2xI4xIIH")
#: Half of the steps of a bucket, where a section does not say it.
_HALF_STEPS = 32767
#: Ends of the range of a byte of a harmonic, where the file does not say them.
_SH_ENDS = (-1.5, 1.5)


@dataclass(frozen=True)
class _Section:
    """What the header of a section says, in its order."""

    splats: int
    capacity: int
    bucket_capacity: int
    buckets: int
    block_size: float
    bucket_bytes: int
    half_steps: int
    full_buckets: int
    partial_buckets: int
    degree: int

    @classmethod
    def read(cls, data: bytes, at: int) -> _Section:
        """Raises InvalidModelFile where the numbers cannot be."""
        if at + _SECTION > len(data):
            raise InvalidModelFile("The .ksplat is truncated: it ends in its headers.")
        section = cls(*_SECTION_NUMBERS.unpack_from(data, at))
        section = replace(section, half_steps=section.half_steps or _HALF_STEPS)
        if section.degree >= len(_HARMONICS) or section.splats > section.capacity:
            raise InvalidModelFile("The .ksplat has a section whose header makes no sense.")
        return section


def load_ksplat(data: bytes) -> ReadModel:
    """The model of a .ksplat, in the world frame, and notes.

    Raises:
        InvalidModelFile: no .ksplat of this version, damaged or truncated.
    """
    if len(data) < _HEADER:
        raise InvalidModelFile("Not a .ksplat file, or truncated: it is shorter than its header.")
    major, minor = data[0], data[1]
    (sections,) = struct.unpack_from("<I", data, 4)
    (level,) = struct.unpack_from("<H", data, 20)
    if major or not minor or level >= len(_LEVELS):
        raise InvalidModelFile(f"Not a .ksplat file, or one of version {major}.{minor}.")
    given = struct.unpack_from("<ff", data, 36)
    low, high = (end or default for end, default in zip(given, _SH_ENDS, strict=True))
    at = _HEADER + sections * _SECTION
    if at > len(data):
        raise InvalidModelFile("The .ksplat is truncated: it ends in its headers.")
    parts = []
    for index in range(sections):
        section = _Section.read(data, _HEADER + index * _SECTION)
        row = _row(level, section.degree)
        first = at + 4 * section.partial_buckets + section.bucket_bytes * section.buckets
        # The file may end behind the splats that there are, before the room for more.
        if first + section.splats * row.itemsize > len(data):
            raise InvalidModelFile(
                f"The .ksplat is truncated: it holds fewer than {section.splats:,} splats in its "
                f"section {index + 1}."
            )
        rows = np.frombuffer(data, row, section.splats, first)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            # `finish` judges what comes of it
            means = rows["mean"].astype(np.float32)
            if level:
                step = section.block_size / 2 / section.half_steps
                from_centre = (rows["mean"].astype(np.float64) - section.half_steps) * step
                means = (from_centre + _centres(data, at, section)).astype(np.float32)
            parts.append(_model(rows, means, section.degree, (low, high)))
        at = first + section.capacity * row.itemsize
    if not parts:
        raise InvalidModelFile("The .ksplat holds no splats: it has no sections.")
    faults: tuple[str, ...] = ()
    if at < len(data):
        faults += ("The .ksplat is longer than its header says; the rest was ignored.",)
    return finish(joined(parts), PLY_FROM_WORLD.T, ".ksplat", faults=faults)


def _row(level: int, degree: int) -> np.dtype[np.void]:
    """A splat of a section; rotations are wxyz."""
    mean, number, harmonic = _LEVELS[level]
    return np.dtype(
        [
            ("mean", mean, (3,)),
            ("scale", number, (3,)),
            ("quat", number, (4,)),
            ("rgba", "u1", (4,)),
            ("sh", harmonic, (_HARMONICS[degree],)),
        ]
    )


def _centres(data: bytes, at: int, section: _Section) -> FloatArray:
    """The centre of each splat's bucket, float32 [N, 3]: full ones first, then counts say it."""
    counts = np.frombuffer(data, "<u4", section.partial_buckets, at)
    if section.bucket_bytes != _BUCKET_BYTES:
        raise InvalidModelFile("The .ksplat has buckets of an unknown kind.")
    if section.full_buckets + section.partial_buckets > section.buckets:
        raise InvalidModelFile("The .ksplat has splats in a bucket that is not there.")
    centres = np.frombuffer(data, "<f4", 3 * section.buckets, at + counts.nbytes).reshape(-1, 3)
    # Where the full buckets and each of the others end, in splats.
    ends = section.full_buckets * section.bucket_capacity + np.cumsum(counts, dtype=np.int64)
    splat = np.arange(section.splats, dtype=np.int64)
    bucket = splat // max(section.bucket_capacity, 1)
    others = bucket >= section.full_buckets
    bucket[others] = section.full_buckets + np.searchsorted(ends, splat[others], side="right")
    if section.splats and bucket.max() >= len(centres):
        raise InvalidModelFile("The .ksplat has splats in a bucket that is not there.")
    found: FloatArray = centres[bucket]
    return found


def _model(
    rows: npt.NDArray[np.void], means: FloatArray, degree: int, ends: tuple[float, float]
) -> SplatModel:
    """In the file's frame, with whatever numbers the file holds."""
    harmonics = rows["sh"].astype(np.float32)
    if rows["sh"].dtype == np.uint8:
        harmonics = ends[0] + harmonics / np.float32(255) * np.float32(ends[1] - ends[0])
    sh = np.empty((len(rows), (degree + 1) ** 2, 3), np.float32)
    sh[:, 0] = (rows["rgba"][:, :3] / 255.0 - 0.5) / SH_C0
    # Degree by degree, and of each the coefficients of red, then of green, then of blue.
    for band in range(1, degree + 1):
        width = 2 * band + 1
        first = 3 * (band**2 - 1)
        of_band = harmonics[:, first : first + 3 * width].reshape(len(rows), 3, width)
        sh[:, band**2 : (band + 1) ** 2] = of_band.transpose(0, 2, 1)
    return SplatModel(
        means=means,
        quats=rows["quat"].astype(np.float32),
        log_scales=np.log(np.abs(rows["scale"].astype(np.float32))),
        logit_opacities=clipped_logits(rows["rgba"][:, 3] / 255.0, 1 / 255),
        sh=sh,
    )
