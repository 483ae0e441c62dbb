"""Alphas of phones and editors: specks, haze, shadows, hair and glass, on discs known exactly."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pipeline.imaging.framing import GIVEN_ALPHA, frame_object
from pipeline.imaging.object_alpha import CleanAlpha, clean, solid
from pipeline.types import UInt8Array
from tests.oracles.discs import Plane, as_bytes, disc, over, with_hair
from tests.oracles.odd_cutouts import KINDS, odd_photo

SIZE, RADIUS = 256, 40.0
BODY = disc(SIZE, RADIUS)
ALPHA = as_bytes(BODY)
RGB = np.full((SIZE, SIZE, 3), (200, 90, 40), np.uint8)


def given(alpha: UInt8Array, rgb: UInt8Array = RGB) -> CleanAlpha:
    return clean(rgb, alpha, given=True)


def framed(alpha: UInt8Array, rgb: UInt8Array = RGB) -> UInt8Array:
    return frame_object(rgb, alpha, engine=GIVEN_ALPHA, size=256).rgba[..., 3]


def difference(alpha: UInt8Array) -> int:
    """Levels by which the framed alpha is another than that of the clean disc."""
    return int(np.abs(framed(alpha).astype(int) - framed(ALPHA)).max())


def soft_shadow(strength: float) -> Plane:
    fallen = disc(SIZE, RADIUS, middle=(SIZE / 2 + 14, SIZE / 2 + 22))
    return strength * ndimage.gaussian_filter(fallen, 6.0)


def test_a_clean_alpha_stays_bit_for_bit() -> None:
    for alpha in (ALPHA, np.full((64, 64), 255, np.uint8), np.zeros((64, 64), np.uint8)):
        rgb = np.full((*alpha.shape, 3), 90, np.uint8)
        cleaned = given(alpha, rgb)
        assert np.array_equal(cleaned.alpha, alpha)
        assert cleaned.notes == ()


@pytest.mark.parametrize("strength", [10, 60, 255])
def test_one_stray_pixel_changes_nothing_and_is_told(strength: int) -> None:
    alpha = ALPHA.copy()
    alpha[2, 2] = strength
    assert difference(alpha) == 0
    [note] = given(alpha).notes
    assert note.startswith("A stray speck")


def test_many_specks_are_counted() -> None:
    alpha = ALPHA.copy()
    alpha[8:40:4, 8:40:4] = np.arange(64).reshape(8, 8) * 3 + 9
    assert difference(alpha) == 0
    [note] = given(alpha).notes
    assert note.startswith("64 stray specks")


@pytest.mark.parametrize("strength", [12, 60, 120])
def test_a_soft_shadow_goes_and_is_told(strength: int) -> None:
    alpha = as_bytes(over(BODY, soft_shadow(strength / 255)))
    assert difference(alpha) <= 40  # in the rim that lay in the shadow
    [note] = given(alpha).notes
    assert "haze or soft shadow" in note


@pytest.mark.parametrize("strength", [12, 40, 100])
def test_haze_over_everything_goes_and_is_told(strength: int) -> None:
    rgb = RGB.copy()
    rgb[BODY < 0.5] = 20
    alpha = as_bytes(over(BODY, strength / 255))
    assert np.abs(framed(alpha, rgb).astype(int) - framed(ALPHA)).max() <= 3
    [note] = given(alpha, rgb).notes
    assert f"up to {strength} of 255" in note


def test_noisy_haze_goes() -> None:
    noise = np.random.default_rng(0).integers(0, 20, ALPHA.shape).astype(np.uint8)
    assert difference(np.maximum(ALPHA, noise)) <= 20
    assert "haze" in given(np.maximum(ALPHA, noise)).notes[0]


@pytest.mark.parametrize("haze", [0.0, 12 / 255])
def test_tips_of_soft_hair_survive(haze: float) -> None:
    hairy = with_hair(ALPHA, RADIUS, 45.0)
    hair = (hairy > 40) & (ALPHA == 0)
    shown = with_hair(as_bytes(over(BODY, haze)), RADIUS, 45.0)
    cleaned = given(shown).alpha
    assert (cleaned[hair] > 8).mean() > 0.97
    if not haze:
        assert np.array_equal(cleaned, hairy)
        assert given(shown).notes == ()
    columns = np.flatnonzero((cleaned > 8).any(0))
    assert np.ptp(columns) + 1 >= 2 * (RADIUS + 30)


@pytest.mark.parametrize("soft_px", [6.0, 30.0])
def test_an_object_that_is_out_of_focus_keeps_its_rim(soft_px: float) -> None:
    alpha = as_bytes(disc(SIZE, 70.0, soft_px=soft_px))
    assert np.array_equal(given(alpha).alpha, alpha)
    assert given(alpha).notes == ()


def test_small_parts_of_the_object_stay_and_smaller_ones_go() -> None:
    alpha = np.maximum(ALPHA, as_bytes(disc(SIZE, 10.0, middle=(220, 220))))
    assert np.array_equal(given(alpha).alpha, alpha)
    alpha = np.maximum(ALPHA, as_bytes(disc(SIZE, 3.0, middle=(220, 220))))
    assert np.array_equal(given(alpha).alpha, ALPHA)


@pytest.mark.parametrize("most", [20, 90, 120, 127, 128, 150])
@pytest.mark.parametrize("ground", [0, 3])
def test_an_object_of_glass_keeps_its_outline_and_is_made_solid(most: int, ground: int) -> None:
    alpha = (ground + (most - ground) * BODY).astype(np.uint8)
    made = solid(RGB, alpha)
    assert np.abs(made.astype(int) - ALPHA).max() <= 60  # of the ground and the rim
    assert (made >= 128).sum() == pytest.approx((ALPHA >= 128).sum(), rel=0.02)
    assert difference(alpha) <= 60


def test_a_pane_beside_solid_parts_is_made_solid() -> None:
    cap = as_bytes(disc(SIZE, 14.0, middle=(SIZE / 2, SIZE / 2 - 50)))
    bottle = np.maximum(as_bytes(BODY * 100 / 255), cap)
    wanted = np.maximum(ALPHA, cap) >= 128
    assert ((solid(RGB, bottle) >= 128) != wanted).sum() <= 12
    assert np.array_equal(given(bottle).alpha, bottle)
    assert "alpha is 100 of 255" in given(bottle).notes[0]
    # Dark, it is a shadow; and a remover that found it was unsure.
    dark = np.where(cap[..., None] > 128, RGB, 20).astype(np.uint8)
    assert np.array_equal(solid(dark, bottle), bottle)
    assert np.abs(given(bottle, dark).alpha.astype(int) - cap)[:80].max() <= 1
    assert clean(RGB, bottle, given=False).panes == 0


def test_cleaning_twice_is_hardly_more_than_cleaning_once() -> None:
    for seed in range(2 * len(KINDS)):
        photo = odd_photo(seed)
        once = clean(photo.rgb, photo.alpha, given=True).alpha
        twice = clean(photo.rgb, once, given=True).alpha
        assert (once != twice).mean() < 0.02, photo.name
        assert (once <= photo.alpha).all(), photo.name
