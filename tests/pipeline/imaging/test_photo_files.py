"""Photos that are damaged where no pixel needs it, of foreign kinds, in AVIF or HDR."""

from __future__ import annotations

import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, features

from pipeline.errors import InvalidImage
from pipeline.imaging.decoding import decode_photo, encode_png
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
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf", "a HEIC photo that is damaged"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf", "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "an AVIF photo that is damaged"),
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


def test_a_pillow_without_avif_does_not_call_the_file_damaged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.imaging.decoding.FORMATS", ("JPEG", "PNG"))
    data = b"\0\0\0\x18ftypavif\0\0\0\0avifmif1" + bytes(64)
    with pytest.raises(InvalidImage, match="AVIF cannot be read here: send the photo as JPEG"):
        decode_photo(data)


#: Written by pillow-heif 1.4.0 (x265): `scene`, the same with an EXIF block that says "turn me", on
#: an alpha, with another picture behind it; and pure red with `swapped_profile` of test_decoding.
HEIC = Path(__file__).parents[2] / "data" / "heic"


def heic(name: str) -> bytes:
    return (HEIC / f"{name}.heic").read_bytes()


def test_heic_is_read_upright_with_its_alpha_and_profile() -> None:
    photo = decode_photo(heic("plain"))
    assert (photo.source_format, photo.alpha, photo.notes) == ("HEIF", None, ())
    assert np.abs(photo.rgb.astype(int) - scene()).mean() < 2
    turned = decode_photo(heic("turned")).rgb
    assert np.abs(turned.astype(int) - np.rot90(scene(), -1)).mean() < 2
    cut = decode_photo(heic("cut")).alpha
    assert cut is not None
    assert (cut[25:75, 35:95] > 250).all()
    assert (cut[:15] < 5).all()
    assert np.array_equal(decode_photo(heic("two")).rgb, photo.rgb)
    red, green, _ = decode_photo(heic("profile")).rgb[20, 20].tolist()
    assert green > 220
    assert red < 60


@pytest.mark.parametrize("share", [0.98, 0.6, 0.2, 0.02])
@pytest.mark.parametrize("name", ["plain", "turned", "cut", "profile"])
def test_a_truncated_heic_is_called_so(name: str, share: float) -> None:
    whole = heic(name)
    with pytest.raises(InvalidImage, match="truncated"):
        decode_photo(whole[: int(share * len(whole))])


def test_a_heic_of_too_many_pixels_is_refused_by_its_header() -> None:
    data, size = heic("plain"), struct.pack(">II", 128, 96)
    assert size in data
    with pytest.raises(InvalidImage, match="at most 50,000,000 pixels"):
        decode_photo(data.replace(size, struct.pack(">II", 9000, 6000)))
    # A header that tells fewer pixels than there are.
    with pytest.raises(InvalidImage):
        decode_photo(data.replace(size, struct.pack(">II", 64, 48)))


def hdr_codes(transfer: int, linear: float) -> int:
    """The byte of light that is `linear` times white, by the curves' other direction."""
    if transfer == 16:  # SMPTE ST 2084, inverse EOTF
        y = (linear * 203 / 10000) ** (2610 / 16384)
        code = ((3424 / 4096 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32)
    else:  # BT.2100: inverse OOTF of a grey, then the OETF of HLG
        scene_light = (linear * 203 / 1000) ** (1 / 1.2)
        a = 0.17883277
        b, c = 1 - 4 * a, 0.5 - a * math.log(4 * a)
        low = scene_light <= 1 / 12
        code = math.sqrt(3 * scene_light) if low else a * math.log(12 * scene_light - b) + c
    return round(255 * code)


def png_with_codes(grey: int, primaries: int, transfer: int) -> bytes:
    png = saved("PNG", np.full((64, 64, 3), grey, np.uint8))
    return png[:HEADER_END] + chunk(b"cICP", bytes([primaries, transfer, 0, 1])) + png[HEADER_END:]


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
@pytest.mark.parametrize("linear", [0.05, 0.18, 0.5, 0.75])
def test_hdr_below_white_is_shown_as_bright_as_it_is(
    transfer: int, name: str, linear: float
) -> None:
    photo = decode_photo(png_with_codes(hdr_codes(transfer, linear), 9, transfer))
    wanted = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(photo.rgb.astype(int) - wanted).max() <= 3  # half a code of 255 is so much
    [note] = photo.notes
    assert f"HDR ({name})" in note


@pytest.mark.parametrize("transfer", [16, 18])
def test_what_is_brighter_than_white_stays_in_order(transfer: int) -> None:
    codes = [hdr_codes(transfer, linear) for linear in (0.8, 1.0, 1.5, 2.0)]
    shown = [int(decode_photo(png_with_codes(code, 9, transfer)).rgb[0, 0, 0]) for code in codes]
    assert shown == sorted(set(shown))
    assert shown[0] > 225
    assert shown[-1] <= 255


def to_xyz(*chromaticities: tuple[float, float]) -> npt.NDArray[np.float64]:
    """RGB with these primaries and white D65 to XYZ (SMPTE RP 177), float64 [3, 3]."""
    x, y = np.array(chromaticities).T
    columns = np.stack([x / y, np.ones(3), (1 - x - y) / y])
    white = np.array([0.3127 / 0.3290, 1.0, (1 - 0.3127 - 0.3290) / 0.3290])
    return columns * np.linalg.solve(columns, white)


def test_colours_of_wider_primaries_keep_what_they_look_like() -> None:
    colour = np.array([200, 100, 50])
    png = saved("PNG", np.full((64, 64, 3), colour, np.uint8))
    wide = png[:HEADER_END] + chunk(b"cICP", bytes([12, 13, 0, 1])) + png[HEADER_END:]
    p3 = to_xyz((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
    srgb = to_xyz((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
    linear = np.linalg.solve(srgb, p3 @ ((colour / 255 + 0.055) / 1.055) ** 2.4)
    wanted = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    photo = decode_photo(wide)
    assert photo.rgb[0, 0] == pytest.approx(wanted, abs=1)
    assert photo.notes == ()
    plain = png[:HEADER_END] + chunk(b"cICP", bytes([1, 13, 0, 1])) + png[HEADER_END:]
    assert np.array_equal(decode_photo(plain).rgb, decode_photo(png).rgb)


def test_the_light_of_a_heic_is_read_from_its_boxes() -> None:
    sdr, pq = struct.pack(">HH", 1, 13), struct.pack(">HH", 9, 16)
    data = heic("plain")
    assert b"colrnclx" + sdr in data
    photo = decode_photo(data.replace(b"colrnclx" + sdr, b"colrnclx" + pq))
    assert "HDR (PQ)" in photo.notes[0]


def test_hundred_damaged_files_are_pictures_or_sentences() -> None:
    whole = [PNG, saved("JPEG", scene()), saved("WEBP", scene()), saved("GIF", scene())]
    whole += [saved("TIFF", scene()), saved("BMP", scene()), heic("plain"), heic("cut")]
    if features.check("avif"):
        whole.append(saved("AVIF", scene()))
    rng = np.random.default_rng(0)
    for number in range(100):
        data = bytearray(whole[number % len(whole)])
        for _ in range(int(rng.integers(1, 8))):
            at = int(rng.integers(len(data) if number % 2 else min(200, len(data))))
            data[at] = int(rng.integers(256))
        if rng.random() < 0.3:
            del data[int(rng.integers(len(data))) :]
        try:
            photo = decode_photo(bytes(data))
        except InvalidImage as refused:
            assert str(refused).endswith((".", ")")) or ":" in str(refused), number
            continue
        assert photo.rgb.dtype == np.uint8


def test_a_veil_over_the_whole_photo_is_no_object() -> None:
    rgba = np.dstack([scene(), np.full((96, 128), 120, np.uint8)])
    photo = decode_photo(encode_png(rgba))
    assert photo.alpha is None
    assert np.array_equal(photo.rgb, scene())
    faint = np.dstack([scene(), np.full((96, 128), 4, np.uint8)])
    with pytest.raises(InvalidImage, match="transparent everywhere"):
        decode_photo(encode_png(faint))
