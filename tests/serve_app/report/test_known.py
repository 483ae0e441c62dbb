"""What is known and what is a guess, in words."""

from __future__ import annotations

import pytest

from pipeline.types import PhotoScore, Scores
from serve_app.report.known import in_words, what_is_a_guess, what_is_known

ONE = Scores(
    30.0,
    0.9,
    None,
    0.8,
    photos=(PhotoScore(0, 31.26, 0.98, 0.041),),
    seen_share=0.43,
    evidence={"engine_confidence": 0.7},
    expected_likeness=0.74,
)


def test_one_photo_is_told_with_its_numbers_and_what_it_saw() -> None:
    assert what_is_known(ONE) == [
        "From the camera of the photo the model can hardly be told from it: 31.3 dB, outlines "
        "agree to 98%, LPIPS 0.041.",
        "The photo saw 43% of the model's surface.",
    ]


def test_the_rest_is_called_a_guess_with_what_may_be_expected_of_it() -> None:
    lines = what_is_a_guess(ONE)
    assert lines[0] == "The other 57% of the surface is a guess."
    assert "a rough idea of it: 0.74, where 1 is the object itself" in lines[1]
    assert lines[2] == "The views engine is sure of its surface: 0.70 of 1."
    assert lines[-1] == "A photo of another side makes more of it known."


def test_several_photos_have_the_numbers_of_their_addresses() -> None:
    two = (PhotoScore(0, 25.0, 0.9), PhotoScore(1, 12.0, 0.5))
    first, second, saw = what_is_known(Scores(1.0, 1.0, None, 0.8, photos=two, seen_share=0.8))
    assert first.startswith("From the camera of photo 0 the model shows the same with less detail")
    assert second.startswith("From the camera of photo 1 the model differs from it visibly")
    assert saw == "The photos saw 80% of the model's surface."


def test_where_photos_saw_everything_no_further_one_is_asked_for() -> None:
    seen = Scores(30.0, 0.9, None, 0.8, photos=ONE.photos, seen_share=0.997)
    assert what_is_known(seen)[-1] == "The photo saw 100% of the model's surface."
    assert what_is_a_guess(seen) == []


def test_views_that_contradict_each_other_are_said() -> None:
    torn = Scores(1.0, 1.0, None, 0.42, photos=ONE.photos, seen_share=0.4)
    assert any("contradict each other (agreement 0.42)" in line for line in what_is_a_guess(torn))


def test_without_photos_nothing_is_claimed() -> None:
    nothing = Scores(30.0, 0.9, None, 0.8)
    assert what_is_known(nothing) == what_is_a_guess(nothing) == []


@pytest.mark.parametrize("likeness", [0.0, 0.3, 0.62, 0.7, 0.8, 1.0])
def test_every_number_has_words(likeness: float) -> None:
    assert in_words(likeness)
