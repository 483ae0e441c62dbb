"""Alpha of pictures whose outline is known."""

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.engines.views.syncdreamer.matte import GROUND_TOLERANCE, mattes

SIZE = 128


def coverage(radius: float, *, supersample: int = 8) -> npt.NDArray[np.float64]:
    """Share of each pixel that a centred disc covers."""
    n = SIZE * supersample
    centres = (np.arange(n) + 0.5) / supersample - SIZE / 2
    inside = centres[:, None] ** 2 + centres[None] ** 2 < radius**2
    return inside.reshape(SIZE, supersample, SIZE, supersample).mean((1, 3))


def on_white(share: npt.NDArray[np.float64], colour: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    mixed = share[..., None] * np.array(colour) + (1 - share[..., None]) * 255
    return np.rint(mixed).astype(np.uint8)


@pytest.mark.parametrize("colour", [(30, 60, 160), (0, 0, 0), (250, 210, 30)])
def test_a_disc_gets_its_soft_outline(colour):
    share = coverage(40)
    (alpha,) = mattes(on_white(share, colour)[None])
    error = np.abs(alpha / 255 - share)
    # Below the tolerance a mixed pixel counts as ground.
    darkest = 255 - min(colour)
    assert error.max() <= (GROUND_TOLERANCE + 1) / darkest
    assert error.mean() < 1e-3


def test_ground_that_is_not_quite_white_is_still_ground():
    random = np.random.default_rng(0)
    image = on_white(coverage(40), (90, 40, 40)).astype(int)
    image = np.clip(image - random.integers(0, 6, image.shape), 0, 255).astype(np.uint8)
    (alpha,) = mattes(image[None])
    assert (alpha[coverage(42) == 0] == 0).all()
    assert (alpha[coverage(38) == 1] == 255).all()


def test_an_enclosed_white_hole_stays_part_of_the_object():
    share = coverage(40) - coverage(15)
    (alpha,) = mattes(on_white(share, (60, 120, 60))[None])
    assert (alpha[coverage(38) == 1] == 255).all()


def test_a_hole_that_opens_to_the_border_is_ground():
    share = coverage(40) - coverage(15)
    share[SIZE // 2 - 4 : SIZE // 2 + 4, : SIZE // 2] = 0
    (alpha,) = mattes(on_white(share, (60, 120, 60))[None])
    assert alpha[SIZE // 2, SIZE // 2] == 0


def test_a_white_picture_is_empty_and_a_full_one_is_opaque():
    white = np.full((SIZE, SIZE, 3), 255, np.uint8)
    alphas = mattes(np.stack([white, white - 100, white - 5]))
    assert [int(a.min()) for a in alphas] == [0, 255, 0]
    assert [int(a.max()) for a in alphas] == [0, 255, 0]


def test_dirt_is_removed_and_small_parts_are_kept():
    image = on_white(coverage(30), (80, 80, 200))
    image[5, 5] = 0
    image[10:16, 100:106] = 0
    (alpha,) = mattes(image[None])
    assert alpha[5, 5] == 0
    assert (alpha[10:16, 100:106] == 255).all()


def test_an_object_cut_by_the_frame_is_opaque_there():
    image = np.full((SIZE, SIZE, 3), 255, np.uint8)
    image[60:, 30:90] = (40, 40, 40)
    (alpha,) = mattes(image[None])
    assert (alpha[-1, 32:88] == 255).all()


def test_a_light_object_keeps_a_hard_outline():
    share = coverage(40)
    (alpha,) = mattes(on_white(share, (235, 235, 235))[None])
    assert set(np.unique(alpha)) == {0, 255}
    assert abs(int((alpha > 0).sum()) - share.sum()) < 2 * np.pi * 40
