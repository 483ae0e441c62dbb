"""Triangle meshes as they travel between extraction, texturing and the file writers.

They do not know how they were made or in which format they end. World frame as everywhere in the
pipeline: right-handed, z up, photographed side facing +x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.types import FloatArray, UInt8Array

IndexArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class TriangleMesh:
    """A surface without appearance.

    Attributes:
        vertices: float32 [V, 3], world units.
        faces: int32 [F, 3], indices into `vertices`, counter-clockwise seen from outside.
    """

    vertices: FloatArray
    faces: IndexArray


@dataclass(frozen=True)
class TexturedMesh:
    """A surface with its colours: either a texture and its coordinates, or a colour per vertex.

    Vertices are split where the texture has a seam; merging equal positions closes the surface.

    Attributes:
        vertices: float32 [V, 3], world units.
        normals: float32 [V, 3], unit length, outward.
        faces: int32 [F, 3], counter-clockwise seen from outside.
        uvs: float32 [V, 2], 0..1 from the upper left corner of the texture, v down (as glTF), or
            None.
        texture: uint8 [S, S, 3], sRGB, row 0 at the top, or None.
        colors: uint8 [V, 3], sRGB, or None. Set where `texture` is None.
    """

    vertices: FloatArray
    normals: FloatArray
    faces: IndexArray
    uvs: FloatArray | None = None
    texture: UInt8Array | None = None
    colors: UInt8Array | None = None

    def __post_init__(self) -> None:
        V = len(self.vertices)
        if self.vertices.shape != (V, 3) or self.normals.shape != (V, 3):
            raise ValueError("vertices and normals must both be [V, 3]")
        if self.faces.ndim != 2 or self.faces.shape[1] != 3:
            raise ValueError(f"faces must be [F, 3], got {self.faces.shape}")
        if (self.texture is None) != (self.uvs is None):
            raise ValueError("uvs and texture go together")
        if (self.texture is None) == (self.colors is None):
            raise ValueError("either texture or colors must be set")
        if self.uvs is not None and self.uvs.shape != (V, 2):
            raise ValueError(f"uvs must be [V, 2], got {self.uvs.shape}")
        if self.colors is not None and self.colors.shape != (V, 3):
            raise ValueError(f"colors must be [V, 3], got {self.colors.shape}")
