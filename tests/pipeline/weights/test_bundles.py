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
from pipeline.engines.registry import ENGINES
from pipeline.errors import Cancelled, InvalidOption, Unavailable
from pipeline.ports import PortName
from pipeline.weights import catalogue as bundles
from pipeline.weights.catalogue import (
    BUNDLES,
    ENGINE_NAMES,
    Bundle,
    BundleFile,
    bundle_named,
    bundles_of,
    size_for_people,
)
from pipeline.weights.folders import (
    LOCK_NAME,
    Condition,
    adopt,
    condition_of,
    find_bundle,
    found_bundles,
    read_lock,
    verify,
)

FILES = {"config.json": b"{}", "deep/weights.safetensors": b"seven layers" * 1000}
TINY = Bundle(
    name="tiny",
    folder="tiny-folder",
    repo="someone/tiny",
    revision="a" * 40,
    files=(
        BundleFile("config.json"),
        BundleFile(
            "deep/weights.safetensors",
            hashlib.sha256(FILES["deep/weights.safetensors"]).hexdigest(),
        ),
    ),
    licence="MIT",
    commercial=True,
    size_bytes=5_570_000_000,
    purpose="Tests.",
    engine="tests",
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tiny` is known by name, and nothing in this file may open a connection."""
    monkeypatch.setitem(bundles.BUNDLES, "tiny", TINY)

    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """The model directory, with the files of `tiny` and no lock."""
    for path, content in FILES.items():
        (tmp_path / "tiny-folder" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tiny-folder" / path).write_bytes(content)
    return tmp_path


@pytest.fixture
def whole(filled: Path) -> Path:
    """The same, recorded."""
    adopt("tiny", filled)
    return filled


def test_absence_says_what_it_is_and_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        find_bundle("tiny", tmp_path)
    said = caught.value.detail
    for word in ("'tiny'", "5.57 GB", "MIT", str(tmp_path), "`glimpse3d weights fetch tiny`"):
        assert word in said
    with pytest.raises(Unavailable, match=r"Set MODEL_DIR .*weights fetch tiny"):
        find_bundle("tiny", None)
    with pytest.raises(InvalidOption, match="no weights 'huge'"):
        find_bundle("huge", tmp_path)


def test_absence_of_what_forbids_commercial_use_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        find_bundle("depth-anything-v2-base", tmp_path)
    assert "CC-BY-NC-4.0, not for commercial use" in caught.value.detail
    assert "--allow depth-anything-v2-base" in caught.value.detail


def test_files_without_a_lock_are_no_model(filled: Path) -> None:
    assert condition_of(TINY, filled).condition is Condition.MISSING
    with pytest.raises(Unavailable, match="holds no complete model"):
        find_bundle("tiny", filled)
    assert found_bundles(filled) == {}


def test_a_folder_filled_by_hand_is_recorded(filled: Path) -> None:
    (filled / "tiny-folder" / "README.md").write_text("not asked for")
    folder = adopt("tiny", filled)
    assert find_bundle("tiny", filled) == folder == filled / "tiny-folder"
    lock = read_lock(folder)
    assert lock is not None
    assert (lock.bundle, lock.origin, lock.revision) == ("tiny", "adopted", None)
    assert list(lock.files) == ["config.json", "deep/weights.safetensors"]
    assert lock.files["config.json"].sha256 == hashlib.sha256(b"{}").hexdigest()
    assert verify("tiny", filled) == []


def test_a_folder_filled_with_something_else_is_not_recorded(filled: Path) -> None:
    weights = filled / "tiny-folder" / "deep" / "weights.safetensors"
    weights.write_bytes(b"other")
    with pytest.raises(Unavailable, match="damaged or another version"):
        adopt("tiny", filled)
    weights.unlink()
    with pytest.raises(Unavailable, match=r"lacks \['deep/weights\.safetensors'\].*someone/tiny"):
        adopt("tiny", filled)
    with pytest.raises(Unavailable, match="Set MODEL_DIR"):
        adopt("tiny", None)
    with pytest.raises(InvalidOption, match="weights convert syncdreamer"):
        adopt("syncdreamer", filled)
    assert condition_of(TINY, filled).condition is Condition.MISSING


def test_a_file_that_is_missing_or_has_another_size_is_damage(whole: Path) -> None:
    config = whole / "tiny-folder" / "config.json"
    config.write_bytes(b"{ }")
    assert condition_of(TINY, whole).condition is Condition.DAMAGED
    with pytest.raises(Unavailable, match=r"config\.json has 3 bytes, not 2.*weights fetch tiny"):
        find_bundle("tiny", whole)
    config.unlink()
    with pytest.raises(Unavailable, match=r"config\.json is missing"):
        find_bundle("tiny", whole)
    assert found_bundles(whole) == {}
    assert verify("tiny", whole) == [f"{config} is missing."]


def test_a_flipped_bit_is_found_by_verify_alone(whole: Path) -> None:
    weights = whole / "tiny-folder" / "deep" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[500] ^= 1
    weights.write_bytes(content)
    assert find_bundle("tiny", whole)
    (said,) = verify("tiny", whole)
    assert "weights.safetensors has changed" in said


def test_verify_reports_its_progress_and_stops(whole: Path) -> None:
    reports: list[Progress] = []
    control = Control(report_to=reports.append)
    verify("tiny", whole, control=control)
    assert reports[-1].fraction == 1.0
    control.stop.set()
    with pytest.raises(Cancelled):
        verify("tiny", whole, control=control)


def test_verify_of_what_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    for model_dir in (tmp_path, None):
        with pytest.raises(Unavailable, match="weights fetch tiny"):
            verify("tiny", model_dir)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"files": 3, "source": {}}', '{"files": {"a": {}}, "source": {}}']
)
def test_a_lock_that_cannot_be_read_is_damage(whole: Path, content: str) -> None:
    (whole / "tiny-folder" / LOCK_NAME).write_text(content)
    assert condition_of(TINY, whole).condition is Condition.DAMAGED
    with pytest.raises(Unavailable, match=r"cannot be read.*weights fetch tiny"):
        find_bundle("tiny", whole)
    assert "cannot be read" in verify("tiny", whole)[0]


def test_a_lock_of_an_older_version_that_took_fewer_files_is_damage(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = replace(TINY, files=(*TINY.files, BundleFile("new.json")))
    monkeypatch.setitem(bundles.BUNDLES, "tiny", more)
    with pytest.raises(Unavailable, match=r"recorded without \['new\.json'\]"):
        find_bundle("tiny", whole)


def test_another_revision_than_the_pinned_one_is_named_and_works(whole: Path) -> None:
    path = whole / "tiny-folder" / LOCK_NAME
    lock = json.loads(path.read_text())
    path.write_text(json.dumps({**lock, "revision": "b" * 40}))
    state = condition_of(TINY, whole)
    assert state.condition is Condition.OTHER_REVISION
    assert "b" * 40 in state.fault
    assert find_bundle("tiny", whole)


def test_the_digest_of_what_is_there_changes_with_its_content(whole: Path) -> None:
    before = found_bundles(whole)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", before["tiny"])
    assert found_bundles(whole) == before
    (whole / "tiny-folder" / "config.json").write_bytes(b"[]")
    adopt("tiny", whole)
    assert found_bundles(whole) != before
    assert found_bundles(None) == {}


def test_the_list_is_complete() -> None:
    for name, bundle in BUNDLES.items():
        if bundle is TINY:
            continue
        assert name == bundle.name
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", bundle.repo)
        assert bundle.revision is None or re.fullmatch(r"[0-9a-f]{40}", bundle.revision)
        assert bundle.files
        paths = [file.path for file in bundle.files]
        assert len(set(paths)) == len(paths)
        for file in bundle.files:
            assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert not file.path.endswith((".bin", ".pt")), "no pickles but what is converted"
        assert bundle.licence
        assert bundle.commercial or "NC" in bundle.licence
        assert bundle.purpose.endswith(".")
        assert not bundle.needed or bundle.commercial
        assert bundle.by_hand or not bundle.converted
    folders = [bundle.folder for bundle in BUNDLES.values()]
    assert len(set(folders)) == len(folders)


def test_engines_find_their_bundles_by_name() -> None:
    assert set(ENGINES[PortName.DEPTH]) - {"surface"} <= set(BUNDLES)
    for engine in ENGINE_NAMES[1:]:
        if engine != "tests":
            assert bundles_of(engine), engine
    gpu = {bundle.name for bundle in bundles_of("gpu")} - {"tiny"}
    assert gpu == {
        "syncdreamer",
        "midas-large",
        "sdxl-base",
        "sdxl-lightning-8step",
        "controlnet-depth-sdxl",
        "sdxl-vae-fp16-fix",
    }
    with pytest.raises(InvalidOption, match="no engines 'tpu'"):
        bundles_of("tpu")
    with pytest.raises(InvalidOption, match="sdxl-base"):
        bundle_named("sdxl")


@pytest.mark.parametrize(
    ("size", "said"), [(5_570_034_171, "5.57 GB"), (99_173_660, "99 MB"), (117_030, "117 kB")]
)
def test_sizes_are_told_for_people(size: int, said: str) -> None:
    assert size_for_people(size) == said
