"""A model moved and scaled into the unit sphere, and points moved back.

It does not know what happens there; meshing and pruning look at models of any size and place
with the same cameras.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.geometry.core import core, reaches, visible_weights
from pipeline.types import FloatArray, SplatModel

#: Distance from which a camera of the rig's field of view sees a sphere of radius `SEEN_RADIUS`.
CAMERA_RADIUS = 2.7
SEEN_RADIUS = 1.12

#: A splat whose standard deviation exceeds the object's radius covers views instead of being in
#: them.
_HUGE = 1.0

#: A splat so many radii from the object's centre, or so large, is a stray ...
STRAY_RADII = 20.0
#: ... unless such splats have more than this share of the opacity: then they are scenery.
_MOST_STRAYS = 0.05

#: Share of the splats of the bulk that may lie outside of the sphere's box, at each end of each
#: axis.
_OUTSIDE = 0.001


@dataclass(frozen=True)
class UnitFrame:
    """world = centre + radius * unit; centre float64 [3], radius > 0 in world units."""

    centre: npt.NDArray[np.float64]
    radius: float

    @classmethod
    def of(cls, model: SplatModel) -> UnitFrame:
        """The sphere around the box that holds the bulk of a model (`core`), without strays."""
        bulk = core(model)
        means = model.means[bulk].astype(np.float64)
        reach = reaches(model)[bulk]
        low = np.quantile(means - reach[:, None], _OUTSIDE, axis=0)
        high = np.quantile(means + reach[:, None], 1 - _OUTSIDE, axis=0)
        centre = (low + high) / 2
        distance = np.linalg.norm(means - centre, axis=1) + reach
        radius = float(np.quantile(distance, 1 - _OUTSIDE))
        return cls(centre, max(radius, float(np.finfo(np.float32).tiny)))

    def to_unit(self, model: SplatModel) -> SplatModel:
        """The model where `centre` is the origin and `radius` is 1."""
        with np.errstate(over="ignore"):  # strays at the end of float32 become infinite
            return replace(
                model,
                means=((model.means - self.centre) / self.radius).astype(np.float32),
                log_scales=(model.log_scales - np.log(self.radius)).astype(np.float32),
            )

    def near(self, model: SplatModel, *, radius: float = 2 * SEEN_RADIUS) -> npt.NDArray[np.bool_]:
        """Which splats stand within `radius` and are no larger than the unit sphere, bool [N]."""
        unit = self.to_unit(model)
        away = np.linalg.norm(unit.means.astype(np.float64), axis=1)
        near: npt.NDArray[np.bool_] = (away <= radius) & (unit.log_scales <= np.log(_HUGE)).all(1)
        return near

    def strays(self, model: SplatModel) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Which splats lie far away, and which others are far too large; bool [N] each.

        Optimisers, scanners and damaged files leave some. None are where they are much of the
        model: scenery, or a sky.
        """
        unit = self.to_unit(model)
        weights = visible_weights(model)
        far = np.linalg.norm(unit.means.astype(np.float64), axis=1) > STRAY_RADII
        huge = ~far & (unit.log_scales.max(axis=1) > np.log(STRAY_RADII))
        for mask in (far, huge):
            if weights[mask].sum() > _MOST_STRAYS * weights.sum():
                mask[:] = False
        return far, huge

    def to_world(self, points: FloatArray) -> FloatArray:
        """Points [N, 3] of the unit frame in the world."""
        world: FloatArray = (self.centre + self.radius * points).astype(np.float32)
        return world
