"""The preparation of photos, exact to the pixel."""

import cv2
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


@pytest.mark.parametrize("side", [20, 50, 64, 130, 300])
@pytest.mark.parametrize("softness", [0.0, 1.5])
def test_an_edge_that_is_soft_or_was_resampled_is_no_haze(side: int, softness: float):
    third = side // 3
    rgb, alpha = photo_with((third, third, 2 * third, 2 * third), size=(side, side))
    if softness:
        alpha = cv2.GaussianBlur(alpha, (0, 0), softness * side / 130)
    assert prepare_photo(rgb, alpha, 64).notes == ()


@pytest.mark.parametrize(
    ("box", "size", "crop"),
    [
        # In a corner: the crop reaches beyond two sides of the photo.
        ((0, 0, 20, 30), (64, 64), (-7, -2, 25, 30)),
        ((44, 34, 64, 64), (64, 64), (37, 32, 70, 65)),
        # The whole photo, of which erosion takes nothing.
        ((0, 0, 64, 64), (64, 64), (-6, -6, 69, 69)),
        # Much wider than high, and much higher than wide.
        ((200, 10, 260, 50), (64, 853), (195, -4, 263, 63)),
        ((10, 200, 50, 260), (853, 64), (-4, 195, 63, 263)),
    ],
)
def test_objects_at_the_border_and_narrow_photos_are_cropped(
    box: tuple[int, int, int, int], size: tuple[int, int], crop: tuple[int, int, int, int]
):
    rgb, alpha = photo_with(box, size)
    prepared = prepare_photo(rgb, alpha, 64)
    assert prepared.crop == crop
    assert prepared.alpha.shape == (64, 64)
    assert prepared.alpha.max() == 255
    # What lies outside of the photo, and all else that is not the object, is black.
    assert not prepared.rgb[prepared.alpha == 0].any()
    assert prepared.rgb[prepared.alpha == 255].min() >= 127


def test_a_photo_of_one_column_is_a_photo():
    rgb, alpha = photo_with((0, 8, 1, 24), size=(32, 1))
    prepared = prepare_photo(rgb, alpha, 64)
    left, top, right, bottom = prepared.crop
    # 64 times as large; the edge of 16 rows is soft by as much as a row.
    assert (left + right) / 2 == pytest.approx(31.5, abs=1)
    assert (top + bottom) / 2 == pytest.approx(1023.5, abs=1)
    assert right - left == pytest.approx(1.2 * 16 * 64, rel=0.06)
    assert prepared.notes == ()


def test_colours_behind_the_object_do_not_come_through_its_edge():
    """Pixels are multiplied with their alpha before they are mixed."""
    rgb, alpha = photo_with((20, 20, 41, 41))
    rgb[alpha == 0] = (255, 0, 0)
    seen = prepare_photo(rgb, alpha, 50, erosion=0)
    inside = seen.alpha > 128
    assert int(np.ptp(seen.rgb[inside].astype(int), axis=1).max()) <= 2


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
