"""Photos of known objects from known cameras, placed against the true views of the object."""

from functools import lru_cache

import numpy as np
import pytest

from pipeline.control import Control
from pipeline.errors import Cancelled
from pipeline.geometry.cameras import orbit_cameras, photo_camera, rig_cameras
from pipeline.registration.against_views import register_photos
from pipeline.registration.further import is_behind, is_sideways
from pipeline.registration.place_photo import grid, place_photo
from pipeline.registration.pose import RIG_SIZE, STEPS, Pose, cameras_of
from pipeline.registration.sketch import sketch_of_views
from pipeline.requests import RegisterRequest
from pipeline.types import FurtherPhoto
from tests.oracles.objects import mug, photograph, printed_box, torus
from tests.oracles.photos import gained, raw_photo

SIZE = 128


@lru_cache(maxsize=3)
def truth(make):
    return photograph(make(), rig_cameras(SIZE), supersample=2)


def turned(one: float, other: float) -> float:
    return abs((one - other + 180) % 360 - 180)


def request(make, first, *photos, elevation_deg=None, known=False, assumed=None):
    views, depths = truth(make)
    camera = photo_camera(30.0 if elevation_deg is None else elevation_deg, SIZE)
    return RegisterRequest(first, photos, views, depths, assumed or camera, known, elevation_deg)


def test_a_pose_is_the_camera_it_came_from_and_the_numbers_that_are_sought():
    pose = Pose(200.0, -20.0, 12.0, 1.8, 0.7, 0.03, -0.02)
    back = Pose.of_camera(cameras_of([pose], 100))
    np.testing.assert_allclose(back.vector(), pose.vector(), atol=1e-5)
    np.testing.assert_allclose(
        pose.at(back.vector()).vector() * STEPS, pose.vector() * STEPS, atol=1e-4
    )
    rig = orbit_cameras([77.0], [30.0], size=64)
    np.testing.assert_allclose(cameras_of([Pose(77.0, 30.0)], 64).viewmats, rig.viewmats, atol=1e-6)
    np.testing.assert_allclose(
        cameras_of([Pose(77.0, 30.0)], 64).intrinsics, rig.intrinsics, atol=1e-4
    )


@pytest.mark.parametrize(
    ("make", "true"),
    [
        (mug, Pose(0.0, 10.0, 0.0, 1.5, 1.08 * RIG_SIZE, 0.02, -0.03)),
        (printed_box, Pose(0.0, 45.0, 5.0, 2.2, 0.93 * RIG_SIZE, -0.03, 0.01)),
    ],
)
def test_the_first_photo_is_moved_to_where_the_views_say_it_was_taken(make, true):
    """Told 30 degrees, with another scale, place and roll than was assumed."""
    found = register_photos(request(make, raw_photo(make(), true), elevation_deg=30.0))
    (photo,) = found.registrations
    assert photo.accepted and photo.trust > 0.8
    assert abs(photo.elevation_deg - true.elevation_deg) < 4
    assert abs(photo.roll_deg - true.roll_deg) < 3
    pose = Pose.of_camera(found.photos.cameras)
    assert pose.size == pytest.approx(true.size, rel=0.02)
    assert abs(pose.right - true.right) < 0.015 and abs(pose.down - true.down) < 0.015
    assert any("not from the 30 that were given" in note for note in found.notes)


def test_an_elevation_that_nobody_gave_is_found_and_said_with_its_error():
    cutout = raw_photo(mug(), Pose(0.0, 12.0))
    found = register_photos(request(mug, cutout))
    assert found.estimate is not None and found.estimate.elevation_error_deg is not None
    assert abs(found.estimate.elevation_deg - 12) < 4
    assert any("degrees above the horizon, give or take" in note for note in found.notes)
    again = register_photos(request(mug, cutout))
    assert again.registrations == found.registrations
    np.testing.assert_array_equal(again.photos.cameras.viewmats, found.photos.cameras.viewmats)


def test_a_camera_that_the_engine_knows_is_confirmed_not_moved():
    true = Pose(0.0, 20.0)
    camera = cameras_of([true], SIZE)
    found = register_photos(request(mug, raw_photo(mug(), true), known=True, assumed=camera))
    np.testing.assert_array_equal(found.photos.cameras.viewmats, camera.viewmats)
    (photo,) = found.registrations
    assert (photo.trust, photo.elevation_error_deg, found.estimate) == (1.0, None, None)
    assert photo.outline_iou > 0.9


def test_a_further_photo_is_found_by_search_in_spite_of_its_exposure():
    first = raw_photo(printed_box(), Pose(0.0, 20.0))
    true = Pose(137.0, 25.0, 2.0, 1.8, 0.95 * RIG_SIZE)
    other = gained(raw_photo(printed_box(), true), 0.85, 0.9, 1.0)
    known = {"known": True, "assumed": cameras_of([Pose(0.0, 20.0)], SIZE)}
    found = register_photos(request(printed_box, first, FurtherPhoto(other), **known))
    photo = found.registrations[1]
    assert photo.accepted and len(found.photos) == 2
    assert turned(photo.azimuth_deg, 137.0) < 6 and abs(photo.elevation_deg - 25.0) < 6
    assert Pose.of_camera(found.photos.cameras, 1).size == pytest.approx(true.size, rel=0.02)


def test_what_does_not_fit_and_what_is_there_already_is_left_out_with_a_sentence():
    pose = Pose(0.0, 20.0)
    first, foreign = raw_photo(printed_box(), pose), raw_photo(torus(), Pose(90.0, 20.0))
    known = {"known": True, "assumed": cameras_of([pose], SIZE)}
    photos = (FurtherPhoto(foreign, 90.0, 20.0), FurtherPhoto(first))
    found = register_photos(request(printed_box, first, *photos, **known))
    assert [photo.accepted for photo in found.registrations] == [True, False, False]
    assert len(found.photos) == 1
    (note,) = [note for note in found.notes if note.startswith("Photo 1 was left out")]
    assert "Name another side" in note, "one was named"
    assert any(note.startswith("Photo 2 is the same picture as photo 0") for note in found.notes)


def test_without_any_depth_the_first_photo_stays_where_it_was_assumed():
    views, depths = truth(mug)
    asked = request(mug, raw_photo(mug(), Pose(0.0, 10.0)))
    asked = RegisterRequest(
        asked.cutout, (), views, type(depths)(depths.depth * 0, depths.confidence * 0, "none"),
        asked.assumed, False, None,
    )  # fmt: skip
    found = register_photos(asked)
    np.testing.assert_array_equal(found.photos.cameras.viewmats, asked.assumed.viewmats)
    assert any("not registered" in note for note in found.notes)


def test_behind_is_behind_from_any_height_and_no_side():
    first = Pose(0.0, 20.0)
    assert is_behind(Pose(176.0, 26.0), first) and not is_sideways(Pose(176.0, 26.0), first)
    assert is_sideways(Pose(100.0, 25.0), first) and not is_behind(Pose(100.0, 25.0), first)
    assert not is_behind(Pose(180.0, 80.0), first), "that is from above"


def test_a_stop_ends_the_search():
    views, depths = truth(mug)
    sketch = sketch_of_views(views, depths)
    assert sketch is not None
    control = Control()
    control.stop.set()
    with pytest.raises(Cancelled):
        place_photo(raw_photo(mug(), Pose(0, 0), 64), sketch, grid([0], [0, 20]), control=control)
