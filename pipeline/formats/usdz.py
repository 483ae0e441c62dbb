"""Meshes as .usdz that Apple's AR Quick Look opens: one crate file and its texture.

It does not know how the surface was made. Source: OpenUSD's specifications of usdz and of
UsdPreviewSurface; the profile is the one that `UsdUtils.ComplianceChecker(arkit=True)` checks.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ModelFailed
from pipeline.formats.encoded_texture import encode_texture, linear_from_srgb
from pipeline.formats.surface import to_gltf_axes
from pipeline.mesh.mesh_types import TexturedMesh

#: 2 January 1980 in UTC, in the range of a zip in every time zone: the same mesh, the same bytes.
_OLDEST_ZIP_TIME_S = 315_619_200


def write_usdz(mesh: TexturedMesh, *, compact: bool = False, unlit: bool = False) -> bytes:
    """The file's bytes: +Y up, front +Z, one metre per world unit; deterministic.

    Colours per vertex become linear `displayColor`, which the material reads.

    Args:
        compact: texture as JPEG instead of PNG. A crate has no smaller numbers than float32 for
            points (halves would move vertices by 1/4000 of the object), so the rest stays.
        unlit: the colours glow and nothing is reflected, so that no light changes them.

    Raises:
        InvalidInput: the mesh is empty or not finite.
        ModelFailed: OpenUSD refused to write the file.
    """
    mesh = to_gltf_axes(mesh)
    # 0.2 s and 75 MB, which only this format needs.
    from pxr import Sdf, Usd, UsdGeom

    with tempfile.TemporaryDirectory(prefix="glimpse3d-usdz-") as folder:
        layer, package = Path(folder, "model.usdc"), Path(folder, "model.usdz")
        files = [layer]
        texture: str | None = None
        if mesh.texture is not None:
            picture = encode_texture(mesh.texture, compact=compact)
            texture = f"albedo.{picture.suffix}"
            files.append(Path(folder, texture))
            files[-1].write_bytes(picture.data)
        stage = Usd.Stage.CreateNew(str(layer))
        UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
        UsdGeom.SetStageMetersPerUnit(stage, 1.0)
        root = UsdGeom.Xform.Define(stage, "/Model")
        Usd.ModelAPI(root).SetKind("component")
        stage.SetDefaultPrim(root.GetPrim())
        _bind_material(stage, _define_mesh(stage, mesh), texture, unlit=unlit)
        stage.GetRootLayer().Save()
        # Not UsdUtils.CreateNewARKitUsdzPackage: it warns on stderr of references that are fine
        # and has nothing to flatten here. Both store the entries and align them alike.
        archive = Sdf.ZipFileWriter.CreateNew(str(package))
        for file in files:
            os.utime(file, (_OLDEST_ZIP_TIME_S, _OLDEST_ZIP_TIME_S))
            archive.AddFile(str(file), file.name)
        if not archive.Save():
            raise ModelFailed.openly("OpenUSD could not write the .usdz package.")
        return package.read_bytes()


# `Any`: the wheel of OpenUSD carries no types.
def _define_mesh(stage: Any, mesh: TexturedMesh) -> Any:
    """The prim /Model/Surface with points, normals, and coordinates or colours per vertex."""
    from pxr import Gf, Sdf, UsdGeom, Vt

    surface = UsdGeom.Mesh.Define(stage, "/Model/Surface")
    vertex = UsdGeom.Tokens.vertex
    surface.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(mesh.vertices))
    surface.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, np.int32)))
    indices = np.ascontiguousarray(mesh.faces.ravel(), dtype=np.int32)
    surface.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(indices))
    surface.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(mesh.normals))
    surface.SetNormalsInterpolation(vertex)
    surface.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    low, high = mesh.vertices.min(axis=0).tolist(), mesh.vertices.max(axis=0).tolist()
    surface.CreateExtentAttr([Gf.Vec3f(*low), Gf.Vec3f(*high)])
    primvars = UsdGeom.PrimvarsAPI(surface)
    if mesh.uvs is not None:
        st = primvars.CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, vertex)
        # USD counts t from the bottom of the picture.
        flipped = (mesh.uvs * [1.0, -1.0] + [0.0, 1.0]).astype(np.float32)
        st.Set(Vt.Vec2fArray.FromNumpy(flipped))
    elif mesh.colors is not None:
        linear = linear_from_srgb(mesh.colors / 255.0).astype(np.float32)
        surface.CreateDisplayColorPrimvar(vertex).Set(Vt.Vec3fArray.FromNumpy(linear))
    return surface


def _bind_material(stage: Any, surface: Any, texture: str | None, *, unlit: bool) -> None:
    """A rough, matt UsdPreviewSurface whose colour is the texture or `displayColor`; unlit, it
    glows with that colour and is black otherwise."""
    from pxr import Sdf, UsdShade

    types = Sdf.ValueTypeNames

    def shader(name: str, kind: str) -> Any:
        made = UsdShade.Shader.Define(stage, f"/Model/Material/{name}")
        made.CreateIdAttr(kind)
        return made

    material = UsdShade.Material.Define(stage, "/Model/Material")
    preview = shader("Preview", "UsdPreviewSurface")
    preview.CreateInput("roughness", types.Float).Set(1.0)
    preview.CreateInput("metallic", types.Float).Set(0.0)
    color = preview.CreateInput("emissiveColor" if unlit else "diffuseColor", types.Color3f)
    if unlit:
        preview.CreateInput("diffuseColor", types.Color3f).Set((0.0, 0.0, 0.0))
        preview.CreateInput("useSpecularWorkflow", types.Int).Set(1)
        preview.CreateInput("specularColor", types.Color3f).Set((0.0, 0.0, 0.0))
    if texture is None:
        colors = shader("Colors", "UsdPrimvarReader_float3")
        colors.CreateInput("varname", types.String).Set("displayColor")
        color.ConnectToSource(colors.CreateOutput("result", types.Float3))
    else:
        coordinates = shader("Coordinates", "UsdPrimvarReader_float2")
        coordinates.CreateInput("varname", types.String).Set("st")
        albedo = shader("Albedo", "UsdUVTexture")
        albedo.CreateInput("file", types.Asset).Set(texture)
        albedo.CreateInput("sourceColorSpace", types.Token).Set("sRGB")
        albedo.CreateInput("wrapS", types.Token).Set("clamp")
        albedo.CreateInput("wrapT", types.Token).Set("clamp")
        st = coordinates.CreateOutput("result", types.Float2)
        albedo.CreateInput("st", types.Float2).ConnectToSource(st)
        color.ConnectToSource(albedo.CreateOutput("rgb", types.Float3))
    output = preview.CreateOutput("surface", types.Token)
    material.CreateSurfaceOutput().ConnectToSource(output)
    UsdShade.MaterialBindingAPI.Apply(surface.GetPrim()).Bind(material)
