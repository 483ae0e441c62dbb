"""Readers of our files that none of us wrote, run as programs of their own.

The JavaScript ones live in tests/tools; a test that needs them is skipped, with the reason, where
npm or node is missing. The others are Python packages of the development extra.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.geometry.frames import rotate_model
from pipeline.types import FloatArray, SplatModel

TOOLS = Path(__file__).parents[2] / "tools"
_TIMEOUT_S = 120

#: What Khronos' validator says of any file with KHR_gaussian_splatting: it does not know the
#: extension (information) nor, therefore, the names of its attributes (errors).
UNKNOWN_TO_VALIDATOR = ("MESH_PRIMITIVE_INVALID_ATTRIBUTE", "UNSUPPORTED_EXTENSION")


def run_node(script: str | Path, *arguments: str | Path) -> str:
    """What a script of tests/tools prints; skips the test where node or npm's packages are not."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    if not (TOOLS / "node_modules" / ".ready").exists():
        pytest.skip("the JavaScript readers are not installed: `make test` does it where npm is")
    done = subprocess.run(
        [node, TOOLS / script, *arguments],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        cwd=TOOLS,
        check=False,
    )
    assert done.returncode == 0, f"{script}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def validate_gltf(path: Path, *ignored: str) -> dict[str, Any]:
    """The report of Khronos' gltf-validator."""
    return json.loads(run_node("validate.mjs", path, *ignored))


def load_with_three(path: Path) -> dict[str, Any]:
    """The one drawable object of a .glb as three.js sees it, arrays as float64."""
    scene = json.loads(run_node("three_load.mjs", path))
    assert scene["generator"] == "Glimpse3D"
    [thing] = scene["objects"]
    for name in ("box", "positions", "faces"):
        thing[name] = np.array(thing[name])
    thing["attributes"] = {name: np.array(rows) for name, rows in thing["attributes"].items()}
    return thing


def splat_transform(source: Path, target: Path, *options: str) -> Path:
    """Convert between formats with PlayCanvas' splat-transform; answers `target`."""
    cli = "node_modules/@playcanvas/splat-transform/bin/cli.mjs"
    run_node(cli, "-q", "-w", *options, source, target)
    assert target.stat().st_size > 0
    return target


def read_csv(path: Path) -> SplatModel:
    """What splat-transform's .csv holds, in the frame of the .csv (that of a .ply)."""
    table = np.genfromtxt(path, delimiter=",", names=True, dtype=np.float64, ndmin=1)
    return model_of_columns({name: table[name] for name in table.dtype.names})


def read_with_playcanvas(path: Path) -> SplatModel:
    """What the PlayCanvas engine makes of a .glb of splats, in the .glb's frame.

    The engine sorts the splats as it likes. It keeps scales and opacities as they are
    in the file, so they are brought to logarithms and logits here.
    """
    columns = {
        k: np.array(v) for k, v in json.loads(run_node("playcanvas_splats.mjs", path)).items()
    }
    for i in range(3):
        columns[f"scale_{i}"] = np.log(columns[f"scale_{i}"])
    o = columns["opacity"]
    columns["opacity"] = np.log(o / (1 - o))
    return model_of_columns(columns)


def read_splats_with_three(path: Path) -> dict[str, Any]:
    """What three.js makes of a .glb of splats: see tests/tools/three_splats.mjs; arrays flat."""
    seen = json.loads(run_node("three_splats.mjs", path))
    return {name: np.array(value) for name, value in seen.items()}


def model_of_columns(columns: dict[str, np.ndarray]) -> SplatModel:
    """A model of columns that are named as in a .ply; no turning."""

    def stack(name: str, count: int) -> FloatArray:
        return np.stack([columns[f"{name}{i}"] for i in range(count)], axis=1).astype(np.float32)

    n = len(columns["x"])
    rest = sum(name.startswith("f_rest_") for name in columns)
    higher = stack("f_rest_", rest).reshape(n, 3, rest // 3) if rest else np.zeros((n, 3, 0))
    return SplatModel(
        means=np.stack([columns[axis] for axis in "xyz"], axis=1).astype(np.float32),
        quats=stack("rot_", 4),
        log_scales=stack("scale_", 3),
        logit_opacities=columns["opacity"].astype(np.float32),
        sh=np.concatenate([stack("f_dc_", 3)[:, None], higher.transpose(0, 2, 1)], axis=1).astype(
            np.float32
        ),
    )


def read_with_gsply(path: Path) -> SplatModel:
    """What gsply reads of a .ply or .spz, in the file's frame (it turns nothing)."""
    import gsply

    seen = gsply.read_spz(str(path)) if path.suffix == ".spz" else gsply.plyread(str(path))
    sh0 = np.asarray(seen.sh0)[:, None]
    higher = [] if seen.shN is None or np.size(seen.shN) == 0 else [np.asarray(seen.shN)]
    return SplatModel(
        means=np.array(seen.means),
        quats=np.array(seen.quats),
        log_scales=np.array(seen.scales),
        logit_opacities=np.array(seen.opacities).reshape(-1),
        sh=np.concatenate([sh0, *higher], axis=1),
    )


def in_world(model: SplatModel, frame_from_world: FloatArray) -> SplatModel:
    """A model that was read in a file's frame, in the world frame."""
    return rotate_model(model, np.ascontiguousarray(frame_from_world.T))
