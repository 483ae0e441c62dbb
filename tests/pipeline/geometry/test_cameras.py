import numpy as np
import pytest

from pipeline.geometry.cameras import (
    held_out_cameras,
    photo_camera,
    rig_cameras,
    surround_cameras,
    thumbnail_camera,
    turntable_cameras,
)


def test_rig_equals_the_camera_file_released_with_syncdreamer():
    rig = rig_cameras()
    assert len(rig) == 16
    np.testing.assert_allclose(
        rig.viewmats[0, :3, :3], [[0, 1, 0], [0.5, 0, -np.sqrt(0.75)], [-np.sqrt(0.75), 0, -0.5]],
        atol=1e-6,
    )  # fmt: skip
    np.testing.assert_allclose(rig.viewmats[0, :3, 3], [0, 0, 1.5], atol=1e-6)
    np.testing.assert_allclose(rig.intrinsics[0], [[280, 0, 128], [0, 280, 128], [0, 0, 1]])
    azimuth = np.rad2deg(np.arctan2(rig.centres[:, 1], rig.centres[:, 0])) % 360
    np.testing.assert_allclose(azimuth, np.arange(16) * 22.5, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(rig.centres, axis=1), 1.5, atol=1e-6)
    np.testing.assert_allclose(rig.centres[:, 2], 0.75, atol=1e-6)


def test_every_camera_is_a_rotation_that_shows_up_as_up():
    for cameras in (
        rig_cameras(),
        held_out_cameras(),
        photo_camera(-10),
        turntable_cameras(7),
        thumbnail_camera(),
        surround_cameras(40),
    ):
        R = cameras.viewmats[:, :3, :3]
        np.testing.assert_allclose(
            R @ R.transpose(0, 2, 1), np.tile(np.eye(3), (len(R), 1, 1)), atol=1e-6
        )
        assert np.allclose(np.linalg.det(R), 1, atol=1e-6)
        assert (R[:, 1, 2] < 0).all(), "world up must point to smaller image rows"
        assert np.allclose(R[:, 0, 2], 0, atol=1e-7), "no roll"


def test_intrinsics_scale_with_the_image():
    np.testing.assert_allclose(rig_cameras(512).intrinsics[0, 0], [560, 0, 256])


def test_a_turntable_is_one_even_turn_from_the_front_on():
    cameras = turntable_cameras(24, 64)
    assert (len(cameras), cameras.width, cameras.height) == (24, 64, 64)
    azimuth = np.rad2deg(np.arctan2(cameras.centres[:, 1], cameras.centres[:, 0])) % 360
    np.testing.assert_allclose(azimuth, np.arange(24) * 15.0, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(cameras.centres, axis=1), 1.5, atol=1e-6)
    np.testing.assert_allclose(cameras.centres[:, 2], 0.75, atol=1e-6)


def test_a_turntable_of_16_frames_is_the_rig():
    rig, cameras = rig_cameras(), turntable_cameras(16)
    np.testing.assert_array_equal(cameras.viewmats, rig.viewmats)
    np.testing.assert_array_equal(cameras.intrinsics, rig.intrinsics)


def test_the_thumbnail_shows_the_front_from_a_little_above_and_aside():
    camera = thumbnail_camera(512)
    assert (len(camera), camera.width, camera.height) == (1, 512, 512)
    x, y, z = camera.centres[0] / 1.5
    assert x > 0.8, "the photographed side"
    assert 0.1 < abs(y) < 0.5
    assert 0.2 < z < 0.6
    np.testing.assert_allclose(camera.intrinsics[0], [[560, 0, 256], [0, 560, 256], [0, 0, 1]])


@pytest.mark.parametrize("count", [1, 2, 50, 500])
def test_surrounding_cameras_look_at_the_origin_from_their_radius(count):
    cameras = surround_cameras(count, size=32, radius=2.5)
    assert (len(cameras), cameras.width, cameras.height) == (count, 32, 32)
    np.testing.assert_allclose(np.linalg.norm(cameras.centres, axis=1), 2.5, atol=1e-5)
    np.testing.assert_allclose(
        cameras.viewmats[:, :3, 3], np.tile([0, 0, 2.5], (count, 1)), atol=1e-5
    )


def test_surrounding_cameras_are_spread_evenly_over_the_sphere():
    directions = surround_cameras(500).centres / 1.5
    np.testing.assert_allclose(directions.mean(0), 0, atol=0.01)
    np.testing.assert_allclose(np.cov(directions.T), np.eye(3) / 3, atol=0.01)
    cosines = directions @ directions.T - 2 * np.eye(500)
    apart = np.rad2deg(np.arccos(cosines.max(1)))
    # 500 caps of 5.1 degrees would cover the sphere: neighbours stand about two of them apart.
    assert apart.min() > 6
    assert apart.max() < 11
