"""Gaussian splats as .glb with KHR_gaussian_splatting (Khronos glTF extension).

Readers that do not know the extension draw coloured points. It does not know where files are kept.
Source: KhronosGroup/glTF, extensions/2.0/Khronos/KHR_gaussian_splatting/README.md.
"""

from __future__ import annotations

import numpy as np

from pipeline.errors import InvalidInput
from pipeline.formats.encoded_texture import linear_from_srgb
from pipeline.formats.gltf import GlbBuilder, normalized_integers, one_node_scene
from pipeline.geometry.frames import GLTF_FROM_WORLD, rotate_model, unit_rows
from pipeline.types import SH_C0, SplatModel

_EXTENSION = "KHR_gaussian_splatting"
_POINTS = 0

#: Smaller splats would show the steps of 16 bits.
_FINE = 0.001


def write_glb_splat(model: SplatModel, *, compact: bool = False) -> bytes:
    """The file's bytes, in the glTF frame of `pipeline.geometry.frames`, harmonics turned along.

    Per splat, as the specification names them: POSITION; ROTATION, a unit quaternion xyzw; SCALE,
    the standard deviations themselves (not logarithms); OPACITY 0..1; SH_DEGREE_l_COEF_n, the
    harmonics as the .ply holds them. COLOR_0 is the fallback: the zeroth harmonic's colour made
    linear, with the opacity as alpha.

    Args:
        compact: ROTATION as normalised int16 and SCALE, where none exceeds 1 and half of the
            splats are at least a thousandth large, as normalised uint16
            (steps of 1/32767 and 1/65535 world units), COLOR_0 in 8 bits. 48 bytes instead of 64
            for a splat of degree 0. The rest stays float32: harmonics must, a byte for OPACITY
            would be padded to four, and POSITION would need KHR_mesh_quantization and a scaled
            node, which a reader of splats may well ignore. The PlayCanvas engine 2.23 and three.js
            0.187 read these types; splat-transform 2.7.1 reads no .glb at all.

    Raises:
        InvalidInput: the model holds no splats, or a mean or harmonic that is NaN or infinite.
    """
    if not len(model):
        raise InvalidInput("The model holds no splats to write.")
    if not (np.isfinite(model.means).all() and np.isfinite(model.sh).all()):
        raise InvalidInput("The model holds NaN or infinity.")
    model = rotate_model(model, GLTF_FROM_WORLD)
    builder = GlbBuilder()
    rotations = unit_rows(model.quats[:, [1, 2, 3, 0]], [0, 0, 0, 1])  # xyzw
    # Through float64 and clipped, so that no finite logarithm overflows or vanishes.
    scales = np.exp(np.clip(model.log_scales.astype(np.float64), -80.0, 80.0))
    fits = scales.max() <= 1.0 and np.median(scales.max(axis=1)) >= _FINE
    opacities = model.opacities
    diffuse = linear_from_srgb(np.clip(0.5 + SH_C0 * model.sh[:, 0], 0.0, 1.0))
    fallback = np.concatenate([diffuse, opacities[:, None]], axis=1)

    attributes = {
        "POSITION": builder.add_attribute(model.means, bounds=True),
        "COLOR_0": builder.add_attribute(
            normalized_integers(fallback, np.uint8 if compact else np.uint16), normalized=True
        ),
        f"{_EXTENSION}:ROTATION": (
            builder.add_attribute(normalized_integers(rotations, np.int16), normalized=True)
            if compact
            else builder.add_attribute(rotations.astype(np.float32))
        ),
        f"{_EXTENSION}:SCALE": (
            # At least one step: a splat that is flat stays a splat.
            builder.add_attribute(
                np.maximum(normalized_integers(scales, np.uint16), 1), normalized=True
            )
            if compact and fits
            else builder.add_attribute(scales.astype(np.float32))
        ),
        f"{_EXTENSION}:OPACITY": builder.add_attribute(opacities),
    }
    for degree in range(model.sh_degree + 1):
        for n in range(2 * degree + 1):
            coefficient = np.ascontiguousarray(model.sh[:, degree**2 + n])
            name = f"{_EXTENSION}:SH_DEGREE_{degree}_COEF_{n}"
            attributes[name] = builder.add_attribute(coefficient)

    primitive = {
        "attributes": attributes,
        "mode": _POINTS,
        "extensions": {
            _EXTENSION: {
                "kernel": "ellipse",
                "colorSpace": "srgb_rec709_display",
                "projection": "perspective",
                "sortingMethod": "cameraDistance",
            }
        },
    }
    return builder.to_bytes(
        {
            "extensionsUsed": [_EXTENSION],
            **one_node_scene({"name": "model", "mesh": 0}),
            "meshes": [{"name": "model", "primitives": [primitive]}],
        }
    )
