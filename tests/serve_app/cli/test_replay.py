"""`glimpse3d replay`: the same files again, or which differ and why; errors before any work."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image
from typer.testing import CliRunner

import pipeline.flow.local
from pipeline.flow.intake import prepare_upload
from pipeline.flow.manifest import Manifest, Step, StepKind, content_hash
from pipeline.flow.stored_photos import PhotoRecord
from pipeline.imaging.decoding import encode_png
from serve_app.cli.main import app
from serve_app.cli.replay import DIFFERS_EXIT_CODE, stored_upload
from serve_app.cli.replay_inputs import ReplayInputs, read_manifest
from tests.fakes import FakeModels
from tests.serve_app.cli.conftest import FinishedRun

RUNNER = CliRunner()


def replay(*arguments: object) -> tuple[int, str]:
    """Exit code and output on one line."""
    result = RUNNER.invoke(app, ["replay", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    assert "Traceback" not in result.output
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture(scope="module")
def finished(finished_run: FinishedRun) -> Path:
    """The folder of a draft with one refinement."""
    return finished_run.folder


def manifest_of(folder: Path) -> Manifest:
    return Manifest.from_json(json.loads((folder / "manifest.json").read_text()))


@pytest.mark.slow
def test_a_run_leaves_a_manifest_of_everything_it_made(finished: Path) -> None:
    manifest = manifest_of(finished)
    assert manifest.project_id == "cup"
    assert [step.kind for step in manifest.steps] == [StepKind.GENERATE, StepKind.REFINE]
    generated, refined = manifest.steps
    assert generated.options["seed"] == refined.options["seed"] == 3
    assert set(generated.engines) == {"background", "views", "depth", "splats"}
    assert set(refined.engines) == {"enhancer", "splats"}
    hashes = {
        "original.png": manifest.photo.sha256,
        "processed.png": manifest.photo.processed_sha256,
    }
    for step in manifest.steps:
        hashes |= step.artefacts
    assert {"views/00.png", "views/photos.npz", "depth/15.npy", "models/v0.ply"} <= set(hashes)
    for name, digest in hashes.items():
        assert content_hash((finished / name).read_bytes()) == digest, name
    folders = ("views", "depth", "enhanced")
    written = {
        path.relative_to(finished).as_posix()
        for folder in folders
        for path in (finished / folder).rglob("*.*")
    }
    assert written <= set(hashes)


@pytest.mark.slow
def test_a_replay_is_bit_identical(finished: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    code, said = replay(finished / "manifest.json", "--out", again)
    assert code == 0, said
    assert "Bit-identical" in said
    first, second = manifest_of(finished), manifest_of(again)
    assert second.steps == first.steps
    assert second.photo == first.photo
    for step in first.steps:
        for name in step.artefacts:
            assert (again / name).read_bytes() == (finished / name).read_bytes(), name


@pytest.mark.slow
def test_another_number_of_threads_gives_the_same_files(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = pipeline.flow.local.default_threads()
    monkeypatch.setattr(pipeline.flow.local, "default_threads", lambda: 1 if usual > 1 else 2)
    try:
        code, said = replay(finished / "manifest.json")
    finally:
        pipeline.flow.local.torch.set_num_threads(usual)
        pipeline.flow.local.set_threads(usual)
    assert code == 0, said


@pytest.mark.slow
def test_a_changed_option_is_found_by_its_artefacts(finished: Path, tmp_path: Path) -> None:
    values = json.loads((finished / "manifest.json").read_text())
    values["steps"] = values["steps"][:1]
    values["steps"][0]["options"] |= {"num_gaussians": 500, "fit_steps": 2}
    values["environment"]["packages"]["torch"] = "0.1"
    changed = tmp_path / "manifest.json"
    changed.write_text(json.dumps(values))
    code, said = replay(changed, "--photo", finished / "original.png")
    assert code == DIFFERS_EXIT_CODE, said
    assert "differs 1 generate: models/v0.ply" in said
    assert "views/00.png" not in said, "these are the same"
    assert "environment packages.torch: 0.1 then" in said
    assert "1 of 56 artefacts are not the same" in said


def _photo(kind: str) -> bytes:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (400, 300, 3), np.uint8)
    pixels[100:300, 80:220] = (200, 60, 30)
    buffer = io.BytesIO()
    if kind == "turned jpeg":
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        Image.fromarray(pixels).save(buffer, "JPEG", exif=exif)
    elif kind == "large":
        Image.fromarray(pixels).resize((2200, 400)).save(buffer, "JPEG")
    elif kind in ("cut out", "hazy cut out", "glass"):
        alpha = np.full((400, 300), 12 if kind == "hazy cut out" else 0, np.uint8)
        alpha[100:300, 80:220] = 110 if kind == "glass" else 255
        alpha[99, 80:220] = 100
        alpha[3, 3] = 90
        Image.fromarray(np.dstack([pixels, alpha])).save(buffer, "PNG")
    elif kind == "alpha that scaling hides":
        alpha = np.full((512, 4096), 255, np.uint8)
        alpha[::8, ::8] = 0  # 1.6%, in single pixels
        wide = Image.new("RGB", (4096, 512), "navy")
        wide.putalpha(Image.fromarray(alpha))
        wide.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("remove_background", [True, False])
@pytest.mark.parametrize(
    "kind",
    ["turned jpeg", "large", "cut out", "hazy cut out", "glass", "alpha that scaling hides"],
)
async def test_the_stored_photo_makes_what_the_upload_made(
    kind: str, remove_background: bool
) -> None:
    models = FakeModels()
    first = await prepare_upload(_photo(kind), models, remove_background=remove_background)
    again = await stored_upload(first.original_png, models, remove_background=remove_background)
    # Notes are about the file as it came: what scaling hides is not seen in what was stored.
    assert replace(again, notes=()) == replace(first, notes=())


# Errors: found before any engine is loaded.


def further(file: str) -> dict[str, Any]:
    """A record of a further photo."""
    return {"file": file, "sha256": "", "processed_sha256": "", "remove_background": True}


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """Writes a photo and a manifest; fields can be replaced by path."""
    photo = encode_png(np.full((64, 64, 3), 90, np.uint8))
    (tmp_path / "original.png").write_bytes(photo)
    manifest = Manifest(
        project_id="grey",
        created_at="2026-11-22T12:00:00+00:00",
        photo=PhotoRecord("original.png", content_hash(photo), "sha256:0", True),
        environment={},
        steps=(
            Step(
                StepKind.GENERATE,
                {"seed": 1, "preset": "draft"},
                {"background": "rembg-u2netp", "views": "relief", "splats": "cpu-rasteriser"},
                {},
            ),
        ),
    )

    def write(**changes: Any) -> Path:
        values = manifest.to_json()
        for path, value in changes.items():
            *parents, last = path.split("__")
            owner: Any = values
            for name in parents:
                owner = owner[int(name)] if isinstance(owner, list) else owner[name]
            owner[last] = value
        (tmp_path / "manifest.json").write_text(json.dumps(values))
        return tmp_path / "manifest.json"

    return write


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"version": 2}, "invalid_input: The manifest has version 2"),
        ({"steps": []}, "no generation to begin with"),
        ({"steps__0__kind": "refine"}, "no generation to begin with"),
        ({"steps__0__options__colour": "red"}, "options are damaged: Unknown option 'colour'"),
        ({"steps__0__options__candidates": 9}, "candidates must be between 1 and 8"),
        ({"steps__0__options__seed": "one"}, "options are damaged: seed must be a whole number"),
        ({"steps__0__options__seed": 1.5}, "options are damaged: seed must be a whole number"),
        ({"steps__0__options": {}}, "The manifest's generate options are damaged"),
        ({"steps__0__engines__splats": "nerf"}, "unavailable: The manifest was made with the"),
        ({"steps__0__engines__splats": "nerf"}, "splats engine 'nerf', which is not available"),
        ({"photo__file": "other.png"}, "Name the project's other.png with --photo"),
        ({"photo__sha256": "sha256:1"}, "original.png is another photo"),
        ({"photos": [further("photos/1/original.png")]}, "It must be the photos/1/original.png"),
        ({"photos": [further("../original.png")]}, "'../original.png' is no file beside it"),
        ({"photos": [further("/etc/hosts")]}, "'/etc/hosts' is no file beside it"),
        ({"steps__0__photos": [{"file": "other.png"}]}, "'other.png' is none of its photos"),
        ({"steps__0__photos": [{"file": "original.png", "side": "below"}]}, "side must be one of"),
    ],
)
def test_what_cannot_be_run_again_is_said_at_once(
    project: Callable[..., Path], tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    out = tmp_path / "out"
    code, said = replay(project(**changes), "--out", out)
    assert code == 1
    assert told in said
    assert not out.exists()


def test_a_photo_with_a_mask_is_replayed_with_its_cut_out_or_not_at_all(
    project: Callable[..., Path], tmp_path: Path
) -> None:
    path, cutout = project(photo__masked=True), tmp_path / "processed.png"
    code, said = replay(path)
    assert code == 1
    assert "save the photo's processed_url as processed.png beside the manifest" in said
    cutout.write_bytes(b"another")
    code, said = replay(path)
    assert code == 1
    assert "processed.png is another cut-out" in said
    path = project(photo__masked=True, photo__processed_sha256=content_hash(b"another"))
    inputs = ReplayInputs.read(read_manifest(path), path)
    assert inputs.cutouts == {"original.png": b"another"}


def test_another_photo_is_refused(project: Callable[..., Path], tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    other.write_bytes(encode_png(np.zeros((64, 64, 3), np.uint8)))
    code, said = replay(project(), "--photo", other)
    assert code == 1
    assert "other.png is another photo" in said
    assert "not the file that was uploaded" in said


def test_the_run_that_is_compared_with_is_never_overwritten(
    project: Callable[..., Path], tmp_path: Path
) -> None:
    code, said = replay(project(), "--out", tmp_path)
    assert code == 1
    assert "out must not be the manifest's own folder" in said


@pytest.mark.parametrize("text", ["", "Dear reader", "[1, 2"])
def test_what_is_no_json_is_no_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    code, said = replay(tmp_path / "manifest.json")
    assert code == 1
    assert "manifest.json is no JSON" in said


def test_a_manifest_that_is_not_there_is_named(tmp_path: Path) -> None:
    code, said = replay(tmp_path / "none.json")
    assert code == 2
    assert "none.json" in said
