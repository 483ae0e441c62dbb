"""The container of binary glTF 2.0: a JSON chunk, a binary chunk, and the tables between them.

It does not know meshes or splats. Our own because no library on PyPI writes the attributes of
KHR_gaussian_splatting, and trimesh's exporter neither quantises nor writes linear colours.
Source: glTF 2.0 specification, sections 3.6 (buffers) and 4 (GLB).
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

#: `bufferView.target`: vertex attributes, and indices.
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963

_COMPONENT_TYPES = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
_TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
_MAGIC, _VERSION, _JSON, _BIN = 0x46546C67, 2, 0x4E4F534A, 0x004E4942


def normalized_integers(
    values: npt.NDArray[np.floating], dtype: type[np.integer]
) -> npt.NDArray[Any]:
    """Integers that stand for values in 0..1 (unsigned) or -1..1 (signed), cut off there."""
    limits = np.iinfo(dtype)
    kept = np.clip(values.astype(np.float64), -1.0 if limits.min < 0 else 0.0, 1.0)
    return np.round(kept * limits.max).astype(dtype)


def one_node_scene(node: dict[str, Any]) -> dict[str, Any]:
    """The part of a document that puts one node into its scene."""
    return {"scene": 0, "scenes": [{"name": "scene", "nodes": [0]}], "nodes": [node]}


class GlbBuilder:
    """Collects binary data, then writes one .glb."""

    def __init__(self) -> None:
        self._binary = bytearray()
        self._views: list[dict[str, Any]] = []
        self._accessors: list[dict[str, Any]] = []

    def add_view(self, data: bytes, *, target: int | None = None, stride: int | None = None) -> int:
        """Append bytes at a multiple of four; answers the index of their buffer view."""
        self._binary += bytes(-len(self._binary) % 4)
        view: dict[str, Any] = {
            "buffer": 0,
            "byteOffset": len(self._binary),
            "byteLength": len(data),
        }
        if stride is not None:
            view["byteStride"] = stride
        if target is not None:
            view["target"] = target
        self._binary += data
        self._views.append(view)
        return len(self._views) - 1

    def add_attribute(
        self, values: npt.NDArray[Any], *, normalized: bool = False, bounds: bool = False
    ) -> int:
        """A vertex attribute; answers the index of its accessor.

        Args:
            values: int8, uint8, int16, uint16 or float32, [N] or [N, C] with C in 2..4. Each row
                is padded to a multiple of four bytes, as the specification asks.
            normalized: integers stand for 0..1 or -1..1.
            bounds: state the smallest and largest value of every column (required of POSITION).
        """
        rows = np.ascontiguousarray(values.reshape(len(values), -1))
        used = rows.shape[1] * rows.itemsize
        padded = np.zeros((len(rows), used + -used % 4), np.uint8)
        padded[:, :used] = rows.astype(rows.dtype.newbyteorder("<")).view(np.uint8)
        view = self.add_view(padded.tobytes(), target=ARRAY_BUFFER, stride=padded.shape[1])
        return self._add_accessor(rows, view, normalized=normalized, bounds=bounds)

    def add_indices(self, faces: npt.NDArray[np.integer], *, vertices: int) -> int:
        """Triangles [F, 3] as uint16, or uint32 where there are too many vertices."""
        # The largest value of a type means "restart" in some interfaces and is not allowed.
        dtype = np.dtype("<u2") if vertices <= 65535 else np.dtype("<u4")
        indices = np.ascontiguousarray(faces.reshape(-1, 1)).astype(dtype)
        view = self.add_view(indices.tobytes(), target=ELEMENT_ARRAY_BUFFER)
        return self._add_accessor(indices, view)

    def _add_accessor(
        self,
        rows: npt.NDArray[Any],
        view: int,
        *,
        normalized: bool = False,
        bounds: bool = False,
    ) -> int:
        accessor: dict[str, Any] = {
            "bufferView": view,
            "componentType": _COMPONENT_TYPES[rows.dtype.str[1:]],
            "count": len(rows),
            "type": _TYPES[rows.shape[1]],
        }
        if normalized:
            accessor["normalized"] = True
        if bounds:
            accessor["min"], accessor["max"] = rows.min(axis=0).tolist(), rows.max(axis=0).tolist()
        self._accessors.append(accessor)
        return len(self._accessors) - 1

    def to_bytes(self, document: dict[str, Any]) -> bytes:
        """The file: `document` (scenes, nodes, meshes, ...) with the tables collected so far."""
        whole = {
            "asset": {"version": "2.0", "generator": "Glimpse3D"},
            **document,
            "buffers": [{"byteLength": len(self._binary)}],
            "bufferViews": self._views,
            "accessors": self._accessors,
        }
        text = json.dumps(whole, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        binary = bytes(self._binary) + bytes(-len(self._binary) % 4)
        length = 12 + 8 + len(text) + 8 + len(binary)
        return b"".join(
            [
                struct.pack("<III", _MAGIC, _VERSION, length),
                struct.pack("<II", len(text), _JSON),
                text,
                struct.pack("<II", len(binary), _BIN),
                binary,
            ]
        )
