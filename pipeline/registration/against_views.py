"""Registers all photos of an object against its views and their depth, the first one as well.

It does not know which engine made the views.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.control import UNATTENDED, Control
from pipeline.imaging.framing import picture_on_white
from pipeline.registration.further import place_further, repeated, said_of
from pipeline.registration.place_photo import LEVELS, LOOSE, Placed, grid, place_photo
from pipeline.registration.pose import STEPS, Pose, cameras_of
from pipeline.registration.resemblance import compare, shown
from pipeline.registration.sketch import Sketch, sketch_of_views
from pipeline.registration.verdict import by_construction, verdict
from pipeline.requests import RegisteredPhotos, RegisterRequest
from pipeline.types import (
    CameraEstimate,
    Cameras,
    Cutout,
    FloatArray,
    PhotoRegistration,
    ViewSet,
)

#: Elevations from which the first photo is tried, degrees, beside the assumed one.
ELEVATIONS_DEG = (-15.0, 0.0, 15.0, 30.0, 45.0, 60.0, 75.0)
#: How far the first photo's azimuth may be from 0, in `STEPS`: views seldom turn the object.
FRONT_LOOSE = 0.4
#: How far the colours of a view opposite the first photo are believed: they are synthesised.
FAR_BELIEF = 0.4
#: A found camera replaces the assumed one where its cost is less by this share.
BETTER = 0.03


def register_photos(request: RegisterRequest, control: Control = UNATTENDED) -> RegisteredPhotos:
    """Every photo with the camera that the views speak for.

    The first photo's camera is the engine's where that knew it; else it is sought, from the
    elevation that was given or assumed, and never refused. Further photos that fit nothing are
    left out and named in the notes.

    Raises:
        Cancelled: `control` asked for it.
    """
    views, size = request.views, request.views.cameras.width
    every = [request.cutout, *(photo.cutout for photo in request.photos)]
    sketch = sketch_of_views(views, request.depths, belief=_belief(views))
    if sketch is None:
        only = _as_views([every[0]], request.assumed.resized(size, size), views.engine)
        note = "The photos were not registered, because no view has a depth: the first one counts."
        return RegisteredPhotos(only, (), (note,))
    share = 1 / len(every)
    if request.known:
        camera, first = request.assumed, _confirmed(every[0], sketch, request.assumed)
    else:
        camera, first = _first(request, sketch, control.part(0.0, share))
    cameras, found = {0: camera}, {0: first, **repeated(every[0], request.photos)}
    front = Pose.of_camera(camera)
    for k, photo in enumerate(request.photos, 1):
        if k not in found:
            part = control.part(k * share, (k + 1) * share)
            placed = place_further(photo, sketch, front, control=part)
            found[k] = verdict(k, placed, azimuth_known=False, searched=photo.azimuth_deg is None)
            cameras[k] = cameras_of([placed.pose], size)
    ordered = [found[k] for k in sorted(found)]
    used = [one.photo for one in ordered if one.accepted]
    photos = _as_views(
        [every[k] for k in used],
        Cameras.joined([cameras[k].resized(size, size) for k in used]),
        views.engine,
    )
    return RegisteredPhotos(
        photos,
        tuple(ordered),
        said_of(ordered) + _on_elevation(request, first),
        _estimate(request, first),
    )


def _belief(views: ViewSet) -> FloatArray:
    """How far the colours of each view are known, float32 [V], from where it looks."""
    ways = views.cameras.centres / np.linalg.norm(views.cameras.centres, axis=1, keepdims=True)
    nearness = np.maximum(ways[:, 0], 0.0)
    belief: FloatArray = (FAR_BELIEF + (1 - FAR_BELIEF) * nearness).astype(np.float32)
    return belief


def _first(
    request: RegisterRequest, sketch: Sketch, control: Control
) -> tuple[Cameras, PhotoRegistration]:
    """Of the first photo, whose azimuth is nearly 0."""
    assumed = Pose.of_camera(request.assumed)
    elevations = sorted({*ELEVATIONS_DEG, round(assumed.elevation_deg, 3)})
    loose = LOOSE.copy()
    loose[0] = FRONT_LOOSE
    starts = grid([0.0], elevations, distance=assumed.distance)
    placed = place_photo(
        request.cutout, sketch, starts, expected=assumed, loose=loose, tries=3, control=control
    )
    before = _compared_at(request.cutout, sketch, request.assumed)
    if placed.compared.cost > (1 - BETTER) * before.compared.cost:
        # Nothing speaks for another camera: what was given or assumed stands.
        placed = Placed(assumed, before.compared, placed.errors)
    size = request.views.cameras.width
    return cameras_of([placed.pose], size), verdict(0, placed, azimuth_known=True)


def _confirmed(cutout: Cutout, sketch: Sketch, camera: Cameras) -> PhotoRegistration:
    return by_construction(0, _compared_at(cutout, sketch, camera))


def _compared_at(cutout: Cutout, sketch: Sketch, camera: Cameras) -> Placed:
    photo = shown(cutout, *LEVELS[-1])
    pictures = sketch.draw(camera.resized(photo.width, photo.width))
    return Placed(Pose.of_camera(camera), compare(photo, pictures, 0), np.zeros(len(STEPS)))


def _as_views(cutouts: Sequence[Cutout], cameras: Cameras, engine: str) -> ViewSet:
    """Cut-outs on white as views of their cameras."""
    pictures = [picture_on_white(cutout, cameras.width) for cutout in cutouts]
    return ViewSet(
        np.stack([picture for picture, _ in pictures]),
        np.stack([alpha for _, alpha in pictures]),
        cameras,
        engine,
    )


def _estimate(request: RegisterRequest, first: PhotoRegistration) -> CameraEstimate | None:
    if request.known or request.views.estimate is not None:
        return None
    given = request.elevation_deg is not None
    return CameraEstimate(
        elevation_deg=first.elevation_deg,
        elevation_error_deg=None if given else first.elevation_error_deg,
        focal=first.focal,
        focal_error=max(first.scale_error or 0.0, 0.01),
    )


def _on_elevation(request: RegisterRequest, first: PhotoRegistration) -> tuple[str, ...]:
    """What is said where the elevation that was found is not the one that was given."""
    found, error = first.elevation_deg, first.elevation_error_deg or 0.0
    if request.known:
        return ()
    if request.elevation_deg is None:
        return (
            f"Against the views the photo was taken from about {found:z.0f} degrees above the "
            f"horizon, give or take {max(error, 1):.0f}.",
        )
    if abs(found - request.elevation_deg) <= max(10.0, 2 * error):
        return ()
    return (
        f"The photo fits the views from {found:z.0f} degrees above the horizon, not from the "
        f"{request.elevation_deg:g} that were given: elevation_deg may be wrong.",
    )
