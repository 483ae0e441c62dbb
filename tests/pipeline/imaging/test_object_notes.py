"""What is said of an object: cut off, tiny, several, or perhaps the ground."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.imaging.object_notes import notes_on_object
from pipeline.types import UInt8Array
from tests.oracles.discs import disc_alpha


def box(top: int, bottom: int, left: int, right: int) -> UInt8Array:
    alpha = np.zeros((100, 100), np.uint8)
    alpha[top:bottom, left:right] = 255
    return alpha


@pytest.mark.parametrize("given", [False, True])
def test_an_object_that_the_photo_cuts_off_is_a_note(given: bool) -> None:
    assert notes_on_object(box(20, 80, 20, 80), given=given) == ()
    [note] = notes_on_object(box(20, 100, 0, 80), given=given)
    assert "(bottom, left)" in note
    assert "cut off" in note
    [note] = notes_on_object(box(0, 60, 30, 80), given=given)
    assert "(top)" in note


def test_a_trimmed_cut_out_is_not_cut_off_where_it_only_touches_the_edge() -> None:
    disc = disc_alpha(100, 50.0)
    assert notes_on_object(disc, given=True) == ()
    assert "(top, bottom, left, right)" in notes_on_object(disc, given=False)[0]
    bust = disc.copy()
    bust[50:, 10:90] = 255
    [note] = notes_on_object(bust, given=True)
    assert "(bottom)" in note


def test_several_objects_are_a_note_where_they_were_found() -> None:
    two = box(20, 80, 10, 40) | box(20, 80, 60, 90)
    assert "2 separate objects" in notes_on_object(two, given=False)[0]
    assert notes_on_object(two, given=True) == ()
    one = box(20, 80, 10, 40) | box(20, 30, 60, 80)
    assert notes_on_object(one, given=False) == ()


def test_a_tiny_object_is_a_note_where_it_was_found() -> None:
    [note] = notes_on_object(box(40, 60, 40, 60), given=False)
    assert "covers 4 % of the photo" in note
    assert notes_on_object(box(40, 60, 40, 60), given=True) == ()


def test_an_alpha_that_may_be_inverted_is_a_note() -> None:
    [note] = notes_on_object(255 - box(30, 70, 30, 70), given=True)
    assert "inverted" in note
    bust = 255 - box(30, 100, 30, 70)  # of which the photo has no lower end
    assert "inverted" in notes_on_object(bust, given=True)[1]
    ring = box(0, 100, 0, 100)
    ring[48:52, 48:52] = 0  # a small hole is a hole
    assert all("inverted" not in note for note in notes_on_object(ring, given=True))
