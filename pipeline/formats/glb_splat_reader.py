"""Reads Gaussian splats from a .glb with KHR_gaussian_splatting, where its data lie in the file.

It does not know where files are kept. Source: KhronosGroup/glTF,
extensions/2.0/Khronos/KHR_gaussian_splatting/README.md and
KHR_gaussian_splatting_compression_spz_2/README.md, and glTF 2.0, sections 3.5 and 3.6.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InvalidModelFile
from pipeline.formats.read_splats import ReadModel, finish, joined, refuse_too_many
from pipeline.formats.spz_reader import load_spz
from pipeline.geometry.frames import GLTF_FROM_WORLD, rotate_model
from pipeline.types import FloatArray, SplatModel

_EXTENSION = "KHR_gaussian_splatting"
_SPZ = "KHR_gaussian_splatting_compression_spz_2"
_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_JSON, _BIN = 0x4E4F534A, 0x004E4942
_MOST_DEGREE = 3
#: glTF 2.0, section 5.11: no row takes more bytes.
_MOST_STRIDE = 252
#: Products of the axes of a node, turned and scaled evenly, are so near to those of the world's.
_EVEN = 1e-4


def load_glb_splat(data: bytes) -> ReadModel:
    """The model of a .glb of splats, in the world frame, and notes.

    All primitives with splats are joined, each where its node puts it.

    Raises:
        InvalidModelFile: no .glb, damaged, of a mesh, compressed, or with nodes that stretch.
    """
    document, binary = _chunks(data)
    try:
        reads = list(_parts(document, binary))
    except InvalidModelFile:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InvalidModelFile(f"The .glb is damaged: {error!r}.") from error
    if not reads:
        raise InvalidModelFile(
            "The .glb holds no Gaussian splats (KHR_gaussian_splatting): it may be a mesh."
        )
    # Each once: many nodes may show the same splats.
    faults = dict.fromkeys(fault for read in reads for fault in read.faults)
    remarks = dict.fromkeys(remark for read in reads for remark in read.remarks)
    return finish(
        joined([read.model for read in reads]),
        np.ascontiguousarray(GLTF_FROM_WORLD.T),
        ".glb",
        faults=tuple(faults),
        remarks=tuple(remarks),
    )


def _chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON document and the binary chunk, empty where there is none."""
    at = 12
    found: dict[int, bytes] = {}
    while at + 8 <= len(data):
        length, kind = struct.unpack_from("<II", data, at)
        if at + 8 + length > len(data):
            raise InvalidModelFile("The .glb is truncated.")
        found.setdefault(kind, data[at + 8 : at + 8 + length])
        at += 8 + length
    try:
        document = json.loads(found[_JSON])
        assert isinstance(document, dict)
    except (KeyError, ValueError, AssertionError, RecursionError) as error:
        raise InvalidModelFile("The .glb is damaged: it has no JSON document.") from error
    return document, found.get(_BIN, b"")


def _parts(document: dict[str, Any], binary: bytes) -> Iterator[ReadModel]:
    meshes, nodes = document.get("meshes", []), document.get("nodes", [])
    scenes = document.get("scenes", [])
    roots = scenes[document.get("scene", 0)].get("nodes", []) if scenes else range(len(nodes))
    splats = 0
    todo = [(root, np.eye(4)) for root in roots]
    visits = 0
    while todo:
        index, above = todo.pop()
        visits += 1
        # Nodes are a tree; anything else may go on for ever.
        if visits > len(nodes):
            raise InvalidModelFile("The nodes of the .glb are no tree.")
        node = nodes[index]
        place = above @ _matrix(node)
        todo += [(child, place) for child in node.get("children", [])]
        for primitive in meshes[node["mesh"]]["primitives"] if "mesh" in node else []:
            extension = primitive.get("extensions", {}).get(_EXTENSION)
            if extension is not None:
                # Every node may repeat all splats of the file.
                splats += int(document["accessors"][primitive["attributes"]["POSITION"]]["count"])
                refuse_too_many(splats, len(binary), ".glb")
                compressed = extension.get("extensions", {})
                if _SPZ in compressed:
                    part = _read_spz(document, binary, compressed[_SPZ]["bufferView"])
                elif compressed:
                    how = next(iter(compressed))
                    raise InvalidModelFile(
                        f"The splats of the .glb are compressed ({how}): convert it to .ply."
                    )
                else:
                    part = ReadModel(_read(document, binary, primitive["attributes"]))
                yield replace(part, model=_placed(part.model, place))


def _matrix(node: dict[str, Any]) -> npt.NDArray[np.float64]:
    """float64 [4, 4], from the node to its parent."""
    from scipy.spatial.transform import Rotation

    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(node.get("rotation", [0, 0, 0, 1])).as_matrix()
    matrix[:3, :3] *= np.array(node.get("scale", [1, 1, 1]), np.float64)
    matrix[:3, 3] = node.get("translation", [0, 0, 0])
    return matrix


def _placed(model: SplatModel, matrix: npt.NDArray[np.float64]) -> SplatModel:
    """Raises InvalidModelFile where the matrix does more than turn, scale evenly and move."""
    if np.array_equal(matrix, np.eye(4)):
        return model
    from scipy.spatial.transform import Rotation

    scale = float(np.cbrt(np.linalg.det(matrix[:3, :3]))) if np.isfinite(matrix).all() else 0.0
    turn = matrix[:3, :3] / scale if scale > 0 else np.zeros((3, 3))
    if not np.allclose(turn @ turn.T, np.eye(3), atol=_EVEN):
        raise InvalidModelFile("A node of the .glb stretches or mirrors its splats.")
    with np.errstate(over="ignore", invalid="ignore"):
        # The nearest rotation: numbers of a document are rounded.
        turned = rotate_model(model, Rotation.from_matrix(turn).as_matrix().astype(np.float32))
        return replace(
            turned,
            means=(scale * turned.means + matrix[:3, 3]).astype(np.float32),
            log_scales=(turned.log_scales + np.log(scale)).astype(np.float32),
        )


def _read(document: dict[str, Any], binary: bytes, attributes: dict[str, int]) -> SplatModel:
    """The splats of one primitive, in its own frame."""

    def rows(name: str, width: int) -> FloatArray:
        key = name if name in attributes else f"{_EXTENSION}:{name}"
        if key not in attributes:
            raise InvalidModelFile(f"The splats of the .glb have no attribute {name}.")
        return _accessor(document, binary, attributes[key], width)

    degree = 0
    while degree < _MOST_DEGREE and f"{_EXTENSION}:SH_DEGREE_{degree + 1}_COEF_0" in attributes:
        degree += 1
    harmonics = [
        rows(f"SH_DEGREE_{band}_COEF_{n}", 3)
        for band in range(degree + 1)
        for n in range(2 * band + 1)
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        opacities = rows("OPACITY", 1)[:, 0].astype(np.float64)
        return SplatModel(
            means=rows("POSITION", 3),
            quats=rows("ROTATION", 4)[:, [3, 0, 1, 2]],
            log_scales=np.log(np.abs(rows("SCALE", 3))),
            logit_opacities=np.log(opacities / (1 - opacities)).astype(np.float32),
            sh=np.stack(harmonics, axis=1),
        )


def _read_spz(document: dict[str, Any], binary: bytes, index: int) -> ReadModel:
    """The splats of one primitive, in its own frame, which is that of a .spz turned to glTF's."""
    view = _view(document, index)
    start = int(view.get("byteOffset", 0))
    read = load_spz(binary[start : start + int(view["byteLength"])])
    return replace(read, model=rotate_model(read.model, GLTF_FROM_WORLD))


def _view(document: dict[str, Any], index: int) -> dict[str, Any]:
    view: dict[str, Any] = document["bufferViews"][index]
    if document["buffers"][view["buffer"]].get("uri") is not None or view["buffer"]:
        raise InvalidModelFile("The data of the .glb lie in another file.")
    return view


def _accessor(document: dict[str, Any], binary: bytes, index: int, width: int) -> FloatArray:
    """The rows of an accessor, float32 [N, width]."""
    accessor = document["accessors"][index]
    kind, count = np.dtype(_COMPONENTS[accessor["componentType"]]), int(accessor["count"])
    if _WIDTHS.get(accessor["type"]) != width or "sparse" in accessor or count < 0:
        raise InvalidModelFile("The splats of the .glb have an attribute of an unknown kind.")
    view = _view(document, accessor["bufferView"])
    start = int(view.get("byteOffset", 0)) + int(accessor.get("byteOffset", 0))
    stride = int(view.get("byteStride", width * kind.itemsize))
    end = start + (count - 1) * stride + width * kind.itemsize
    if stride > _MOST_STRIDE:
        raise InvalidModelFile(f"The .glb is damaged: it has rows of {stride:,} bytes.")
    if count and not (start >= 0 and width * kind.itemsize <= stride and end <= len(binary)):
        raise InvalidModelFile("The .glb is truncated: an attribute ends behind the file.")
    row = np.dtype({"names": ["v"], "formats": [(kind, (width,))], "itemsize": stride})
    whole = binary[start:end] + bytes(stride - width * kind.itemsize) if count else b""
    values = np.frombuffer(whole, row, count)["v"]
    if accessor.get("normalized"):
        least = -1.0 if kind.kind == "i" else 0.0
        return np.maximum(values / np.iinfo(kind).max, least).astype(np.float32)
    return values.astype(np.float32)
