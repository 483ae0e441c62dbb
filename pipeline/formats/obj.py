"""Meshes as Wavefront .obj with material and texture, in a flat .zip.

It does not know how the surface was made. The material is written here because exporters of
libraries add `Kd 0.4 0.4 0.4`, which many viewers multiply with the texture.
"""

from __future__ import annotations

import io
import zipfile

import numpy as np
import numpy.typing as npt

from pipeline.formats.encoded_texture import encode_texture
from pipeline.formats.surface import to_gltf_axes
from pipeline.mesh.mesh_types import TexturedMesh

#: The illumination model stands at the end: 1 has lights, 0 is the colour itself.
_MATERIAL = "newmtl surface\nKd 1 1 1\nKs 0 0 0\nd 1\nillum %d\n"

#: Places have more digits where the whole model is smaller than this.
_SMALL = 0.1


def write_obj(mesh: TexturedMesh, *, compact: bool = False, unlit: bool = False) -> bytes:
    """A zip of model.obj, model.mtl and albedo.png, in the glTF frame; deterministic.

    Without a texture there is model.obj alone, and every vertex line carries its sRGB colour
    (`v x y z r g b`, an extension that MeshLab, Blender, three.js and trimesh read; trimesh does
    so only where no material is named).

    Args:
        compact: albedo.jpg instead, positions to 1e-4, texture coordinates to 1e-5 and normals to
            1e-3 instead of 1e-6, 1e-6 and 1e-4. Positions have more digits where the model is
            smaller than .1.
        unlit: `illum 0` in the material: the colour is shown as it is. Many readers ignore that.

    Raises:
        InvalidInput: the mesh is empty or not finite.
    """
    mesh = to_gltf_axes(mesh)
    position, coordinate, direction = (4, 5, 3) if compact else (6, 6, 4)
    size = float(np.ptp(mesh.vertices.astype(np.float64), axis=0).max())
    if 0 < size < _SMALL:
        position += int(np.ceil(np.log10(_SMALL / size)))
    lines = ["# Glimpse3D: +Y up, front +Z", "o model"]
    files: dict[str, bytes] = {}
    if mesh.texture is not None and mesh.uvs is not None:
        picture = encode_texture(mesh.texture, compact=compact)
        name = f"albedo.{picture.suffix}"
        lines += ["mtllib model.mtl", "usemtl surface"]
        files["model.mtl"] = f"{_MATERIAL % (not unlit)}map_Kd {name}\n".encode("ascii")
        files[name] = picture.data
        lines += _lines(f"v{f' %.{position}f' * 3}", mesh.vertices)
        # OBJ counts v from the bottom of the picture.
        lines += _lines(f"vt{f' %.{coordinate}f' * 2}", mesh.uvs * [1.0, -1.0] + [0.0, 1.0])
    elif mesh.colors is not None:
        with_colors = np.concatenate([mesh.vertices, mesh.colors / 255.0], axis=1)
        lines += _lines(f"v{f' %.{position}f' * 3}{' %.4f' * 3}", with_colors)
    lines += _lines(f"vn{f' %.{direction}f' * 3}", mesh.normals)
    corner = "%d//%d" if mesh.uvs is None else "%d/%d/%d"
    numbers = np.repeat(mesh.faces + 1, corner.count("%"), axis=1)
    lines += _lines(f"f {corner} {corner} {corner}", numbers)
    files = {"model.obj": ("\n".join(lines) + "\n").encode("ascii"), **files}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in files.items():
            # The oldest time a zip can hold: the same mesh gives the same bytes.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def _lines(template: str, rows: npt.NDArray[np.number]) -> list[str]:
    """`template` filled with every row [N, C]."""
    return [template % tuple(row) for row in rows.tolist()]
