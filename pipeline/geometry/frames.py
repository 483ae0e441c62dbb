"""The axes of exported files, and how a model is turned into them.

World: z up, front +x. glTF axes (GLB, OBJ, USDZ): (x, y, z) -> (y, z, x), +Y up, front +Z. PLY and
SPLAT: those axes turned 180 degrees about Z, (X, Y, Z) -> (-X, -Y, Z), because SuperSplat and
splat-transform read such files with y pointing down and turn them back. It knows no file layout.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pipeline.types import FloatArray, SplatModel

GLTF_FROM_WORLD: FloatArray = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], np.float32)
#: Rotation [3, 3] from the world frame to the frame of .ply and .splat files.
PLY_FROM_WORLD: FloatArray = np.diag([-1.0, -1.0, 1.0]).astype(np.float32) @ GLTF_FROM_WORLD


def rotate_model(model: SplatModel, R: FloatArray) -> SplatModel:
    """Turn a model about the origin: positions, orientations and spherical harmonics.

    Args:
        R: float32 [3, 3], proper rotation (determinant +1).
    """
    if not np.allclose(R @ R.T, np.eye(3), atol=1e-5) or np.linalg.det(R) < 0:
        raise ValueError("R must be a proper rotation")
    return replace(
        model,
        means=(model.means @ R.T).astype(np.float32),
        quats=turn_quats(model.quats, R),
        sh=_turn_sh(model.sh, R),
    )


def with_exact_quats(model: SplatModel) -> SplatModel:
    """The model with quaternions that survive the turn into a file's frame and back, bit by bit.

    Unit length, components rounded to 2^-20: the turns between our frames multiply by one half
    and add, which is then exact in float32. What is read from a file is then what was written, so
    a run that goes on from a file goes on from the very same numbers (models of SH degree 0).
    """
    unit = unit_rows(model.quats, [1, 0, 0, 0])
    return replace(model, quats=(np.round(unit * 2**20) / 2**20).astype(np.float32))


def unit_rows(
    rows: npt.NDArray[np.floating], default: list[int], *, least: float = 0.0
) -> npt.NDArray[np.float64]:
    """Vectors [N, C] of length 1; `default` where one is not finite or not longer than `least`."""
    exact = rows.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    usable = np.isfinite(lengths) & (lengths > least)
    unit: npt.NDArray[np.float64] = np.where(
        usable, exact / np.where(usable, lengths, 1.0), default
    )
    return unit


def turn_quats(quats: FloatArray, R: FloatArray) -> FloatArray:
    """Quaternions [N, 4] wxyz of the orientations `R @ rotation(quats)`; norms are kept."""
    # Imported here because processes that only read and serve files import this module.
    from scipy.spatial.transform import Rotation

    # As Python's numbers, so that float32 stays float32.
    turn = Rotation.from_matrix(R).as_quat(scalar_first=True, canonical=True)
    rw, rx, ry, rz = turn.tolist()
    w, x, y, z = quats.T
    turned: FloatArray = np.stack(
        [
            rw * w - rx * x - ry * y - rz * z,
            rw * x + rx * w + ry * z - rz * y,
            rw * y - rx * z + ry * w + rz * x,
            rw * z + rx * y - ry * x + rz * w,
        ],
        axis=1,
    ).astype(np.float32)
    return turned


def _turn_sh(sh: FloatArray, R: FloatArray) -> FloatArray:
    """Spherical harmonics [N, K, 3] of the turned function f'(d) = f(R^T d), band by band.

    Each band is closed under rotation, so its matrix is found exactly by least squares on more
    directions than the band has coefficients.
    """
    degree = int(sh.shape[1] ** 0.5) - 1
    if degree == 0:
        return sh
    # Imported here because the HTTP ingress imports this module and has no use for torch.
    import torch

    from pipeline.geometry.spherical_harmonics import sh_basis

    directions = torch.from_numpy(_fibonacci_sphere(64))
    after = sh_basis(degree, directions).numpy()
    before = sh_basis(degree, directions @ torch.from_numpy(np.asarray(R, np.float64))).numpy()
    turned = np.array(sh, np.float32)
    for band in range(1, degree + 1):
        rows = slice(band**2, (band + 1) ** 2)
        matrix = np.linalg.lstsq(after[:, rows], before[:, rows], rcond=None)[0]
        turned[:, rows] = np.einsum("ij,njc->nic", matrix, sh[:, rows])
    return turned


def _fibonacci_sphere(count: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    i = np.arange(count) + 0.5
    polar, azimuth = np.arccos(1 - 2 * i / count), np.pi * (1 + 5**0.5) * i
    return np.stack(
        [np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)], axis=1
    )
