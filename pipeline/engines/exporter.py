"""A model to a file: prune or mesh it, then write it in the format asked for.

It knows which writer and which preparation a format needs; not how a surface is found, how bytes
are laid out, or where the file goes.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from pipeline.control import Control
from pipeline.errors import InvalidInput
from pipeline.file_types import find_format
from pipeline.formats.glb import write_glb
from pipeline.formats.glb_splat import write_glb_splat
from pipeline.formats.obj import write_obj
from pipeline.formats.ply import write_ply
from pipeline.formats.splat import write_splat
from pipeline.formats.spz import fitted, write_spz
from pipeline.formats.stl import write_stl
from pipeline.formats.surface import to_print_solid
from pipeline.formats.threemf import write_3mf
from pipeline.formats.usdz import write_usdz
from pipeline.geometry.true_size import Box, Placement
from pipeline.mesh.build import BuiltMesh, MeshRequest, build_mesh
from pipeline.mesh.mesh_types import TexturedMesh
from pipeline.options import ExportOptions
from pipeline.requests import ExportedFile
from pipeline.splats.visible import prune_invisible
from pipeline.types import SplatModel

#: By the names of `FORMATS`: writes a model or, for meshes, a `TexturedMesh`, with `compact` in the
#: smaller of two encodings where there are two.
WRITERS: dict[str, Callable[..., bytes]] = {
    "ply": write_ply,
    "splat": write_splat,
    "spz": write_spz,
    "glb": write_glb,
    "obj": write_obj,
    "usdz": write_usdz,
    "stl": write_stl,
    "3mf": write_3mf,
    "glb-splat": write_glb_splat,
}

#: Formats whose writers take `unlit`.
_CAN_BE_UNLIT = ("glb", "obj", "usdz")

#: The longest side of a model for printers that nobody gave a height: a thing that fits on every
#: build plate.
_PRINTED_MM = 100.0


@dataclass
class MeshMemory:
    """The meshes made last: whoever asks for .glb often asks for .usdz next.

    A mesh takes seconds to make and a few megabytes to keep. Safe to use from several threads.
    """

    capacity: int = 2
    _meshes: OrderedDict[tuple[bytes, MeshRequest], BuiltMesh] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def build(self, model: SplatModel, request: MeshRequest, control: Control) -> BuiltMesh:
        """`build_mesh`, or what it answered to the same question."""
        digest = hashlib.blake2b()
        for values in (model.means, model.quats, model.log_scales, model.logit_opacities, model.sh):
            digest.update(np.ascontiguousarray(values).data)
        key = (digest.digest(), request)
        with self._lock:
            known = self._meshes.get(key)
        built = known or build_mesh(model, request, control)
        with self._lock:
            self._meshes[key] = built
            self._meshes.move_to_end(key)
            while len(self._meshes) > self.capacity:
                self._meshes.popitem(last=False)
        return built


@dataclass(frozen=True)
class FileExporter:
    """Exporter "cpu"; it remembers the meshes that it made last."""

    name = "cpu"
    memory: MeshMemory = field(default_factory=MeshMemory)

    def export_model(
        self, model: SplatModel, options: ExportOptions, control: Control
    ) -> ExportedFile:
        return export_model(model, options, control, self.memory)


def export_model(
    model: SplatModel,
    options: ExportOptions,
    control: Control | None = None,
    memory: MeshMemory | None = None,
) -> ExportedFile:
    """The file of a model.

    Args:
        memory: where meshes of earlier calls are looked for.

    Raises:
        InvalidInput: the model holds NaN, or nothing that can be seen.
        Cancelled: a stop was asked for.
        Unavailable: the native library cannot be compiled.
    """
    control = control or Control()
    for name in ("means", "quats", "log_scales", "logit_opacities", "sh"):
        if not np.isfinite(getattr(model, name)).all():
            raise InvalidInput(f"The model holds NaN or infinity in its {name}.")
    if find_format(options.format).is_mesh:
        return _export_mesh(model, options, control, memory or MeshMemory())
    return _export_splats(model, options, control)


def _export_splats(model: SplatModel, options: ExportOptions, control: Control) -> ExportedFile:
    write = WRITERS[options.format]
    given = len(model)
    notes: tuple[str, ...] = ()
    if options.height_m is not None:
        model = Placement.of_height(Box.of_splats(model), options.height_m).model(model)
    if options.format == "spz":
        model, notes = fitted(model)
    if not options.optimize:
        control.step(0.0, "write")
        return ExportedFile(write(model), {"splats": len(model)}, notes=notes)
    pruned = prune_invisible(model, control.part(0.0, 0.8))
    seen = pruned.model
    control.step(0.8, "write")
    data = write(seen, compact=True)
    saved = {"splats": given - len(seen), "bytes": len(write(model)) - len(data)}
    return ExportedFile(data, {"splats": len(seen)}, saved, notes + pruned.notes)


def _export_mesh(
    model: SplatModel, options: ExportOptions, control: Control, memory: MeshMemory
) -> ExportedFile:
    faces = options.face_limit // 2 if options.optimize else options.face_limit
    request = MeshRequest(faces, options.texture_size)
    built = memory.build(model, request, control.part(0.0, 0.9))
    mesh, notes = _placed(built.mesh, options)
    notes = built.notes + notes + _what_is_not_there(mesh, options)
    control.step(0.9, "write")
    write = WRITERS[options.format]
    if options.unlit and options.format in _CAN_BE_UNLIT:
        write = partial(write, unlit=True)
    data = write(mesh, compact=options.optimize)
    printed = find_format(options.format).for_printers
    # Files for printers have neither seams nor a texture.
    shape = to_print_solid(mesh) if printed else mesh
    contents = {"vertices": len(shape.vertices), "faces": len(shape.faces), "parts": built.parts}
    if mesh.texture is not None and not printed:
        contents["texture_size"] = len(mesh.texture)
    saved: dict[str, int] = {}
    if options.optimize:
        saved = {
            "faces": min(options.face_limit, built.surface_faces) - len(mesh.faces),
            "bytes": len(write(mesh)) - len(data),
        }
    return ExportedFile(data, contents, saved, notes)


def _placed(mesh: TexturedMesh, options: ExportOptions) -> tuple[TexturedMesh, tuple[str, ...]]:
    """The mesh in the size that was asked for, and that in words where a printer needs it."""
    printed = find_format(options.format).for_printers
    if options.height_m is None and not printed:
        return mesh, ()
    box = Box.of_points(mesh.vertices)
    if options.height_m is None:
        placement = Placement.of_longest_side(box, _PRINTED_MM)
    else:
        placement = Placement.of_height(box, options.height_m * (1000 if printed else 1))
    mesh = replace(mesh, vertices=placement.points(mesh.vertices))
    if not printed:
        return mesh, ()
    deep, wide, high = placement.scale * (box.high - box.low)
    return mesh, (
        f"Printed, the model is {wide:.1f} mm wide, {deep:.1f} mm deep and {high:.1f} mm high.",
    )


def _what_is_not_there(mesh: TexturedMesh, options: ExportOptions) -> tuple[str, ...]:
    """What the format has no place for, of what the mesh holds and what was asked for."""
    notes = []
    if options.format == "stl":
        notes.append("An .stl file holds the shape alone: the colours are left out.")
    if options.unlit and options.format == "obj":
        notes.append(
            "An .obj file with a colour per vertex has no material that could be unlit."
            if mesh.texture is None
            else "The .obj file asks for colours without light (illum 0); many viewers light the "
            "model all the same."
        )
    if options.unlit and options.format not in _CAN_BE_UNLIT:
        notes.append(f"A .{options.format} file has no material that could be unlit.")
    return tuple(notes)
