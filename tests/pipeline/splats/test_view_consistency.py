"""Agreement between views: against a loop over pixels, and on objects whose depth is exact."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.geometry.cameras import orbit_cameras, rig_cameras
from pipeline.splats.view_consistency import CrossViewError, cross_view_error, low_pass
from pipeline.types import Cameras, FloatArray
from tests.oracles.objects import bumpy_sphere, photograph, torus


def unit(images: npt.NDArray[np.uint8]) -> FloatArray:
    return (images / 255).astype(np.float32)


def sampled(image: npt.NDArray[np.float64], u: float, v: float) -> npt.NDArray[np.float64]:
    """Bilinear value at column u, row v; black outside."""
    x, y = int(np.floor(u)), int(np.floor(v))
    value = np.zeros(image.shape[2])
    for row, column in ((y, x), (y, x + 1), (y + 1, x), (y + 1, x + 1)):
        if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
            value += (1 - abs(u - column)) * (1 - abs(v - row)) * image[row, column]
    return value


def slow_agreement(images: FloatArray, depth: FloatArray, cameras: Cameras) -> CrossViewError:
    """The definition, pixel by pixel in float64: the four nearest within 75 degrees, .02 deep."""
    error, known = np.zeros(depth.shape, np.float32), np.zeros(depth.shape, bool)
    directions = cameras.viewmats[:, 2, :3].astype(float)
    for view, row, column in np.argwhere(depth > 0):
        K = cameras.intrinsics[view].astype(float)
        z = float(depth[view, row, column])
        local = z * np.linalg.inv(K) @ np.array([column + 0.5, row + 0.5, 1.0])
        world = np.linalg.inv(cameras.viewmats[view].astype(float)) @ np.append(local, 1.0)
        angles = np.rad2deg(np.arccos(np.clip(directions @ directions[view], -1, 1)))
        near = [u for u in np.argsort(angles, kind="stable") if u != view and angles[u] < 75]
        found = []
        for other in near[:4]:
            there = (cameras.viewmats[other].astype(float) @ world)[:3]
            x, y, w = cameras.intrinsics[other].astype(float) @ there
            u, v = x / w - 0.5, y / w - 0.5
            nearest = int(np.rint(v)), int(np.rint(u))
            if not (0 <= nearest[0] < depth.shape[1] and 0 <= nearest[1] < depth.shape[2]):
                continue
            surface = float(depth[other][nearest])
            if surface > 0 and abs(surface - there[2]) < 0.02:
                color = sampled(images[other].astype(float), u, v)
                found.append(np.abs(images[view, row, column] - color).mean())
        if found:
            error[view, row, column], known[view, row, column] = np.median(found), True
    return CrossViewError(error, known)


@pytest.mark.parametrize("azimuths", [[0, 20, 50, 95, 150, 260, 300], [0, 10, 30, 170]])
def test_it_is_what_a_loop_over_pixels_finds(azimuths: list[float]) -> None:
    elevations = [30.0, 10.0, 45.0, 20.0, 0.0, 35.0, 25.0][: len(azimuths)]
    cameras = orbit_cameras(azimuths, elevations, size=40)
    views, depths = photograph(torus(), cameras)
    images = low_pass(unit(views.images), 1.0)
    fast = cross_view_error(images, depths.depth, cameras)
    slow = slow_agreement(images, depths.depth, cameras)
    # Float32 against float64 may decide otherwise at the edge of a tolerance or of a pixel.
    assert (fast.known != slow.known).sum() <= 0.01 * slow.known.sum()
    both = fast.known & slow.known
    assert 0.3 < both[depths.depth > 0].mean() <= 1
    difference = np.abs(fast.error - slow.error)[both]
    # OpenCV interpolates at 1/32 of a pixel.
    assert np.quantile(difference, 0.98) < 0.006
    assert difference.mean() < 0.002
    assert not (fast.known & (depths.depth == 0)).any()
    assert (fast.error[~fast.known] == 0).all()


def test_views_of_opposite_sides_share_nothing() -> None:
    cameras = orbit_cameras([0.0, 180.0], [0.0, 0.0], size=64)
    views, depths = photograph(torus(), cameras)
    agreement = cross_view_error(unit(views.images), depths.depth, cameras)
    assert not agreement.known.any()


def test_what_only_one_view_sees_is_not_known() -> None:
    cameras = orbit_cameras([0.0, 60.0], [20.0, 20.0], size=96)
    views, depths = photograph(bumpy_sphere(), cameras)
    agreement = cross_view_error(unit(views.images), depths.depth, cameras)
    surface = depths.depth > 0
    share = agreement.known[surface].mean()
    assert 0.3 < share < 0.8
    # The second camera stands to the right of the first one: it does not see the left rim.
    columns = np.nonzero(surface[0].any(axis=0))[0]
    left, right = columns[: len(columns) // 6], columns[-len(columns) // 3 :]
    assert not agreement.known[0][:, left].any()
    assert agreement.known[0][:, right][surface[0][:, right]].mean() > 0.8


def test_nothing_at_all_is_known_of_nothing() -> None:
    cameras = orbit_cameras([0.0, 20.0], [0.0, 0.0], size=32)
    empty = cross_view_error(
        np.ones((2, 32, 32, 3), np.float32), np.zeros((2, 32, 32), np.float32), cameras
    )
    assert not empty.known.any()


def test_photographs_of_an_object_agree_and_other_pictures_do_not() -> None:
    cameras = rig_cameras(192)
    views, depths = photograph(torus(), cameras)
    images = unit(views.images)
    exact = cross_view_error(images, depths.depth, cameras)
    assert exact.known[depths.depth > 0].mean() > 0.95
    found = exact.error[exact.known].mean()
    assert found < 0.01
    # One view of another place: all its pixels say so.
    rolled = images.copy()
    rolled[4] = np.roll(rolled[4], 20, axis=1)
    wrong = cross_view_error(rolled, depths.depth, cameras)
    assert wrong.error[4][wrong.known[4]].mean() > 15 * found
    # The median of four neighbours keeps one wrong view from spoiling the others.
    assert wrong.error[12][wrong.known[12]].mean() == exact.error[12][exact.known[12]].mean()
    assert wrong.error[3][wrong.known[3]].mean() < 0.3 * wrong.error[4][wrong.known[4]].mean()
    # All of them wrong.
    all_wrong = cross_view_error(np.roll(images, 20, axis=2), depths.depth, cameras)
    assert all_wrong.error[all_wrong.known].mean() > 15 * found


def test_the_result_does_not_change_with_the_cameras_order() -> None:
    cameras = orbit_cameras([0, 18, 41, 67, 110], [30, 25, 20, 35, 15], size=64)
    views, depths = photograph(torus(), cameras)
    order = [3, 0, 4, 1, 2]
    straight = cross_view_error(unit(views.images), depths.depth, cameras)
    mixed = cross_view_error(unit(views.images)[order], depths.depth[order], cameras.select(order))
    np.testing.assert_array_equal(mixed.known, straight.known[order])
    np.testing.assert_allclose(mixed.error, straight.error[order], atol=1e-6)


def test_a_surface_that_fills_300_pixels_square_is_compared_whole() -> None:
    """The plane x = 0 from two cameras; OpenCV's maps end at 32,767 columns."""
    size = 300
    cameras = orbit_cameras([-4.0, 4.0], [0.0, 0.0], size=size)
    ys, xs = np.mgrid[0:size, 0:size] + 0.5
    depth = np.empty((2, size, size), np.float32)
    images = np.empty((2, size, size, 3), np.float32)
    for view in range(2):
        K, viewmat = cameras.intrinsics[view].astype(float), cameras.viewmats[view].astype(float)
        rays = np.stack([(xs - K[0, 2]) / K[0, 0], (ys - K[1, 2]) / K[1, 1], np.ones_like(xs)], -1)
        rays = rays @ viewmat[:3, :3]
        centre = cameras.centres[view].astype(float)
        depth[view] = -centre[0] / rays[..., 0]
        points = centre + depth[view][..., None] * rays
        images[view] = 0.5 + 0.4 * np.sin(9 * points + np.array([0.0, 1.0, 2.0]))
    agreement = cross_view_error(images, depth, cameras)
    assert agreement.known.sum() > 65_536 * 2
    # At the rim of a picture the interpolation mixes in what is outside of it.
    assert agreement.error[:, 10:-10, 30:-30].max() < 0.005
    assert agreement.error[agreement.known].mean() < 0.002


def test_low_pass_blurs_each_image_and_keeps_its_mean() -> None:
    images = np.zeros((2, 41, 41, 3), np.float32)
    images[1, 20, 20] = (1, 2, 3)
    blurred = low_pass(images, 3.0)
    assert (blurred[0] == 0).all()
    np.testing.assert_allclose(blurred[1].sum((0, 1)), [1, 2, 3], rtol=1e-4)
    wanted = np.exp(-((np.arange(41) - 20.0) ** 2) / 18)
    profile = blurred[1, 20, :, 0] / blurred[1, 20, 20, 0]
    np.testing.assert_allclose(profile, wanted, atol=0.01)
    assert low_pass(images[..., 0], 3.0).shape == (2, 41, 41)
