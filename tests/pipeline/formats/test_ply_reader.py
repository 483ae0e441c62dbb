"""Files of splats as other programs write them: every layout, every type, a few damaged rows."""

from __future__ import annotations

import io
import tracemalloc
from dataclasses import replace

import gsply
import numpy as np
import plyfile
import pytest

from pipeline.errors import InvalidModelFile
from pipeline.formats.ply import load_ply, read_ply, write_ply
from pipeline.geometry.frames import PLY_FROM_WORLD, rotate_model
from pipeline.types import SH_C0, SplatModel
from tests.fakes import some_model
from tests.oracles.shells import shell

TYPES = {"f4": "float", "f8": "double", "i4": "int", "u1": "uchar", "u2": "ushort", "f2": "half"}


def columns_of(model: SplatModel) -> dict[str, np.ndarray]:
    """What a .ply holds of a model, by property, float32."""
    vertex = plyfile.PlyData.read(io.BytesIO(write_ply(model, compact=True)))["vertex"]
    return {p.name: np.array(vertex[p.name]) for p in vertex.properties}


def header_of(
    columns: dict[str, np.ndarray], layout: str, before: str = "", after: str = ""
) -> bytes:
    count = len(next(iter(columns.values())))
    properties = "".join(f"property {TYPES[c.dtype.str[1:]]} {n}\n" for n, c in columns.items())
    text = f"ply\nformat {layout} 1.0\n{before}element vertex {count}\n{properties}{after}"
    return (text + "end_header\n").encode()


def table_of(columns: dict[str, np.ndarray], order: str = "<") -> bytes:
    dtype = [(name, order + c.dtype.str[1:]) for name, c in columns.items()]
    rows = np.zeros(len(next(iter(columns.values()))), dtype)
    for name, column in columns.items():
        rows[name] = column
    return rows.tobytes()


def text_of(columns: dict[str, np.ndarray]) -> bytes:
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return "".join(" ".join(map(repr, row)) + "\n" for row in rows).encode()


def assert_same(back: SplatModel, model: SplatModel, **tolerance: float) -> None:
    wanted = read_ply(write_ply(model))
    for name in vars(model):
        np.testing.assert_allclose(getattr(back, name), getattr(wanted, name), **tolerance)


MODEL = some_model(40, sh_degree=1)
COLUMNS = columns_of(MODEL)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b" \n", b"\t\r\n"])
@pytest.mark.parametrize("layout", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_every_layout_and_line_end_is_read(layout: str, newline: bytes) -> None:
    body = {
        "ascii": text_of(COLUMNS),
        "binary_little_endian": table_of(COLUMNS),
        "binary_big_endian": table_of(COLUMNS, ">"),
    }[layout]
    if layout == "ascii":
        body = body.replace(b"\n", newline)
    header = header_of(COLUMNS, layout, "comment a\xe7b\nobj_info c\n\n").replace(b"\n", newline)
    read = load_ply(header + body)
    assert_same(read.model, MODEL)
    assert read.notes == ()


@pytest.mark.parametrize("layout", ["ascii", "binary_little_endian"])
def test_lines_that_end_as_on_an_old_macintosh(layout: str) -> None:
    body = text_of(COLUMNS) if layout == "ascii" else table_of(COLUMNS)
    header = header_of(COLUMNS, layout).replace(b"\n", b"\r")
    if layout == "ascii":
        body = body.replace(b"\n", b"\r")
    assert_same(read_ply(header + body), MODEL)


def test_ascii_with_blank_lines_words_for_no_number_and_no_last_line_end() -> None:
    lines = text_of(COLUMNS).splitlines()
    lines[3] = b"nan " + lines[3].split(maxsplit=1)[1]
    lines[5] = b"-inf " + lines[5].split(maxsplit=1)[1]
    read = load_ply(header_of(COLUMNS, "ascii") + b"\n\n  \n".join(lines))
    assert len(read.model) == 38
    assert "2 damaged of 40" in read.notes[0]


@pytest.mark.parametrize("word", [b"1,5", b"-1.#IND", b"#", b"0x1p3", b"two", b"\xff"])
def test_ascii_with_a_word_that_is_no_number_is_refused(word: bytes) -> None:
    lines = text_of(COLUMNS).splitlines()
    lines[3] = word + b" " + lines[3].split(maxsplit=1)[1]
    with pytest.raises(InvalidModelFile, match="damaged line"):
        load_ply(header_of(COLUMNS, "ascii") + b"\n".join(lines))


@pytest.mark.parametrize("kind", ["f8", "f2"])
def test_numbers_of_other_types_are_converted(kind: str) -> None:
    other = {name: column.astype(kind) for name, column in COLUMNS.items()}
    back = read_ply(header_of(other, "binary_little_endian") + table_of(other))
    # Of half precision about three digits are left.
    assert_same(back, MODEL, rtol=1e-5 if kind == "f8" else 0, atol=1e-6 if kind == "f8" else 0.02)


@pytest.mark.parametrize("layout", ["ascii", "binary_big_endian"])
def test_a_geo_referenced_file_of_doubles_keeps_its_detail(layout: str) -> None:
    columns = {name: column.astype("f8") for name, column in COLUMNS.items()}
    for axis, place in zip("xyz", (691_000.25, -5_400_000.5, 120), strict=True):
        columns[axis] += place
    body = text_of(columns) if layout == "ascii" else table_of(columns, ">")
    read = load_ply(header_of(columns, layout) + body)
    assert "moved by -69" in read.remarks[0]
    assert read.faults == ()
    wanted = read_ply(write_ply(MODEL)).means
    np.testing.assert_allclose(
        read.model.means - read.model.means.mean(0), wanted - wanted.mean(0), atol=1e-6
    )
    near = {name: column.astype("f8") for name, column in COLUMNS.items()}
    near["x"] += 100
    body = text_of(near) if layout == "ascii" else table_of(near, ">")
    assert load_ply(header_of(near, layout) + body).notes == ()


def test_further_properties_of_any_type_are_ignored() -> None:
    more = {
        "label": np.arange(40, dtype="i4"),
        **COLUMNS,
        "red": np.zeros(40, "u1"),
        "green": np.zeros(40, "u1"),
        "blue": np.zeros(40, "u1"),
        "confidence": np.zeros(40, "f8"),
    }
    for layout, body in (("ascii", text_of(more)), ("binary_little_endian", table_of(more))):
        assert_same(read_ply(header_of(more, layout) + body), MODEL)


BEFORE = "element camera 2\nproperty float focal\nproperty double time\n"
FACES = "element face 3\nproperty list uchar int vertex_indices\n"


def lists(lengths: list[int]) -> bytes:
    return b"".join(bytes([n]) + np.arange(n, dtype="<i4").tobytes() for n in lengths)


@pytest.mark.parametrize("lengths", [[3, 3, 3], [3, 5, 0]])
def test_elements_before_and_behind_the_splats_are_passed_over(lengths: list[int]) -> None:
    behind = "element version 3\nproperty uchar version\nelement edge 0\n"
    behind += "property list uchar int vertex_indices\n"
    header = header_of(COLUMNS, "binary_little_endian", BEFORE + FACES, behind)
    body = bytes(24) + lists(lengths) + table_of(COLUMNS) + b"\1\2\3"
    read = load_ply(header + body)
    assert_same(read.model, MODEL)
    assert read.notes == ()
    text = b"1 2\n3 4\n" + b"3 0 1 2\n4 0 1 2 3\n1 0\n" + text_of(COLUMNS) + b"1\n2\n3\n"
    assert_same(read_ply(header_of(COLUMNS, "ascii", BEFORE + FACES, behind) + text), MODEL)


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_lists_of_several_lengths_that_end_too_early_are_refused(cut: int) -> None:
    header = header_of(COLUMNS, "binary_little_endian", FACES)
    with pytest.raises(InvalidModelFile, match="truncated"):
        read_ply(header + lists([3, 5, 4])[:-cut])


def test_bytes_too_many_or_too_few_behind_the_splats_are_a_note() -> None:
    data = write_ply(MODEL)
    assert "last 7 bytes were ignored" in load_ply(data + b"trailer").notes[0]
    assert "last byte was ignored" in load_ply(data + b"t").notes[0]
    header = header_of(COLUMNS, "binary_little_endian", "", "element e 9\nproperty float x\n")
    read = load_ply(header + table_of(COLUMNS) + bytes(8))
    assert "truncated behind its splats" in read.notes[0]
    assert_same(read.model, MODEL)


def test_infinite_opacities_and_scales_of_zero_are_what_they_say() -> None:
    model = some_model(40)
    model.logit_opacities[:2] = (np.inf, -np.inf)
    model.log_scales[3, 1] = -np.inf
    read = load_ply(write_ply(model))
    assert len(read.model) == 40
    assert read.notes == ()
    np.testing.assert_allclose(read.model.opacities[:2], [1, 0], atol=1e-8)
    assert read.model.scales[3, 1] < 1e-8
    assert np.isfinite(read.model.log_scales).all()


@pytest.mark.parametrize("name", ["x", "rot_2", "scale_1", "opacity", "f_dc_1", "f_rest_4"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38])
def test_damaged_splats_are_left_out_and_counted(name: str, value: float) -> None:
    columns = {name: column.copy() for name, column in COLUMNS.items()}
    columns[name][[3, 27]] = value
    read = load_ply(header_of(columns, "binary_little_endian") + table_of(columns))
    for array in vars(read.model).values():
        assert np.isfinite(array).all()
    means_something = name == "opacity" or (name == "scale_1" and value == -np.inf)
    if value == 3.4e38 or (means_something and not np.isnan(value)):
        assert len(read.model) in (38, 40)
        return
    assert_same(read.model, MODEL.select(np.delete(np.arange(40), [3, 27])))
    assert "2 damaged of 40 splats" in read.notes[0]


@pytest.mark.parametrize("zeros", ["rotation", "row"])
def test_rows_of_zeros_are_left_out(zeros: str) -> None:
    columns = {name: column.copy() for name, column in COLUMNS.items()}
    for name, column in columns.items():
        if zeros == "row" or name.startswith("rot_"):
            column[30:] = 0
    read = load_ply(header_of(columns, "binary_little_endian") + table_of(columns))
    assert_same(read.model, MODEL.select(np.arange(30)))
    assert "10 damaged of 40" in read.notes[0]
    assert "length zero" in read.notes[0]


def test_a_file_of_damaged_splats_only_is_refused() -> None:
    model = some_model(4)
    model.means[:] = np.nan
    model.quats[3] = 0
    with pytest.raises(InvalidModelFile, match=r"All 4 splats .* are damaged"):
        read_ply(write_ply(model))


@pytest.mark.parametrize(
    ("kind", "white"),
    [("u1", 255), ("u2", 65535), ("u2", 255), ("i4", 255), ("f4", 1.0), ("f4", 255), ("f8", 255)],
)
def test_colours_are_taken_where_harmonics_are_missing(kind: str, white: float) -> None:
    model = some_model(40)
    columns = columns_of(model)
    rgb = np.clip(0.5 + SH_C0 * model.sh[:, 0], 0, 1)
    for i, name in enumerate(("red", "green", "blue")):
        del columns[f"f_dc_{i}"]
        columns[name] = (np.round(rgb[:, i] * white) if white > 1 else rgb[:, i]).astype(kind)
    back = read_ply(header_of(columns, "binary_little_endian") + table_of(columns))
    np.testing.assert_allclose(0.5 + SH_C0 * back.sh[:, 0], rgb, atol=0.51 / min(white, 255))


def test_2d_gaussians_are_flat() -> None:
    columns = columns_of(MODEL)
    del columns["scale_2"]
    read = load_ply(header_of(columns, "binary_little_endian") + table_of(columns))
    np.testing.assert_array_equal(read.model.log_scales[:, :2], MODEL.log_scales[:, :2])
    assert (read.model.scales[:, 2] <= 0.0011 * read.model.scales[:, :2].min(axis=1)).all()
    assert "2D Gaussians" in read.notes[0]


@pytest.mark.parametrize("turned", [False, True])
def test_splats_of_one_scale_are_round(turned: bool) -> None:
    columns = columns_of(MODEL)
    for name in ("scale_1", "scale_2", *(() if turned else (f"rot_{i}" for i in range(4)))):
        del columns[name]
    read = load_ply(header_of(columns, "binary_little_endian") + table_of(columns))
    for axis in range(3):
        np.testing.assert_array_equal(read.model.log_scales[:, axis], MODEL.log_scales[:, 0])
    assert len(read.model) == 40
    assert "round splats" in read.notes[0]


def test_harmonics_above_degree_3_are_left_out() -> None:
    model = some_model(10, sh_degree=3)
    columns = columns_of(model)
    rest = np.stack([columns.pop(f"f_rest_{i}") for i in range(45)], axis=1).reshape(10, 3, 15)
    wide = np.pad(rest, ((0, 0), (0, 0), (0, 9)), constant_values=7).reshape(10, 72)
    columns |= {f"f_rest_{i}": wide[:, i] for i in range(72)}
    read = load_ply(header_of(columns, "binary_little_endian") + table_of(columns))
    assert_same(read.model, model, atol=1e-6)
    assert "above degree 3" in read.notes[0]


@pytest.mark.parametrize(
    ("faces", "told"), [(0, "a point cloud, not"), (3, "a mesh, not"), (None, "a point cloud, not")]
)
def test_point_clouds_and_meshes_are_named(faces: int | None, told: str) -> None:
    columns = {axis: COLUMNS[axis] for axis in "xyz"} | {"red": np.zeros(40, "u1")}
    after = "" if faces is None else FACES.replace("face 3", f"face {faces}")
    body = table_of(columns) + lists([3] * (faces or 0))
    with pytest.raises(InvalidModelFile, match=told):
        read_ply(header_of(columns, "binary_little_endian", "", after) + body)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("element vertex 999999999999\n", "truncated"),
        ("element vertex -5\n", "makes no sense"),
        ("element vertex 1e3\n", "makes no sense"),
        ("element vertex 9999999999999\n", "13 digits"),
        ("element camera 999999999999\nproperty float a\nelement vertex 1\n", "truncated"),
        ("element face 999999999999\nproperty list int int a\nelement vertex 1\n", "truncated"),
        ("element vertex 1\nproperty float x\nproperty float x\n", "'x' of 'vertex' twice"),
        ("property float x\nelement vertex 1\n", "before any element"),
        ("element vertex 1\nproperty quad x\n", "makes no sense: 'property quad x'"),
        ("element vertex 1\nelement vertex 1\n", "two elements"),
    ],
)
@pytest.mark.parametrize("layout", ["ascii", "binary_little_endian"])
def test_what_a_header_claims_is_refused_before_anything_is_allocated(
    layout: str, line: str, told: str
) -> None:
    properties = "".join(f"property float {n}\n" for n in COLUMNS if n != "x" or "x" not in line)
    data = f"ply\nformat {layout} 1.0\n{line}{properties}end_header\n".encode() + bytes(100)
    tracemalloc.start()
    with pytest.raises(InvalidModelFile, match=told):
        read_ply(data)
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()


def test_a_list_longer_than_the_file_is_refused() -> None:
    header = header_of(COLUMNS, "binary_little_endian", FACES.replace("uchar int", "int int"))
    for count in (-1, 2_000_000_000, 900):
        body = np.array([count], "<i4").tobytes() + bytes(40)
        with pytest.raises(InvalidModelFile, match=r"list of|truncated"):
            read_ply(header + body)


@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
def test_a_compressed_ply_is_read_as_another_reader_does(sh_degree: int) -> None:
    model = some_model(700, sh_degree=sh_degree)
    turned = rotate_model(model, PLY_FROM_WORLD)
    data = gsply.compress_to_bytes(
        turned.means,
        turned.log_scales,
        turned.quats,
        turned.logit_opacities,
        turned.sh[:, 0],
        turned.sh[:, 1:] if sh_degree else None,
    )
    seen = gsply.decompress_from_bytes(data)
    back = rotate_model(read_ply(data), PLY_FROM_WORLD)
    np.testing.assert_allclose(back.means, seen.means, atol=1e-5)
    np.testing.assert_allclose(back.log_scales, seen.scales, atol=1e-5)
    signs = np.sign((back.quats * seen.quats).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(back.quats, seen.quats * signs, atol=1e-5)
    np.testing.assert_allclose(back.sh[:, 0], seen.sh0, atol=1e-4)
    assert back.sh_degree == sh_degree
    if sh_degree:
        np.testing.assert_allclose(back.sh[:, 1:], seen.shN, atol=0.05)
    with pytest.raises(InvalidModelFile, match="truncated"):
        read_ply(data[:-1])


def test_numbers_in_other_units_are_hinted_at() -> None:
    torus = shell("torus", 500)
    assert load_ply(write_ply(torus)).notes == ()
    lengths = replace(torus, log_scales=torus.scales)
    assert "larger than the whole" in load_ply(write_ply(lengths)).notes[0]
    room = replace(lengths, means=np.float32(20) * torus.means)
    assert "if they are lengths" in load_ply(write_ply(room)).notes[0]
    shares = replace(torus, logit_opacities=np.linspace(0.2, 0.9, 500).astype(np.float32))
    assert "opacities" in load_ply(write_ply(shares)).notes[0]
