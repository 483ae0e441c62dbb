"""A first model by a generator: one pass, then the rig's views and depth are drawn from the model.

What follows a generation finds what it finds after one by views. It knows its neighbours as ports:
not how a generator works, not where results are kept.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import cv2
import numpy as np

from pipeline.control import Report
from pipeline.errors import Conflict, ModelFailed
from pipeline.flow.given_photos import Photos, register
from pipeline.geometry.cameras import rig_cameras
from pipeline.journals import GenerateJournal
from pipeline.options import FROM_LATENT, GenerateOptions
from pipeline.ports import Ports
from pipeline.requests import Generated, GeneratorRequest, RegisteredPhotos
from pipeline.types import DepthMaps, UInt8Array, ViewSet

#: Said of scores that compare a model with pictures of itself.
_OWN_VIEWS = (
    "The views and their depth are drawn from the model that {} made: what scores say of held-out "
    "views is how far a later version has moved from it, and only the photo is known."
)


async def make_generated(
    given: Photos,
    options: GenerateOptions,
    ports: Ports,
    journal: GenerateJournal,
    report: Report,
) -> Generated:
    """A model of the photos, or of what an earlier pass kept.

    Raises:
        Conflict: there is no generator, or nothing was kept.
        ModelFailed: the generator returned something that cannot be used.
    """
    if ports.generator is None:
        raise Conflict.openly(
            f"The job wants the engine {options.engine!r}, and the service has none that makes a "
            "model in one pass any more."
        )
    kept = await journal.load_latent() if options.from_stage == FROM_LATENT else None
    if kept is not None and kept.engine != options.engine:
        raise Conflict.openly(
            f"What was kept is of the engine {kept.engine!r}, and {options.engine!r} cannot read "
            "it: generate from the photo."
        )
    request = GeneratorRequest(
        photos=given.whole,
        num_gaussians=options.splat_count,
        seed=options.seed,
        decode_seed=options.decode_seed,
        steps=options.steps,
        guidance_scale=options.guidance_scale,
        shift=options.shift,
        image_type=options.image_type,
        kept=kept,
    )
    made = await ports.generator.generate_model(request, report)
    if len(made.model) == 0 or not np.isfinite(made.model.means).all():
        raise ModelFailed.openly(f"The {made.engine} engine returned a model without substance.")
    return made


async def draw_views(made: Generated, ports: Ports) -> ViewSet:
    """The views of the rig with their depth, drawn from the model.

    Raises ModelFailed where one of them shows nothing.
    """
    cameras = rig_cameras()
    renders = await ports.splats.render(made.model, cameras, with_depth=True)
    assert renders.depth is not None, "asked for"
    if not (renders.alphas > 127).any(axis=(1, 2)).all():
        raise ModelFailed.openly(
            f"The {made.engine} engine made a model that cannot be seen from every side: try "
            "another seed."
        )
    return ViewSet(
        images=renders.images,
        alphas=renders.alphas,
        cameras=cameras,
        engine=made.engine,
        surface_depth=np.where(renders.alphas > 127, renders.depth, 0).astype(np.float32),
        notes=(*made.notes, _OWN_VIEWS.format(made.engine)),
        drawn=True,
    )


async def drawn_depths(views: ViewSet) -> DepthMaps:
    """The depth that was drawn with the views."""
    assert views.surface_depth is not None, "drawn with the views"
    known = views.surface_depth > 0
    confidence = np.where(known, views.alphas / np.float32(255), 0).astype(np.float32)
    return DepthMaps(views.surface_depth, confidence, views.engine)


async def placed_photos(
    made: Generated,
    given: Photos,
    views: ViewSet,
    depths: DepthMaps,
    options: GenerateOptions,
    ports: Ports,
    report: Report,
) -> RegisteredPhotos:
    """The photos from the cameras that the generator found, as large as the preset looks at them;
    where it found none they are sought against the views."""
    found = made.photos
    if found is None:
        return await register(given, views, depths, options, ports, report)
    own = found.photos.cameras.width
    size = max(min(options.photo_pixels, own), views.cameras.width)
    if size == own:
        return found
    resize = partial(_resized, size=size)
    photos = replace(
        found.photos,
        images=np.stack([resize(image) for image in found.photos.images]),
        alphas=np.stack([resize(alpha) for alpha in found.photos.alphas]),
        cameras=found.photos.cameras.resized(size, size),
    )
    return replace(found, photos=photos)


def _resized(picture: UInt8Array, size: int) -> UInt8Array:
    """Means of areas where it gets smaller: colours on white and alpha alike."""
    way = cv2.INTER_AREA if size < picture.shape[0] else cv2.INTER_LINEAR
    resized: UInt8Array = cv2.resize(picture, (size, size), interpolation=way)
    return resized
