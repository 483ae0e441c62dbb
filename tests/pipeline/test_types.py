"""The sides of an object, against the cameras that look at them."""

import numpy as np

from pipeline.geometry.cameras import orbit_cameras
from pipeline.types import PHOTO_SIDES, FurtherPhoto
from tests.fakes import some_cutout


def test_the_left_side_is_the_objects_own_which_the_first_photo_has_on_its_right():
    first = orbit_cameras([PHOTO_SIDES["front"][0]], [0.0])
    for side, column in (("left", 1), ("right", -1)):
        eye = orbit_cameras([PHOTO_SIDES[side][0]], [0.0]).centres[0]
        seen = first.viewmats[0, :3, :3] @ eye + first.viewmats[0, :3, 3]
        assert np.sign(seen[0]) == column, "x grows to the right of the picture"
    behind = orbit_cameras([PHOTO_SIDES["back"][0]], [0.0]).centres[0]
    np.testing.assert_allclose(behind, -first.centres[0], atol=1e-6)
    assert PHOTO_SIDES["top"][1] == 90
    assert FurtherPhoto.from_side(some_cutout(), "right").azimuth_deg == 270
