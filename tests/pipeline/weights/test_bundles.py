"""Bundles of weights on the disk: what is whole, what is not, and what is said about it."""

from __future__ import annotations

import hashlib
import json
import re
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.control import Control, Progress
from pipeline.engines.registry import engine_names, weights_catalogue
from pipeline.errors import Cancelled, InvalidOption, Unavailable
from pipeline.ports import PortName
from pipeline.weights.catalogue import Catalogue, Hub, WeightFile, Weights, size_for_people
from pipeline.weights.folders import Condition, adopt, digest_of, find, state_of, verify
from pipeline.weights.locks import LOCK_NAME, read_lock

FILES = {"config.json": b"{}", "deep/weights.safetensors": b"seven layers" * 1000}
TINY = Weights(
    name="tiny",
    files=(
        WeightFile("config.json"),
        WeightFile(
            "deep/weights.safetensors",
            hashlib.sha256(FILES["deep/weights.safetensors"]).hexdigest(),
        ),
    ),
    licence="MIT",
    size_bytes=5_570_000_000,
    purpose="Tests.",
    source=Hub("someone/tiny", "a" * 40),
    engine="tests",
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in this file may open a connection."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """The model directory, with the files of `tiny` and no lock."""
    for path, content in FILES.items():
        (tmp_path / "tiny" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tiny" / path).write_bytes(content)
    return tmp_path


@pytest.fixture
def whole(filled: Path) -> Path:
    """The same, recorded."""
    adopt(TINY, filled)
    return filled


def test_absence_says_what_it_is_and_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        find(TINY, tmp_path)
    said = caught.value.detail
    for word in ("'tiny'", "5.57 GB", "MIT", str(tmp_path), "`glimpse3d weights fetch tiny`"):
        assert word in said
    with pytest.raises(Unavailable, match=r"Set MODEL_DIR .*weights fetch tiny"):
        find(TINY, None)
    with pytest.raises(InvalidOption, match="no weights 'huge'"):
        Catalogue((TINY,)).bundle("huge")


def test_absence_of_what_forbids_commercial_use_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        find(weights_catalogue().bundle("depth-anything-v2-base"), tmp_path)
    assert "CC-BY-NC-4.0, not for commercial use" in caught.value.detail
    assert "--allow depth-anything-v2-base" in caught.value.detail


def test_files_without_a_lock_are_no_model(filled: Path) -> None:
    assert state_of(TINY, filled).condition is Condition.MISSING
    with pytest.raises(Unavailable, match="holds no complete model"):
        find(TINY, filled)
    assert digest_of(TINY, filled) is None


def test_a_folder_filled_by_hand_is_recorded(filled: Path) -> None:
    (filled / "tiny" / "README.md").write_text("not asked for")
    folder = adopt(TINY, filled)
    assert find(TINY, filled) == folder == filled / "tiny"
    lock = read_lock(folder)
    assert lock is not None
    assert (lock.bundle, lock.origin, lock.revision) == ("tiny", "adopted", None)
    assert list(lock.files) == ["config.json", "deep/weights.safetensors"]
    assert lock.files["config.json"].sha256 == hashlib.sha256(b"{}").hexdigest()
    assert verify(TINY, filled) == []


def test_a_folder_filled_with_something_else_is_not_recorded(filled: Path) -> None:
    weights = filled / "tiny" / "deep" / "weights.safetensors"
    weights.write_bytes(b"other")
    with pytest.raises(Unavailable, match="damaged or another version"):
        adopt(TINY, filled)
    weights.unlink()
    with pytest.raises(Unavailable, match=r"lacks \['deep/weights\.safetensors'\].*someone/tiny"):
        adopt(TINY, filled)
    with pytest.raises(Unavailable, match="Set MODEL_DIR"):
        adopt(TINY, None)
    with pytest.raises(InvalidOption, match="weights convert syncdreamer"):
        adopt(weights_catalogue().bundle("syncdreamer"), filled)
    assert state_of(TINY, filled).condition is Condition.MISSING


def test_a_file_that_is_missing_or_has_another_size_is_damage(whole: Path) -> None:
    config = whole / "tiny" / "config.json"
    config.write_bytes(b"{ }")
    assert state_of(TINY, whole).condition is Condition.DAMAGED
    with pytest.raises(Unavailable, match=r"config\.json has 3 bytes, not 2.*weights fetch tiny"):
        find(TINY, whole)
    config.unlink()
    with pytest.raises(Unavailable, match=r"config\.json is missing"):
        find(TINY, whole)
    assert digest_of(TINY, whole) is None
    assert verify(TINY, whole) == [f"{config} is missing."]


def test_a_flipped_bit_is_found_by_verify_alone(whole: Path) -> None:
    weights = whole / "tiny" / "deep" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[500] ^= 1
    weights.write_bytes(content)
    assert find(TINY, whole)
    (said,) = verify(TINY, whole)
    assert "weights.safetensors has changed" in said


def test_verify_reports_its_progress_and_stops(whole: Path) -> None:
    reports: list[Progress] = []
    control = Control(report_to=reports.append)
    verify(TINY, whole, control=control)
    assert reports[-1].fraction == 1.0
    control.stop.set()
    with pytest.raises(Cancelled):
        verify(TINY, whole, control=control)


def test_verify_of_what_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    for model_dir in (tmp_path, None):
        with pytest.raises(Unavailable, match="weights fetch tiny"):
            verify(TINY, model_dir)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"files": 3, "source": {}}', '{"files": {"a": {}}, "source": {}}']
)
def test_a_lock_that_cannot_be_read_is_damage(whole: Path, content: str) -> None:
    (whole / "tiny" / LOCK_NAME).write_text(content)
    assert state_of(TINY, whole).condition is Condition.DAMAGED
    with pytest.raises(Unavailable, match=r"cannot be read.*weights fetch tiny"):
        find(TINY, whole)
    assert "cannot be read" in verify(TINY, whole)[0]


def test_a_lock_of_an_older_version_that_took_fewer_files_is_damage(whole: Path) -> None:
    more = replace(TINY, files=(*TINY.files, WeightFile("new.json")))
    with pytest.raises(Unavailable, match=r"recorded without \['new\.json'\]"):
        find(more, whole)


def test_another_revision_than_the_pinned_one_is_named_and_works(whole: Path) -> None:
    path = whole / "tiny" / LOCK_NAME
    lock = json.loads(path.read_text())
    path.write_text(json.dumps({**lock, "revision": "b" * 40}))
    state = state_of(TINY, whole)
    assert state.condition is Condition.OTHER_REVISION
    assert "b" * 40 in state.fault
    assert find(TINY, whole)


def test_the_digest_of_what_is_there_changes_with_its_content(whole: Path) -> None:
    before = digest_of(TINY, whole)
    assert before
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", before)
    assert digest_of(TINY, whole) == before
    (whole / "tiny" / "config.json").write_bytes(b"[]")
    adopt(TINY, whole)
    assert digest_of(TINY, whole) != before
    assert digest_of(TINY, None) is None


def test_the_list_is_complete() -> None:
    bundles = weights_catalogue().bundles
    for bundle in bundles.values():
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", bundle.hub.repo)
        assert bundle.hub.revision is None or re.fullmatch(r"[0-9a-f]{40}", bundle.hub.revision)
        assert bundle.files
        paths = [file.path for file in bundle.files]
        assert len(set(paths)) == len(paths)
        for file in bundle.files:
            assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert not file.path.endswith((".bin", ".pt")), "no pickles but what is converted"
        assert bundle.licence
        assert bundle.commercial or "NC" in bundle.licence or bundle.terms
        assert bundle.terms or bundle.licence != "unknown"
        assert not bundle.shown or bundle.shown in bundle.terms
        assert bundle.purpose.endswith(".")
        assert not bundle.needed or bundle.commercial or bundle.name == "idol-turbo"
        assert bundle.hub.by_hand or not bundle.converted
    assert len(bundles) + len(weights_catalogue().files) == len(weights_catalogue().weights)


def test_engines_find_their_bundles_by_name() -> None:
    known = weights_catalogue()
    assert set(engine_names(PortName.DEPTH)) - {"surface"} <= set(known.bundles)
    assert known.engines == (
        *("gpu", "triposplat", "idol", "idol-turbo"),
        *("syncdreamer", "midas", "sdxl", "deg"),
    )
    for engine in known.engines:
        assert known.bundles_of(engine), engine
    gpu = {bundle.name for bundle in known.bundles_of("gpu")}
    assert gpu == {
        "syncdreamer",
        "midas-large",
        "sdxl-base",
        "sdxl-lightning-8step",
        "controlnet-depth-sdxl",
        "sdxl-vae-fp16-fix",
    }
    enhancer = {bundle.name for bundle in known.bundles_of("sdxl")}
    encoders = {"dinov3-vith16plus", "flux2-vae"}
    assert {bundle.name for bundle in known.bundles_of("deg")} == encoders
    for engine, own in (
        ("triposplat", {"triposplat"}),
        ("idol", {"idol"}),
        ("idol-turbo", {"idol", "idol-turbo"}),
    ):
        assert {bundle.name for bundle in known.bundles_of(engine)} == own | encoders | enhancer
    by_name = {bundle.name for bundle in known.bundles.values() if bundle.by_name}
    assert by_name == {
        "depth-anything-v2-base",
        "dinov3-vith16plus",
        "flux2-vae-dev",
        "idol-turbo",
    }
    with pytest.raises(InvalidOption, match="no engines 'tpu'"):
        known.bundles_of("tpu")
    with pytest.raises(InvalidOption, match="sdxl-base"):
        known.bundle("sdxl")


@pytest.mark.parametrize(
    ("size", "said"), [(5_570_034_171, "5.57 GB"), (99_173_660, "99 MB"), (117_030, "117 kB")]
)
def test_sizes_are_told_for_people(size: int, said: str) -> None:
    assert size_for_people(size) == said
