"""Files of .spz of version 4, and of axes of their own."""

from __future__ import annotations

import gzip
import struct
from dataclasses import replace
from pathlib import Path

import gsply
import numpy as np
import pytest
import torch
import zstandard

from pipeline.errors import InvalidModelFile
from pipeline.formats.spz import RUB_FROM_WORLD, write_spz
from pipeline.formats.spz_reader import load_spz
from pipeline.geometry.frames import rotate_model
from pipeline.geometry.spherical_harmonics import sh_basis
from pipeline.types import SplatModel
from tests.fakes import sixty, some_model

DATA = Path(__file__).parents[2] / "data" / "splats"
LONG_HEADER, ENTRY = 32, 16


def version_4(
    model: SplatModel, records: bytes = b"", sizes: dict[int, int] | None = None
) -> bytes:
    """What `write_spz` writes, in the container of version 4.

    Args:
        sizes: what to say of the length of a stream instead of the truth, by its number.
    """
    payload = gzip.decompress(write_spz(model))
    _, _, count, degree, bits, _, _ = struct.unpack_from("<IIIBBBB", payload)
    at, streams = 16, []
    for width in (9, 1, 3, 3, 4, 3 * ((degree + 1) ** 2 - 1)):
        if width:
            streams.append(payload[at : at + count * width])
        at += count * width
    packed = [zstandard.compress(stream) for stream in streams]
    table = b"".join(
        struct.pack("<QQ", len(short), (sizes or {}).get(i, len(long)))
        for i, (short, long) in enumerate(zip(packed, streams, strict=True))
    )
    head = struct.pack(
        "<4sIIBBBBI12x",
        b"NGSP",
        4,
        count,
        degree,
        bits,
        2 if records else 0,
        len(streams),
        LONG_HEADER + len(records),
    )
    return head + records + table + b"".join(packed)


def assert_same(a: SplatModel, b: SplatModel, atol: float = 0) -> None:
    for name in vars(a):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=atol)


def test_a_version_4_of_another_program_is_read() -> None:
    wanted, read = sixty(), load_spz((DATA / "sixty.4.spz").read_bytes())
    assert read.notes == ()
    back = read.model
    # splat-transform sorts the splats.
    away = np.linalg.norm(wanted.means[:, None] - back.means[None], axis=2)
    order = away.argmin(axis=1)
    assert len(set(order)) == 60
    back = back.select(order)
    np.testing.assert_allclose(back.means, wanted.means, atol=0.51 / 4096)
    np.testing.assert_allclose(back.log_scales, wanted.log_scales, atol=0.51 / 16)
    np.testing.assert_allclose(back.opacities, wanted.opacities, atol=0.51 / 255)
    np.testing.assert_allclose(back.sh[:, 0], wanted.sh[:, 0], atol=0.51 / 255 / 0.15)
    in_range = np.clip(wanted.sh[:, 1:], -1, 127 / 128)
    np.testing.assert_allclose(back.sh[:, 1:], in_range, atol=4.5 / 128)
    # Its quaternions may be half a turn about an axis of the ellipsoid away, which shows nothing.
    sized = replace(back, log_scales=wanted.log_scales)
    np.testing.assert_allclose(covariances(sized), covariances(wanted), atol=1e-4)


@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
def test_version_4_holds_what_version_3_does(tmp_path: Path, sh_degree: int) -> None:
    model = some_model(50, sh_degree=sh_degree)
    wanted = load_spz(write_spz(model)).model
    data = version_4(model)
    assert_same(load_spz(data).model, wanted)
    (tmp_path / "a.spz").write_bytes(data)
    seen = gsply.read_spz(str(tmp_path / "a.spz"))
    in_file = rotate_model(wanted, RUB_FROM_WORLD)
    np.testing.assert_allclose(seen.means, in_file.means, atol=1e-6)


def axes_record(number: int) -> bytes:
    other = struct.pack("<II", 0xADBE0002, 12) + bytes(12)
    return other + struct.pack("<III", 0xADBE0003, 4, number)


@pytest.mark.parametrize(
    ("number", "axes"), [(0, None), (4, None), (6, "RDF"), (7, "LUF"), (8, "RUF"), (12, "RFU")]
)
@pytest.mark.parametrize("old", [False, True])
def test_a_file_of_other_axes_is_turned(number: int, axes: str | None, old: bool) -> None:
    model = some_model(20, sh_degree=3)
    if old:
        payload = bytearray(gzip.decompress(write_spz(model)))
        payload[14] = 2
        read = load_spz(gzip.compress(bytes(payload) + axes_record(number)))
    else:
        read = load_spz(version_4(model, axes_record(number)))
    plain = rotate_model(load_spz(write_spz(model)).model, RUB_FROM_WORLD)
    back = rotate_model(read.model, RUB_FROM_WORLD)
    assert read.faults == ()
    if axes is None:
        assert_same(back, plain, atol=1e-5)
        return
    assert f"axes are {axes}" in read.remarks[0]
    letters = {"R": (1, 0, 0), "U": (0, 1, 0), "B": (0, 0, 1)}
    letters |= {"L": (-1, 0, 0), "D": (0, -1, 0), "F": (0, 0, -1)}
    matrix = np.array([letters[letter] for letter in axes]).T
    np.testing.assert_allclose(back.means, plain.means @ matrix.T, atol=1e-5)
    # The colour that is seen from a direction is the same in both axes.
    directions = np.random.default_rng(0).standard_normal((9, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    seen = [
        np.einsum("dk,nkc->ndc", sh_basis(3, torch.from_numpy(d)).numpy(), m.sh)
        for d, m in ((directions, plain), (directions @ matrix.T, back))
    ]
    np.testing.assert_allclose(*seen, atol=1e-4)
    np.testing.assert_allclose(covariances(back), matrix @ covariances(plain) @ matrix.T, atol=1e-6)


def covariances(model: SplatModel) -> np.ndarray:
    w, x, y, z = (model.quats / np.linalg.norm(model.quats, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    axes = np.moveaxis(np.array(rows), -1, 0) * model.scales[:, None]
    return axes @ axes.transpose(0, 2, 1)


GOOD = version_4(some_model(30, sh_degree=1))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (GOOD[:20], "no header"),
        (GOOD[:60], "ends before its columns"),
        (GOOD[:-1], "ends within its columns"),
        (GOOD[:4] + struct.pack("<I", 5) + GOOD[8:], "version 5"),
        (GOOD[:4] + struct.pack("<I", 3) + GOOD[8:], "gzip"),
        (GOOD[:8] + struct.pack("<I", 2**32 - 1) + GOOD[12:], "says it holds 4,294,967,295 splats"),
        (GOOD[:12] + b"\0" + GOOD[13:], "other columns"),
        (GOOD[:13] + b"\xff" + GOOD[14:], "header of the .spz is damaged"),
        (version_4(some_model(30), sizes={2: 17}), "longer or shorter"),
        (GOOD.replace(b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfe"), "damaged"),
        (version_4(some_model(3), axes_record(99)), "unknown kind, 99"),
    ],
)
def test_a_damaged_version_4_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(InvalidModelFile, match=told):
        load_spz(data)


def test_a_longer_file_is_told() -> None:
    assert "longer than its header" in load_spz(GOOD + b"x").faults[0]
