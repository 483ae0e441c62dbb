"""Alpha of pictures whose outline is known."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.control import Control
from pipeline.engines.background.background_specs import U2NETP
from pipeline.engines.background.removers import U2Net
from pipeline.engines.views.syncdreamer.matte import GROUND_TOLERANCE, fits, matte
from pipeline.engines.views.syncdreamer.view_hints import NO_REMOVER_NOTE, view_mattes
from pipeline.errors import InvalidImage
from pipeline.geometry.cameras import rig_cameras
from pipeline.types import UInt8Array, ViewSet
from pipeline.weights.folders import find
from tests.fakes import RememberedRemover
from tests.oracles.objects import photograph, torus, white_mug

SIZE = 128


def mattes(images: UInt8Array) -> UInt8Array:
    return np.stack([matte(image) for image in images])


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


def test_a_large_hole_with_sharp_edges_is_ground():
    share = coverage(40) - coverage(15)
    (alpha,) = mattes(on_white(share, (60, 120, 60))[None])
    assert np.abs(alpha / 255 - share).max() < 0.1


def test_what_may_be_a_highlight_is_object():
    for radius, softness in ((4, 1), (15, 20)):  # small, or with edges that fade
        y, x = np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2
        light = np.clip((radius + softness - np.hypot(x, y)) / softness, 0, 1)
        image = on_white(coverage(40) * (1 - light), (60, 120, 60))
        (alpha,) = mattes(image[None])
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


def rough(alpha: UInt8Array, *, by: int = 2) -> UInt8Array:
    """What a network finds of a true alpha: shifted by pixels, with soft edges."""
    return np.roll(alpha, (by, -by), (0, 1)) // 2 + alpha // 2


def test_a_hint_keeps_light_parts_and_cuts_holes():
    share = coverage(40) - coverage(15)
    image = on_white(share, (60, 120, 60))
    image[:, SIZE // 2 :] = on_white(share, (250, 250, 250))[:, SIZE // 2 :]
    truth = np.rint(255 * share).astype(np.uint8)
    alpha = matte(image, rough(truth))
    assert ((alpha >= 128) == (truth >= 128)).mean() > 0.985
    assert alpha[SIZE // 2, SIZE // 2] == 0
    assert (matte(image)[:, SIZE // 2 + 20 :] == 0).all(), "colours alone lose the half"


def test_a_highlight_at_the_outline_stays():
    image = on_white(coverage(40), (200, 60, 40))
    image[SIZE // 2 - 6 : SIZE // 2 + 6, SIZE // 2 + 24 :] = 252
    truth = np.rint(255 * coverage(40)).astype(np.uint8)
    lost = matte(image)[SIZE // 2, SIZE // 2 + 30]
    kept = matte(image, rough(truth))[SIZE // 2, SIZE // 2 + 30]
    assert (lost, kept) == (0, 255)


def test_a_highlight_that_is_enclosed_stays():
    image = on_white(coverage(40), (200, 60, 40))
    image[56:64, 56:64] = 255
    truth = np.rint(255 * coverage(40)).astype(np.uint8)
    assert (matte(image, rough(truth))[56:64, 56:64] == 255).all()


def test_a_hint_that_is_a_little_too_large_leaves_the_outline_alone():
    image = on_white(coverage(40), (60, 120, 60))
    larger = np.rint(255 * coverage(43)).astype(np.uint8)
    assert np.array_equal(matte(image, larger), matte(image))


def test_a_hint_of_something_else_is_not_taken():
    image = on_white(coverage(40), (60, 120, 60))
    elsewhere = np.zeros((SIZE, SIZE), np.uint8)
    elsewhere[:30, :30] = 255
    for hint in (elsewhere, np.zeros_like(elsewhere)):
        assert not fits(hint, image)
        assert np.array_equal(matte(image, hint), matte(image))


@lru_cache(maxsize=4)
def rig_of(name: str, size: int = 128) -> ViewSet:
    thing = {"mug": white_mug, "ring": torus}[name]()
    return photograph(thing, rig_cameras(size), supersample=2)[0]


def overlap(found: UInt8Array, true: UInt8Array) -> npt.NDArray[np.float64]:
    """Of each view, the share that both have of what either has."""
    one, other = found >= 128, true >= 128
    return (one & other).sum((1, 2)) / (one | other).sum((1, 2))


@pytest.mark.parametrize("name", ["mug", "ring"])
def test_sixteen_views_get_their_mattes_from_who_knows_objects(name: str) -> None:
    views = rig_of(name)
    remover = RememberedRemover(views.images, np.stack([rough(a, by=1) for a in views.alphas]))
    alphas, notes = view_mattes(views.images, remover, Control(), photo=None)
    assert notes == ()
    assert overlap(alphas, views.alphas).min() > 0.94
    alone, notes = view_mattes(views.images, None, Control(), photo=None)
    assert notes == (NO_REMOVER_NOTE,)
    lost = overlap(alphas, views.alphas).min() - overlap(alone, views.alphas).min()
    assert lost > 0.1 if name == "mug" else lost > -0.01


def test_the_view_of_the_photo_takes_the_photos_own_alpha() -> None:
    views = rig_of("mug")
    alphas, _ = view_mattes(views.images, None, Control(), photo=(0, views.alphas[0]))
    found = overlap(alphas, views.alphas)
    assert found[0] > 0.97
    # A photo that shows something else is not believed.
    other, _ = view_mattes(
        views.images, None, Control(), photo=(0, np.roll(views.alphas[0], 90, 1))
    )
    assert np.array_equal(other[0], matte(views.images[0]))
    # Nor one that the remover does not agree with.
    rims = [np.where(a > 0, 255, 0).astype(np.uint8) for a in views.alphas]
    remover = RememberedRemover(views.images, np.stack(rims))
    wide = np.full_like(views.alphas[0], 255)
    alphas, _ = view_mattes(views.images[:1], remover, Control(), photo=(0, wide))
    assert overlap(alphas, views.alphas[:1])[0] > 0.97


def test_a_view_in_which_nothing_is_found_is_matted_by_colours() -> None:
    views = rig_of("ring")
    nothing = RememberedRemover(views.images, np.zeros_like(views.alphas))
    with pytest.raises(InvalidImage):
        nothing.remove(views.images[0], Control())
    alphas, _ = view_mattes(views.images[:2], nothing, Control(), photo=None)
    assert np.array_equal(alphas, mattes(views.images[:2]))


@pytest.mark.faults
@pytest.mark.parametrize("name", ["mug", "ring"])
def test_the_network_finds_what_colours_do_not(name: str) -> None:
    """Half a minute: the network looks at 16 views."""
    views = rig_of(name, 256)
    remover = U2Net(find(U2NETP, None), threads=1)
    alphas, _ = view_mattes(views.images, remover, Control(), photo=(0, views.alphas[0]))
    found, alone = (overlap(a, views.alphas) for a in (alphas, mattes(views.images)))
    assert found.min() > 0.9
    assert found.mean() >= alone.mean()
