"""The pinhole camera: a camera that can be worked out by hand, and a slow loop over every point."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry.cameras import orbit_cameras
from pipeline.geometry.projection import find_pixels, pixel_rays, project, to_camera, to_world
from pipeline.types import Cameras

#: At (0, 0, -2), looking along +z, x to the right: a point (x, y, z) has depth z + 2.
STRAIGHT = Cameras(
    np.array([[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]]], np.float32),
    np.array([[[100, 0, 8], [0, 50, 6], [0, 0, 1]]], np.float32),
    width=16,
    height=12,
)


def odd_cameras() -> Cameras:
    """Five cameras all around, neither square nor centred."""
    cameras = orbit_cameras([0.0, 50.0, 130.0, 200.0, 300.0], [30.0, -20.0, 5.0, 60.0, -70.0])
    Ks = cameras.intrinsics + np.float32([[30, 0, -7], [0, -20, 9], [0, 0, 0]])
    return Cameras(cameras.viewmats, Ks, 200, 150)


def slow_pixel(cameras: Cameras, view: int, point: np.ndarray) -> tuple[float, float, float]:
    """x, y and depth of one point, with homogeneous coordinates and no shortcut."""
    x, y, z, _ = cameras.viewmats[view].astype(np.float64) @ np.append(point, 1.0)
    u, v, w = cameras.intrinsics[view].astype(np.float64) @ [x, y, z]
    return u / w, v / w, z


@pytest.mark.parametrize(
    ("point", "pixel"),
    [
        ((0.0, 0.0, 0.0), (8, 6)),
        ((0.1, 0.0, 0.0), (13, 6)),  # 100 px * 0.1 / 2
        ((0.0, 0.1, 0.0), (8, 8)),  # 50 px * 0.1 / 2, y down
        ((0.1, 0.1, 2.0), (10, 7)),  # twice as far: half as much
    ],
)
def test_a_point_falls_where_the_formula_says(
    point: tuple[float, float, float], pixel: tuple[int, int]
) -> None:
    inside, index, z = find_pixels(STRAIGHT, 0, np.array([point]) + 1e-9)
    assert inside.all()
    assert divmod(int(index[0]), STRAIGHT.width) == (pixel[1], pixel[0])
    assert z[0] == pytest.approx(point[2] + 2)


def test_what_is_behind_or_beside_the_picture_has_no_pixel() -> None:
    points = np.array([[0, 0, -2.0], [0, 0, -5], [0.17, 0, 0], [-0.17, 0, 0], [0, 0.25, 0]])
    inside, index, z = find_pixels(STRAIGHT, 0, points)
    assert not inside.any()
    assert not index.any()
    assert z[1] == -3.0


def test_the_first_pixels_centre_is_at_one_half() -> None:
    rays = pixel_rays(STRAIGHT, 0, np.float64)
    assert rays.shape == (12, 16, 3)
    np.testing.assert_allclose(rays[0, 0], [(0.5 - 8) / 100, (0.5 - 6) / 50, 1])
    blocks = pixel_rays(STRAIGHT, 0, np.float64, stride=4)
    assert blocks.shape == (3, 4, 3)
    np.testing.assert_allclose(blocks[0, 0], [(2 - 8) / 100, (2 - 6) / 50, 1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_agrees_with_a_slow_loop_over_every_point(dtype: type[np.floating]) -> None:
    cameras = odd_cameras()
    points = np.random.default_rng(0).uniform(-0.6, 0.6, (200, 3)).astype(dtype)
    for view in range(len(cameras)):
        local = to_camera(cameras, view, points)
        pixels = np.stack([*project(cameras, view, local, local[:, 2]), local[:, 2]], axis=1)
        slow = np.array([slow_pixel(cameras, view, point) for point in points])
        # Rounding of float32: 200 px * 2^-24, a few times over. The matrices have it in any case.
        np.testing.assert_allclose(pixels, slow, atol=1e-4)
        assert pixels.dtype == dtype
        inside, index, _ = find_pixels(cameras, view, points)
        for point, seen, pixel in zip(slow, inside, index, strict=True):
            column, row = np.floor(point[:2])
            assert seen == (0 <= column < cameras.width and 0 <= row < cameras.height)
            assert pixel == (row * cameras.width + column if seen else 0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-6), (np.float64, 2e-7)])
def test_the_way_into_the_world_and_back(dtype: type[np.floating], tolerance: float) -> None:
    cameras = odd_cameras()
    depth = np.random.default_rng(1).uniform(1.0, 2.0, (150, 200)).astype(dtype)
    for view in range(len(cameras)):
        points = to_world(cameras, view, pixel_rays(cameras, view, dtype) * depth[..., None])
        assert points.dtype == dtype
        # The rotations are rounded to float32, so they are orthogonal to 1e-7 only.
        np.testing.assert_allclose(
            to_camera(cameras, view, points)[..., 2], depth, atol=4 * tolerance
        )
        inside, index, _ = find_pixels(cameras, view, points.reshape(-1, 3))
        assert inside.all()
        np.testing.assert_array_equal(index, np.arange(150 * 200))
