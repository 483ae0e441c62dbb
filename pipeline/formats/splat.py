"""Gaussian splats as .splat: 32 bytes each, no header (the layout of antimatter15/splat).

Position 3 x f32, linear scale 3 x f32, colour and opacity 4 x u8, quaternion wxyz 4 x u8. Only
the zeroth spherical harmonic survives. It does not know where files are kept.
"""

from __future__ import annotations

import numpy as np

from pipeline.errors import InvalidModelFile
from pipeline.formats.read_splats import ReadModel, clipped_logits, finish
from pipeline.geometry.frames import PLY_FROM_WORLD, rotate_model, unit_rows
from pipeline.imaging.rounding import to_bytes
from pipeline.types import SH_C0, SplatModel

_ROW = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])


def write_splat(model: SplatModel, *, compact: bool = False) -> bytes:
    """The file's bytes, in the file frame of `pipeline.geometry.frames`.

    Colour and opacity are rounded to 1/255, quaternion components to 1/128. Rows are sorted from
    large and opaque to small and faint, so that a viewer shows the shape while it still loads.
    A scale that float32 cannot hold becomes the smallest or largest it can; a quaternion of
    length zero becomes the identity in the file frame.

    Args:
        compact: the format has one encoding only.
    """
    del compact
    model = rotate_model(model, PLY_FROM_WORLD)
    float32 = np.finfo(np.float32)
    # Through float64, where every float32 logarithm of a plausible scale has an exponential.
    log_scales = np.clip(model.log_scales.astype(np.float64), np.log(float32.tiny), 88.7)
    scales = np.clip(np.exp(log_scales), float32.tiny, float32.max).astype(np.float32)
    opacities = model.opacities
    rows = np.zeros(len(model), _ROW)
    rows["mean"] = model.means
    rows["scale"] = scales
    rows["rgba"][:, :3] = to_bytes(255 * (0.5 + SH_C0 * model.sh[:, 0]))
    rows["rgba"][:, 3] = to_bytes(255 * opacities)
    rows["quat"] = to_bytes(128 * unit_rows(model.quats, [1, 0, 0, 0]) + 128)
    volumes = scales.prod(axis=1, dtype=np.float64)  # three tiny scales vanish in float32
    order = np.argsort(-(volumes * opacities), kind="stable")
    return rows[order].tobytes()


def read_splat(data: bytes) -> SplatModel:
    """The model of a .splat, in the world frame; `load_splat` without its notes."""
    return load_splat(data).model


def load_splat(data: bytes) -> ReadModel:
    """The model of a .splat, in the world frame, spherical harmonics of degree 0; and notes.

    Opacities of 0 and 255 come back as 1/510 and 1 - 1/510, so that their logits are finite. A
    scale of zero is flat, a rotation of length zero none. Rows of nothing but zeros and splats
    with NaN or infinity are left out.

    Raises:
        InvalidModelFile: the size is no multiple of 32, or no splat is whole.
    """
    if len(data) % _ROW.itemsize:
        raise InvalidModelFile(
            f"Not a .splat file, or truncated: {len(data)} bytes is no multiple of 32."
        )
    rows = np.frombuffer(data, _ROW)
    faults: tuple[str, ...] = ()
    empty = ~np.frombuffer(data, np.uint8).reshape(-1, _ROW.itemsize).any(axis=1)
    if empty.any():
        if empty.all():
            raise InvalidModelFile("The .splat holds nothing but zeros.")
        faults = (f"Left out {empty.sum():,} of {len(rows):,} rows of the .splat: only zeros.",)
        rows = rows[~empty]
    quats = (rows["quat"].astype(np.float32) - 128.0) / np.float32(128)
    quats[np.linalg.norm(quats, axis=1) < 0.1] = (1, 0, 0, 0)
    with np.errstate(divide="ignore", invalid="ignore"):  # `finish` judges what comes of it
        log_scales = np.log(np.abs(rows["scale"])).astype(np.float32)
    model = SplatModel(
        means=rows["mean"].astype(np.float32),
        quats=quats,
        log_scales=log_scales,
        logit_opacities=clipped_logits(rows["rgba"][:, 3] / 255.0, 1 / 255),
        sh=((rows["rgba"][:, None, :3] / 255.0 - 0.5) / SH_C0).astype(np.float32),
    )
    return finish(model, PLY_FROM_WORLD.T, ".splat", faults=faults)
