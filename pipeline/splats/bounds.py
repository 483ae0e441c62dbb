"""How large a model is and where it stands, and the same model moved to where the rig looks.

It knows splats and the rig's field of view; not what is drawn from them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.errors import InvalidInput
from pipeline.geometry.cameras import turntable_cameras
from pipeline.geometry.core import core, reaches, visible_weights, weighted_quantile
from pipeline.geometry.projection import find_pixels
from pipeline.geometry.unit_frame import STRAY_RADII, UnitFrame
from pipeline.rig import FOCAL_AT_256, RADIUS
from pipeline.types import SplatModel

#: Share of the visible splats, by opacity, that may lie outside: floaters.
_FLOATERS = 0.01

#: Radius of the largest sphere around the origin that a camera of the rig sees whole, .624.
_SEEN_RADIUS = RADIUS * 128 / (FOCAL_AT_256**2 + 128**2) ** 0.5

#: A model that is moved fills this share of that sphere; a model of the product about as much.
_FILLED = 0.92

#: A model smaller than this share of it is a dot in the picture. The longest side of an object
#: from a photo is 200 of 256 pixels, a radius of .53 of .62.
_DOT = 0.4

#: Splats this many units from the centre, or this large, are left out of the picture. They cover
#: it or miss it, and the rasteriser refuses numbers above 1e6.
_FAR = 1e3

#: Directions that are tried to find out whether the rig sees a model whole.
_TRIED_CAMERAS = 12


@dataclass(frozen=True)
class Sphere:
    """Centre, world units [3] (float64: models may stand far away), and radius > 0."""

    centre: npt.NDArray[np.float64]
    radius: float


def bounding_sphere(model: SplatModel) -> Sphere:
    """A sphere around what is visible of a model; floaters and strays do not make it larger.

    The centre is midway between the 1 % and 99 % quantiles of the splats' positions, by opacity;
    within the radius 99 % of the splats end (two standard deviations of each), by opacity.

    Raises:
        InvalidInput: there are no splats, or a position, size or opacity is NaN or infinite.
    """
    if len(model) == 0:
        raise InvalidInput("The model holds no splats: there is nothing to see.")
    means = model.means.astype(np.float64)
    log_scales = model.log_scales.max(axis=1).astype(np.float64)
    for name, values in (
        ("positions", means),
        ("sizes", log_scales),
        ("opacities", model.logit_opacities),
    ):
        if not np.isfinite(values).all():
            raise InvalidInput(f"The model holds NaN or infinity in its {name}.")
    # Far away strays count for nothing, however opaque: 1 % of them would reach the quantiles.
    weights = np.where(core(model), visible_weights(model), np.float32(0))
    low, high = (
        np.array([weighted_quantile(axis, weights, share) for axis in means.T])
        for share in (_FLOATERS, 1 - _FLOATERS)
    )
    centre = (low + high) / 2
    reach = np.linalg.norm(means - centre, axis=1) + reaches(model)
    radius = weighted_quantile(reach, weights, 1 - _FLOATERS)
    return Sphere(centre, max(radius, float(np.finfo(np.float32).tiny)))


def framed(model: SplatModel) -> SplatModel:
    """The model where the rig sees it whole and not as a dot.

    A model of the product stays as it is, so that pictures of its versions can be compared. One
    from elsewhere is moved and scaled: cameras that went to it instead would meet the
    rasteriser's near plane with a small model and the end of float32 with a distant one. A few
    splats that are far too large, as damaged files have them, would hide it and are not drawn.

    Raises:
        InvalidInput: as for `bounding_sphere`.
    """
    sphere = bounding_sphere(model)
    _, huge = UnitFrame.of(model).strays(model)
    if huge.any():
        model = model.select(~huge)
    if sphere.radius < _DOT * _SEEN_RADIUS or not _is_seen_whole(model):
        scale = _FILLED * _SEEN_RADIUS / sphere.radius
        with np.errstate(over="ignore"):  # what becomes infinite is left out below
            model = replace(
                model,
                means=((model.means - sphere.centre) * scale).astype(np.float32),
                log_scales=(model.log_scales + np.log(scale)).astype(np.float32),
            )
    near = (np.abs(model.means) <= _FAR).all(1) & (model.log_scales <= np.log(_FAR)).all(1)
    if near.all():
        return model
    return model.select(near)


def undrawn(model: SplatModel) -> tuple[str, ...]:
    """Notes for the user on what `framed` leaves out although it would be seen.

    Raises:
        InvalidInput: as for `bounding_sphere`.
    """
    bounding_sphere(model)
    _, huge = UnitFrame.of(model).strays(model)
    if not huge.any():
        return ()
    return (
        f"Not drawn because they cover the object: {huge.sum():,} of {len(model):,} splats, more "
        f"than {STRAY_RADII:g} times as large as its radius.",
    )


def _is_seen_whole(model: SplatModel) -> bool:
    """Whether the turntable's cameras have all but the floaters in their pictures."""
    weights = visible_weights(model)
    means = model.means.astype(np.float64)  # float32 overflows on the way to the camera
    cameras = turntable_cameras(_TRIED_CAMERAS)
    for view in range(len(cameras)):
        inside, _, _ = find_pixels(cameras, view, means)
        if weights[~inside].sum() > _FLOATERS * weights.sum():
            return False
    return True
