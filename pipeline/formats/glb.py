"""Textured or vertex-coloured meshes as .glb (binary glTF 2.0), one material, one draw call.

It does not know how the surface was made, nor where files are kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.formats.encoded_texture import encode_texture, linear_from_srgb
from pipeline.formats.gltf import GlbBuilder, normalized_integers, one_node_scene
from pipeline.formats.surface import to_gltf_axes
from pipeline.mesh.mesh_types import TexturedMesh
from pipeline.types import FloatArray

_LINEAR, _LINEAR_MIPMAP_LINEAR, _CLAMP_TO_EDGE = 9729, 9987, 33071
_QUANTIZATION, _UNLIT = "KHR_mesh_quantization", "KHR_materials_unlit"


def write_glb(mesh: TexturedMesh, *, compact: bool = False, unlit: bool = False) -> bytes:
    """The file's bytes, in the glTF frame of `pipeline.geometry.frames`.

    Colours per vertex become linear (glTF 2.0, 3.7.2.1: COLOR_0 is linear), in 16 bits, because
    8 linear bits show bands in dark tones. Indices have 16 bits where they suffice.

    Args:
        compact: quantise as KHR_mesh_quantization allows, which readers then must know: positions
            to 1/65534 of the longest side (int16, undone by the node's translation and scale),
            normals to 1/127 (int8), texture coordinates to 1/65535 (uint16); texture as JPEG.
        unlit: colours as they are, whatever the lights (KHR_materials_unlit); a reader that does
            not know the extension shows the rough, matt surface of other files.

    Raises:
        InvalidInput: the mesh is empty or not finite.
    """
    mesh = to_gltf_axes(mesh)
    builder = GlbBuilder()
    node: dict[str, Any] = {"name": "model", "mesh": 0}
    if compact:
        positions, node["translation"], node["scale"] = _quantize_positions(mesh.vertices)
        attributes = {
            "POSITION": builder.add_attribute(positions, normalized=True, bounds=True),
            "NORMAL": builder.add_attribute(
                np.round(127 * mesh.normals).astype(np.int8), normalized=True
            ),
        }
    else:
        attributes = {
            "POSITION": builder.add_attribute(mesh.vertices.astype(np.float32), bounds=True),
            "NORMAL": builder.add_attribute(mesh.normals),
        }
    material: dict[str, Any] = {
        "name": "surface",
        "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
        "doubleSided": False,
    }
    document: dict[str, Any] = {**one_node_scene(node), "materials": [material]}
    used = [_QUANTIZATION] if compact else []
    if unlit:
        material["extensions"] = {_UNLIT: {}}
        used.append(_UNLIT)
    if used:
        document["extensionsUsed"] = used
    if compact:
        document["extensionsRequired"] = [_QUANTIZATION]
    if mesh.texture is not None and mesh.uvs is not None:
        uvs: npt.NDArray[Any] = mesh.uvs.astype(np.float32)
        if compact:
            uvs = normalized_integers(mesh.uvs, np.uint16)
        attributes["TEXCOORD_0"] = builder.add_attribute(uvs, normalized=compact)
        material["pbrMetallicRoughness"]["baseColorTexture"] = {"index": 0}
        picture = encode_texture(mesh.texture, compact=compact)
        document["images"] = [
            {
                "name": "albedo",
                "bufferView": builder.add_view(picture.data),
                "mimeType": picture.media_type,
            }
        ]
        document["samplers"] = [
            {
                "magFilter": _LINEAR,
                "minFilter": _LINEAR_MIPMAP_LINEAR,
                "wrapS": _CLAMP_TO_EDGE,
                "wrapT": _CLAMP_TO_EDGE,
            }
        ]
        document["textures"] = [{"name": "albedo", "source": 0, "sampler": 0}]
    elif mesh.colors is not None:
        linear = linear_from_srgb(mesh.colors / 255.0)
        colors = normalized_integers(linear, np.uint16)
        attributes["COLOR_0"] = builder.add_attribute(colors, normalized=True)
    indices = builder.add_indices(mesh.faces, vertices=len(mesh.vertices))
    primitive = {"attributes": attributes, "indices": indices, "material": 0}
    document["meshes"] = [{"name": "model", "primitives": [primitive]}]
    return builder.to_bytes(document)


def _quantize_positions(
    vertices: FloatArray,
) -> tuple[npt.NDArray[np.int16], list[float], list[float]]:
    """int16 [V, 3] in -32767..32767, and the node's translation and (uniform) scale.

    The scale is the same in all directions, so that normals need no second thought.
    """
    exact = vertices.astype(np.float64)
    low, high = exact.min(axis=0), exact.max(axis=0)
    centre, reach = (low + high) / 2, float((high - low).max()) / 2 or 1.0
    steps = np.round((exact - centre) / reach * 32767).astype(np.int16)
    return steps, centre.tolist(), [reach] * 3
