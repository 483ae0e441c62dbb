"""Photos on the command line: named with their sides, read together, noted in the manifest."""

import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from pipeline.errors import InvalidImage, InvalidOption
from pipeline.flow.manifest import Manifest, content_hash
from pipeline.flow.photo_list import Direction
from pipeline.flow.stored_photos import PlacedPhoto
from pipeline.options import GenerateOptions
from serve_app.cli.console import stage_bars
from serve_app.cli.folder_photos import notes_of, parse_photo, read_photos, sheet_row
from serve_app.cli.main import app
from serve_app.cli.replay_inputs import ReplayInputs, read_manifest
from serve_app.cli.run import FolderRun, write_manifest
from tests.fakes import FakeModels
from tests.serve_app.http.test_masks import drawn
from tests.serve_app.http.test_photos import PLAIN, picture

RUNNER = CliRunner()
FRONT = Direction()


@pytest.fixture
def folder(tmp_path):
    """Four photos, and one with a colon in its name."""
    for seed, name in enumerate(("front", "back", "side", "any", "at 10:30")):
        (tmp_path / f"{name}.png").write_bytes(picture(seed))
    return tmp_path


@pytest.mark.parametrize(
    ("told", "name", "direction"),
    [
        ("back.png:back", "back.png", Direction("back")),
        ("side.png:90,10", "side.png", Direction(None, 90.0, 10.0)),
        ("side.png:-90", "side.png", Direction(None, -90.0)),
        ("any.png", "any.png", Direction()),
        ("at 10:30.png", "at 10:30.png", Direction()),
        ("at 10:30.png:top", "at 10:30.png", Direction("top")),
    ],
)
def test_a_photo_is_named_with_its_side(folder, told, name, direction):
    assert parse_photo(f"{folder}/{told}") == (folder / name, direction)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (
            "back.png:behind",
            "'behind' is neither a side (front, left, back, right, top) nor AZIMUTH",
        ),
        ("none.png", "there is no file"),
        ("none.png:back", "there is no file"),
        ("side.png:400", "azimuth_deg must be -360 to 360"),
    ],
)
def test_what_names_no_photo_is_refused(folder, told, said):
    with pytest.raises(InvalidOption) as caught:
        parse_photo(f"{folder}/{told}")
    assert said in caught.value.detail


async def test_photos_are_read_whole_or_the_bad_one_is_named(folder):
    (folder / "plain.png").write_bytes(PLAIN.getvalue())
    with pytest.raises(InvalidImage, match=r"plain\.png: No foreground"):
        await read_photos(
            [folder / "front.png", folder / "plain.png"], [FRONT, FRONT], FakeModels()
        )
    with pytest.raises(InvalidImage, match="Photo 1 is the same picture as photo 0"):
        await read_photos([folder / "any.png"] * 2, [FRONT, Direction("back")], FakeModels())


async def test_a_run_with_several_photos_names_them_in_its_manifest(folder):
    models, out = FakeModels(), folder / "out"
    (out / "photos" / "7").mkdir(parents=True)
    (out / "photos" / "7" / "original.png").write_bytes(b"of an earlier run")
    paths = [folder / f"{name}.png" for name in ("front", "back", "side", "any")]
    directions = [FRONT, Direction("back"), Direction(None, 90.0, 10.0), Direction()]
    photos, placed = await read_photos(paths, directions, models)
    assert notes_of(photos) == []
    assert sheet_row(photos)[0] == "photos and cut-outs"
    with stage_bars(Console(file=io.StringIO())) as bars:
        run = FolderRun(out, photos, bars)
        await run.generate(GenerateOptions(seed=1, preset="draft"), models.ports(), placed)
        write_manifest(out, await run.manifest("out", None, {}))
    (asked,) = models.view_requests
    assert [(photo.azimuth_deg, photo.elevation_deg) for photo in asked.photos] == [
        (180.0, None),
        (90.0, 10.0),
        (None, None),
    ]
    manifest = Manifest.from_json(json.loads((out / "manifest.json").read_text()))
    for record in (manifest.photo, *manifest.photos):
        assert content_hash((out / record.file).read_bytes()) == record.sha256
    (step,) = manifest.steps
    assert step.photos == (
        PlacedPhoto("original.png"),
        PlacedPhoto("photos/1/original.png", "back"),
        PlacedPhoto("photos/2/original.png", None, 90.0, 10.0),
        PlacedPhoto("photos/3/original.png"),
    )
    assert not (out / "photos" / "7").exists()


async def test_a_run_with_a_mask_asks_nobody_and_keeps_its_cut_out_beside_the_photo(folder):
    models, out = FakeModels(), folder / "out"
    (folder / "mask.png").write_bytes(drawn())
    paths = [folder / "front.png", folder / "back.png"]
    photos, placed = await read_photos(
        paths, [FRONT, Direction("back")], models, folder / "mask.png"
    )
    assert models.calls == ["background"], "for the other photo"
    with stage_bars(Console(file=io.StringIO())) as bars:
        run = FolderRun(out, photos, bars)
        await run.generate(GenerateOptions(seed=1, preset="draft"), models.ports(), placed)
        write_manifest(out, await run.manifest("out", None, {}))
    (asked,) = models.view_requests
    assert (asked.cutout.engine, asked.photos[0].cutout.engine) == ("mask", "fake-background")
    manifest = read_manifest(out / "manifest.json")
    assert [record.masked for record in (manifest.photo, *manifest.photos)] == [True, False]
    inputs = ReplayInputs.read(manifest, out / "manifest.json")
    assert inputs.cutouts == {"original.png": photos[0].upload.processed_png}


async def test_a_mask_that_does_not_fit_is_named(folder):
    (folder / "mask.png").write_bytes(drawn((64, 64)))
    with pytest.raises(InvalidImage, match=r"mask\.png: The mask has 64 x 64 pixels"):
        await read_photos([folder / "front.png"], [FRONT], FakeModels(), folder / "mask.png")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--mask", "{}/none.png"], "none.png"),
        (["--photo", "{}/back.png:behind"], "neither a side"),
        (["--photo", "{}/back.png:back", "--photo", "{}/side.png:180"], "Photos 1 and 2 are both"),
        (["--photo", "{}/back.png"] * 8, "at most 8 photos of one object, not 9"),
    ],
)
def test_photos_that_do_not_go_together_are_refused_before_any_work(folder, flags, said):
    out = folder / "out"
    told = [flag.format(folder) for flag in flags]
    result = RUNNER.invoke(app, ["run", str(folder / "front.png"), "-o", str(out), *told])
    assert result.exit_code in (1, 2)
    assert said in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert not out.exists()
