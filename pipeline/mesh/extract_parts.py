"""The surfaces of all parts of a splat model, each found as an object of its own.

It does not know what makes a part (`pipeline.mesh.parts`) nor how a surface is found
(`pipeline.mesh.extract`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.control import Control
from pipeline.errors import InvalidInput
from pipeline.geometry.unit_frame import UnitFrame
from pipeline.mesh.extract import FellApart, Sampling, Surface, extract_surface
from pipeline.mesh.mesh_types import TriangleMesh
from pipeline.mesh.parts import Parts
from pipeline.mesh.simplify import simplify_carefully, simplify_surface, surface_area, unite
from pipeline.types import SplatModel

#: Fewer faces show no part as what it is; a ring takes about so many.
_LEAST_FACES = 24


@dataclass(frozen=True)
class Surfaces:
    """Closed surfaces that neither overlap nor lie inside each other.

    Attributes:
        meshes: one each, at least one.
        shown: bool [N], which splats of the model they are made of.
        full_faces: how many faces they had before they were simplified.
        notes: sentences for the user.
    """

    meshes: tuple[TriangleMesh, ...]
    shown: npt.NDArray[np.bool_]
    full_faces: int
    notes: tuple[str, ...]

    def joined(self) -> TriangleMesh:
        """All of them as one mesh of several components."""
        starts = np.cumsum([0, *(len(mesh.vertices) for mesh in self.meshes)])
        return TriangleMesh(
            np.concatenate([mesh.vertices for mesh in self.meshes]),
            np.concatenate(
                [mesh.faces + start for mesh, start in zip(self.meshes, starts, strict=False)]
            ).astype(np.int32),
        )


def extract_parts(model: SplatModel, parts: Parts, face_limit: int, control: Control) -> Surfaces:
    """The surfaces of a model that fills the unit sphere.

    Each part is scaled into the unit sphere, looked at alone and judged by its own outlines, so
    that none hides another and a small one is as fine as a large one.

    Args:
        face_limit: most faces of all together, shared by area.

    Raises:
        InvalidInput: nothing of the model is opaque enough to have a surface.
        Cancelled: a stop was asked for.
    """
    notes = _left_out(parts)
    budgets = _budgets(parts.shares, face_limit)
    if len(budgets) < len(parts):
        notes.append(
            f"{len(parts) - len(budgets)} small parts were left out: {face_limit:,} faces do not "
            "suffice for them. Ask for more faces."
        )
    found: list[_Found] = []
    done = 0.0
    for number, budget in enumerate(budgets):
        end = done + 0.95 * parts.shares[number] / sum(parts.shares[: len(budgets)])
        mine = parts.of_splat == number
        alone = len(parts) == 1
        found += _extract(model, mine, budget, control.part(done, end), alone=alone)
        done = end
    surfaces = [one.surface for one in found if one.surface is not None]
    if not surfaces:
        raise InvalidInput("The model has no surface: nothing in it is opaque from all around.")
    for number, one in enumerate(found, start=1):
        which = f"Part {number} of {len(found)}: " if len(found) > 1 else ""
        notes += [f"{which}{note}" for note in one.notes]
    meshes = [surface.mesh for surface in surfaces]
    if len(meshes) > 1:
        control.step(0.95, "parts")
        apart = unite(meshes, control)
        if len(apart) < len(meshes):
            notes.append(
                f"{len(meshes) - len(apart)} of {len(meshes)} parts overlap others or lie inside "
                "them: they are one surface with these."
            )
        meshes = _within(apart, face_limit, control)
    shown = np.any([one.splats for one in found if one.surface is not None], axis=0)
    full_faces = sum(surface.full_faces for surface in surfaces)
    return Surfaces(tuple(meshes), shown, full_faces, tuple(notes))


@dataclass(frozen=True)
class _Found:
    """One part: its splats among those of the model, and its surface, if it has one."""

    splats: npt.NDArray[np.bool_]
    surface: Surface | None

    @property
    def notes(self) -> tuple[str, ...]:
        if self.surface is None:
            return ("It was left out: nothing in it is opaque from all around.",)
        return self.surface.notes


def _extract(
    model: SplatModel,
    mine: npt.NDArray[np.bool_],
    face_limit: int,
    control: Control,
    *,
    alone: bool,
    may_fall_apart: bool = True,
) -> list[_Found]:
    """The surface of some splats in the frame of the whole, or several where they fall apart.

    Args:
        alone: they are all of the model, which is looked at as it is.
    """
    frame = UnitFrame(np.zeros(3), 1.0) if alone else UnitFrame.of(model.select(mine))
    unit = frame.to_unit(model.select(mine))
    near = frame.near(model.select(mine))
    sampling = Sampling() if alone else Sampling.of_part(frame.radius)
    try:
        surface = extract_surface(
            unit if alone else unit.select(near),
            face_limit,
            control,
            sampling,
            may_fall_apart=may_fall_apart,
        )
    except InvalidInput:
        return [_Found(mine, None)]
    except FellApart as apart:
        numbers = np.full(len(model), -1, np.int64)
        numbers[np.flatnonzero(mine) if alone else np.flatnonzero(mine)[near]] = apart.of_splat
        pieces: list[_Found] = []
        for number, budget in enumerate(_budgets(apart.shares, face_limit)):
            steps = len(apart.shares)
            # The attempts that it took to see this are three tenths of the way.
            part = control.part(0.3 + 0.7 * number / steps, 0.3 + 0.7 * (number + 1) / steps)
            pieces += _extract(
                model, numbers == number, budget, part, alone=False, may_fall_apart=False
            )
        return pieces
    if alone:
        return [_Found(mine, surface)]
    mesh = TriangleMesh(frame.to_world(surface.mesh.vertices), surface.mesh.faces)
    return [_Found(mine, Surface(mesh, surface.full_faces, surface.notes))]


def _left_out(parts: Parts) -> list[str]:
    notes = []
    if parts.dust:
        notes.append(
            f"{parts.dust:,} specks beside the {len(parts)} parts were left out: none has a "
            "250th of the surface."
        )
    if parts.beyond:
        notes.append(
            f"{parts.beyond:,} small parts were left out: only the {len(parts)} largest are "
            "made into surfaces."
        )
    return notes


def _budgets(shares: tuple[float, ...], face_limit: int) -> list[int]:
    """Faces of each part, the largest first: by area, but none below `_LEAST_FACES`; fewer than
    there are parts where that takes more than all faces."""
    count = min(len(shares), max(face_limit // _LEAST_FACES, 1))
    least = min(_LEAST_FACES, face_limit)
    spare = face_limit - count * least
    total = sum(shares[:count])
    return [least + int(spare * share / total) for share in shares[:count]]


def _within(
    meshes: tuple[TriangleMesh, ...], face_limit: int, control: Control
) -> list[TriangleMesh]:
    """The meshes with no more than `face_limit` faces, if a cut between two made them more."""
    if sum(len(mesh.faces) for mesh in meshes) <= face_limit:
        return list(meshes)
    areas = [surface_area(mesh) for mesh in meshes]
    order = np.argsort([-area for area in areas], kind="stable")
    budgets = _budgets(tuple(areas[i] / sum(areas) for i in order), face_limit)
    fewer = []
    for i, budget in zip(order, budgets, strict=True):
        mesh = meshes[i]
        simple = simplify_surface(mesh, budget, control)
        fewer.append(simple or simplify_carefully(mesh, budget, control) or mesh)
    return fewer
