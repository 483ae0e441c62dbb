"""The preparation of photos, exact to the pixel."""

import numpy as np
import pytest
from torch import Tensor

from pipeline.engines.deg.deg_canvas import prepare_photo
from pipeline.errors import InvalidImage
from pipeline.types import UInt8Array


def photo_with(
    box: tuple[int, int, int, int], size: tuple[int, int] = (64, 64)
) -> tuple[UInt8Array, UInt8Array]:
    """A grey photo (h, w) whose alpha is 255 in left, top, right, bottom (exclusive)."""
    rgb = np.full((*size, 3), 128, np.uint8)
    alpha = np.zeros(size, np.uint8)
    left, top, right, bottom = box
    alpha[top:bottom, left:right] = 255
    return rgb, alpha


def test_the_prepared_photo_is_exact(golden: dict[str, Tensor]):
    rgba = golden["in.rgba"].numpy()
    prepared = prepare_photo(rgba[..., :3], rgba[..., 3], 64, faint=0)
    np.testing.assert_array_equal(prepared.rgb, golden["out.prepared"].numpy())
    assert prepared.notes == ()
    assert prepared.scale == 64 / 70
    assert prepared.alpha.shape == (64, 64)


def test_crops_truncate_towards_zero_also_beyond_the_photo():
    rgb, alpha = photo_with((0, 8, 63, 41))
    # Box 0..62 and 8..40: half = 62 / 2 * 1.2 = 37.2 around (31, 24).
    prepared = prepare_photo(rgb, alpha, 64, erosion=0)
    assert prepared.crop == (-6, -13, 68, 61)
    assert not prepared.rgb[:5].any() and not prepared.alpha[:5].any()


def test_the_edge_is_eroded_and_may_be_left():
    rgb, alpha = photo_with((20, 20, 40, 40))
    assert prepare_photo(rgb, alpha, 64, erosion=0).crop == (18, 18, 40, 40)
    # Box 21..38: half = 8.5 * 1.2 = 10.2 around 29.5.
    assert prepare_photo(rgb, alpha, 64).crop == (19, 19, 39, 39)


def test_the_crop_may_be_looser():
    rgb, alpha = photo_with((20, 20, 41, 41))
    assert prepare_photo(rgb, alpha, 64, erosion=0, crop_factor=2.0).crop == (10, 10, 50, 50)


def test_a_faint_haze_does_not_become_the_box_and_is_said():
    rgb, alpha = photo_with((20, 20, 40, 40))
    clean = prepare_photo(rgb, alpha, 64)
    hazy = prepare_photo(rgb, np.maximum(alpha, 8), 64)
    assert hazy.crop == clean.crop
    np.testing.assert_array_equal(hazy.rgb, clean.rgb)
    assert len(hazy.notes) == 1 and "haze" in hazy.notes[0]
    assert prepare_photo(rgb, np.maximum(alpha, 8), 64, faint=7).crop != clean.crop


def test_a_wide_photo_keeps_its_shape():
    rgb, alpha = photo_with((40, 10, 60, 30), size=(50, 120))
    prepared = prepare_photo(rgb, alpha, 100)
    assert prepared.scale == 2
    left, top, right, bottom = prepared.crop
    assert abs((left + right) / 2 - 99.5) <= 1 and abs((top + bottom) / 2 - 39.5) <= 1


@pytest.mark.parametrize(
    ("box", "sentence"),
    [
        ((0, 0, 0, 0), "No object is left"),
        ((20, 20, 22, 60), "No object is left"),
        ((20, 20, 23, 23), "too small: 1 pixels"),
    ],
)
def test_no_object_and_a_speck_are_refused(box: tuple[int, int, int, int], sentence: str):
    rgb, alpha = photo_with(box)
    with pytest.raises(InvalidImage, match=sentence):
        prepare_photo(rgb, alpha, 64)


def test_an_alpha_of_another_photo_is_refused():
    with pytest.raises(ValueError, match="no photo and its alpha"):
        prepare_photo(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9), np.uint8), 64)
