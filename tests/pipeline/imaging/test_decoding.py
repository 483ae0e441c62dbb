"""Photos of every kind that people send, good and bad."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from pipeline.errors import InvalidImage, ModelFailed
from pipeline.imaging.decoding import (
    MAX_PIXELS,
    MAX_WEBP_PIXELS,
    WORK_SIDE,
    decode_photo,
    decode_png,
    encode_png,
)
from pipeline.imaging.framing import composite_on_white
from pipeline.types import UInt8Array


def picture(height: int = 48, width: int = 64) -> UInt8Array:
    """Noise-free, asymmetric in both axes, every channel different."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 3, y * 4, 255 - x - y], -1).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes) -> bytes:
    """A PNG of these numbers around compressed rows."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises width x height pixels and holds none."""
    return png(width, height, 8, 2, zlib.compress(b""))


def disc_alpha(size: int = 96, radius: float = 30.0) -> UInt8Array:
    y, x = np.mgrid[:size, :size] + 0.5 - size / 2
    return np.rint(np.clip(radius - np.hypot(x, y) + 0.5, 0, 1) * 255).astype(np.uint8)


KINDS = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("GIF", {}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
]


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_every_admitted_format_is_read(kind: str, options: dict[str, Any]) -> None:
    photo = decode_photo(saved(Image.fromarray(picture()), kind, **options))
    assert photo.rgb.shape == (48, 64, 3)
    assert photo.rgb.dtype == np.uint8
    assert photo.alpha is None
    assert photo.source_format == kind
    assert photo.source_size == (64, 48)
    assert np.abs(photo.rgb.astype(int) - picture()).mean() < 8


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_truncated_file_is_refused_wherever_it_ends(kind: str, options: dict[str, Any]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    whole = saved(Image.fromarray(noise), kind, **options)
    for share in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        with pytest.raises(InvalidImage):
            decode_photo(whole[: int(len(whole) * share)])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"RIFF\x10\x00\x00\x00WEBPVP8 ",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        bytes(range(256)) * 16,
    ],
    ids=["empty", "text", "pdf", "eps", "png stub", "jpeg stub", "webp stub", "svg", "bytes"],
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidImage):
        decode_photo(data)


@pytest.mark.parametrize("kind", ["ICO", "PPM", "TGA", "PCX", "JPEG2000"])
def test_formats_that_are_not_admitted_are_refused(kind: str) -> None:
    with pytest.raises(InvalidImage, match="not an image"):
        decode_photo(saved(Image.fromarray(picture()), kind))


@pytest.mark.parametrize("size", [(1, 1), (31, 200), (200, 31)])
def test_an_image_below_32_pixels_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidImage, match="at least 32"):
        decode_photo(saved(Image.new("RGB", size, "red"), "PNG"))


def test_a_ribbon_that_would_vanish_when_scaled_is_refused() -> None:
    with pytest.raises(InvalidImage, match="too narrow"):
        decode_photo(saved(Image.new("L", (32 * 65, 32)), "PNG"))


@pytest.mark.parametrize(
    "size",
    [(40_000, 40_000), (10_000, 9_000), (8_000, MAX_PIXELS // 8_000 + 1)],
    ids=["bomb", "bomb warning", "just too many"],
)
def test_too_many_pixels_are_refused_by_the_header(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidImage, match="pixels"):
        decode_photo(png_header(*size))


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(InvalidImage, match="MB"):
        decode_photo(saved(Image.fromarray(picture()), "PNG"), max_bytes=100)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_are_refused(kind: str) -> None:
    frames = [Image.fromarray(np.roll(picture(), 7 * i, 1)) for i in range(3)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(InvalidImage, match="3 frames"):
        decode_photo(data)


def test_the_first_picture_of_a_telephones_multi_picture_jpeg_is_taken() -> None:
    first, second = Image.fromarray(picture()), Image.new("RGB", (64, 48), "black")
    photo = decode_photo(saved(first, "MPO", save_all=True, append_images=[second]))
    assert photo.source_format == "JPEG"
    assert np.abs(photo.rgb.astype(int) - picture()).mean() < 8


def test_a_png_with_a_flipped_bit_is_refused() -> None:
    data = bytearray(saved(Image.fromarray(picture()), "PNG"))
    data[len(data) // 2] ^= 0x10
    with pytest.raises(InvalidImage, match="damaged"):
        decode_photo(bytes(data))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_the_camera_is_honoured(orientation: int) -> None:
    turn = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, 1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = decode_photo(saved(Image.fromarray(picture()), "PNG", exif=exif))
    assert np.array_equal(photo.rgb, turn(picture()))


def test_damaged_exif_does_not_matter() -> None:
    data = saved(Image.fromarray(picture()), "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff")
    with pytest.warns(UserWarning, match="EXIF"):  # Pillow's own, for the log
        photo = decode_photo(data)
    assert photo.rgb.shape == (48, 64, 3)


def test_cmyk_is_converted() -> None:
    cmyk = Image.new("CMYK", (64, 48), (0, 255, 255, 0))
    red = decode_photo(saved(cmyk, "JPEG")).rgb.mean((0, 1))
    assert red[0] > 200
    assert red[1] < 60
    assert red[2] < 60


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (64, 1))
    photo = decode_photo(saved(Image.fromarray(ramp), "PNG"))
    assert np.abs(photo.rgb[0, :, 0].astype(int) - np.arange(256)).max() <= 1
    assert (photo.rgb[..., 0] == photo.rgb[..., 2]).all()


def test_sixteen_bit_colour_is_scaled_not_clipped() -> None:
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (64, 1))
    bgr = np.stack([ramp, ramp[:, ::-1], ramp], -1)
    photo = decode_photo(cv2.imencode(".png", bgr)[1].tobytes())
    assert np.abs(photo.rgb[0, :, 0].astype(int) - np.arange(256)).max() <= 1
    assert np.abs(photo.rgb[0, :, 1].astype(int) - np.arange(256)[::-1]).max() <= 1


@pytest.mark.parametrize(("top", "refused"), [(1.0, False), (3.0, True), (np.nan, True)])
def test_float_tiff_is_read_within_0_and_1_only(top: float, refused: bool) -> None:
    values = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (48, 1))
    values[0, 0] = top
    data = saved(Image.fromarray(values), "TIFF")
    if refused:
        with pytest.raises(InvalidImage, match="outside"):
            decode_photo(data)
    else:
        assert decode_photo(data).rgb[5, -1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_grey_and_palette_become_rgb(mode: str) -> None:
    image = Image.fromarray(picture()).convert(mode)
    photo = decode_photo(saved(image, "PNG"))
    assert np.array_equal(photo.rgb, np.asarray(image.convert("RGB")))


def swapped_profile() -> bytes:
    """An sRGB profile whose red and green primaries are exchanged."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = data.replace(b"rXYZ", b"tmp!").replace(b"gXYZ", b"rXYZ").replace(b"tmp!", b"gXYZ")
    return data.replace("sRGB".encode("utf-16-be"), "xxxx".encode("utf-16-be"))


def test_the_colour_profile_is_applied() -> None:
    data = saved(Image.new("RGB", (64, 48), (255, 0, 0)), "PNG", icc_profile=swapped_profile())
    red, green, _ = decode_photo(data).rgb[0, 0].tolist()
    assert green > 230
    assert red < 40


def linear_profile() -> bytes:
    """sRGB's primaries and name, and linear light: there are such profiles."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    curve, found = b"para" + bytes(4) + struct.pack(">HH", 3, 0), 0
    while (at := data.find(curve, found)) >= 0:
        found = at + len(curve)
        # Exponent 1: (1 x + 0)^1 from 0 on.
        data[found : found + 20] = struct.pack(">5i", 65536, 65536, 0, 65536, 0)
    assert found and b"s\0R\0G\0B" in data
    return bytes(data)


def test_a_profile_of_linear_light_is_applied_whatever_its_name() -> None:
    data = saved(Image.new("RGB", (64, 48), (55, 55, 55)), "PNG", icc_profile=linear_profile())
    photo = decode_photo(data)
    # Linear 55 / 255 = .2157 is sRGB .5017.
    assert np.abs(photo.rgb[0, 0].astype(int) - 128).max() <= 1 and photo.notes == ()


def test_a_profile_of_srgb_leaves_every_colour_as_it_is() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    photo = decode_photo(saved(Image.fromarray(pixels), "PNG", icc_profile=profile))
    assert np.array_equal(photo.rgb, pixels) and photo.notes == ()


@pytest.mark.parametrize("profile", [b"garbage", swapped_profile()])
def test_a_profile_that_does_not_fit_is_ignored_and_a_note_says_so(profile: bytes) -> None:
    data = saved(Image.new("L", (64, 48), 77), "PNG", icc_profile=profile)
    photo = decode_photo(data)
    assert photo.rgb[0, 0].tolist() == [77, 77, 77]
    (note,) = photo.notes
    assert "colour profile cannot be used" in note


def test_a_given_alpha_is_kept() -> None:
    rgba = np.dstack([np.full((96, 96, 3), 90, np.uint8), disc_alpha()])
    photo = decode_photo(encode_png(rgba))
    assert photo.alpha is not None
    assert np.array_equal(photo.alpha, disc_alpha())
    assert np.array_equal(photo.rgb, rgba[..., :3])


def test_a_transparent_palette_colour_counts_as_alpha() -> None:
    image = Image.fromarray((disc_alpha() > 127).astype(np.uint8), "P")
    image.putpalette([255, 0, 255, 20, 120, 40])
    photo = decode_photo(saved(image, "GIF", transparency=0))
    assert photo.alpha is not None
    assert photo.rgb[48, 48].tolist() == [20, 120, 40]


@pytest.mark.parametrize("corner", [0, 4])
def test_an_opaque_alpha_is_the_same_as_none(corner: int) -> None:
    rgba = np.dstack([np.full((96, 96, 3), 90, np.uint8), np.full((96, 96), 255, np.uint8)])
    rgba[:corner, :corner, 3] = 0  # a rounded screenshot corner
    photo = decode_photo(encode_png(rgba))
    assert photo.alpha is None
    assert photo.rgb.shape == (96, 96, 3)


def test_a_transparent_image_has_no_foreground() -> None:
    with pytest.raises(InvalidImage, match="no foreground"):
        decode_photo(encode_png(np.zeros((64, 64, 4), np.uint8)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_huge_photo_is_reduced_for_the_work(kind: str) -> None:
    photo = decode_photo(saved(Image.new("RGB", (5000, 2500), (10, 200, 90)), kind))
    assert photo.rgb.shape == (WORK_SIDE // 2, WORK_SIDE, 3)
    assert photo.source_size == (5000, 2500)
    assert np.abs(photo.rgb[7, 7].astype(int) - [10, 200, 90]).max() <= 3


#: Prints the most memory this process ever held, MB. Not `ru_maxrss`: that one is inherited.
PEAK_SCRIPT = """
import pathlib, sys
from pipeline.imaging.decoding import decode_photo
photo = decode_photo(pathlib.Path(sys.argv[1]).read_bytes())
assert photo.rgb.shape == (2048, 2048, 3)
status = pathlib.Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel does not tell")
@pytest.mark.parametrize(
    ("depth", "colour_type", "row"),
    [
        (16, 0, b"\x80\x01" * 8000),
        (8, 6, bytes(4 * 4000) + b"\x10\x20\x30\xff" * 4000),
        (8, 2, b"\x10\x20\x30" * 8000),
    ],
    ids=["16-bit grey", "rgba", "rgb"],
)
def test_the_largest_photo_takes_less_than_500_mb(
    depth: int, colour_type: int, row: bytes, tmp_path: Path
) -> None:
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(b"\0" + row) for _ in range(8000)) + packer.flush()
    path = tmp_path / "large.png"
    path.write_bytes(png(8000, 8000, depth, colour_type, rows))
    script = [sys.executable, "-c", PEAK_SCRIPT, str(path)]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 500


def test_a_picture_of_many_strips_is_scaled_as_pillow_scales_it() -> None:
    rng = np.random.default_rng(0)
    rgba = Image.fromarray(rng.integers(0, 256, (90, 150, 4), np.uint8)).resize((3000, 1800))
    for image in (rgba, rgba.convert("RGB"), rgba.convert("L")):
        wanted = image.resize((2048, 1229), Image.Resampling.BICUBIC)
        photo = decode_photo(saved(image, "PNG"))
        assert np.array_equal(photo.rgb, np.asarray(wanted.convert("RGB")))
        if image is rgba:
            assert photo.alpha is not None
            assert np.array_equal(photo.alpha, np.asarray(wanted)[..., 3])


def test_hidden_colours_of_an_opaque_picture_stay_visible_when_it_is_reduced() -> None:
    rgba = np.full((2500, 2500, 4), (90, 60, 30, 255), np.uint8)
    rgba[:100, :100, 3] = 0
    photo = decode_photo(saved(Image.fromarray(rgba), "PNG", compress_level=1))
    assert photo.alpha is None
    assert photo.rgb[5, 5].tolist() == [90, 60, 30]


def test_webp_has_a_smaller_limit() -> None:
    # Lossless header: 14 bits each of width - 1 and height - 1.
    width, height = 8000, MAX_WEBP_PIXELS // 8000 + 1
    bits = (width - 1) | (height - 1) << 14
    body = b"VP8L" + struct.pack("<I", 10) + b"\x2f" + struct.pack("<I", bits) + bytes(5)
    with pytest.raises(InvalidImage, match="pixels"):
        decode_photo(b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body)


def test_png_round_trip_and_white_ground() -> None:
    rgba = np.dstack([picture(), np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))])
    for array in (rgba, rgba[..., :3], rgba[..., 0]):
        assert np.array_equal(decode_png(encode_png(array)), array)
    white = composite_on_white(rgba)
    assert (white[:, 0] == 255).all()
    exact = rgba[..., :3] * (rgba[..., 3:] / 255.0) + 255.0 - rgba[..., 3:]
    assert np.abs(white - exact).max() <= 0.51


@pytest.mark.parametrize("cut", [1, 4, 12, 13, 20, 200])
def test_a_png_of_ours_that_was_cut_off_is_no_picture(cut: int) -> None:
    with pytest.raises(ModelFailed, match="stored PNG is damaged"):
        decode_png(encode_png(picture())[:-cut])
