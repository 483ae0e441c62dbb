"""The photos of an object on their way through a generation, until their cameras are known.

It does not know how a camera is found: an engine or the splats port says it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.control import Report
from pipeline.flow.photo_pictures import with_large_photos
from pipeline.geometry.cameras import photo_camera
from pipeline.imaging.framing import picture_on_white
from pipeline.options import GenerateOptions
from pipeline.ports import Ports
from pipeline.requests import RegisteredPhotos, RegisterRequest, WholePhoto
from pipeline.rig import ELEVATION_DEG
from pipeline.types import Cutout, DepthMaps, FurtherPhoto, ViewSet


@dataclass(frozen=True)
class Photos:
    """All photos of an object: the first one and the others.

    Attributes:
        whole: all of them at their own resolution; for a generator alone.
    """

    cutout: Cutout
    further: tuple[FurtherPhoto, ...] = ()
    whole: tuple[WholePhoto, ...] = ()


def photo_view(cutout: Cutout, elevation_deg: float, views: ViewSet) -> ViewSet:
    """The cut-out on white as one view from `photo_camera(elevation_deg)`, as large as `views`: for
    engines that do not return it with a camera of their own."""
    size = views.cameras.width
    picture, alpha = picture_on_white(cutout, size)
    return ViewSet(
        images=picture[None],
        alphas=alpha[None],
        cameras=photo_camera(elevation_deg, size),
        engine=views.engine,
    )


async def register(
    given: Photos,
    views: ViewSet,
    depths: DepthMaps,
    options: GenerateOptions,
    ports: Ports,
    report: Report,
) -> RegisteredPhotos:
    """The photos with their cameras: the engine's where it registered them itself, as one does that
    makes a surface of them. They are as large as the fit of the preset looks at them."""
    found = await _registered(given, views, depths, options, ports, report)
    cutouts = [given.cutout, *(photo.cutout for photo in given.further)]
    large = with_large_photos(found.on(views), cutouts, options.photo_pixels).photos
    return found if large is None else replace(found, photos=large)


async def _registered(
    given: Photos,
    views: ViewSet,
    depths: DepthMaps,
    options: GenerateOptions,
    ports: Ports,
    report: Report,
) -> RegisteredPhotos:
    """The same, as large as views."""
    if views.photos is not None and (views.registrations or not given.further):
        return RegisteredPhotos(views.photos, views.registrations)
    elevation = options.elevation_deg
    if elevation is None:
        elevation = ELEVATION_DEG if views.estimate is None else views.estimate.elevation_deg
    known = views.photos is not None
    first = views.photos or photo_view(given.cutout, elevation, views)
    request = RegisterRequest(
        cutout=given.cutout,
        photos=given.further,
        views=views,
        depths=depths,
        assumed=first.cameras.select([0]),
        known=known,
        elevation_deg=options.elevation_deg,
    )
    return await ports.splats.register(request, report)
