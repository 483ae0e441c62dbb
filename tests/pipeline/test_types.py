"""The sides of an object, against the cameras that look at them; what scores say of themselves."""

from dataclasses import replace

import numpy as np

from pipeline.geometry.cameras import orbit_cameras
from pipeline.types import PHOTO_SIDES, FurtherPhoto, PhotoScore, Scores
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


def test_scores_say_what_is_a_guess() -> None:
    known = (PhotoScore(0, 30.0, 0.9),)
    scores = Scores(30.0, 0.9, 0.1, 0.8, photos=known, seen_share=0.4, expected_likeness=0.7)
    assert scores.notes == (
        "The photo saw 40% of the model's surface. The rest is a guess, expected to look 0.70 like "
        "the object, where 1 is the object itself.",
    )
    assert replace(scores, photos=known * 2).notes[0].startswith("The photos saw 40%")
    assert "LPIPS was not measured" in replace(scores, lpips=None).notes[1]
    assert Scores(30.0, 0.9, 0.1, 0.8).notes == ()
