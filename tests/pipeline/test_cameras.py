import numpy as np

from pipeline.cameras import held_out_cameras, photo_camera, rig_cameras


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
    for cameras in (rig_cameras(), held_out_cameras(), photo_camera(-10)):
        R = cameras.viewmats[:, :3, :3]
        np.testing.assert_allclose(
            R @ R.transpose(0, 2, 1), np.tile(np.eye(3), (len(R), 1, 1)), atol=1e-6
        )
        assert np.allclose(np.linalg.det(R), 1, atol=1e-6)
        assert (R[:, 1, 2] < 0).all(), "world up must point to smaller image rows"
        assert np.allclose(R[:, 0, 2], 0, atol=1e-7), "no roll"


def test_intrinsics_scale_with_the_image():
    np.testing.assert_allclose(rig_cameras(512).intrinsics[0, 0], [560, 0, 256])
