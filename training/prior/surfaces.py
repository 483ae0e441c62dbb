"""What each engine makes of one cut-out: a coloured surface, before any splat is fitted to it.

It does not know the truth: no engine is told where the photo was taken from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.device import Device
from pipeline.engines.views.outline import silhouette
from pipeline.engines.views.outline_sheet import triangulate
from pipeline.engines.views.relief.relief_views import relief_mesh
from pipeline.engines.views.surface_views import ColoredMesh
from pipeline.geometry.cameras import photo_camera
from pipeline.geometry.projection import rays_through, to_world
from pipeline.rig import ELEVATION_DEG, RADIUS
from pipeline.types import Cutout

ENGINES = ("card", "relief", "prior")


@dataclass(frozen=True)
class Surface:
    """Attributes:
    elevation_deg: of the photo's camera where the engine finds it, else None.
    """

    mesh: ColoredMesh
    elevation_deg: float | None = None


Maker = Callable[[Cutout], Surface]


def maker(engine: str, weights: Path | None = None) -> Maker:
    """The engine by its name.

    Args:
        engine: of `ENGINES`.
        weights: of the learned prior; None takes those that the product carries.

    Raises:
        Unavailable: there are no usable weights.
        ValueError: no engine has this name.
    """
    if engine == "card":
        return card
    if engine == "relief":
        return relief
    if engine == "prior":
        return _prior(weights)
    raise ValueError(f"there is no engine {engine!r}: there are {', '.join(ENGINES)}")


def card(cutout: Cutout) -> Surface:
    """The photo on a plane through the origin that faces its camera."""
    size = cutout.rgba.shape[0]
    sheet = triangulate(silhouette(cutout.rgba[..., 3]))
    camera = photo_camera(ELEVATION_DEG, size)
    places = to_world(camera, 0, RADIUS * rays_through(camera, 0, *sheet.points.T))
    columns, rows = np.clip(np.floor(sheet.points), 0, size - 1).astype(np.int64).T
    colors = (cutout.rgba[rows, columns, :3] / 255).astype(np.float32)
    return Surface(ColoredMesh(places.astype(np.float32), sheet.triangles, colors))


def relief(cutout: Cutout) -> Surface:
    return Surface(relief_mesh(cutout, ELEVATION_DEG))


def _prior(weights: Path | None) -> Maker:
    from pipeline.engines.views.prior.prior_views import two_sided_model
    from pipeline.engines.views.prior.prior_weights import PRIOR_WEIGHTS
    from pipeline.engines.views.prior.trained_prior import TrainedPrior, load_prior
    from pipeline.weights.folders import find

    def surface(prior: TrainedPrior, cutout: Cutout) -> Surface:
        guess = prior.guess(cutout.rgba, None)
        return Surface(two_sided_model(cutout, guess).mesh, guess.elevation_deg)

    return partial(surface, load_prior(weights or find(PRIOR_WEIGHTS, None), Device.choose("cpu")))
