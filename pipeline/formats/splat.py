"""Gaussian splats as .splat: 32 bytes each, no header (the layout of antimatter15/splat).

Position 3 x f32, linear scale 3 x f32, colour and opacity 4 x u8, quaternion wxyz 4 x u8. Only
the zeroth spherical harmonic survives. It does not know where files are kept.
"""

from __future__ import annotations

import numpy as np

from pipeline.errors import InvalidModelFile
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
    """The model of a .splat, in the world frame, spherical harmonics of degree 0.

    Opacities of 0 and 255 come back as 1/510 and 1 - 1/510, so that their logits are finite.

    Raises:
        InvalidModelFile: the size is no multiple of 32, or a number is NaN, infinite or a scale
            is not positive.
    """
    if len(data) % _ROW.itemsize:
        raise InvalidModelFile(
            f"Not a .splat file, or truncated: {len(data)} bytes is no multiple of 32."
        )
    rows = np.frombuffer(data, _ROW)
    for name in ("mean", "scale"):
        if not np.isfinite(rows[name]).all():
            raise InvalidModelFile(f"The .splat holds NaN or infinity in a {name}.")
    if (rows["scale"] <= 0).any():
        raise InvalidModelFile("The .splat holds a scale that is not positive.")
    quats = (rows["quat"].astype(np.float32) - 128.0) / np.float32(128)
    if (np.linalg.norm(quats, axis=1) < 0.1).any():
        raise InvalidModelFile("The .splat holds a quaternion of length zero.")
    opacities = np.clip(rows["rgba"][:, 3] / 255.0, 1 / 510, 1 - 1 / 510)
    model = SplatModel(
        means=rows["mean"].astype(np.float32),
        quats=quats,
        log_scales=np.log(rows["scale"]).astype(np.float32),
        logit_opacities=np.log(opacities / (1 - opacities)).astype(np.float32),
        sh=((rows["rgba"][:, None, :3] / 255.0 - 0.5) / SH_C0).astype(np.float32),
    )
    return rotate_model(model, PLY_FROM_WORLD.T)
