"""The C++ build: cached by content, safe to race, and clear about what is missing."""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import Unavailable
from pipeline.native import build


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one tiny source that stands for the library's own (which take 8 s)."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "answer.cpp").write_text('extern "C" int answer() { return 42; }\n')
    monkeypatch.setattr(build, "SOURCE_DIR", folder)
    return folder


def test_build_is_kept_and_reused(sources: Path, tmp_path: Path) -> None:
    first = build.build_library(tmp_path / "cache")
    written = first.stat().st_mtime_ns
    assert build.build_library(tmp_path / "cache") == first
    assert first.stat().st_mtime_ns == written
    assert ctypes.CDLL(str(first)).answer() == 42


def test_changed_source_is_built_anew(sources: Path, tmp_path: Path) -> None:
    first = build.build_library(tmp_path / "cache")
    (sources / "answer.cpp").write_text('extern "C" int answer() { return 43; }\n')
    second = build.build_library(tmp_path / "cache")
    assert second != first
    assert ctypes.CDLL(str(second)).answer() == 43


def test_two_builds_at_once_give_one_whole_library(sources: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(build.build_library, [tmp_path / "cache"] * 2))
    assert paths[0] == paths[1]
    assert ctypes.CDLL(str(paths[0])).answer() == 42
    assert [path.name for path in paths[0].parent.iterdir()] == [paths[0].name]


def test_missing_compiler_is_named_with_the_way_to_install_one(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=r"No C\+\+ compiler.*g\+\+.*apt-get install g\+\+"):
        build.build_library(tmp_path / "cache")


def test_compiler_of_cxx_is_used_and_named_when_missing(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -m64")
    with pytest.raises(Unavailable, match="no-such-compiler"):
        build.build_library(tmp_path / "cache")


def test_failed_build_shows_what_the_compiler_wrote(sources: Path, tmp_path: Path) -> None:
    (sources / "answer.cpp").write_text("int answer( { return 42; }\n")
    with pytest.raises(Unavailable, match=r"answer\.cpp:1.*error"):
        build.build_library(tmp_path / "cache")
    assert list((tmp_path / "cache" / "native").iterdir()) == []


def test_cache_that_cannot_be_written_is_named(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(Unavailable, match="GLIMPSE3D_CACHE"):
        build.build_library(tmp_path / "cache")


def test_cache_folder_follows_the_environment(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLIMPSE3D_CACHE", str(tmp_path / "here"))
    assert build.build_library().is_relative_to(tmp_path / "here")
    monkeypatch.delenv("GLIMPSE3D_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert build.build_library().is_relative_to(tmp_path / "xdg" / "glimpse3d")


def test_thread_count_respects_affinity_and_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_cgroup_quota", lambda: None)
    assert 1 <= build.default_threads() <= len(os.sched_getaffinity(0))
    monkeypatch.setattr(build, "_cgroup_quota", lambda: 0.5)
    assert build.default_threads() == 1
