"""Several photos of a known box: what they carve and paint, and where they were taken from."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from pipeline.control import Control, Progress
from pipeline.engines.views.many_photos import with_photos
from pipeline.engines.views.relief.relief_views import relief_surface, relief_views
from pipeline.engines.views.second_sheet import OwnSurface, told_from_behind
from pipeline.engines.views.surface_views import reduced_to
from pipeline.engines.views.two_sheets import carved_by, stretched_to
from pipeline.errors import Cancelled
from pipeline.registration.pose import Pose, cameras_of
from pipeline.registration.sketch import sketch_of_views
from pipeline.types import Cutout, DepthMaps, FurtherPhoto, ViewSet
from tests.oracles.objects import mug, printed_box
from tests.oracles.photos import framed_photo

SIZE = 96


@lru_cache(maxsize=8)
def photo(make, azimuth, elevation):
    framed = framed_photo(make(), Pose(azimuth, elevation, distance=1.8), 160)
    return Cutout(reduced_to(framed.rgba, 256), framed.engine)


def made(*photos: FurtherPhoto) -> ViewSet:
    return relief_views(photo(printed_box, 0.0, 20.0), 20.0, Control(), size=SIZE, photos=photos)


@lru_cache(maxsize=1)
def alone() -> ViewSet:
    return made()


@lru_cache(maxsize=1)
def from_behind() -> ViewSet:
    return made(FurtherPhoto(photo(printed_box, 185.0, 15.0), 180.0))


def test_the_back_is_the_photo_from_behind_not_a_guess():
    one, two = alone(), from_behind()
    assert two.photos is not None and len(two.photos) == 2
    photo = two.registrations[1]
    assert photo.accepted and photo.trust > 0.3
    assert abs(photo.azimuth_deg - 185) < 6
    assert two.registrations[0].trust == 1.0
    # Yellow and white stripes, where red ones were guessed.
    middle = slice(SIZE // 2 - 12, SIZE // 2 + 12)
    stripes = two.images[8, middle, middle].reshape(-1, 3).astype(float)
    guessed = one.images[8, middle, middle].reshape(-1, 3).astype(float)
    assert stripes.std(0)[2] > 2 * guessed.std(0)[2]


def test_each_photo_is_seen_again_from_its_own_camera():
    views = from_behind()
    assert views.photos is not None
    for view in range(2):
        own, _ = _drawn_from(views, view)
        seen = views.photos.alphas[view] > 127
        assert (own & seen).sum() / (own | seen).sum() > 0.85


def _drawn_from(views: ViewSet, view: int):
    """The outline of the views' own surface from the camera of a photo, by their depth."""
    assert views.surface_depth is not None and views.photos is not None
    depths = DepthMaps(views.surface_depth, (views.surface_depth > 0).astype(np.float32), "own")
    sketch = sketch_of_views(views, depths)
    assert sketch is not None
    pictures = sketch.draw(views.photos.cameras.select([view]))
    return pictures.coverage[0] > 0.5, pictures


def test_the_same_photo_twice_changes_nothing_and_is_said():
    twice = made(FurtherPhoto(photo(printed_box, 0.0, 20.0), 180.0))
    np.testing.assert_array_equal(twice.images, alone().images)
    assert any("the same picture as photo 0" in note for note in twice.notes)
    assert [found.accepted for found in twice.registrations] == [True, False]


def test_a_photo_of_something_else_is_left_out_and_nothing_is_lost():
    views = made(FurtherPhoto(photo(mug, 90.0, 10.0), 0.0, 20.0))
    np.testing.assert_array_equal(views.images, alone().images)
    assert any(note.startswith("Photo 1 was left out") for note in views.notes)


def ball_of(radius_along: float):
    """The sheets of relief of a disc, and an outline from the side of an ellipse."""
    i = (np.arange(128) + 0.5) / 128 - 0.5
    disc = np.hypot(*np.meshgrid(i, i)) < 0.3
    rgba = np.full((128, 128, 4), 150, np.uint8)
    rgba[..., 3] = 255 * disc
    _, sheets = relief_surface(Cutout(rgba, "given"), 0.0)
    across, up = np.meshgrid(i, i)
    side = np.hypot(across / radius_along, up / 0.3) < 1
    return sheets, cameras_of([Pose(90.0, 0.0)], 128), side


@pytest.mark.parametrize("radius", [0.15, 0.42])
def test_a_photo_from_the_side_says_how_thick_it_is(radius):
    sheets, camera, side = ball_of(radius)
    before = np.ptp(sheets.vertices[:, 0])
    after = np.ptp(carved_by(stretched_to(sheets, camera, side), camera, side).vertices[:, 0])
    assert after == pytest.approx(before * radius / 0.3, rel=0.12)


def test_a_photo_that_is_looked_for_is_placed_by_its_detail_or_left_out():
    """The box has one outline from in front and from behind, and other prints there."""
    beside, behind = (FurtherPhoto(photo(printed_box, azimuth, 20.0)) for azimuth in (20.0, 180.0))
    views = made(behind)
    (note,) = (note for note in views.notes if note.startswith("Photo 1"))
    assert "left out" in note and "Name its side" in note
    np.testing.assert_array_equal(views.images, alone().images)
    found = made(beside).registrations[1]
    assert not found.accepted or abs(found.azimuth_deg - 20) < 8


def test_what_is_outside_of_another_outline_is_carved_away():
    sheets, camera, side = ball_of(0.3)
    side[:, :64] = False
    vertices = carved_by(sheets, camera, side).vertices
    # What the first photo alone shows, along the rim, keeps its place.
    inner = np.hypot(vertices[:, 1], vertices[:, 2]) < 0.3
    full = sheets.vertices[np.hypot(sheets.vertices[:, 1], sheets.vertices[:, 2]) < 0.3]
    assert np.ptp(vertices[inner, 0]) < 0.65 * np.ptp(full[:, 0])


def test_a_photo_from_behind_shapes_the_far_side_more_than_the_near_one():
    """Its own surface is half as thick, and stands elsewhere on its line of sight."""
    sheets, _, _ = ball_of(0.3)
    rgba = np.full((128, 128, 4), 150, np.uint8)
    i = (np.arange(128) + 0.5) / 128 - 0.5
    rgba[..., 3] = 255 * (np.hypot(*np.meshgrid(i, i)) < 0.3)
    mesh, theirs = relief_surface(Cutout(rgba, "given"), 0.0)
    thin = replace(mesh, vertices=theirs.thicker(0.5).vertices + np.float32([0.04, 0, 0]))
    told = told_from_behind(
        sheets, OwnSurface(thin, theirs.camera), cameras_of([Pose(180.0, 0.0)], 128)
    )
    middle = np.hypot(sheets.rays[:, 0], sheets.rays[:, 1]) < 0.05
    thinner = (sheets.far - sheets.near - (told.far - told.near))[middle]
    nearer = (told.near - sheets.near)[middle]
    # Half as thin would be .5: each side is the mean of both, the far one mostly the photo's own.
    assert 0.15 < np.median(thinner) / np.median((sheets.far - sheets.near)[middle]) < 0.3
    assert 0 < np.median(nearer) < 0.35 * np.median(thinner)
    assert (told.far > told.near).all()


def test_what_no_ray_meets_tells_nothing():
    sheets, camera, _ = ball_of(0.3)
    mesh, theirs = relief_surface(photo(printed_box, 0.0, 20.0), 0.0)
    away = replace(mesh, vertices=mesh.vertices + np.float32([0, 5, 0]))
    told = told_from_behind(sheets, OwnSurface(away, theirs.camera), camera)
    np.testing.assert_array_equal(told.far, sheets.far)


def test_a_stop_is_heard_while_the_thickness_is_sought():
    first, side = photo(printed_box, 0.0, 20.0), photo(printed_box, 90.0, 20.0)
    mesh, sheets = relief_surface(first, 20.0)
    control = Control()

    def stop_when_placed(progress: Progress) -> None:
        if progress.fraction > 0.8:
            control.stop.set()

    heard = Control(control.stop, stop_when_placed)
    with pytest.raises(Cancelled):
        with_photos(first, (FurtherPhoto(side, 90.0, 20.0),), sheets, mesh, "relief", heard)
