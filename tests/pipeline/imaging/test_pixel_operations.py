"""Rounding to bytes, values spread from known pixels, and the blur that keeps to its pixels."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.imaging.blur import blur_inside
from pipeline.imaging.contact_sheet import contact_sheet
from pipeline.imaging.decoding import decode_png
from pipeline.imaging.nearest import nearest_known
from pipeline.imaging.rounding import to_bytes


def test_bytes_are_rounded_halves_to_even_and_cut_off() -> None:
    values = np.float32([-3, 0.5, 1.5, 2.49, 254.6, 255.4, 300])
    assert to_bytes(values).tolist() == [0, 0, 2, 2, 255, 255, 255]
    assert to_bytes(values).dtype == np.uint8


def test_unknown_pixels_take_the_nearest_known_value() -> None:
    known = np.array([[True, False, False, True]])
    assert nearest_known(np.array([[1, 8, 9, 2]]), known).tolist() == [[1, 1, 2, 2]]
    colours = np.arange(12).reshape(1, 4, 3)
    assert nearest_known(colours, known)[0, 1].tolist() == [0, 1, 2]


def test_a_blur_takes_nothing_from_pixels_without_weight() -> None:
    weight = np.zeros((9, 9), np.float32)
    weight[:, :5] = 1
    picture = np.full((9, 9, 3), 50, np.float32)
    picture[:, 5:] = 200
    np.testing.assert_allclose(blur_inside(picture, weight, 2.0)[:, :5], 50, rtol=1e-5)


@pytest.mark.parametrize("counts", [(0,), (0, 0), (3, 0, 9), (8, 0)])
def test_every_row_of_a_contact_sheet_lies_inside_it(counts: tuple[int, ...]) -> None:
    """An empty row keeps its place."""
    picture = np.zeros((16, 16, 3), np.uint8)
    data = contact_sheet([(f"row {n}", [picture] * n) for n in counts])
    full = contact_sheet([(f"row {n}", [picture] * max(n, 1)) for n in counts])
    assert decode_png(data).shape == decode_png(full).shape
