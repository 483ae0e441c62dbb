"""The `glimpse3d` command in one process; `demo` and `serve` are what the cluster tests start."""

import numpy as np
import pytest
from imageio_ffmpeg import count_frames_and_secs
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from pipeline.file_types import FORMATS
from pipeline.formats.ply import read_ply
from pipeline.formats.splat import read_splat
from pipeline.weights import folders
from serve_app.cli.console import print_notes, summary_table
from serve_app.cli.demo import default_photo
from serve_app.cli.main import app

RUNNER = CliRunner()


@pytest.mark.slow
def test_run_leaves_models_views_depth_and_a_contact_sheet(finished_run):
    out = finished_run.folder
    assert "prior" in finished_run.said
    assert "the guess of a small network" in " ".join(finished_run.said.split())
    model = read_ply((out / "models" / "final.ply").read_bytes())
    assert len(read_splat((out / "models" / "final.splat").read_bytes())) == len(model)
    assert {path.name for path in (out / "models").glob("final.*")} == {
        f"final.{found.suffix}" for found in FORMATS.values()
    }
    assert count_frames_and_secs(out / "turntable.mp4")[0] == 60
    with Image.open(out / "thumbnail.png") as thumbnail:
        assert thumbnail.size == (512, 512)
    assert len(list((out / "views").glob("*.png"))) == 16
    assert len(list((out / "depth").glob("*.png"))) == 16
    sheet = np.asarray(Image.open(out / "contact_sheet.png"))
    assert sheet.shape[1] > 1000
    assert sheet.std() > 20, "not an empty picture"


def test_missing_weights_are_a_sentence_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "_module_directory", lambda _module: None)
    result = RUNNER.invoke(app, ["run", str(default_photo()), "-o", str(tmp_path / "out")])
    said = " ".join(result.output.split())
    assert result.exit_code == 1
    assert "unavailable: The weights 'prior' (prior.npz, " in said
    assert "make prior" in said
    assert "VIEWS_ENGINE=relief" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_names_and_notes_that_look_like_markup_are_printed_as_they_are():
    console = Console(record=True, width=100)
    print_notes(console, ["a [red]note[/] [/]"], of="[b].ply")
    console.print(summary_table("Files", ("file", "MB:"), [("out [/bold]/[red].ply", "1")]))
    said = console.export_text()
    assert "Note: [b].ply: a [red]note[/] [/]" in said
    assert "out [/bold]/[red].ply" in said


def test_a_bad_photo_is_one_sentence_and_an_exit_code_and_leaves_nothing(tmp_path):
    photo = tmp_path / "letter.txt"
    photo.write_text("Dear reader")
    out = tmp_path / "out"
    result = RUNNER.invoke(app, ["run", str(photo), "-o", str(out)])
    assert result.exit_code == 1
    assert "invalid_image" in result.output
    assert "Traceback" not in result.output
    assert not out.exists()


@pytest.mark.parametrize(
    "flags", [["--elevation-deg", "80"], ["--iterations", "-1"], ["--seed", "-5"]]
)
def test_a_bad_option_is_named(tmp_path, flags):
    result = RUNNER.invoke(app, ["run", str(default_photo()), "-o", str(tmp_path / "o"), *flags])
    assert result.exit_code != 0
    assert flags[0].strip("-").split("-")[0] in result.output
    assert not (tmp_path / "o").exists()


def test_the_demo_names_a_photo_that_is_not_there(tmp_path):
    result = RUNNER.invoke(app, ["demo", "--image", str(tmp_path / "none.jpg")])
    assert result.exit_code == 2
    assert "none.jpg" in result.output


def test_a_wrong_variable_of_the_environment_is_named(monkeypatch):
    monkeypatch.setenv("API_PORT", "abc")
    result = RUNNER.invoke(app, ["serve"])
    assert result.exit_code == 2
    assert "API_PORT" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", [["export"], ["render", "--thumbnail"]])
def test_what_looks_like_markup_is_printed_as_it_stands(tmp_path, command):
    model = tmp_path / "model[bold].ply"
    model.write_bytes(
        b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty [/red] x\nend_header\n"
    )
    name, *option = command
    result = RUNNER.invoke(app, [name, str(model), *option, str(tmp_path / "o.ply")])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert "'property [/red] x'" in result.output
    (tmp_path / "model[bold].ply").unlink()
    result = RUNNER.invoke(app, [name, str(model), *option, str(tmp_path / "o.ply")])
    assert result.exit_code == 1
    assert "model[bold].ply cannot be read" in result.output
