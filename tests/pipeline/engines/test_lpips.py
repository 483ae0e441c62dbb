"""LPIPS: the numbers of the package that carries the weights, and what a distance must be."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest

from pipeline.engines.perceptual import lpips as module
from pipeline.engines.perceptual.lpips import Lpips, find_lpips
from pipeline.engines.perceptual.lpips_weights import LPIPS_ALEX
from pipeline.errors import Unavailable
from pipeline.weights.folders import find
from tests.pipeline.engines.references.make_lpips_reference import blurred, pairs, picture

REFERENCE = json.loads((Path(__file__).parent / "references/lpips_reference.json").read_text())


@pytest.fixture(scope="module")
def lpips() -> Lpips:
    try:
        return Lpips(find(LPIPS_ALEX))
    except Unavailable as error:
        pytest.skip(str(error))


def test_the_numbers_are_those_of_the_package_that_carries_the_weights(lpips: Lpips) -> None:
    made = pairs()
    assert made.keys() == REFERENCE["distances"].keys()
    for name, (image, other) in made.items():
        distance = lpips.distance(image[None], other[None])
        assert distance == pytest.approx(REFERENCE["distances"][name], abs=1e-4), name


def test_equal_pictures_have_no_distance(lpips: Lpips) -> None:
    image = picture(64, 80)[None]
    assert lpips.distance(image, image) == 0.0


def test_a_blur_is_seen_and_a_little_more_light_is_not(lpips: Lpips) -> None:
    image = picture(96, 96)
    others = np.stack([blurred(image), np.clip(image + 0.03, 0, 1)])
    soft, light = lpips.distance(others, np.stack([image, image]))
    assert soft > 20 * light > 0


def test_the_distance_is_symmetric_and_pairs_do_not_mix(lpips: Lpips) -> None:
    rng = np.random.default_rng(0)
    images = rng.random((11, 48, 40, 3)).astype(np.float32)  # more than one pass
    references = np.ascontiguousarray(images[::-1])
    references.setflags(write=False)
    together = lpips.distance(images, references)
    assert together.dtype == np.float64
    assert together == pytest.approx(lpips.distance(references, images))
    assert together[5] == 0.0
    single = [lpips.distance(a[None], b[None])[0] for a, b in zip(images, references, strict=True)]
    assert together == pytest.approx(np.array(single), abs=1e-6)


@pytest.mark.parametrize(
    "shapes",
    [((1, 64, 64, 3), (1, 64, 65, 3)), ((64, 64, 3),) * 2, ((1, 30, 64, 3),) * 2],
)
def test_shapes_that_cannot_be_compared_are_refused(
    lpips: Lpips, shapes: tuple[tuple[int, ...], ...]
) -> None:
    with pytest.raises(ValueError, match=r"wanted|sides"):
        lpips.distance(*(np.zeros(shape, np.float32) for shape in shapes))


def test_without_weights_there_is_no_metric_and_the_log_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def nowhere(*_args: object) -> Path:
        raise Unavailable("not on this machine")

    monkeypatch.setattr(module, "find", nowhere)
    assert find_lpips(tmp_path) is None
    assert "not on this machine" in caplog.text


def test_it_is_found_where_its_weights_are(lpips: Lpips, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert isinstance(find_lpips(), type(lpips))
    assert not caplog.text


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", pickle.dumps([1]), pickle.dumps({})])
def test_a_file_that_holds_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "alexnet.ckpt"
    path.write_bytes(content)
    with pytest.raises(Unavailable, match="LPIPS"):
        Lpips(path)


def test_a_file_cannot_run_code(tmp_path: Path) -> None:
    path = tmp_path / "alexnet.ckpt"
    path.write_bytes(pickle.dumps(Path.home))
    with pytest.raises(Unavailable, match="not an array"):
        Lpips(path)
