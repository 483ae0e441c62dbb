"""Splats and meshes whose every number is known, for tests of the file formats.

They are analytic: nothing of the product's fitting or meshing is used.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.mesh.mesh_types import TexturedMesh
from pipeline.types import SH_C0, FloatArray, SplatModel, UInt8Array

#: Where the three markers stand in the world, and their colours: the photographed side red, the
#: upper side green, the object's own left blue (+y; to the right of who looks at its front).
MARKERS = {
    "front": ((0.4, 0.0, 0.0), (255, 0, 0)),
    "top": ((0.0, 0.0, 0.4), (0, 255, 0)),
    "left": ((0.0, 0.4, 0.0), (0, 0, 255)),
}
#: Where glTF 2.0 (section 3.4) wants them: front +Z, up +Y, and -X is right, so left is +X.
MARKERS_IN_GLTF = {
    "front": (0.0, 0.0, 0.4),
    "top": (0.0, 0.4, 0.0),
    "left": (0.4, 0.0, 0.0),
}


def _sphere_points(count: int) -> FloatArray:
    i = np.arange(count) + 0.5
    polar, azimuth = np.arccos(1 - 2 * i / count), np.pi * (1 + 5**0.5) * i
    return np.stack(
        [np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)], axis=1
    ).astype(np.float32)


def ball(count: int = 5000, *, sh_degree: int = 3, seed: int = 0) -> SplatModel:
    """Flat discs on a sphere of radius .38 with a pattern and a view-dependent sheen."""
    rng = np.random.default_rng(seed)
    d = _sphere_points(count)
    rgb = 0.5 + 0.3 * np.stack(
        [np.sin(12 * d[:, 0]), np.sin(11 * d[:, 1] + 1), np.sin(13 * d[:, 2])], axis=1
    )
    sh = np.zeros((count, (sh_degree + 1) ** 2, 3))
    sh[:, 0] = (rgb - 0.5) / SH_C0
    sh[:, 1:] = 0.08 * rng.standard_normal(sh[:, 1:].shape)
    # The disc's third axis along the direction, by an arbitrary turn about it.
    helper = np.where(np.abs(d[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    across = np.cross(helper, d)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    axes = np.stack([across, np.cross(d, across), d], axis=2)
    turned = Rotation.from_matrix(axes) * Rotation.from_rotvec(
        np.outer(rng.uniform(0, np.pi, count), [0, 0, 1])
    )
    quats = turned.as_quat()[:, [3, 0, 1, 2]] * rng.uniform(0.5, 2, (count, 1))
    scales = np.array([0.013, 0.009, 0.002]) * rng.uniform(0.8, 1.25, (count, 3))
    return SplatModel(
        means=0.38 * d,
        quats=quats.astype(np.float32),
        log_scales=np.log(scales).astype(np.float32),
        logit_opacities=rng.uniform(1.0, 4.0, count).astype(np.float32),
        sh=sh.astype(np.float32),
    )


def marker_splats() -> SplatModel:
    """One round splat for each of `MARKERS`."""
    places = np.array([place for place, _ in MARKERS.values()], np.float32)
    rgb = np.array([color for _, color in MARKERS.values()], np.float32) / 255
    return SplatModel(
        means=places,
        quats=np.tile(np.array([1, 0, 0, 0], np.float32), (3, 1)),
        log_scales=np.full((3, 3), np.log(0.05), np.float32),
        logit_opacities=np.full(3, 3.0, np.float32),
        sh=((rgb - 0.5) / SH_C0)[:, None].astype(np.float32),
    )


def marker_mesh() -> TexturedMesh:
    """One small octahedron for each of `MARKERS`, closed, with outward normals."""
    corners = np.array(
        [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32
    )
    faces = np.array(
        [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]],
        np.int32,
    )
    return TexturedMesh(
        vertices=np.concatenate(
            [np.array(place, np.float32) + 0.05 * corners for place, _ in MARKERS.values()]
        ),
        normals=np.tile(corners, (3, 1)),
        faces=np.concatenate([faces + 6 * i for i in range(3)]),
        colors=np.repeat(np.array([c for _, c in MARKERS.values()], np.uint8), 6, axis=0),
    )


def _grid_sphere(rows: int, columns: int) -> tuple[FloatArray, FloatArray, np.ndarray]:
    """Directions [V, 3], texture coordinates [V, 2] and faces [F, 3]; split at u = 0."""
    v, u = np.meshgrid(np.linspace(0, 1, rows + 1), np.linspace(0, 1, columns + 1), indexing="ij")
    polar, azimuth = np.pi * v, 2 * np.pi * u
    d = np.stack(
        [np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], -1
    )
    i, j = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    a = i * (columns + 1) + j
    b, c, e = a + columns + 1, a + columns + 2, a + 1
    # At a pole one of the two triangles of a square is empty and left out, and with it one vertex.
    lower = np.stack([a, b, c], -1)[:-1].reshape(-1, 3)
    upper = np.stack([a, c, e], -1)[1:].reshape(-1, 3)
    used, faces = np.unique(np.concatenate([lower, upper]), return_inverse=True)
    return (
        d.reshape(-1, 3)[used].astype(np.float32),
        np.stack([u, v], -1).reshape(-1, 2)[used].astype(np.float32),
        faces.reshape(-1, 3).astype(np.int32),
    )


def textured_ellipsoid(rows: int = 40, columns: int = 60, size: int = 256) -> TexturedMesh:
    """Half axes .3, .4, .5; red grows with u, green with v (down), blue is a wave."""
    d, uvs, faces = _grid_sphere(rows, columns)
    axes = np.array([0.3, 0.4, 0.5], np.float32)
    normals = d / axes
    return TexturedMesh(
        vertices=axes * d,
        normals=(normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32),
        faces=faces,
        uvs=uvs,
        texture=ellipsoid_texture(size),
    )


def ellipsoid_texture(size: int) -> UInt8Array:
    """uint8 [size, size, 3] of `ellipsoid_color` at the centres of the texels."""
    at = (np.arange(size) + 0.5) / size
    u, v = np.meshgrid(at, at)
    return np.round(ellipsoid_color(np.stack([u, v], -1))).astype(np.uint8)


def ellipsoid_color(uvs: np.ndarray) -> np.ndarray:
    """What the texture shows at [..., 2]: sRGB 0..255, [..., 3]."""
    u, v = uvs[..., 0], uvs[..., 1]
    return np.stack([30 + 200 * u, 20 + 210 * v, 128 + 60 * np.sin(8 * u + 5 * v)], -1)


def coloured_ellipsoid(rows: int = 40, columns: int = 60) -> TexturedMesh:
    """The same surface with a colour per vertex."""
    mesh = textured_ellipsoid(rows, columns, 8)
    assert mesh.uvs is not None
    return TexturedMesh(
        mesh.vertices,
        mesh.normals,
        mesh.faces,
        colors=np.round(ellipsoid_color(mesh.uvs)).astype(np.uint8),
    )
