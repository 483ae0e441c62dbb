"""The C++ build: cached by content, safe to race, and clear about what is missing."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import OutOfMemory, Unavailable
from pipeline.native import compile as build
from pipeline.native import raise_on_failure


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


def test_another_folder_is_another_library(sources: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "question.cpp").write_text('extern "C" int question() { return 6 * 9; }\n')
    own = build.build_library(tmp_path / "cache")
    path = build.build_library(tmp_path / "cache", source_dir=other, name="other")
    assert path.name.startswith("libother-")
    assert path.parent == own.parent
    assert ctypes.CDLL(str(path)).question() == 54


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


def test_a_cached_library_needs_no_compiler(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    built = build.build_library(tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build.build_library(tmp_path / "cache") == built
    (sources / "answer.cpp").write_text('extern "C" int answer() { return 43; }\n')
    with pytest.raises(Unavailable, match=r"No C\+\+ compiler"):
        build.build_library(tmp_path / "cache")


def test_another_cxx_is_another_library(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "g++")
    first = build.build_library(tmp_path / "cache")
    monkeypatch.setenv("CXX", "g++ -g")
    assert build.build_library(tmp_path / "cache") != first


def test_exception_in_a_loop_reaches_the_caller_as_a_status(sources: Path, tmp_path: Path) -> None:
    """On every thread, with all threads joined and the next call unharmed."""
    native = Path(build.__file__).parent
    for name in ("parallel.h", "threads.cpp"):
        (sources / name).write_text((native / name).read_text())
    (sources / "loop.cpp").write_text(
        """
        #include <new>
        #include <stdexcept>
        #include "parallel.h"
        extern "C" int loop(int64_t throws_at, int kind, int64_t* sum) try {
            std::atomic<int64_t> total{0};
            glimpse::parallel_for(1000, 1, [&](int64_t i) {
                if (i == throws_at && kind == 0) throw std::bad_alloc();
                if (i == throws_at && kind == 1) std::vector<int>().reserve(-1);
                if (i == throws_at) throw 7;
                total += i;
            });
            *sum = total;
            return glimpse::kOk;
        } catch (...) {
            return glimpse::status_of_exception();
        }
        """
    )
    library = ctypes.CDLL(str(build.build_library(tmp_path / "cache")))
    library.loop.argtypes = [ctypes.c_int64, ctypes.c_int, ctypes.c_void_p]
    total = ctypes.c_int64()
    for threads in (1, 4):
        library.glimpse_set_threads(threads)
        for place in (0, 500, 999):
            statuses = [library.loop(place, kind, ctypes.byref(total)) for kind in (0, 1, 2)]
            assert statuses == [1, 1, 2]
        assert library.loop(-1, 0, ctypes.byref(total)) == 0
        assert total.value == 499_500


def test_status_becomes_an_error_of_the_product() -> None:
    def work() -> None: ...

    raise_on_failure(0, work, ())
    with pytest.raises(OutOfMemory, match="work"):
        raise_on_failure(1, work, ())
    with pytest.raises(ValueError, match="status 2"):
        raise_on_failure(2, work, ())
