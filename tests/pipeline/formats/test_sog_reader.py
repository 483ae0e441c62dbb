"""Files of .sog are read: another program's of version 2, made ones of version 1, damaged ones."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial import cKDTree

from pipeline.errors import InvalidModelFile
from pipeline.formats.ply import write_ply
from pipeline.formats.sog_reader import load_sog, load_sog_files
from pipeline.geometry.frames import PLY_FROM_WORLD, rotate_model
from pipeline.types import SplatModel
from tests.fakes import sixty
from tests.pipeline.formats.external import read_csv, splat_transform

DATA = Path(__file__).parents[2] / "data" / "splats"
SOG = (DATA / "sixty.sog").read_bytes()
Members = dict[str, bytes]


def members(data: bytes = SOG) -> Members:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(files: Members, folder: str = "") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(folder + name, data)
    return out.getvalue()


def with_meta(change: Callable[[dict[str, Any]], object], data: bytes = SOG) -> bytes:
    files = members(data)
    meta = json.loads(files["meta.json"])
    change(meta)
    return zipped(files | {"meta.json": json.dumps(meta).encode()})


def in_order_of(model: SplatModel, wanted: SplatModel) -> SplatModel:
    """The splats of a model that a program has sorted in the order of another."""
    _, order = cKDTree(model.means).query(wanted.means)
    assert len(set(order)) == len(model) == len(wanted)
    return model.select(order)


def test_a_sog_of_another_program_is_read() -> None:
    wanted, read = sixty(), load_sog(SOG)
    assert read.notes == ()
    back = in_order_of(read.model, wanted)
    np.testing.assert_allclose(back.means, wanted.means, atol=3e-5)  # 16 bits
    # A palette of 256 numbers for 180 different ones, opacities in bytes.
    np.testing.assert_allclose(back.log_scales, wanted.log_scales, atol=0.003)
    np.testing.assert_allclose(back.sh[:, 0], wanted.sh[:, 0], atol=0.01)
    np.testing.assert_allclose(back.sh[:, 1:], wanted.sh[:, 1:], atol=1e-4)
    np.testing.assert_allclose(back.opacities, wanted.opacities, atol=0.004)
    unit = wanted.quats / np.linalg.norm(wanted.quats, axis=1, keepdims=True)
    assert np.abs((back.quats * unit).sum(axis=1)).min() > 1 - 1e-4


@pytest.mark.parametrize("sh_degree", [0, 2, 3])
def test_a_sog_is_read_as_the_program_that_wrote_it_does(tmp_path: Path, sh_degree: int) -> None:
    model = sixty(sh_degree)
    (tmp_path / "a.ply").write_bytes(write_ply(model))
    source = splat_transform(tmp_path / "a.ply", tmp_path / "a.sog", "-g", "cpu")
    seen = read_csv(splat_transform(source, tmp_path / "a.csv"))
    back = rotate_model(load_sog(source.read_bytes()).model, PLY_FROM_WORLD)
    for name in ("means", "log_scales", "sh"):
        np.testing.assert_allclose(getattr(back, name), getattr(seen, name), atol=1e-6)
    np.testing.assert_allclose(back.opacities, seen.opacities, atol=1e-6)
    assert np.abs((back.quats * seen.quats).sum(axis=1)).min() > 1 - 1e-6


def test_a_sog_in_a_folder_of_its_zip_or_of_the_disk_is_read() -> None:
    files = members()
    wanted = load_sog(SOG).model
    read = [load_sog(zipped(files, "some/where/")), load_sog_files(files.__getitem__, len(SOG))]
    for model in (r.model for r in read):
        for name in vars(wanted):
            np.testing.assert_array_equal(getattr(model, name), getattr(wanted, name))


def image(rows: np.ndarray) -> bytes:
    """RGBA [N, 4] in a lossless picture four pixels wide."""
    filled = np.zeros((-(-len(rows) // 4) * 4, 4), np.uint8)
    filled[: len(rows)] = rows
    return picture(filled.reshape(-1, 4, 4))


def picture(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, "WEBP", lossless=True, exact=True)
    return out.getvalue()


def version_1(rng: np.random.Generator, count: int = 7) -> tuple[Members, dict[str, np.ndarray]]:
    """The files of a .sog of version 1, and its bytes."""
    levels = {
        name: rng.integers(0, 256, (count, 4))
        for name in ("means_l", "means_u", "scales", "quats", "sh0", "labels")
    }
    levels["quats"][:, 3] = 252 + np.arange(count) % 4
    levels["quats"][:, :3] = rng.integers(90, 166, (count, 3))
    levels["labels"][:] = 0
    levels["labels"][:, 0] = np.arange(count) * 11
    levels["centroids"] = rng.integers(0, 256, (2, 64 * 3, 4))
    meta = {
        "means": {"shape": [count, 3], "mins": [-1, -2, 0], "maxs": [1, 2, 3]},
        "scales": {"mins": [-5, -4, -3], "maxs": [-2, -2, -2]},
        "quats": {},
        "sh0": {"mins": [-1, -1, -1, -3], "maxs": [1, 2, 3, 4]},
        "shN": {"mins": -0.5, "maxs": 0.75},
    }
    files = {f"{name}.webp": image(rows) for name, rows in levels.items() if name != "centroids"}
    files["centroids.webp"] = picture(levels["centroids"])
    meta["means"]["files"] = ["means_l.webp", "means_u.webp"]
    meta["shN"]["files"] = ["centroids.webp", "labels.webp"]
    for name in ("scales", "quats", "sh0"):
        meta[name]["files"] = [f"{name}.webp"]
    return files | {"meta.json": json.dumps(meta).encode()}, levels


def test_version_1_is_what_its_numbers_say() -> None:
    files, levels = version_1(np.random.default_rng(3))
    back = rotate_model(load_sog(zipped(files)).model, PLY_FROM_WORLD)
    assert (len(back), back.sh_degree) == (7, 1)
    for i in range(7):
        for axis, (low, high) in enumerate([(-1, 1), (-2, 2), (0, 3)]):
            share = (levels["means_l"][i, axis] + 256 * levels["means_u"][i, axis]) / 65535
            log = low + (high - low) * share
            assert back.means[i, axis] == pytest.approx(np.sign(log) * (np.exp(abs(log)) - 1))
            share = levels["scales"][i, axis] / 255
            wanted = (-5, -4, -3)[axis] * (1 - share) - 2 * share
            assert back.log_scales[i, axis] == pytest.approx(wanted)
            share = levels["sh0"][i, axis] / 255
            assert back.sh[i, 0, axis] == pytest.approx(-1 + (2 + axis) * share, abs=1e-6)
            for k in range(3):
                label = levels["labels"][i, 0]
                level = levels["centroids"][label // 64, label % 64 * 3 + k, axis]
                assert back.sh[i, 1 + k, axis] == pytest.approx(-0.5 + 1.25 * level / 255, abs=1e-6)
        assert back.logit_opacities[i] == pytest.approx(-3 + 7 * levels["sh0"][i, 3] / 255)
        others = (levels["quats"][i, :3] / 255 - 0.5) * np.sqrt(2)
        quat = list(others)
        quat.insert(i % 4, np.sqrt(1 - others @ others))
        # The turn to the world and back may change the sign of all four.
        assert abs(back.quats[i] @ quat) == pytest.approx(1, abs=1e-6)


def test_a_first_number_that_was_left_out_and_a_rotation_without_a_mark() -> None:
    def forget(meta: dict[str, Any]) -> None:
        meta["scales"]["codebook"][0] = None

    back = in_order_of(load_sog(with_meta(forget)).model, sixty())
    np.testing.assert_allclose(back.log_scales, sixty().log_scales, atol=0.05)
    files = members()
    name = json.loads(files["meta.json"])["quats"]["files"][0]
    pixels = np.array(Image.open(io.BytesIO(files[name])).convert("RGBA"))
    pixels[..., 3] = 17
    model = rotate_model(load_sog(zipped(files | {name: picture(pixels)})).model, PLY_FROM_WORLD)
    np.testing.assert_allclose(np.abs(model.quats[:, 0]), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda meta: meta.update(version=3), "version 3"),
        (lambda meta: meta.update(count=10**9), "1,000,000,000 splats"),
        (lambda meta: meta.update(count=-1), "-1 splats"),
        (lambda meta: meta.update(count=100_000), "pixels for 100,000 splats"),
        (lambda meta: meta.update(count=float("nan")), "makes no sense"),
        (lambda meta: meta.pop("scales"), "makes no sense"),
        (lambda meta: meta["means"].update(files=["../../x", "b"]), "outside of itself"),
        (lambda meta: meta["means"].update(files=["/x", "b"]), "outside of itself"),
        (lambda meta: meta["means"].update(files=[7, "b"]), "outside of itself"),
        (lambda meta: meta["means"].update(files=["x.webp", "b"]), "no file 'x.webp'"),
        (lambda meta: meta["means"].update(files=["meta.json", "b"]), "damaged image 'meta.json'"),
        (lambda meta: meta["means"].update(mins=[0, 0]), "makes no sense"),
        (lambda meta: meta["scales"].update(codebook=[1, 2]), "makes no sense"),
        (lambda meta: meta["shN"].update(bands=2), "impossible width"),
        (lambda meta: meta["shN"].update(count=[]), "makes no sense"),
    ],
)
def test_a_sog_that_makes_no_sense_is_refused(
    change: Callable[[dict[str, Any]], object], told: str
) -> None:
    with pytest.raises(InvalidModelFile, match=told):
        load_sog(with_meta(change))


def test_a_truncated_sog_another_zip_and_a_huge_picture_are_refused() -> None:
    with pytest.raises(InvalidModelFile, match="no whole zip"):
        load_sog(SOG[:-30])
    with pytest.raises(InvalidModelFile, match=r"without meta\.json"):
        load_sog(zipped({"a.txt": b"hello"}))
    with pytest.raises(InvalidModelFile, match="makes no sense"):
        load_sog(zipped({"meta.json": b"hello"}))
    with pytest.raises(InvalidModelFile, match="larger than it can be"):
        load_sog(zipped({"meta.json": bytes(5_000_000)}))
    files = members()
    name = json.loads(files["meta.json"])["sh0"]["files"][0]
    with pytest.raises(InvalidModelFile, match="has 2000 x 2000 pixels for 60 splats"):
        load_sog(zipped(files | {name: picture(np.zeros((2000, 2000, 4)))}))
    with pytest.raises(InvalidModelFile, match="damaged image"):
        load_sog(zipped(files | {name: files[name][:-40]}))
