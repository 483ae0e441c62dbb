"""The table of engines: what its numbers are made of, and that it is printed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import Unavailable
from pipeline.geometry.cameras import orbit_cameras, photo_camera
from pipeline.imaging.decoding import decode_png
from pipeline.imaging.rounding import to_bytes
from pipeline.mesh.mesh_raster import rasterize_mesh
from pipeline.types import Cameras, Cutout, ViewSet
from training.prior import evaluate
from training.prior.evaluate import Measured, elevation_error_deg, mean, share_better
from training.prior.kept_back.fixed_set import OTHER_VIEWS, KeptBack
from training.prior.primitives import box
from training.prior.score import Likeness, Similarity
from training.prior.surfaces import card, maker

NOWHERE = Similarity(1.0, np.zeros(3))


def one(engine: str, name: str, psnr: float, lpips: float | None, off: float | None) -> Measured:
    return Measured(engine, name, Likeness(psnr, 0.8, 0.9, lpips, NOWHERE), off, 0.1)


FOUND = [
    *(one("prior", "a", 18, 0.2, 3.0), one("relief", "a", 16, 0.3, None)),
    *(one("prior", "b", 15, 0.2, 9.0), one("relief", "b", 16, 0.3, None)),
    *(one("prior", "c", 19, 0.3, 4.0), one("relief", "c", 16, 0.2, None)),
]


def test_what_the_means_are_made_of():
    assert mean(FOUND, "prior", "psnr") == pytest.approx(52 / 3)
    assert share_better(FOUND, "prior") == pytest.approx(2 / 3)
    assert share_better(FOUND, "prior", "lpips") == pytest.approx(2 / 3)
    assert elevation_error_deg(FOUND, "prior") == 4.0
    assert elevation_error_deg(FOUND, "relief") is None


def test_who_is_as_good_as_another_is_not_better():
    even = [one("prior", "a", 16, None, 3.0), one("relief", "a", 16, None, None)]
    assert share_better(even, "prior") == share_better(even, "relief") == 0
    assert share_better(even, "prior", "lpips") == 0


def test_without_the_metric_there_is_no_mean_of_it():
    assert mean([*FOUND, one("prior", "d", 18, None, 1.0)], "prior", "lpips") is None


def test_a_card_shows_the_photo_to_the_camera_that_took_it():
    rgba = np.zeros((96, 96, 4), np.uint8)
    rgba[..., :3] = 200, 60, 30
    rgba[20:70, 30:66, 3] = 255
    made = card(Cutout(rgba, "given"))
    assert made.elevation_deg is None
    mesh, camera = made.mesh, photo_camera(30.0, 96)
    drawn = rasterize_mesh(mesh.vertices, mesh.faces, mesh.colors, camera, supersample=4)
    assert np.abs(drawn.coverage[0] - rgba[..., 3] / 255).mean() < 0.01
    inside = drawn.coverage[0] > 0.9
    assert np.abs(drawn.attributes[0][inside] * 255 - [200, 60, 30]).max() < 1.0
    # Flat, through the origin.
    centre = camera.centres[0] / np.linalg.norm(camera.centres[0])
    assert np.abs(mesh.vertices @ centre).max() < 1e-5


def test_an_engine_that_is_not_there():
    with pytest.raises(ValueError, match="balloon"):
        maker("balloon")
    with pytest.raises(SystemExit):
        evaluate.main(["--only", "unicorn"])


def test_weights_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        evaluate.main(["--engine", "prior", "--weights", str(tmp_path / "none.npz")])
    assert "weights of the learned prior cannot be read" in capsys.readouterr().err


def test_a_remover_that_is_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def refuses(name: str, _folder: Path) -> KeptBack:
        raise Unavailable("The weights of u2netp are not installed.")

    monkeypatch.setattr(evaluate, "kept_back", refuses)
    with pytest.raises(SystemExit):
        evaluate.main(["--engine", "card", "--only", "dice 1"])
    assert "u2netp are not installed" in capsys.readouterr().err


def a_brick(name: str, _folder: Path) -> KeptBack:
    """Seen from elevation 30, small, so that it is measured quickly."""
    solid = box(8).scaled(0.3, 0.5, 0.4)
    vertices, faces = solid.vertices.astype(np.float32), solid.faces.astype(np.int32)
    colors = (0.5 + vertices).astype(np.float32)
    azimuths = [v[0] for v in OTHER_VIEWS]
    cameras = orbit_cameras(azimuths, [v[1] for v in OTHER_VIEWS], size=64)

    def views(cameras: Cameras) -> ViewSet:
        drawn = rasterize_mesh(vertices, faces, colors, cameras, supersample=2)
        share = drawn.coverage[..., None]
        images = to_bytes(255 * (drawn.attributes * share + 1 - share))
        return ViewSet(images, to_bytes(255 * drawn.coverage), cameras, "made")

    photo = views(photo_camera(30.0, 128))
    cutout = Cutout(np.dstack([photo.images[0], photo.alphas[0]]), "given")
    return KeptBack(name, photo.images[0], cutout, cutout, views(cameras), 30.0, 1.09)


def test_a_table_and_a_sheet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(evaluate, "kept_back", a_brick)
    sheet = tmp_path / "sheets/all.png"
    words = ["--engine", "card", "--engine", "relief", "--only", "dice 1"]
    evaluate.main([*words, "--matte", "true", "--sheet", str(sheet)])
    printed = capsys.readouterr().out
    assert "dice 1" in printed
    assert "means of 1 objects" in printed
    # What is flat covers nothing from the side.
    assert "100%" in printed.split("relief")[-1]
    assert decode_png(sheet.with_stem("all-1").read_bytes()).shape[0] > 3 * 160
