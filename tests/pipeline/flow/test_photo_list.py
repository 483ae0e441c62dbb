"""Which photos of one object may stand together, and what a generation is handed."""

import pytest

from pipeline.errors import InvalidImage, InvalidOption
from pipeline.flow.photo_list import (
    Direction,
    GivenPhoto,
    check_photos,
    first_elevation,
    further_photos,
)
from tests.fakes import some_cutout

NOTHING = Direction()


def photos(*directions: Direction) -> list[GivenPhoto]:
    return [GivenPhoto(direction, f"hash {i}") for i, direction in enumerate(directions)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("back", Direction("back")),
        ("90", Direction(None, 90.0)),
        ("-90,10", Direction(None, -90.0, 10.0)),
        ("+1.5,-2.25", Direction(None, 1.5, -2.25)),
        ("behind", None),
        ("90,", None),
        ("1e3", None),
        ("", None),
    ],
)
def test_a_direction_is_read_from_text(text, found):
    assert Direction.from_text(text) == found


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"side": "below"}, "one of front, left, back, right, top"),
        ({"side": "back", "azimuth_deg": 180.0}, "exclude each other"),
        ({"side": "back", "elevation_deg": 0.0}, "exclude each other"),
        ({"azimuth_deg": 361.0}, "azimuth_deg must be -360 to 360"),
        ({"azimuth_deg": float("nan")}, "azimuth_deg must be"),
        ({"elevation_deg": 91.0}, "elevation_deg must be -90 to 90"),
    ],
)
def test_what_is_no_direction_is_refused_with_what_would_be(given, told):
    with pytest.raises(InvalidOption, match=told):
        Direction.checked(**given)


def test_text_with_angles_beyond_a_turn_is_refused():
    with pytest.raises(InvalidOption, match="azimuth_deg"):
        Direction.from_text("400")


@pytest.mark.parametrize(
    "directions",
    [
        (NOTHING,),
        (NOTHING,) * 8,
        (NOTHING, Direction("left"), Direction("back"), Direction("right"), Direction("top")),
        (Direction("back"), Direction("front")),
        (NOTHING, Direction(None, 0.0, 40.0)),
        (Direction(None, 0.0, 60.0),),
        (NOTHING, Direction(None, None, 20.0), Direction(None, None, 20.0)),
    ],
)
def test_photos_from_different_sides_may_stand_together(directions):
    check_photos(photos(*directions))


@pytest.mark.parametrize(
    ("directions", "told"),
    [
        ((NOTHING,) * 9, "at most 8 photos of one object, not 9"),
        ((NOTHING, Direction("front")), "Photos 0 and 1 are both from the front"),
        ((NOTHING, NOTHING, Direction(None, 360.0)), "Photos 0 and 2"),
        ((NOTHING, Direction("left"), Direction("left")), "Photos 1 and 2 are both from the left"),
        ((NOTHING, Direction("left"), Direction(None, 90.0)), "Photos 1 and 2"),
        ((NOTHING, Direction("right"), Direction(None, -90.0)), "Photos 1 and 2"),
        ((NOTHING, Direction("top"), Direction(None, 20.0, 90.0)), "Photos 1 and 2"),
        ((Direction("top"), NOTHING), "Put another photo first"),
        ((Direction(None, 0.0, 61.0),), "-10 to 60 degrees"),
    ],
)
def test_photos_that_may_not_stand_together_are_told_with_a_way_out(directions, told):
    with pytest.raises(InvalidOption, match=told):
        check_photos(photos(*directions))


def test_the_same_picture_twice_is_named():
    twice = [GivenPhoto(NOTHING, h) for h in ("a", "b", "c", "b")]
    with pytest.raises(InvalidImage, match="Photo 3 is the same picture as photo 1"):
        check_photos(twice)
    check_photos([GivenPhoto(NOTHING, "")] * 2)  # not known: not the same


def test_azimuths_are_told_from_the_first_photo():
    cutouts = [some_cutout()] * 3
    directions = [Direction("back"), Direction("front"), NOTHING, Direction(None, 270.0, 20.0)]
    found = further_photos(directions, cutouts)
    assert [photo.azimuth_deg for photo in found] == [180.0, None, 90.0]
    assert [photo.elevation_deg for photo in found] == [None, None, 20.0]
    assert further_photos([NOTHING], []) == ()


def test_the_elevation_of_the_first_photo_is_what_was_asked_for_or_said():
    assert first_elevation([Direction(None, 0.0, 25.0)], None) == 25.0
    assert first_elevation([Direction(None, 0.0, 25.0)], 10.0) == 10.0
    assert first_elevation([NOTHING], None) is None
