"""The layout of a surface: xatlas's own, made beside this process, and ended with a stop."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
import xatlas

from pipeline.control import Control
from pipeline.errors import Cancelled, ModelFailed, OutOfMemory
from pipeline.mesh import unwrap as unwrap_module
from pipeline.mesh import xatlas_process
from pipeline.mesh.mesh_types import TriangleMesh
from pipeline.mesh.unwrap import unwrap


def ball(subdivisions: int = 2) -> TriangleMesh:
    mesh = trimesh.creation.icosphere(subdivisions)
    return TriangleMesh(np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int32))


def test_the_layout_is_what_xatlas_makes_here():
    surface = ball()
    pack = xatlas.PackOptions()
    pack.padding, pack.bilinear, pack.texels_per_unit = 4, True, 50.0
    atlas = xatlas.Atlas()
    atlas.add_mesh(surface.vertices, surface.faces.astype(np.uint32))
    atlas.generate(xatlas.ChartOptions(), pack)
    found = unwrap(surface, 50.0, Control())
    for ours, theirs in zip((found.source, found.faces, found.uvs), atlas[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[str]]:
    """Processes that are started from now on."""
    found: list[subprocess.Popen[str]] = []
    start = subprocess.Popen

    def noted(*args: Any, **kwargs: Any) -> subprocess.Popen[str]:
        found.append(start(*args, **kwargs))
        return found[-1]

    monkeypatch.setattr(subprocess, "Popen", noted)
    return found


def test_a_stop_ends_xatlas_in_the_middle(started: list[subprocess.Popen[str]]) -> None:
    class StopsWhenItRuns(Control):
        def check(self) -> None:
            if started:
                self.stop.set()
            super().check()

    with pytest.raises(Cancelled):
        unwrap(ball(6), 50.0, StopsWhenItRuns())
    (process,) = started
    assert process.returncode is not None and process.returncode < 0, "it was killed, and reaped"


@pytest.mark.parametrize(
    ("code", "error", "told"),
    [
        (
            "raise ValueError('no faces')",
            ModelFailed,
            "could not be laid out: ValueError: no faces",
        ),
        ("raise MemoryError", OutOfMemory, "too little memory"),
        ("import os; os.kill(os.getpid(), 9)", OutOfMemory, "too little memory"),
        ("import os; os.kill(os.getpid(), 11)", ModelFailed, "was ended by SIGSEGV"),
    ],
)
def test_how_xatlas_ends_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, error: type, told: str
) -> None:
    (tmp_path / "script.py").write_text(code)
    monkeypatch.setattr(unwrap_module, "_SCRIPT", tmp_path / "script.py")
    with pytest.raises(error, match=told):
        unwrap(ball(), 50.0, Control())


def test_a_ctrl_c_in_the_terminal_reaches_this_process_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a terminal interrupts is the group of the process in front."""
    script = "import os, sys; sys.exit(str(os.getpgid(0)))"
    (tmp_path / "script.py").write_text(script)
    monkeypatch.setattr(unwrap_module, "_SCRIPT", tmp_path / "script.py")
    with pytest.raises(ModelFailed) as failed:
        unwrap(ball(), 50.0, Control())
    assert int(str(failed.value).rpartition(": ")[2]) != os.getpgid(0)


_SLEEPING_XATLAS = """
import fcntl, pathlib, runpy, sys, time, types
lock = open(LOCK, "w")
def sleep():
    fcntl.flock(lock, fcntl.LOCK_EX)
    pathlib.Path(LOCK + ".held").touch()
    time.sleep(600)  # as a layout that takes for ever: it ends by being killed
sys.modules["xatlas"] = types.SimpleNamespace(PackOptions=sleep)
runpy.run_path(REAL, run_name="__main__")
"""
_UNWRAPS = """
import pathlib, sys
import numpy as np
from pipeline.control import Control
from pipeline.mesh import unwrap
from pipeline.mesh.mesh_types import TriangleMesh
unwrap._SCRIPT = pathlib.Path(sys.argv[1])
triangle = TriangleMesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32))
unwrap.unwrap(triangle, 50.0, Control())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_xatlas_ends_with_the_process_that_asked_however_that_ends(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    text = f"LOCK, REAL = {str(lock)!r}, {xatlas_process.__file__!r}\n" + _SLEEPING_XATLAS
    (tmp_path / "script.py").write_text(text)
    asks = [sys.executable, "-c", _UNWRAPS, str(tmp_path / "script.py")]
    parent = subprocess.Popen(asks, env=os.environ | {"TMPDIR": str(tmp_path)})
    try:
        assert wait_until((tmp_path / "lock.held").exists)
    finally:
        parent.kill()
        parent.wait()

    def is_free() -> bool:
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    assert wait_until(is_free), "the process that held it goes on"


def wait_until(holds: Callable[[], bool]) -> bool:
    """Whether it holds within a minute."""
    for _ in range(1200):
        if holds():
            return True
        time.sleep(0.05)
    return False


def test_xatlas_sees_as_many_cores_as_it_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[set[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {1, 3, 5, 7})
    monkeypatch.setattr(os, "sched_setaffinity", lambda _pid, cores: told.append(set(cores)))
    source, target, surface = str(tmp_path / "a.npz"), str(tmp_path / "b.npz"), ball(1)
    np.savez(source, vertices=surface.vertices, faces=surface.faces.astype(np.uint32))
    for threads in (2, 9):
        xatlas_process.main(source, target, 4, 50.0, threads)
    assert [len(cores) for cores in told] == [2, 4] and told[0] < {1, 3, 5, 7}
