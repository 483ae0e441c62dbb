"""Photos that are damaged where no pixel needs it, of glass, of foreign kinds, in AVIF or HDR."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from pipeline.errors import InvalidImage
from pipeline.imaging.decoding import decode_photo, encode_png
from pipeline.imaging.object_notes import notes_on_object
from pipeline.types import UInt8Array


def noise(height: int = 96, width: int = 128) -> UInt8Array:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)


def scene(height: int = 96, width: int = 128) -> UInt8Array:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], -1).astype(np.uint8)


def saved(kind: str, pixels: UInt8Array, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes, *, is_whole: bool = True) -> bytes:
    checksum = zlib.crc32(kind + body) ^ (0 if is_whole else 1)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


PNG = saved("PNG", scene())
HEADER_END = 8 + 25  # the signature and IHDR


@pytest.mark.parametrize("kind", [b"tEXt", b"iCCP", b"gAMA", b"eXIf", b"tIME", b"zzZz"])
@pytest.mark.parametrize("place", [HEADER_END, len(PNG) - 12])
def test_a_png_with_a_damaged_chunk_that_no_pixel_needs_is_read(kind: bytes, place: int) -> None:
    bad = chunk(kind, b"\1\2\3\4 damaged", is_whole=False)
    photo = decode_photo(PNG[:place] + bad + bad + PNG[place:])
    assert np.array_equal(photo.rgb, scene())
    assert ("profile" in "".join(photo.notes)) == (kind == b"iCCP")


@pytest.mark.parametrize("missing", range(1, 13))
@pytest.mark.parametrize("last", [b"", chunk(b"tEXt", b"a"), chunk(b"tEXt", b"a", is_whole=False)])
def test_a_png_that_only_lacks_its_last_chunk_is_read(missing: int, last: bytes) -> None:
    data = PNG[:-12] + last + PNG[-12:]
    assert np.array_equal(decode_photo(data[:-missing]).rgb, scene())


def test_a_png_that_ends_between_two_chunks_of_its_pixels_is_refused() -> None:
    rows = PNG[HEADER_END + 8 : -16]
    half = len(rows) // 2
    first, second = chunk(b"IDAT", rows[:half]), chunk(b"IDAT", rows[half:])
    assert np.array_equal(decode_photo(PNG[:HEADER_END] + first + second).rgb, scene())
    with pytest.raises(InvalidImage, match="truncated"):
        decode_photo(PNG[:HEADER_END] + first)


@pytest.mark.parametrize("place", [20, HEADER_END + 20, len(PNG) // 2])
def test_a_png_whose_pixels_are_damaged_is_called_a_damaged_png(place: int) -> None:
    data = bytearray(PNG)
    data[place] ^= 0x40
    with pytest.raises(InvalidImage, match=r"damaged|PNG"):
        decode_photo(bytes(data))


@pytest.mark.parametrize(
    "pixels", [scene(), noise(), scene(97, 131)], ids=["plain", "noise", "odd"]
)
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0, "quality": 95}])
def test_a_jpeg_that_only_lacks_its_end_mark_is_read(
    pixels: UInt8Array, options: dict[str, object]
) -> None:
    whole = saved("JPEG", pixels, **options)
    wanted = decode_photo(whole).rgb
    assert np.array_equal(decode_photo(whole[:-2]).rgb, wanted)
    assert np.array_equal(decode_photo(whole[:-1]).rgb, wanted)
    for missing in (8, 40, 200):
        with pytest.raises(InvalidImage, match="truncated"):
            decode_photo(whole[:-missing])


@pytest.mark.parametrize("size", [(3000, 2000), (2500, 1100)])
def test_a_large_jpeg_without_its_end_mark_is_read_reduced(size: tuple[int, int]) -> None:
    small = Image.fromarray(scene()).resize(size)
    whole = saved("JPEG", np.asarray(small))
    assert np.array_equal(decode_photo(whole[:-2]).rgb, decode_photo(whole).rgb)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf", "HEIC .* Convert it to JPEG"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf", "HEIC"),
        (b"\0\0\0\x1cftypmsf1\0\0\0\0hevc", "HEIC"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", "a video"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "a video"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"8BPS\0\1", "a Photoshop document"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "a PNG that is damaged"),
        (b"glTF\2\0\0\0", "a 3D model"),
        (b"hello", "not an image that can be read"),
    ],
)
def test_files_of_foreign_kinds_are_named(data: bytes, told: str) -> None:
    with pytest.raises(InvalidImage, match=told):
        decode_photo(data + bytes(64))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read_upright_and_with_its_alpha() -> None:
    big = np.asarray(Image.fromarray(scene()).resize((512, 384)))
    photo = decode_photo(saved("AVIF", big, quality=90))
    assert photo.source_format == "AVIF"
    assert np.abs(photo.rgb.astype(int) - big).mean() < 6
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = decode_photo(saved("AVIF", big, quality=90, exif=exif))
    assert np.abs(turned.rgb.astype(int) - np.rot90(big, -1)).mean() < 6
    alpha = np.zeros((384, 512), np.uint8)
    alpha[100:300, 100:300] = 255
    cut = decode_photo(saved("AVIF", np.dstack([big, alpha]), quality=90))
    assert cut.alpha is not None
    assert (np.abs(cut.alpha.astype(int) - alpha) < 40).mean() > 0.98
    with pytest.raises(InvalidImage):
        decode_photo(saved("AVIF", big)[:-500])
    frames = [Image.fromarray(big), Image.fromarray(big[::-1])]
    file = io.BytesIO()
    frames[0].save(file, "AVIF", save_all=True, append_images=frames[1:])
    with pytest.raises(InvalidImage, match="animation"):
        decode_photo(file.getvalue())


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG"), (13, None)])
def test_light_for_hdr_screens_is_a_note(transfer: int, name: str | None) -> None:
    marked = PNG[:HEADER_END] + chunk(b"cICP", bytes([9, transfer, 0, 1])) + PNG[HEADER_END:]
    notes = decode_photo(marked).notes
    assert (len(notes) == 1 and f"HDR ({name})" in notes[0]) if name else notes == ()


def glass(most: int, ground: int = 0) -> UInt8Array:
    """A see-through disc with a soft rim."""
    y, x = np.mgrid[:200, :200]
    disc = np.clip(60 - np.hypot(y - 100, x - 100), 0, 1)
    alpha = (ground + (most - ground) * disc).astype(np.uint8)
    return np.dstack([np.full((200, 200, 3), (30, 90, 200), np.uint8), alpha])


@pytest.mark.parametrize("most", [20, 90, 120, 127, 128, 150])
@pytest.mark.parametrize("ground", [0, 3])
def test_an_object_of_glass_keeps_its_outline_and_becomes_solid(most: int, ground: int) -> None:
    photo = decode_photo(encode_png(glass(most, ground)))
    assert photo.alpha is not None
    disc = glass(255)[..., 3]
    assert np.abs(photo.alpha.astype(int) - disc).max() <= 60  # of the ground and the rim
    assert (photo.alpha >= 128).sum() == pytest.approx((disc >= 128).sum(), rel=0.02)
    assert (photo.rgb[100, 100] == (30, 90, 200)).all()
    assert "see-through" in photo.notes[0]
    assert str(most) in photo.notes[0]


def test_solid_objects_with_faint_parts_stay_as_they_are() -> None:
    rgba = glass(90)
    rgba[80:120, 80:120, 3] = 255  # its shadow is faint
    photo = decode_photo(encode_png(rgba))
    assert photo.alpha is not None
    assert np.array_equal(photo.alpha, rgba[..., 3])
    assert photo.notes == ()
    assert decode_photo(encode_png(glass(200))).notes == ()


def test_a_veil_over_the_whole_photo_is_no_object() -> None:
    rgba = np.dstack([scene(), np.full((96, 128), 120, np.uint8)])
    photo = decode_photo(encode_png(rgba))
    assert photo.alpha is None
    assert np.array_equal(photo.rgb, scene())
    faint = np.dstack([scene(), np.full((96, 128), 4, np.uint8)])
    with pytest.raises(InvalidImage, match="transparent everywhere"):
        decode_photo(encode_png(faint))


def box(top: int, bottom: int, left: int, right: int) -> UInt8Array:
    alpha = np.zeros((100, 100), np.uint8)
    alpha[top:bottom, left:right] = 255
    return alpha


@pytest.mark.parametrize("given", [False, True])
def test_an_object_that_the_photo_cuts_off_is_a_note(given: bool) -> None:
    assert notes_on_object(box(20, 80, 20, 80), given=given) == ()
    [note] = notes_on_object(box(20, 100, 0, 80), given=given)
    assert "(bottom, left)" in note
    [note] = notes_on_object(box(0, 60, 30, 80), given=given)
    assert "(top)" in note


def test_a_tiny_object_is_a_note_where_it_was_found() -> None:
    [note] = notes_on_object(box(40, 60, 40, 60), given=False)
    assert "covers 4 % of the photo" in note
    assert notes_on_object(box(40, 60, 40, 60), given=True) == ()


def test_an_alpha_that_may_be_inverted_is_a_note() -> None:
    [note] = notes_on_object(255 - box(30, 70, 30, 70), given=True)
    assert "inverted" in note
    ring = box(0, 100, 0, 100)
    ring[48:52, 48:52] = 0  # a small hole is a hole
    assert all("inverted" not in note for note in notes_on_object(ring, given=True))
