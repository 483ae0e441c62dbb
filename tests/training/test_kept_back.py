"""The objects that nothing is trained on: there are sixty, they stay what they are, they fit."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from pipeline.engines.background.background_specs import U2NETP
from pipeline.errors import Unavailable
from pipeline.weights.folders import find
from training.prior.kept_back import fixed_set
from training.prior.kept_back.fixed_set import KeptBack, kept_back, names, shape_of
from training.prior.kept_back.pictures import triangles
from training.prior.kept_back.telephone import PHOTO_SIDE, some_shot

ROOT = Path(__file__).parents[2]
#: Cheap to make, with thin parts.
NAME = "hammer 1"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept-back")


@pytest.fixture(scope="module")
def made(cache: Path) -> KeptBack:
    try:
        find(U2NETP, None)
    except Unavailable as error:
        pytest.skip(str(error))
    return kept_back(NAME, cache)


def test_there_are_sixty_of_many_kinds():
    assert len(set(names())) == 60
    assert len({name.rsplit(" ", 1)[0] for name in names()[:24]}) == 24
    with pytest.raises(KeyError, match="kettle 1"):
        kept_back("kettle 1")


def test_seeds_are_above_those_of_training():
    assert fixed_set.FIRST_SEED > 2**40


def test_training_uses_nothing_of_them():
    own = ROOT / "training/prior/kept_back"
    may = {ROOT / "training/prior/evaluate.py"}
    for path in set((ROOT / "training").rglob("*.py")) - set(own.glob("*.py")) - may:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom | ast.Import):
                assert "kept_back" not in ast.unparse(node), path


def test_they_use_nothing_of_training_but_bodies():
    bodies = {"kept_back", "primitives", "solids", "polygons"}
    for path in (ROOT / "training/prior/kept_back").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            module = (getattr(node, "module", "") or "").split(".")
            if module[:2] == ["training", "prior"]:
                assert module[2] in bodies, (path, node.module)


#: Lengths along x, y, z of the first of each kind, in its recipe's own units.
SIZES = {
    "teapot 1": (1.00, 1.66, 0.88),
    "watering can 1": (0.78, 2.05, 0.77),
    "mug 1": (0.61, 0.86, 0.79),
    "desk lamp 1": (0.60, 0.85, 1.27),
    "cup on a saucer 1": (1.11, 1.11, 0.46),
    "books 1": (0.81, 1.03, 0.48),
    "cake 1": (1.16, 1.16, 0.71),
    "toaster 1": (0.74, 1.06, 0.66),
    "dice 1": (1.21, 1.21, 1.00),
    "egg cup 1": (0.45, 0.45, 0.90),
    "camera 1": (0.90, 1.11, 0.75),
    "hammer 1": (0.77, 1.05, 0.17),
    "dog 1": (1.22, 1.00, 0.96),
    "person 1": (0.36, 0.89, 1.79),
    "cactus 1": (0.63, 0.72, 0.96),
    "boot 1": (0.67, 0.75, 0.80),
    "handbag 1": (0.43, 0.87, 1.04),
    "pick-up truck 1": (1.61, 2.15, 0.86),
    "aeroplane 1": (1.74, 1.54, 0.78),
    "kitchen chair 1": (0.72, 0.69, 1.02),
    "armchair 1": (1.13, 1.23, 0.96),
    "guitar 1": (0.47, 0.70, 1.80),
    "barrel 1": (0.78, 0.78, 0.95),
    "birdhouse 1": (1.00, 1.04, 1.09),
}


@pytest.mark.parametrize("name", SIZES)
def test_shapes_stay_what_they_are(name: str):
    low, high = shape_of(name).solid.box
    assert high - low == pytest.approx(SIZES[name], abs=0.02)


def test_the_photo_shows_all_of_it_from_where_it_says():
    vertices = triangles(shape_of(NAME)).vertices
    for seed in range(12):
        shot = some_shot(np.random.default_rng(seed), vertices, -90.0)
        view, K = shot.cameras.viewmats[0], shot.cameras.intrinsics[0]
        local = vertices @ view[:3, :3].T + view[:3, 3]
        pixels = local[:, :2] / local[:, 2:] * K[[0, 1], [0, 1]] + K[:2, 2]
        assert pixels.min() > 0
        assert pixels.max() < PHOTO_SIDE
        middle = 0.5 * (pixels.min(0) + pixels.max(0))
        assert middle == pytest.approx(K[:2, 2], abs=1.5)
        axis = view[2, :3]
        assert np.rad2deg(np.arcsin(-axis[2])) == pytest.approx(shot.elevation_deg, abs=1e-3)
        assert axis[1] == pytest.approx(0, abs=1e-6)


def test_one_of_them_with_its_photo_and_its_other_views(made: KeptBack):
    assert made.photo.shape == (PHOTO_SIDE, PHOTO_SIDE, 3)
    assert len(made.truth) == 8
    edges = [made.truth.alphas[:, [0, -1]], made.truth.alphas[:, :, [0, -1]]]
    assert not any(edge.any() for edge in edges)
    assert (made.truth.alphas > 127).mean((1, 2)).min() > 0.005
    both, either = (
        f(made.clean.rgba[..., 3] > 127, made.cutout.rgba[..., 3] > 127)
        for f in (np.logical_and, np.logical_or)
    )
    assert both.sum() / either.sum() > fixed_set.GOOD_MATTE
    assert 25 <= made.elevation_deg <= 50
    # The frame is 256/200 of the object; a field of view of 36 to 70 degrees, .52 to .74 filled.
    assert 0.71 / (0.74 * 1.28) < made.focal < 1.54 / (0.52 * 1.28)


def test_made_again_it_is_the_same_and_so_is_what_was_kept(made: KeptBack, cache: Path):
    assert len(list(cache.iterdir())) == 1
    for again in (kept_back(NAME, cache), kept_back(NAME)):
        for what in ("photo", "elevation_deg", "focal"):
            assert np.array_equal(getattr(again, what), getattr(made, what)), what
        assert np.array_equal(again.cutout.rgba, made.cutout.rgba)
        assert np.array_equal(again.clean.rgba, made.clean.rgba)
        assert np.array_equal(again.truth.images, made.truth.images)
        assert again.cutout.engine == made.cutout.engine
