"""A mask's file becomes the alpha of its photo, or a sentence says what is wrong with it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InvalidImage
from pipeline.imaging.masks import decode_mask
from pipeline.types import UInt8Array

WIDE, HIGH = 96, 64


def disc(inside: int = 255, outside: int = 0) -> UInt8Array:
    y, x = np.mgrid[:HIGH, :WIDE]
    return np.where(np.hypot(x - WIDE / 2, y - HIGH / 2) < 20, inside, outside).astype(np.uint8)


def file(pixels: UInt8Array, mode: str | None = None, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(buffer, kind)
    return buffer.getvalue()


def colours() -> UInt8Array:
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (HIGH, WIDE, 3), np.uint8)


def sixteen_bits() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(disc().astype(np.uint16) * 257).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        file(disc()),
        file(disc(), "1"),
        file(disc(), "RGB"),
        file(disc(), "P"),
        sixteen_bits(),
        # The alpha decides where it cuts something out, whatever the colours are ...
        file(np.dstack([colours(), disc()])),
        # ... and not where it is opaque.
        file(np.dstack([disc()] * 3 + [np.full_like(disc(), 255)])),
    ],
    ids=["grey", "1 bit", "rgb", "palette", "16 bits", "alpha", "opaque alpha"],
)
def test_a_mask_is_read_from_its_grey_or_its_alpha(data: bytes) -> None:
    assert np.array_equal(decode_mask(data, (WIDE, HIGH)), disc())


def test_soft_values_stay_and_a_jpeg_will_do() -> None:
    soft = np.clip(disc(200, 30) + np.arange(WIDE) % 7, 0, 255).astype(np.uint8)
    assert np.array_equal(decode_mask(file(soft), (WIDE, HIGH)), soft)
    lossy = decode_mask(file(disc(), "RGB", "JPEG"), (WIDE, HIGH))
    assert np.mean((lossy >= 128) == (disc() >= 128)) > 0.99


def test_a_mask_is_scaled_as_its_photo_was() -> None:
    large = np.kron(disc(), np.ones((40, 40), np.uint8))
    assert decode_mask(file(large), (2048, 1365)).shape == (1365, 2048)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"no picture", "not an image that can be read"),
        (file(disc())[:-40], "damaged"),
        (file(disc()[:, :64]), "The mask has 64 x 64 pixels and the photo 96 x 64"),
        (file(colours()), "The picture has colours"),
        (file(np.zeros((HIGH, WIDE), np.uint8)), "The mask is empty"),
        (file(np.dstack([colours(), disc(0)])), "transparent everywhere"),
        (file(np.full((HIGH, WIDE), 255, np.uint8)), "no contrast: its pixels are from 255 to 255"),
        (file(disc(120, 30)), "no contrast: its pixels are from 30 to 120 of 255"),
        (file(disc(250, 140)), "no contrast: its pixels are from 140 to 250 of 255"),
        (file(disc(0, 255)), "The mask seems to be inverted"),
    ],
    ids=[
        *("no picture", "cut short", "other size", "coloured", "black", "see-through", "white"),
        *("dark", "light", "inverted"),
    ],
)
def test_what_is_no_mask_is_a_sentence_with_the_way_out(data: bytes, told: str) -> None:
    with pytest.raises(InvalidImage) as caught:
        decode_mask(data, (WIDE, HIGH))
    assert told in caught.value.public
    ways = ("A mask is a PNG of the photo's size", "original_url", "White is the object")
    assert any(way in caught.value.public for way in ways)
