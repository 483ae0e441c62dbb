"""Exports say what is in the file and what was saved; what they say is true."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import trimesh

from pipeline.control import Control, Progress
from pipeline.engines.exporter import WRITERS, MeshMemory, export_model
from pipeline.errors import Cancelled, InvalidInput, InvalidOption
from pipeline.file_types import FORMATS
from pipeline.formats.ply import read_ply
from pipeline.formats.splat import read_splat
from pipeline.geometry.cameras import held_out_cameras
from pipeline.geometry.true_size import Box
from pipeline.imaging.psnr import psnr
from pipeline.options import ExportOptions
from pipeline.requests import ExportedFile
from pipeline.splats.render import render_model
from pipeline.types import SplatModel
from tests.fakes import some_model
from tests.oracles.shells import shell

#: How each file begins.
MAGIC = {
    "ply": b"ply\n",
    "spz": b"\x1f\x8b",
    "glb": b"glTF",
    "glb-splat": b"glTF",
    "obj": b"PK\x03\x04",
    "usdz": b"PK\x03\x04",
    "3mf": b"PK\x03\x04",
}


MEMORY = MeshMemory()


@cache
def exported(name: str, optimize: bool) -> ExportedFile:
    model = shell("torus", 30_000)
    hidden = replace(shell("torus", 500, seed=9), logit_opacities=np.full(500, -6.0, np.float32))
    both = SplatModel(
        *(np.concatenate([getattr(model, n), getattr(hidden, n)]) for n in vars(model))
    )
    return export_model(
        both, ExportOptions(name, optimize, face_limit=2000, texture_size=256), memory=MEMORY
    )


def test_every_format_has_a_writer() -> None:
    assert list(WRITERS) == list(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_written_and_optimizing_makes_it_smaller(name: str) -> None:
    plain, small = exported(name, False), exported(name, True)
    assert plain.data.startswith(MAGIC.get(name, b""))
    assert plain.saved == {}
    assert len(small.data) < len(plain.data)
    # The numbers of an .stl have one size.
    assert small.saved["bytes"] > 0 or (name, small.saved["bytes"]) == ("stl", 0)
    if FORMATS[name].is_mesh:
        assert plain.contents["faces"] == 2000
        assert plain.contents.get("texture_size") == (None if name in ("stl", "3mf") else 256)
        assert plain.contents["parts"] == 1
        assert small.contents["faces"] == 1000
        assert small.saved["faces"] == 1000
    else:
        assert plain.contents == {"splats": 30_500}
        assert small.saved["splats"] >= 500
        assert small.contents["splats"] == 30_500 - small.saved["splats"]
        assert small.saved["bytes"] == len(plain.data) - len(small.data)


@pytest.mark.parametrize("name", ["ply", "splat"])
def test_optimized_splats_look_the_same(name: str) -> None:
    read = {"ply": read_ply, "splat": read_splat}[name]
    cameras = held_out_cameras()
    plain, small = (
        render_model(read(exported(name, optimize).data), cameras).images
        for optimize in (False, True)
    )
    assert psnr(plain, small) >= 50


def test_contents_are_those_of_the_file() -> None:
    plain = exported("glb", False)
    scene = trimesh.load(io.BytesIO(plain.data), file_type="glb", process=False)
    (mesh,) = scene.geometry.values()
    assert len(mesh.faces) == plain.contents["faces"]
    assert len(mesh.vertices) == plain.contents["vertices"]
    with zipfile.ZipFile(io.BytesIO(exported("obj", False).data)) as archive:
        assert archive.testzip() is None
        text = archive.read("model.obj").decode()
    assert sum(line.startswith("f ") for line in text.splitlines()) == 2000


def box_of(name: str, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and highest corner of what is in a file, the height last."""
    if name == "obj":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            data = archive.read("model.obj")
    if name in ("ply", "splat"):
        model = {"ply": read_ply, "splat": read_splat}[name](data)
        box = Box.of_splats(model)
        return box.low, box.high
    loaded = trimesh.load(io.BytesIO(data), file_type=name, force="mesh", process=False)
    low, high = loaded.bounds
    # y is up in all but files for printers.
    return (low, high) if name == "stl" else (low[[2, 0, 1]], high[[2, 0, 1]])


# trimesh does not undo the quantisation of an optimised .glb; three does, in the formats' tests.
@pytest.mark.parametrize(
    ("name", "optimize"),
    [
        ("glb", False),
        ("obj", False),
        ("obj", True),
        ("stl", False),
        ("stl", True),
        ("ply", True),
        ("splat", False),
    ],
)
def test_a_model_of_known_height_stands_on_the_ground(name: str, optimize: bool) -> None:
    options = ExportOptions(name, optimize, face_limit=2000, texture_size=256, height_m=0.05)
    file = export_model(shell("torus", 30_000), options, memory=MEMORY)
    low, high = box_of(name, file.data)
    unit = 1000 if name == "stl" else 1
    assert low[2] == pytest.approx(0, abs=2e-4 * unit)
    assert high[2] == pytest.approx(0.05 * unit, rel=0.005)
    np.testing.assert_allclose(low[:2] + high[:2], 0, atol=2e-4 * unit)


def test_a_print_that_nobody_gave_a_height_is_a_hundred_millimetres_long() -> None:
    plain = exported("stl", False)
    low, high = box_of("stl", plain.data)
    assert np.ptp([low, high], axis=0).max() == pytest.approx(100, rel=1e-4)
    assert low[2] == pytest.approx(0, abs=1e-4)
    size, colors = plain.notes[-2:]
    assert size.startswith("Printed, the model is ")
    assert size.endswith("mm high.")
    assert "colours are left out" in colors
    assert exported("3mf", False).notes[-1] == size
    seen = trimesh.load(io.BytesIO(plain.data), file_type="stl")
    assert seen.is_watertight
    assert len(seen.vertices) == plain.contents["vertices"]


def test_what_is_unlit_says_where_it_cannot_be() -> None:
    def notes(name: str) -> tuple[str, ...]:
        options = ExportOptions(name, face_limit=2000, texture_size=256, unlit=True)
        return export_model(shell("torus", 30_000), options, memory=MEMORY).notes

    assert notes("glb") == notes("usdz")
    assert not any("unlit" in note for note in notes("glb"))
    assert "illum 0" in notes("obj")[-1]
    assert notes("3mf")[-1] == "A .3mf file has no material that could be unlit."
    assert notes("stl")[-1] == "A .stl file has no material that could be unlit."


@pytest.mark.parametrize("name", ["glb", "usdz", "obj"])
def test_unlit_is_in_the_file_and_the_default_is_as_it_was(name: str) -> None:
    options = ExportOptions(name, face_limit=2000, texture_size=256)
    model = shell("torus", 30_000)
    plain = export_model(model, options, memory=MEMORY)
    unlit = export_model(model, replace(options, unlit=True), memory=MEMORY)
    assert plain.data != unlit.data
    assert plain.contents == unlit.contents
    assert plain.data == export_model(model, options, memory=MEMORY).data


def test_a_bad_model_and_bad_options_are_refused() -> None:
    model = some_model()
    broken = replace(model, log_scales=np.full_like(model.log_scales, np.nan))
    with pytest.raises(InvalidInput, match="NaN or infinity in its log_scales"):
        export_model(broken, ExportOptions("ply"))
    with pytest.raises(
        InvalidOption, match=r"one of ply, splat, spz, glb, obj, usdz, stl, 3mf, glb-splat"
    ):
        ExportOptions("fbx")
    with pytest.raises(InvalidOption, match="face_limit must be between 100 and"):
        ExportOptions("glb", face_limit=10)
    with pytest.raises(InvalidOption, match="texture_size must be between 64 and"):
        ExportOptions("glb", texture_size=100_000)


def test_options_that_make_the_same_file_are_equal() -> None:
    assert ExportOptions("ply", face_limit=500).canonical() == ExportOptions("ply")
    assert ExportOptions("glb", face_limit=500).canonical() != ExportOptions("glb")
    options = ExportOptions("glb", True, 500, 512)
    assert ExportOptions.from_json(options.to_json()) == options


def test_a_stop_is_heard_between_the_steps() -> None:
    control = Control()

    def stop_when_unwrapped(progress: Progress) -> None:
        if progress.message == "unwrap":
            control.stop.set()

    with pytest.raises(Cancelled):
        export_model(
            shell("torus", 30_000),
            ExportOptions("glb", face_limit=500, texture_size=64),
            Control(control.stop, stop_when_unwrapped),
        )


def test_a_mesh_is_made_once_for_all_formats_of_a_model() -> None:
    def messages(model: SplatModel, options: ExportOptions, memory: MeshMemory) -> set[str]:
        seen = list[Progress]()
        export_model(model, options, Control(report_to=seen.append), memory)
        return {p.message for p in seen}

    model, memory = shell("torus", 30_000), MeshMemory(capacity=1)
    glb = ExportOptions("glb", face_limit=500, texture_size=64)
    assert "surface" in messages(model, glb, memory)
    assert messages(model, replace(glb, format="obj"), memory) == {"write"}
    assert "surface" in messages(model, replace(glb, face_limit=400), memory)
    assert "surface" in messages(model, glb, memory)  # forgotten: the memory holds one
