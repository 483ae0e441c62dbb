"""`glimpse3d export` and `glimpse3d render` on good, damaged and foreign files."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from imageio_ffmpeg import count_frames_and_secs
from PIL import Image
from typer.testing import CliRunner

from pipeline.errors import InvalidInput
from pipeline.file_types import FORMATS
from pipeline.formats.ply import read_ply, write_ply
from pipeline.formats.splat import read_splat, write_splat
from pipeline.types import SplatModel
from serve_app.cli.main import app
from serve_app.cli.model_files import read_model
from tests.fakes import some_model
from tests.oracles.shells import shell

RUNNER = CliRunner()
SOG = Path(__file__).parents[2] / "data" / "splats" / "sixty.sog"


@pytest.fixture(scope="module")
def torus() -> SplatModel:
    return shell("torus", 12_000)


@pytest.fixture
def model_file(tmp_path: Path, torus: SplatModel) -> Path:
    path = tmp_path / "model.ply"
    path.write_bytes(write_ply(torus))
    return path


def run(*arguments: object) -> tuple[int, str]:
    """Exit code and output on one line."""
    result = RUNNER.invoke(app, [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    return result.exit_code, " ".join(result.output.split())


def test_a_mesh_is_written(model_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.glb"
    code, said = run(
        "export", model_file, target, "--optimize", "--face-limit", 1000, "--texture-size", 128
    )
    assert code == 0, said
    assert "500 faces" in said
    assert "128 pixels of texture" in said
    assert "Saved: 500 faces" in said
    (mesh,) = trimesh.load(target, process=False).geometry.values()
    assert len(mesh.faces) == 500


def test_splats_go_there_and_back(model_file: Path, tmp_path: Path, torus: SplatModel) -> None:
    assert run("export", model_file, tmp_path / "a.splat")[0] == 0
    assert run("export", tmp_path / "a.splat", tmp_path / "b.ply")[0] == 0
    back = read_ply((tmp_path / "b.ply").read_bytes())
    order = np.lexsort(torus.means.T), np.lexsort(back.means.T)
    np.testing.assert_allclose(back.means[order[1]], torus.means[order[0]], atol=1e-6)
    assert len(read_splat((tmp_path / "a.splat").read_bytes())) == len(torus)


def test_the_name_of_the_file_says_the_format(tmp_path: Path) -> None:
    model = tmp_path / "model.splat"
    model.write_bytes(write_splat(some_model(50)))
    assert run("export", model, tmp_path / "x.splat.glb")[0] == 0
    assert b"KHR_gaussian_splatting" in (tmp_path / "x.splat.glb").read_bytes()
    assert run("export", model, tmp_path / "anything", "--format", "spz")[0] == 0
    assert (tmp_path / "anything").read_bytes().startswith(b"\x1f\x8b")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("x.fbx", "names no format"), ("x.obj", "name it x.obj.zip"), ("x", "names no format")],
)
def test_a_name_that_says_no_format_lists_those_there_are(
    model_file: Path, tmp_path: Path, name: str, wanted: str
) -> None:
    code, said = run("export", model_file, tmp_path / name)
    assert code == 1
    assert wanted in said
    if "names no" in wanted:
        assert all(f".{found.suffix}" in said for found in FORMATS.values())


def _damaged(kind: str) -> bytes:
    model = some_model(50)
    good = write_ply(model)
    mesh = b"ply\nformat binary_little_endian 1.0\nelement vertex 0\nproperty float x\n"
    return {
        "empty": b"",
        "truncated": good[:-10],
        "letter": b"Dear reader",
        "mesh": mesh + b"element face 1\nproperty list uchar int vertex_indices\nend_header\n",
        "no opacity": good.replace(b"property float opacity", b"property float whatever"),
        "nan": write_ply(replace(model, log_scales=np.full_like(model.log_scales, np.nan))),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("empty", "is empty"),
        ("truncated", "truncated: "),
        ("letter", "does not begin with a PLY header"),
        ("mesh", "a mesh, not Gaussian splats"),
        ("no opacity", "property 'opacity' is missing"),
        ("nan", "All 50 splats of the .ply are damaged: 50 with NaN"),
    ],
)
@pytest.mark.parametrize("command", ["export", "render"])
def test_a_damaged_or_foreign_file_is_named(
    tmp_path: Path, command: str, kind: str, wanted: str
) -> None:
    model, target = tmp_path / "model.ply", tmp_path / "out.glb"
    model.write_bytes(_damaged(kind))
    code, said = run(
        *(
            [command, model, target]
            if command == "export"
            else [command, model, "--turntable", target]
        )
    )
    assert code == 1
    assert "invalid_model_file" in said
    assert wanted in said
    assert [path.name for path in tmp_path.iterdir()] == ["model.ply"]


@pytest.mark.parametrize("suffix", ["ply", "splat", "spz", "splat.glb"])
def test_every_file_of_splats_that_is_written_is_read_again(
    tmp_path: Path, model_file: Path, torus: SplatModel, suffix: str
) -> None:
    between, back = tmp_path / f"a.{suffix}", tmp_path / "back.ply"
    assert run("export", model_file, between)[0] == 0
    code, said = run("export", between, back)
    assert code == 0, said
    assert "Note" not in said
    read = read_ply(back.read_bytes())
    order = np.lexsort(np.round(torus.means, 2).T)
    assert len(read) == len(torus)
    np.testing.assert_allclose(read.means.mean(0), torus.means[order].mean(0), atol=1e-4)
    np.testing.assert_allclose(read.scales.mean(0), torus.scales.mean(0), rtol=0.04)


def test_a_splat_file_that_begins_like_another_kind_is_read(
    tmp_path: Path, torus: SplatModel
) -> None:
    """Its first bytes are a coordinate, which may be any number."""
    data = write_splat(torus)
    (tmp_path / "a.splat").write_bytes(b"\x1f\x8b" + data[2:])
    assert len(read_model(tmp_path / "a.splat").model) == len(torus)


def test_a_sog_is_read_as_a_file_and_as_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    with zipfile.ZipFile(SOG) as archive:
        archive.extractall(folder)
    for source in (SOG, folder, folder / "meta.json"):
        code, said = run("export", source, tmp_path / "b.ply")
        assert code == 0, said
        assert len(read_ply((tmp_path / "b.ply").read_bytes())) == 60
    (folder / "means_l.webp").unlink()
    code, said = run("export", folder, tmp_path / "c.ply")
    assert code == 1
    assert "has no file 'means_l.webp'" in said
    code, said = run("export", tmp_path, tmp_path / "c.ply")
    assert code == 1
    assert "without meta.json" in said


@pytest.mark.parametrize("command", ["export", "render"])
def test_what_was_left_out_of_a_file_is_said(tmp_path: Path, command: str) -> None:
    model = some_model(50)
    model.means[7, 1] = np.nan
    source, target = tmp_path / "model.ply", tmp_path / "out.ply"
    source.write_bytes(write_ply(model))
    option = [] if command == "export" else ["--thumbnail"]
    code, said = run(command, source, *option, target)
    assert code == 0, said
    assert "Note: Left out 1 damaged of 50 splats" in said
    target.unlink()
    code, said = run(command, source, *option, target, "--strict")
    assert code == 1
    assert "damaged" in said
    assert "1 damaged of 50 splats" in said
    assert not target.exists()


def test_splats_left_out_of_a_picture_are_said(tmp_path: Path) -> None:
    model = some_model(200)
    model.log_scales[[3, 4]] = 9
    source = tmp_path / "model.ply"
    source.write_bytes(write_ply(model))
    code, said = run("render", source, "--thumbnail", tmp_path / "a.png", "--size", 64)
    assert code == 0, said
    assert "Note: Not drawn because they cover the object: 2 of 200 splats" in said


def test_strays_left_out_of_a_file_are_said(tmp_path: Path, torus: SplatModel) -> None:
    means = torus.means.copy()
    means[:20] *= np.float32(1e7)
    source = tmp_path / "model.ply"
    source.write_bytes(write_ply(replace(torus, means=means)))
    for target in ("out.ply", "out.spz"):
        code, said = run("export", source, tmp_path / target, "--optimize")
        assert code == 0, said
        assert "Left out far away from the object: 20 of 12,000 splats" in said


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.lcc", b"{}"), ("a.LCC2", b"[]")],
)
def test_formats_of_splats_that_are_not_read_are_named(
    tmp_path: Path, name: str, data: bytes
) -> None:
    source = tmp_path / name
    source.write_bytes(data)
    code, said = run("export", source, tmp_path / "x.ply")
    assert code == 1
    assert "convert it to .ply" in said


@pytest.mark.parametrize("command", ["export", "render"])
def test_a_file_that_cannot_be_read_or_written_is_named(
    model_file: Path, tmp_path: Path, command: str
) -> None:
    def of(source: Path, target: Path) -> tuple[int, str]:
        option = [] if command == "export" else ["--thumbnail"]
        return run(command, source, *option, target)

    code, said = of(tmp_path / "none.ply", tmp_path / "x.ply")
    assert code == 1
    assert "No such file" in said
    code, said = of(tmp_path, tmp_path / "x.ply")
    assert code == 1
    assert "is a folder" in said
    code, said = of(model_file, tmp_path / "nowhere" / "x.ply")
    assert code == 1
    assert "There is no folder" in said
    (tmp_path / "folder.ply").mkdir()
    code, said = of(model_file, tmp_path / "folder.ply")
    assert code == 1
    assert "is a folder" in said


def test_bad_options_are_named(model_file: Path, tmp_path: Path) -> None:
    for flags, wanted in (
        (["--format", "fbx"], "format must be one of"),
        (["--face-limit", 5], "face_limit"),
        (["--texture-size", 5], "texture_size"),
        (["--height-m", 0], "height_m"),
    ):
        code, said = run("export", model_file, tmp_path / "x.glb", *flags)
        assert code == 1
        assert wanted in said
    code, said = run("render", model_file, "--turntable", tmp_path / "x.mp4", "--size", 33)
    assert code == 1
    assert "size must be" in said
    code, said = run("render", model_file)
    assert code == 2
    assert "--turntable" in said


def test_pictures_are_drawn(model_file: Path, tmp_path: Path) -> None:
    film, picture = tmp_path / "out.mp4", tmp_path / "out.png"
    flags = ["--turntable", film, "--thumbnail", picture, "--frames", 8, "--size", 64]
    code, said = run("render", model_file, *flags)
    assert code == 0, said
    assert count_frames_and_secs(film)[0] == 8
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape == (64, 64, 3)
    assert pixels.std() > 20


@pytest.mark.slow
def test_ctrl_c_leaves_an_old_file_and_nothing_else(model_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.glb"
    target.write_bytes(b"old")
    # A shell may have told this process, and so its children, to ignore the signal.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from serve_app.cli.main import app; app()"
    )
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code, "export", model_file, target],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "200", "FORCE_COLOR": "1"},
    )
    assert process.stdout is not None
    said = ""
    while "export" not in said:  # the bar of the export is drawn
        said += process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said + rest
    assert "Traceback" not in said + rest
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.ply", "out.glb"]


def test_a_folder_that_may_not_be_listed_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meta.json").write_text("{}")

    def refuse(self: Path) -> Iterator[Path]:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InvalidInput, match=r"cannot be read: Permission denied\."):
        read_model(tmp_path)
