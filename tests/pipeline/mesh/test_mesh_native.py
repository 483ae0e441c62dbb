"""The C++ of `pipeline.mesh` against slow loops in numpy, on random views."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry.cameras import surround_cameras
from pipeline.mesh.texture import _colors_from_views, _texels
from pipeline.mesh.unwrap import Layout
from pipeline.mesh.volume import SurfaceViews, VoxelGrid, carve_hull, fuse_depth
from pipeline.native import default_threads, set_threads
from pipeline.types import Cameras, FloatArray

GRID = VoxelGrid(size=9, half=1.0)
TRUNCATION = 0.2


def views(seed: int = 0) -> SurfaceViews:
    """Five smooth pictures of a lump, with holes."""
    rng = np.random.default_rng(seed)
    cameras = surround_cameras(5, size=24, radius=2.7)
    y, x = np.mgrid[0:24, 0:24]
    lump = np.exp(-((x - 11.5) ** 2 + (y - 11.5) ** 2) / 60)
    alphas = np.stack([lump * rng.uniform(0.8, 1.0) for _ in range(5)]).astype(np.float32)
    depth = np.stack([2.7 - 0.6 * lump + 0.02 * rng.normal(size=lump.shape) for _ in range(5)])
    return SurfaceViews(cameras, alphas, np.where(alphas >= 0.5, depth, 0).astype(np.float32))


def project(cameras: Cameras, view: int, point: FloatArray) -> tuple[float, float, float]:
    x, y, z = cameras.viewmats[view, :3, :3] @ point + cameras.viewmats[view, :3, 3]
    u, v, _ = cameras.intrinsics[view] @ np.array([x / z, y / z, 1])
    return float(u), float(v), float(z)


def corners(u: float, v: float, size: int) -> tuple[list[tuple[int, int]], list[float]] | None:
    """Rows and columns of the four pixels around a place, and their weights."""
    u, v = u - 0.5, v - 0.5
    if not (0 <= u < size - 1 and 0 <= v < size - 1):
        return None
    x, y = int(u), int(v)
    a, b = u - x, v - y
    pixels = [(y, x), (y, x + 1), (y + 1, x), (y + 1, x + 1)]
    return pixels, [(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b]


def slow_fusion(seen: SurfaceViews, hull: bool) -> FloatArray:
    volume = np.empty((GRID.size,) * 3, np.float32)
    for index in np.ndindex(volume.shape):
        point = GRID.origin + GRID.voxel * np.array(index)
        votes, least = [], 1.0
        for view in range(len(seen.cameras)):
            u, v, z = project(seen.cameras, view, point)
            at = corners(u, v, seen.cameras.width)
            if at is None:
                continue
            pixels, weights = at
            alpha = sum(w * seen.alphas[view][p] for p, w in zip(pixels, weights, strict=True))
            least = min(least, float(alpha))
            if alpha < 0.5:
                votes.append(1.0)
                continue
            depths = [float(seen.depth[view][p]) for p in pixels]
            if min(depths) > 0 and max(depths) - min(depths) < TRUNCATION:
                surface = sum(w * d for w, d in zip(weights, depths, strict=True))
            else:
                surface = depths[int(np.argmax(weights))]
            if surface > 0 and surface - z >= -TRUNCATION:
                votes.append(min(1.0, (surface - z) / TRUNCATION))
        volume[index] = 1 - 2 * least if hull else np.mean(votes) if votes else -1.0
    return volume


@pytest.mark.parametrize("hull", [False, True])
def test_volumes_are_those_of_the_slow_loop(hull: bool) -> None:
    seen = views()
    fast = carve_hull(seen, GRID) if hull else fuse_depth(seen, GRID, TRUNCATION)
    slow = slow_fusion(seen, hull)
    assert (slow < 0).any()
    assert (slow > 0).any()
    # One voxel in a thousand may lie on the edge of a pixel, where the two round differently.
    assert np.mean(np.abs(fast - slow) > 1e-4) < 0.002


def test_volumes_do_not_depend_on_the_number_of_threads() -> None:
    seen = views(1)
    try:
        set_threads(1)
        one = fuse_depth(seen, GRID, TRUNCATION), carve_hull(seen, GRID)
        set_threads(3)
        three = fuse_depth(seen, GRID, TRUNCATION), carve_hull(seen, GRID)
    finally:
        set_threads(default_threads())
    assert all(np.array_equal(a, b) for a, b in zip(one, three, strict=True))


def test_wrong_shapes_are_refused() -> None:
    seen = views()
    with pytest.raises(ValueError, match="alphas and depth must be"):
        fuse_depth(SurfaceViews(seen.cameras, seen.alphas[:2], seen.depth), GRID, TRUNCATION)


def test_texels_are_those_whose_centre_lies_in_the_face() -> None:
    uvs = np.array([[0.1, 0.1], [0.9, 0.2], [0.4, 0.85], [0.95, 0.95]], np.float32)
    layout = Layout(np.arange(4, dtype=np.int32), np.array([[0, 1, 2], [1, 3, 2]], np.int32), uvs)
    size = 32
    face, weights = _texels(layout, size)
    assert set(np.unique(face)) == {-1, 0, 1}
    v, u = np.nonzero(face >= 0)
    rebuilt = (uvs[layout.faces[face[v, u]]] * weights[v, u][..., None]).sum(axis=1)
    np.testing.assert_allclose(rebuilt, np.stack([u + 0.5, v + 0.5], 1) / size, atol=1e-6)
    area = sum(
        abs(np.cross(np.append(b - a, 0), np.append(c - a, 0))[2]) / 2
        for a, b, c in uvs[layout.faces]
    )
    assert (face >= 0).sum() == pytest.approx(area * size**2, rel=0.03)


def test_colours_are_those_of_the_slow_loop() -> None:
    rng = np.random.default_rng(2)
    cameras = surround_cameras(6, size=24, radius=2.7)
    images = rng.random((6, 24, 24, 3), dtype=np.float32)
    alphas = np.where(rng.random((6, 24, 24)) < 0.97, 1.0, 0.3).astype(np.float32)
    depth = rng.uniform(2.0, 3.2, (6, 24, 24)).astype(np.float32)
    points = rng.uniform(-0.6, 0.6, (400, 3)).astype(np.float32)
    normals = rng.normal(size=(400, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)

    fast, weight = _colors_from_views(points, normals, cameras, images, alphas, depth)

    slow, total = np.zeros((400, 3)), np.zeros(400)
    for i, (point, normal) in enumerate(zip(points, normals, strict=True)):
        for view, centre in enumerate(cameras.centres):
            towards = centre - point
            cosine = float(towards @ normal / np.linalg.norm(towards))
            u, v, z = project(cameras, view, point)
            at = corners(u, v, 24)
            if cosine < 0.2 or at is None:
                continue
            pixels, weights = at
            if all(alphas[view][p] >= 0.9 and depth[view][p] >= z - 0.03 for p in pixels):
                picked = sum(w * images[view][p] for p, w in zip(pixels, weights, strict=True))
                slow[i] += cosine**4 * picked
                total[i] += cosine**4
    assert 20 < (total > 0).sum() < 380
    np.testing.assert_allclose(weight, total, atol=1e-4)
    seen = total > 0
    np.testing.assert_allclose(fast[seen], slow[seen] / total[seen, None], atol=1e-4)
