"""Damaged files of every kind: a model or a sentence, never a crash, and no memory for claims."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gsply
import numpy as np
import pytest

from pipeline.errors import InvalidModelFile
from pipeline.formats.glb_splat import write_glb_splat
from pipeline.formats.ply import write_ply
from pipeline.formats.splat import write_splat
from pipeline.formats.splat_files import load_splats
from pipeline.formats.spz import write_spz
from tests.fakes import some_model

DATA = Path(__file__).parents[2] / "data" / "splats"
TRIES = 300
#: Of all that a reader may hold at once for these files of at most 20 kB.
MOST_BYTES = 100e6
#: Numbers that are believed to be counts, sizes and offsets.
ODD = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FC00000, 0x7F800000)


def ascii_ply() -> bytes:
    header, body = write_ply(some_model(3, sh_degree=1), compact=True).split(b"end_header\n")
    rows = np.frombuffer(body, "<f4").reshape(3, -1)
    lines = "".join(" ".join(map(repr, row.tolist())) + "\n" for row in rows)
    header = header.replace(b"binary_little_endian", b"ascii")
    return header + b"end_header\n" + lines.encode()


def compressed_ply() -> bytes:
    model = some_model(300, sh_degree=1)
    return gsply.compress_to_bytes(
        model.means,
        model.log_scales,
        model.quats,
        model.logit_opacities,
        model.sh[:, 0],
        model.sh[:, 1:],
    )


def inside_gzip(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    return gzip.compress(change(gzip.decompress(data)), 1)


def inside_zip(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """One of the files changed; which one, the change of their list says."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        chosen = names[len(change(bytes(1000))) % len(names)]
        for name in names:
            member = old.read(name)
            new.writestr(name, change(member) if name == chosen else member)
    return out.getvalue()


def plainly(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    return change(data)


FILES = {
    "a.ply": (write_ply(some_model(3, sh_degree=1)), plainly),
    "ascii.ply": (ascii_ply(), plainly),
    "compressed.ply": (compressed_ply(), plainly),
    "a.splat": (write_splat(some_model(3)), plainly),
    "a.spz": (write_spz(some_model(3, sh_degree=1)), inside_gzip),
    "sixty.4.spz": ((DATA / "sixty.4.spz").read_bytes(), plainly),
    "a.splat.glb": (write_glb_splat(some_model(3, sh_degree=1)), plainly),
    "sixty.sog": ((DATA / "sixty.sog").read_bytes(), inside_zip),
    "sixty.1.ksplat": ((DATA / "sixty.1.ksplat").read_bytes(), plainly),
}


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with one to three damages, more of them near the beginning."""
    for _ in range(rng.integers(1, 4)):
        end = len(data) if rng.integers(2) else min(len(data), 64)
        at = int(rng.integers(end + 1))
        match rng.integers(6):
            case 0:
                data = data[:at]
            case 1:
                data = data[:at] + rng.bytes(rng.integers(1, 9)) + data[at + 1 :]
            case 2:
                data = data[:at] + rng.bytes(rng.integers(1, 9)) + data[at:]
            case 3:
                data = data[:at] + data[at + rng.integers(1, 9) :]
            case 4:
                at -= at % 4
                data = data[:at] + struct.pack("<I", ODD[rng.integers(len(ODD))]) + data[at + 4 :]
            case _:
                # A digit of a header more, or another.
                digit = next((i for i in range(at, len(data)) if data[i : i + 1].isdigit()), None)
                if digit is not None:
                    data = data[:digit] + b"9" * int(rng.integers(1, 9)) + data[digit + 1 :]
    return data


@pytest.mark.parametrize("name", list(FILES))
def test_a_mutated_file_is_read_or_refused(name: str) -> None:
    data, inside = FILES[name]
    rng = np.random.default_rng(7)
    refused = 0
    tracemalloc.start()
    for i in range(TRIES):
        if i == TRIES // 4:  # it takes half of the time
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        damaged = (inside if i % 2 else plainly)(data, lambda part: mutate(part, rng))
        try:
            model = load_splats(damaged, name).model
        except InvalidModelFile as error:
            assert len(str(error)) > 10
            refused += 1
            continue
        for array in vars(model).values():
            assert np.isfinite(array).all()
    assert peak < MOST_BYTES
    # Both happen, or nothing was tested.
    assert refused > TRIES / 10
    assert refused < TRIES or name == "sixty.sog"


@pytest.mark.parametrize("name", list(FILES))
def test_a_file_cut_off_anywhere_is_refused_or_its_splats_are_whole(name: str) -> None:
    data, _ = FILES[name]
    whole = load_splats(data, name).model
    for length in np.linspace(0, len(data) - 1, 60).astype(int):
        try:
            model = load_splats(data[:length], name).model
        except InvalidModelFile:
            continue
        # A .splat says nowhere how many there are; whoever reads takes those that are whole.
        assert len(model) == len(whole) or name == "a.splat"


#: What may stand in a JSON document instead of what should.
VALUES = (None, True, -1, 0, 1, 3, 10**9, 10**30, 0.5, -1e300, float("nan"), "", "a", [], [0], {})


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value within a document."""
    inner = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))[:8]
        if isinstance(value, list)
        else []
    )
    return [path] * bool(path) + [p for key, v in inner for p in places(v, (*path, key))]


def with_odd_value(text: bytes, rng: np.random.Generator) -> bytes:
    document = json.loads(text)
    ways = places(document)
    *way, last = ways[rng.integers(len(ways))]
    inner = document
    for key in way:
        inner = inner[key]
    if rng.integers(4):
        inner[last] = VALUES[rng.integers(len(VALUES))]
    else:
        del inner[last]
    return json.dumps(document).encode()


def glb_with_odd_value(data: bytes, rng: np.random.Generator) -> bytes:
    (length,) = struct.unpack_from("<I", data, 12)
    text = with_odd_value(data[20 : 20 + length], rng)
    return data[:12] + struct.pack("<I", len(text)) + data[16:20] + text + data[20 + length :]


def sog_with_odd_value(data: bytes, rng: np.random.Generator) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            member = old.read(name)
            new.writestr(name, with_odd_value(member, rng) if name == "meta.json" else member)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "change"), [("a.splat.glb", glb_with_odd_value), ("sixty.sog", sog_with_odd_value)]
)
def test_a_document_with_an_odd_value_is_read_or_refused(
    name: str, change: Callable[[bytes, np.random.Generator], bytes]
) -> None:
    rng = np.random.default_rng(5)
    read = 0
    for _ in range(TRIES):
        try:
            model = load_splats(change(FILES[name][0], rng), name).model
        except InvalidModelFile:
            continue
        read += 1
        for array in vars(model).values():
            assert np.isfinite(array).all()
    assert 0 < read < TRIES
