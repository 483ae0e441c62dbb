"""Every export, the previews and the surface's errors: `python -m bench exports`.

The model is a torus of 65,000 discs whose surface, normals and colours are known; times are
medians of three, file sizes millions of bytes.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable

import numpy as np
import trimesh

from bench.table import Row
from pipeline.control import Control
from pipeline.engines.exporter import export_model
from pipeline.engines.registry import EngineChoice
from pipeline.file_types import FORMATS
from pipeline.flow.local import build_ports
from pipeline.flow.previews import make_turntable
from pipeline.mesh.build import MeshRequest, build_mesh
from pipeline.mesh.mesh_types import TexturedMesh
from pipeline.options import ExportOptions
from pipeline.ports import PortName
from tests.oracles import shells
from tests.oracles.shells import Kind, moved, shell, together

_SPLATS = 65_000


def _seconds(work: Callable[[], object], times: int = 3) -> float:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def _errors(mesh: TexturedMesh, kind: Kind) -> tuple[float, float, float]:
    """Mean distance in percent of the size, degrees between normals, colour error 0..1."""
    assert mesh.texture is not None, "the default face limit has a texture"
    assert mesh.uvs is not None, "with a texture"
    plain = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    points, faces = trimesh.sample.sample_surface(plain, 50_000, seed=1)
    cosines = (shells.normal(points, kind) * plain.face_normals[faces]).sum(axis=1)
    weights = trimesh.triangles.points_to_barycentric(plain.triangles[faces], points)
    uv = (mesh.uvs[mesh.faces[faces]] * weights[..., None]).sum(axis=1)
    size = len(mesh.texture)
    column, row = np.clip((uv * size).astype(int), 0, size - 1).T
    seen = mesh.texture[row, column] / 255
    return (
        100 * float(np.abs(shells.distance(points, kind)).mean() / shells.SIZE[kind]),
        float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).mean()),
        float(np.abs(seen - shells.color(points)).mean()),
    )


def run() -> list[Row]:
    """Seconds and megabytes per format, seconds of a turntable, errors of two meshes."""
    model = shell("torus", _SPLATS)
    rows = []
    for found in FORMATS.values():
        for optimize in (False, True):
            options = ExportOptions(found.name, optimize)
            files = []
            seconds = _seconds(lambda: files.append(export_model(model, options)))  # noqa: B023
            name = f"{found.name}{' optimized' if optimize else ''}"
            rows.append(Row(name, seconds, "s", 10 if found.is_mesh else 1))
            rows.append(Row(f"{name}, size", len(files[-1].data) / 1e6, "MB"))
    ports = build_ports(EngineChoice(), [PortName.SPLATS])
    assert ports.splats is not None, "asked for"
    splats = ports.splats
    turn = _seconds(lambda: asyncio.run(make_turntable(model, splats)))
    rows.append(Row(f"turntable, 60 frames of 512 px, {_SPLATS:,} splats", turn, "s", 6))
    ball = shell("sphere", 20_000)
    pair = together(moved(ball, (0, 0.5, 0)), moved(ball, (0, -0.5, 0)))
    taken = _seconds(lambda: export_model(pair, ExportOptions("glb")), times=1)
    rows.append(Row("glb of two balls side by side, 20,000 splats each", taken, "s", 6))
    kinds: tuple[Kind, ...] = ("sphere", "torus")
    for kind in kinds:
        built = build_mesh(shell(kind, 20_000), MeshRequest(10_000, 1024), Control())
        distance, angle, color = _errors(built.mesh, kind)
        rows.append(Row(f"{kind}: distance to the surface", distance, "% of size", 0.5))
        rows.append(Row(f"{kind}: error of the normals", angle, "degrees", 4))
        rows.append(Row(f"{kind}: error of the texture", color, "of 1", 0.03))
    return rows
