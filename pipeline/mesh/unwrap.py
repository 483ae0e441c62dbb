"""Lays a surface out flat, in a process of its own that a stop ends at once, and on Linux the end
of the process that asked.

xatlas neither reports nor stops, takes seconds and lets no other thread of its process run
meanwhile. This module does not know what is painted on the layout.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.control import Control
from pipeline.cores import worker_threads
from pipeline.errors import ModelFailed, OutOfMemory
from pipeline.mesh.mesh_types import IndexArray, TriangleMesh
from pipeline.types import FloatArray

#: Texels between two charts, so that neither filtering nor the first mipmaps mix them.
_PADDING = 4

#: How often a stop is looked for, seconds.
_LOOK_S = 0.05

_SCRIPT = Path(__file__).with_name("xatlas_process.py")


@dataclass(frozen=True)
class Layout:
    """Vertices split at seams.

    Attributes:
        source: int32 [W], which vertex of the surface each one is.
        faces: int32 [F, 3].
        uvs: float32 [W, 2].
    """

    source: IndexArray
    faces: IndexArray
    uvs: FloatArray


def unwrap(surface: TriangleMesh, texels_per_unit: float, control: Control) -> Layout:
    """The surface's faces on one square atlas.

    Args:
        texels_per_unit: how large charts are drawn.

    Raises:
        Cancelled: a stop was asked for; xatlas is ended within a tenth of a second.
        OutOfMemory: the system ended xatlas for the memory that it took.
        ModelFailed: xatlas failed.
    """
    with tempfile.TemporaryDirectory(prefix="glimpse3d-unwrap-") as folder:
        mesh, layout = Path(folder) / "mesh.npz", Path(folder) / "layout.npz"
        np.savez(mesh, vertices=surface.vertices, faces=surface.faces.astype(np.uint32))
        # -P: modules beside the script are none of its own.
        command = [sys.executable, "-P", str(_SCRIPT), str(mesh), str(layout)]
        numbers = [str(_PADDING), repr(texels_per_unit), str(worker_threads())]
        _run([*command, *numbers, str(os.getpid())], control)
        with np.load(layout) as found:
            return Layout(
                found["source"].astype(np.int32),
                found["faces"].astype(np.int32),
                np.ascontiguousarray(found["uvs"], np.float32),
            )


def _run(command: list[str], control: Control) -> None:
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        # A Ctrl-C in the terminal reaches this process only, and this process decides.
        start_new_session=True,
    )
    try:
        while True:
            control.check()
            try:
                _, said = process.communicate(timeout=_LOOK_S)
                break
            except subprocess.TimeoutExpired:
                pass
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    killed = process.returncode == -signal.SIGKILL
    if killed or "MemoryError" in said or "bad_alloc" in said:
        raise OutOfMemory("There was too little memory to lay the surface out.")
    if process.returncode != 0:
        last = (said.strip().splitlines() or [_ending(process.returncode)])[-1]
        raise ModelFailed(f"The surface could not be laid out: {last}")


def _ending(returncode: int) -> str:
    """How a process ended that said nothing."""
    if returncode < 0:
        return f"xatlas was ended by {signal.Signals(-returncode).name}"
    return f"status {returncode}"
