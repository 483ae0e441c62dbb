"""How well photos are registered, and what a second one adds: errors of cameras, decibels of views.

It does not know how poses are sought. First photos are registered on analytic objects against their
true views; second ones on these and on objects that nothing is trained on, with the surfaces that
the product makes of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.table import Row
from pipeline.control import Control
from pipeline.engines.registry import EngineChoice
from pipeline.flow.local import build_ports
from pipeline.geometry.cameras import held_out_cameras, photo_camera, rig_cameras
from pipeline.imaging.framing import GIVEN_ALPHA, frame_object
from pipeline.imaging.rounding import to_bytes
from pipeline.registration.against_views import register_photos
from pipeline.registration.pose import RIG_SIZE, Pose, cameras_of
from pipeline.registration.sketch import sketch_of_views
from pipeline.requests import RegisterRequest, ViewRequest
from pipeline.types import Cameras, Cutout, DepthMaps, FurtherPhoto, PhotoRegistration, ViewSet
from tests.oracles.objects import Object, photograph
from tests.oracles.photos import raw_photo, straight_colors
from training.prior.kept_back.fixed_set import studio_of
from training.prior.score import likeness, mesh_thing

#: Where first photos were taken from, all told 30 degrees: larger, from another height, rolled,
#: beside the middle, from farther away.
FIRST = (
    Pose(0, 10, 0, 1.5, 1.08 * RIG_SIZE, 0.02, -0.03),
    Pose(0, 45, 4, 2.2, 0.93 * RIG_SIZE, -0.04, 0.01),
    Pose(0, 0, -5, 1.7, 1.04 * RIG_SIZE, 0.0, 0.03),
)
TOLD_DEG = 30.0
#: Objects that nothing is trained on, of kinds that have a front and a back.
OTHERS = ("teapot 1", "mug 1", "books 1", "toaster 1", "camera 1", "dog 1")
#: Elevation of the first photo, and azimuth and elevation of the second ones: two that share a side
#: with it, and two that do not.
FIRST_DEG = 20.0
SECOND = ((25.0, 15.0), (320.0, 25.0), (100.0, 25.0), (180.0, 15.0))
#: A photo that is put further off than this, degrees, is on the wrong side.
WRONG_DEG = 12.0
BEHIND = (180.0, 15.0)
#: Cells, world units, in which the surface of the views is compared with the truth.
FINE = 0.004


@dataclass(frozen=True)
class Sitter:
    """An object that can be photographed from anywhere, and true views of it from elsewhere."""

    name: str
    see: Callable[[Cameras], ViewSet]

    def photo(self, azimuth_deg: float, elevation_deg: float) -> Cutout:
        """With the true matte, framed as the product does it."""
        pose = Pose(azimuth_deg, elevation_deg, distance=1.9, size=0.9 * RIG_SIZE)
        views = self.see(cameras_of([pose], 512))
        return frame_object(straight_colors(views), views.alphas[0], engine=GIVEN_ALPHA)


def rows(analytic: Mapping[str, Callable[[], Object]]) -> list[Row]:
    sitters = [_analytic(name, make) for name, make in analytic.items()]
    return [*_first(analytic), *_second([*sitters, *(_kept_back(name) for name in OTHERS)])]


def _analytic(name: str, make: Callable[[], Object]) -> Sitter:
    return Sitter(name, lambda cameras: photograph(make(), cameras)[0])


def _kept_back(name: str) -> Sitter:
    studio = studio_of(name)

    def see(cameras: Cameras) -> ViewSet:
        colors, covered = studio.draw(cameras)
        share = covered[..., None]
        images = to_bytes(255 * (colors * share + 1 - share))
        return ViewSet(images, to_bytes(255 * covered), cameras, "made")

    return Sitter(name, see)


def _first(analytic: Mapping[str, Callable[[], Object]]) -> list[Row]:
    """Of one photo against true views."""
    scales, elevations, said = {}, {}, []
    for name, make in analytic.items():
        views, depths = photograph(make(), rig_cameras())
        for i, true in enumerate(FIRST):
            request = RegisterRequest(
                cutout=raw_photo(make(), true, 512),
                photos=(),
                views=views,
                depths=depths,
                assumed=photo_camera(TOLD_DEG),
                known=False,
                elevation_deg=TOLD_DEG,
            )
            found = register_photos(request)
            pose, (photo,) = Pose.of_camera(found.photos.cameras), found.registrations
            scales[f"{name} {i}"] = 100 * abs(pose.size / true.size - 1)
            elevations[f"{name} {i}"] = abs(pose.elevation_deg - true.elevation_deg)
            said.append(elevations[f"{name} {i}"] <= 2 * (photo.elevation_error_deg or 0.0))
    return [
        Row("first photo: scale off by, worst", max(scales.values()), "%", 2.0, details=scales),
        Row(
            "first photo: elevation off by, worst",
            max(elevations.values()),
            "deg",
            4.0,
            details=elevations,
        ),
        Row("first photo: within twice the error it is said to have", float(np.mean(said)), "of 1"),
    ]


def _second(sitters: Sequence[Sitter]) -> list[Row]:
    """Of a second photo, for each engine that carves and paints with it."""
    made = []
    for engine in ("relief", "prior"):
        synthesize = build_ports(EngineChoice(views=engine)).views.engine.synthesize

        def views_of(
            sitter: Sitter, *photos: FurtherPhoto, synthesize: Callable[..., ViewSet] = synthesize
        ) -> ViewSet:
            first = sitter.photo(0.0, FIRST_DEG)
            request = ViewRequest(first, FIRST_DEG, 0, photos=photos)
            return synthesize(request, Control())

        gains: dict[str, float] = {}
        found: dict[str, float | None] = {}
        for sitter in sitters:
            behind = FurtherPhoto(sitter.photo(*BEHIND), BEHIND[0])
            truth = sitter.see(held_out_cameras())
            alone, both = (
                _psnr(views, truth) for views in (views_of(sitter), views_of(sitter, behind))
            )
            gains[sitter.name] = both - alone
            for azimuth, elevation in SECOND:
                photo = FurtherPhoto(sitter.photo(azimuth, elevation))
                one = views_of(sitter, photo).registrations[1]
                found[f"{sitter.name} {azimuth:g}"] = _off(one, azimuth)
        used = [off for off in found.values() if off is not None]
        details = {name: 180.0 if off is None else off for name, off in found.items()}
        made += [
            Row(
                f"{engine}: a photo from behind, mean of all views",
                float(np.mean([*gains.values()])),
                "dB",
                2.0,
                at_least=True,
                details=gains,
            ),
            Row(
                f"{engine}: azimuth of a photo that is looked for, within 6 deg",
                sum(off <= 6.0 for off in used) / len(found),
                "of 1",
                0.9,
                at_least=True,
                details=details,
            ),
            Row(
                f"{engine}: photos that are looked for, put on a wrong side",
                sum(off > WRONG_DEG for off in used) / len(found),
                "of 1",
                0.0,
            ),
        ]
    return made


def _off(found: PhotoRegistration, azimuth_deg: float) -> float | None:
    """Degrees; None where it was left out."""
    if not found.accepted:
        return None
    return abs((found.azimuth_deg - azimuth_deg + 180) % 360 - 180)


def _psnr(views: ViewSet, truth: ViewSet) -> float:
    """Of the surface that the views are drawn of, in their colours, after the best similarity."""
    depth = views.surface_depth
    assert depth is not None, "these engines know their surface"
    depths = DepthMaps(depth, (depth > 0).astype(np.float32), views.engine)
    surface = sketch_of_views(views, depths, stride=1, cell=FINE)
    assert surface is not None
    return likeness(mesh_thing(surface.vertices, surface.faces, surface.colors), truth).psnr
