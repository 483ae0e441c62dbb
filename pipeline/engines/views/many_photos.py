"""One surface of several photos: the first makes it, the others are placed, carve it and paint it.

It does not know how the first surface was guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.control import Control
from pipeline.engines.views.outline import silhouette
from pipeline.engines.views.photo_paint import Projector, painted, projector, repainted
from pipeline.engines.views.second_sheet import SurfaceOf, told_from_behind
from pipeline.engines.views.surface_views import ColoredMesh, reduced_to, render_views
from pipeline.engines.views.two_sheets import TwoSheets, carved_by, stretched_to
from pipeline.geometry.cameras import rig_cameras, underside_cameras
from pipeline.imaging.framing import picture_on_white
from pipeline.registration.further import (
    is_behind,
    is_sideways,
    place_further,
    repeated,
    said_of,
    with_thickness,
)
from pipeline.registration.place_photo import LEVELS, Placed
from pipeline.registration.pose import STEPS, Pose, cameras_of
from pipeline.registration.resemblance import compare, shown
from pipeline.registration.sketch import Sketch, sketch_of
from pipeline.registration.verdict import by_construction, verdict
from pipeline.rig import RADIUS, VIEW_SIZE
from pipeline.types import (
    Cameras,
    Cutout,
    FloatArray,
    FurtherPhoto,
    PhotoRegistration,
    UInt8Array,
    ViewSet,
)

#: Side to which photos are reduced before they paint: about twice as fine as the views.
PHOTO_SIDE = 512
#: How far guessed colours are believed when a photo is compared with them.
GUESS_BELIEF = 0.15
#: Pixels of every view of the rig that stay free around the object.
VIEW_MARGIN = 2.0


@dataclass(frozen=True)
class ManyPhotos:
    """What became of the photos.

    Attributes:
        mesh: the surface, centred in the world.
        projectors: of the accepted photos, the first one first; none where it is the only one.
        photos: these as views.
        registrations: of all.
    """

    mesh: ColoredMesh
    projectors: tuple[Projector, ...]
    photos: ViewSet
    registrations: tuple[PhotoRegistration, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        return said_of(self.registrations)


def with_photos(
    cutout: Cutout,
    photos: Sequence[FurtherPhoto],
    sheets: TwoSheets,
    mesh: ColoredMesh,
    engine: str,
    control: Control,
    surface_of: SurfaceOf | None = None,
) -> ManyPhotos:
    """The surface as all photos show it. Photos whose side is given come before those that are
    looked for; what does not fit is left out and said.

    Args:
        sheets: the first surface, on the rays of the first photo.
        mesh: the same with its colours.
        surface_of: what another photo alone is guessed to show; None: nobody guesses it.

    Raises:
        InvalidImage: a cut-out is empty.
        Cancelled: `control` asked for it.
    """
    front = Pose.of_camera(sheets.camera)
    first = _Accepted(cutout, sheets.camera, confirmed(cutout, mesh, sheets.camera))
    accepted, found = [first], repeated(cutout, photos)
    order = sorted(range(1, len(photos) + 1), key=lambda k: photos[k - 1].azimuth_deg is None)
    for i, k in enumerate(order):
        part = control.part(i / len(order), (i + 1) / len(order))
        if k in found:
            continue
        photo = photos[k - 1]
        sketch = _sketch(mesh, accepted)
        placed = place_further(photo, sketch, front, control=part.part(0.0, 0.7))
        if is_sideways(placed.pose, front):
            thick = with_thickness(photo, sketch, placed, control=part.part(0.7, 1.0))
            placed = replace(thick, recognised=placed.recognised, rivalled=placed.rivalled)
        found[k] = verdict(k, placed, azimuth_known=False, searched=photo.azimuth_deg is None)
        if not found[k].accepted:
            continue
        if surface_of is not None and is_behind(placed.pose, front):
            own = surface_of(photo.cutout, placed.pose.elevation_deg)
            sheets = told_from_behind(sheets, own, cameras_of([placed.pose], PHOTO_SIDE))
        sheets = _reshaped(sheets, photo.cutout, placed, sideways=is_sideways(placed.pose, front))
        mesh = replace(mesh, vertices=sheets.vertices)
        camera = cameras_of([replace(placed.pose, thickness=1.0)], PHOTO_SIDE)
        accepted.append(_Accepted(photo.cutout, camera, found[k]))
    registrations = (first.found, *(found[k] for k in sorted(found)))
    projectors: tuple[Projector, ...] = ()
    if len(accepted) > 1:
        # Of one photo the surface is as its engine placed and painted it.
        mesh, accepted = _centred(mesh, accepted)
        projectors = tuple(_projector(photo, mesh) for photo in accepted)
        mesh, _ = painted(mesh, projectors)
    ranked = sorted(accepted, key=lambda photo: photo.found.photo)
    return ManyPhotos(mesh, projectors, _as_views(ranked, engine), registrations)


@dataclass(frozen=True)
class _Accepted:
    cutout: Cutout
    camera: Cameras
    found: PhotoRegistration


def confirmed(cutout: Cutout, mesh: ColoredMesh, camera: Cameras) -> PhotoRegistration:
    """The first photo, which the surface was made of."""
    sure = np.ones(len(mesh.vertices), np.float32)
    sketch = sketch_of(mesh.vertices, mesh.faces, mesh.colors, sure)
    photo = shown(cutout, *LEVELS[-1])
    compared = compare(photo, sketch.draw(camera.resized(photo.width, photo.width)), 0)
    pose = Pose.of_camera(camera)
    return by_construction(0, Placed(pose, compared, np.zeros(len(STEPS))))


def _sketch(mesh: ColoredMesh, accepted: Sequence[_Accepted]) -> Sketch:
    """The surface in the colours of the photos so far; what they do not see is hardly believed."""
    colored, known = painted(mesh, [_projector(photo, mesh) for photo in accepted])
    belief = GUESS_BELIEF + (1 - GUESS_BELIEF) * known
    return sketch_of(mesh.vertices, mesh.faces, colored.colors, belief.astype(np.float32))


def _projector(photo: _Accepted, mesh: ColoredMesh) -> Projector:
    rgba = _at(photo.cutout.rgba, PHOTO_SIDE)
    return projector(rgba, photo.camera.resized(PHOTO_SIDE, PHOTO_SIDE), mesh, photo.found.trust)


def _at(rgba: UInt8Array, side: int) -> UInt8Array:
    rgba = reduced_to(rgba, side)
    if len(rgba) == side:
        return rgba
    larger: UInt8Array = cv2.resize(rgba, (side, side), interpolation=cv2.INTER_LINEAR)
    return larger


def _reshaped(sheets: TwoSheets, cutout: Cutout, placed: Placed, *, sideways: bool) -> TwoSheets:
    """As thick as a photo from the side shows, and nothing outside of its outline."""
    camera = cameras_of([replace(placed.pose, thickness=1.0)], PHOTO_SIDE)
    inside = silhouette(_at(cutout.rgba, PHOTO_SIDE)[..., 3]).inside
    if sideways:
        sheets = stretched_to(sheets.thicker(placed.pose.thickness), camera, inside)
    return carved_by(sheets, camera, inside)


def _centred(mesh: ColoredMesh, accepted: list[_Accepted]) -> tuple[ColoredMesh, list[_Accepted]]:
    """The surface in the middle of the world and inside of all views; cameras go with it."""
    points = mesh.vertices.astype(np.float64)
    middle = 0.5 * (points.min(0) + points.max(0))
    points -= middle
    scale = _scale_to_fit(points)
    moved = []
    for photo in accepted:
        viewmats = photo.camera.viewmats.astype(np.float64)
        viewmats[:, :3, 3] = scale * (viewmats[:, :3, :3] @ middle + viewmats[:, :3, 3])
        camera = replace(photo.camera, viewmats=viewmats.astype(np.float32))
        moved.append(replace(photo, camera=camera))
    return replace(mesh, vertices=(scale * points).astype(np.float32)), moved


def _scale_to_fit(points: npt.NDArray[np.float64]) -> float:
    """The largest scale up to 1 at which points [n, 3] are inside all views and the unit box."""
    rig = rig_cameras()
    focal, half = float(rig.intrinsics[0, 0, 0]), rig.width / 2 - VIEW_MARGIN
    need = 0.0
    for turn in rig.viewmats[:, :3, :3].astype(np.float64):
        x, y, z = (points @ turn.T).T
        # Scaled by s, a point is inside while s (focal |x| - half z) <= half RADIUS.
        need = max(need, float((focal * np.maximum(np.abs(x), np.abs(y)) - half * z).max()))
    box = float(np.abs(points).max())
    return min(1.0, half * RADIUS / max(need, 1e-9), 0.5 / max(box, 1e-9))


def _as_views(photos: Sequence[_Accepted], engine: str) -> ViewSet:
    pictures = [picture_on_white(photo.cutout, VIEW_SIZE) for photo in photos]
    return ViewSet(
        np.stack([picture for picture, _ in pictures]),
        np.stack([alpha for _, alpha in pictures]),
        Cameras.joined([photo.camera.resized(VIEW_SIZE, VIEW_SIZE) for photo in photos]),
        engine,
    )


def views_of_photos(
    every: ManyPhotos,
    engine: str,
    control: Control,
    confidence: FloatArray | None = None,
    *,
    size: int = VIEW_SIZE,
) -> ViewSet:
    """The views of the rig, with auxiliary ones from below, drawn of the surface; in the detail of
    the photos themselves where there are several.

    Args:
        confidence: float32 [V], of the vertices.
    """

    def drawn(cameras: Cameras, part: Control) -> ViewSet:
        share = 0.8 if every.projectors else 1.0
        views = render_views(
            every.mesh, cameras, engine, part.part(0.0, share), confidence=confidence
        )
        if not every.projectors:
            return views
        return repainted(views, every.mesh, every.projectors, part.part(share, 1.0))

    rig = drawn(rig_cameras(size), control.part(0.0, 0.75))
    return replace(rig, auxiliary=drawn(underside_cameras(size), control.part(0.75, 1.0)))


def columns_of(
    camera: Cameras, near: FloatArray, far: FloatArray
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Rays and depths of the sheets whose points [P, 3] these are, as `TwoSheets` has them."""
    R, t = camera.viewmats[0, :3, :3].astype(np.float64), camera.viewmats[0, :3, 3]
    local_near, local_far = (points.astype(np.float64) @ R.T + t for points in (near, far))
    return local_near / local_near[:, 2:], local_near[:, 2], local_far[:, 2]
