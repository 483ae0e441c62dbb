"""An upload becomes a photo and its cut-out, or is refused before anything is stored."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from pipeline.errors import InvalidImage
from pipeline.flow.intake import masked_upload, prepare_upload, stored_cutout
from pipeline.imaging.decoding import decode_png, encode_png
from pipeline.types import UInt8Array
from tests.fakes import FakeModels

SIZE = 256


def gradient(size: int = SIZE) -> UInt8Array:
    y, x = np.mgrid[:size, :size] * 255 // size
    return np.stack([x, y, 255 - x], -1).astype(np.uint8)


def disc() -> UInt8Array:
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    return ((np.hypot(x, y) < 80) * 255).astype(np.uint8)


def with_alpha(alpha: UInt8Array) -> bytes:
    return encode_png(np.dstack([gradient(len(alpha)), alpha]))


async def test_the_remover_is_asked_for_the_object() -> None:
    models = FakeModels()
    upload = await prepare_upload(encode_png(gradient()), models, remove_background=True)
    assert models.calls == ["background"]
    assert upload.engine == "fake-background"
    assert np.array_equal(decode_png(upload.original_png), gradient())
    processed = decode_png(upload.processed_png)
    assert np.array_equal(processed[..., :3], gradient())
    assert processed[SIZE // 2, SIZE // 2, 3] == 255
    assert processed[0, 0, 3] == 0


@pytest.mark.parametrize("remove_background", [True, False])
async def test_a_given_alpha_is_taken_and_nobody_is_asked(remove_background: bool) -> None:
    models = FakeModels()
    upload = await prepare_upload(with_alpha(disc()), models, remove_background=remove_background)
    assert models.calls == []
    assert upload.engine == "given"
    assert np.array_equal(decode_png(upload.processed_png)[..., 3], disc())
    assert upload.original_png == upload.processed_png


async def test_the_whole_photo_is_taken_when_the_client_wants_it() -> None:
    models = FakeModels()
    upload = await prepare_upload(encode_png(gradient()), models, remove_background=False)
    assert models.calls == []
    assert upload.engine == "none"
    assert (decode_png(upload.processed_png)[..., 3] == 255).all()
    assert decode_png(upload.original_png).shape == (SIZE, SIZE, 3)


async def test_no_object_is_refused_as_the_remover_says_it() -> None:
    blank = encode_png(np.full((SIZE, SIZE, 3), 128, np.uint8))
    with pytest.raises(InvalidImage, match="No foreground was found"):
        await prepare_upload(blank, FakeModels(), remove_background=True)


async def test_a_damaged_file_is_refused_before_the_remover_is_asked() -> None:
    models = FakeModels()
    with pytest.raises(InvalidImage, match="damaged"):
        await prepare_upload(encode_png(gradient())[:-100], models, remove_background=True)
    assert models.calls == []


def specks(size: int, share: float) -> UInt8Array:
    return ((np.random.default_rng(0).random((size, size)) < share) * 255).astype(np.uint8)


@pytest.mark.parametrize(
    "alpha",
    [
        specks(1024, 0.015),
        specks(1024, 0.2),
        specks(256, 0.015),
        np.tile(np.array([[0, 255], [255, 0]], np.uint8), (512, 512)),
        np.pad(np.full((240, 2), 255, np.uint8), ((8, 8), (127, 127))),
    ],
    ids=["few specks", "many specks", "specks", "checkerboard", "hair"],
)
async def test_an_alpha_without_an_outline_is_refused_at_once(alpha: UInt8Array) -> None:
    with pytest.raises(InvalidImage, match="no foreground"):
        await prepare_upload(with_alpha(alpha), FakeModels(), remove_background=True)


def hazy() -> UInt8Array:
    """`disc`, one stray pixel, and haze over all."""
    alpha = np.maximum(disc(), 12)
    alpha[3, 3] = 255
    return alpha.astype(np.uint8)


async def test_a_given_alpha_is_cleaned_and_the_photo_kept_as_it_came() -> None:
    upload = await prepare_upload(with_alpha(hazy()), FakeModels(), remove_background=True)
    assert np.array_equal(decode_png(upload.original_png)[..., 3], hazy())
    cleaned = decode_png(upload.processed_png)[..., 3]
    assert np.abs(cleaned.astype(int) - disc()).max() <= 13
    assert cleaned[3, 3] == cleaned[0, 0] == 0
    speck, haze = upload.notes
    assert "stray speck" in speck
    assert "haze" in haze


async def test_whoever_frames_a_cut_out_gets_a_clean_one() -> None:
    upload = await prepare_upload(with_alpha(disc()), FakeModels(), remove_background=True)
    clean = stored_cutout(upload.processed_png, "given").rgba[..., 3]
    dirty = stored_cutout(with_alpha(hazy()), "given").rgba[..., 3]
    assert np.array_equal(clean >= 128, dirty >= 128)


async def test_glass_is_stored_as_it_was_given_and_framed_solid() -> None:
    glass = (disc() // 255 * 120).astype(np.uint8)
    upload = await prepare_upload(with_alpha(glass), FakeModels(), remove_background=True)
    assert np.array_equal(decode_png(upload.processed_png)[..., 3], glass)
    assert "see-through (its alpha is 120" in upload.notes[0]
    assert stored_cutout(upload.processed_png, upload.engine).rgba[..., 3].max() == 255


async def test_a_thin_object_is_taken() -> None:
    pencil = np.pad(np.full((240, 10), 255, np.uint8), ((8, 8), (123, 123)))
    upload = await prepare_upload(with_alpha(pencil), FakeModels(), remove_background=True)
    assert upload.engine == "given"


def test_intake_loads_no_engine() -> None:
    script = (
        "import sys, pipeline.flow.intake; "
        "print([m for m in ('torch', 'cv2', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


async def test_a_mask_makes_another_cut_out_and_leaves_the_photo() -> None:
    first = await prepare_upload(encode_png(gradient()), FakeModels(), remove_background=True)
    masked = await masked_upload(first.original_png, encode_png(disc()))
    assert (masked.original_png, masked.engine, masked.notes) == (first.original_png, "mask", ())
    processed = decode_png(masked.processed_png)
    assert np.array_equal(processed[..., 3], disc())
    assert np.array_equal(processed[..., :3], gradient())


async def test_a_mask_goes_before_the_alpha_of_its_photo_and_says_where_that_shows_nothing() -> (
    None
):
    half = disc().copy()
    half[:, SIZE // 2 :] = 0
    first = await prepare_upload(with_alpha(half), FakeModels(), remove_background=True)
    masked = await masked_upload(first.original_png, encode_png(disc()))
    assert masked.original_png == first.original_png
    assert np.array_equal(decode_png(masked.processed_png)[..., 3], disc())
    (note,) = masked.notes
    assert note.startswith("50 % of what the mask shows are transparent in the photo")


async def test_a_mask_is_cleaned_as_a_given_alpha_is() -> None:
    photo = encode_png(gradient())
    masked = await masked_upload(photo, encode_png(hazy()))
    cleaned = decode_png(masked.processed_png)[..., 3]
    assert cleaned[3, 3] == cleaned[0, 0] == 0
    assert all("removed from the mask." in note for note in masked.notes)
    with pytest.raises(InvalidImage, match="too thin or scattered"):
        await masked_upload(photo, encode_png(specks(SIZE, 0.03)))


async def test_what_a_mask_leaves_of_the_ground_at_its_rim_is_not_believed() -> None:
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    share = np.clip(80.5 - np.hypot(x, y), 0, 1)  # of the disc in each pixel
    red, green = np.array([200, 20, 20]), np.array([20, 220, 20])
    seen = share[..., None] * red + (1 - share[..., None]) * green
    photo = encode_png(np.rint(seen).astype(np.uint8))
    mask = encode_png(np.rint(share * 255).astype(np.uint8))
    cutout = stored_cutout((await masked_upload(photo, mask)).processed_png, "mask").rgba
    visible = cutout[cutout[..., 3] > 8][:, :3].astype(int)
    assert np.abs(visible - red).max() <= 2
