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
from pipeline.options import ExportOptions
from pipeline.requests import ExportedFile
from pipeline.splats.render import render_model
from pipeline.splats.scores import psnr
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
}


MEMORY = MeshMemory()


@cache
def exported(name: str, optimize: bool) -> ExportedFile:
    model = shell("torus", 12_000)
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
    assert small.saved["bytes"] > 0
    if FORMATS[name].is_mesh:
        assert plain.contents["faces"] == 2000
        assert plain.contents["texture_size"] == 256
        assert small.contents["faces"] == 1000
        assert small.saved["faces"] == 1000
    else:
        assert plain.contents == {"splats": 12_500}
        assert small.saved["splats"] >= 500
        assert small.contents["splats"] == 12_500 - small.saved["splats"]
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


def test_a_bad_model_and_bad_options_are_refused() -> None:
    model = some_model()
    broken = replace(model, log_scales=np.full_like(model.log_scales, np.nan))
    with pytest.raises(InvalidInput, match="NaN or infinity in its log_scales"):
        export_model(broken, ExportOptions("ply"))
    with pytest.raises(InvalidOption, match=r"one of ply, splat, spz, glb, obj, usdz, glb-splat"):
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
            shell("torus", 12_000),
            ExportOptions("glb", face_limit=500, texture_size=64),
            Control(control.stop, stop_when_unwrapped),
        )


def test_a_mesh_is_made_once_for_all_formats_of_a_model() -> None:
    def messages(model: SplatModel, options: ExportOptions, memory: MeshMemory) -> set[str]:
        seen = list[Progress]()
        export_model(model, options, Control(report_to=seen.append), memory)
        return {p.message for p in seen}

    model, memory = shell("torus", 4_000), MeshMemory(capacity=1)
    glb = ExportOptions("glb", face_limit=500, texture_size=64)
    assert "surface" in messages(model, glb, memory)
    assert messages(model, replace(glb, format="obj"), memory) == {"write"}
    assert "surface" in messages(model, replace(glb, face_limit=400), memory)
    assert "surface" in messages(model, glb, memory)  # forgotten: the memory holds one
