"""Files of .ksplat are read: another program's, of every level of compression, and damaged ones."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from pipeline.errors import InvalidModelFile
from pipeline.formats.ksplat_reader import load_ksplat
from pipeline.types import SH_C0
from tests.fakes import sixty

DATA = Path(__file__).parents[2] / "data" / "splats"
FILES = [(DATA / f"sixty.{level}.ksplat").read_bytes() for level in range(3)]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_ksplat_of_another_program_is_read(level: int) -> None:
    wanted, read = sixty(), load_ksplat(FILES[level])
    assert read.notes == ()
    _, order = cKDTree(read.model.means).query(wanted.means)
    assert len(set(order)) == len(read.model) == 60
    back = read.model.select(order)
    # Blocks of .25 in 65,534 steps; halves; a range of 5 in 255 steps, cut off.
    exact = level == 0
    np.testing.assert_allclose(back.means, wanted.means, atol=1e-7 if exact else 4e-6)
    np.testing.assert_allclose(back.log_scales, wanted.log_scales, atol=1e-6 if exact else 0.001)
    unit = [m.quats / np.linalg.norm(m.quats, axis=1, keepdims=True) for m in (back, wanted)]
    assert np.abs((unit[0] * unit[1]).sum(axis=1)).min() > 1 - 1e-6
    np.testing.assert_allclose(back.opacities, wanted.opacities, atol=1 / 255)
    rgb = [np.clip(0.5 + SH_C0 * m.sh[:, 0], 0, 1) for m in (back, wanted)]
    np.testing.assert_allclose(*rgb, atol=1.01 / 255)
    step = (0, 2e-3, 0.02)[level]
    np.testing.assert_allclose(back.sh[:, 1:], wanted.sh[:, 1:], atol=step + 1e-6)


def changed(data: bytes, at: int, kind: str, value: float) -> bytes:
    return data[:at] + struct.pack(kind, value) + data[at + struct.calcsize(kind) :]


@pytest.mark.parametrize(
    ("at", "kind", "value", "told"),
    [
        (0, "B", 1, "version 1"),
        (20, "<H", 3, "Not a .ksplat"),
        (4, "<I", 2**32 - 1, "ends in its headers"),
        (4, "<I", 0, "no sections"),
        (4096, "<I", 61, "makes no sense"),
        (4096 + 8, "<I", 1, "bucket that is not there"),
        (4096 + 32, "<I", 2**32 - 1, "bucket that is not there"),
        (4096 + 12, "<I", 2**31, "fewer than 60 splats"),
        (4096 + 20, "<H", 8, "buckets of an unknown kind"),
        (4096 + 36, "<I", 2**32 - 1, "fewer than 60 splats"),
        (4096 + 40, "<H", 4, "makes no sense"),
    ],
)
def test_a_ksplat_that_makes_no_sense_is_refused(
    at: int, kind: str, value: float, told: str
) -> None:
    with pytest.raises(InvalidModelFile, match=told):
        load_ksplat(changed(FILES[1], at, kind, value))


def test_a_truncated_ksplat_is_refused_and_a_longer_one_told() -> None:
    for length in (0, 100, 4096, 5000, len(FILES[1]) - 1):
        with pytest.raises(InvalidModelFile, match="truncated"):
            load_ksplat(FILES[1][:length])
    read = load_ksplat(FILES[1] + b"more")
    assert "longer than its header" in read.faults[0]
    assert len(read.model) == 60


def test_a_ksplat_whose_buckets_hold_more_than_any_number_is_refused() -> None:
    most = 2**32 - 1
    data = changed(changed(FILES[1], 4096 + 8, "<I", most), 4096 + 32, "<I", most)
    with pytest.raises(InvalidModelFile, match="bucket that is not there"):
        load_ksplat(data)
