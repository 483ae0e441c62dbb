"""Photos are targets at their own resolution, as far as the preset goes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.flow.given_photos import photo_view
from pipeline.flow.photo_pictures import with_large_photos
from pipeline.geometry.cameras import photo_camera, rig_cameras
from pipeline.types import Cutout, PhotoRegistration, ViewSet


def cutout(side: int, color: int = 40) -> Cutout:
    rgba = np.full((side, side, 4), color, np.uint8)
    rgba[..., 3] = 0
    quarter = side // 4
    rgba[quarter : 3 * quarter, quarter : 3 * quarter, 3] = 255
    return Cutout(rgba, "given")


def views_with(*cutouts: Cutout) -> ViewSet:
    blank = np.full((16, 32, 32, 3), 255, np.uint8)
    views = ViewSet(blank, blank[..., 0], rig_cameras(32), "toy")
    parts = [photo_view(one, 20.0, views) for one in cutouts]
    photos = replace(
        parts[0],
        images=np.concatenate([part.images for part in parts]),
        alphas=np.concatenate([part.alphas for part in parts]),
        cameras=parts[0].cameras.select([0] * len(parts)),
    )
    return replace(views, photos=photos)


@pytest.mark.parametrize(
    ("side", "pixels", "wanted"), [(300, 128, 128), (100, 128, 100), (300, 16, 32), (20, 128, 32)]
)
def test_the_preset_and_the_photo_bound_the_picture(side: int, pixels: int, wanted: int) -> None:
    one = cutout(side)
    photos = with_large_photos(views_with(one), [one], pixels).photos
    assert photos is not None
    assert photos.images.shape == (1, wanted, wanted, 3)
    assert photos.alphas.shape == (1, wanted, wanted)
    expected = photo_camera(20.0, wanted)
    np.testing.assert_allclose(photos.cameras.intrinsics, expected.intrinsics, rtol=1e-6)
    np.testing.assert_array_equal(photos.cameras.viewmats, expected.viewmats)
    assert photos.images[0, wanted // 2, wanted // 2, 0] == 40
    assert photos.alphas[0, 0, 0] == 0


def test_a_refused_photo_has_no_picture() -> None:
    given = [cutout(64, 10), cutout(64, 20), cutout(64, 30)]
    found = [
        PhotoRegistration(i, i != 1, float(i != 1), 0.0, 20.0, 0.0, 1.1, 0.9, 0.0) for i in range(3)
    ]
    views = replace(views_with(given[0], given[2]), registrations=tuple(found))
    photos = with_large_photos(views, given, 64).photos
    assert photos is not None
    assert photos.images[:, 32, 32, 0].tolist() == [10, 30]


def test_views_without_photos_stay() -> None:
    views = replace(views_with(cutout(64)), photos=None)
    assert with_large_photos(views, [cutout(64)], 64) is views
