"""A model moved and scaled into the unit sphere, and points moved back.

It does not know what happens there; meshing and pruning look at models of any size and place
with the same cameras.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.types import FloatArray, SplatModel

#: Distance from which a camera of the rig's field of view sees a sphere of radius 1.12.
CAMERA_RADIUS = 2.7

#: Share of the splats that may lie outside of the sphere's box, at each end of each axis.
_OUTSIDE = 0.001


@dataclass(frozen=True)
class UnitFrame:
    """world = centre + radius * unit; centre float64 [3], radius > 0 in world units."""

    centre: npt.NDArray[np.float64]
    radius: float

    @classmethod
    def of(cls, model: SplatModel) -> UnitFrame:
        """The sphere around the box that holds all but the outermost splats of a model."""
        means = model.means.astype(np.float64)
        reach = 2 * np.exp(model.log_scales.max(axis=1).astype(np.float64))
        low = np.quantile(means - reach[:, None], _OUTSIDE, axis=0)
        high = np.quantile(means + reach[:, None], 1 - _OUTSIDE, axis=0)
        centre = (low + high) / 2
        distance = np.linalg.norm(means - centre, axis=1) + reach
        radius = float(np.quantile(distance, 1 - _OUTSIDE))
        return cls(centre, max(radius, float(np.finfo(np.float32).tiny)))

    def to_unit(self, model: SplatModel) -> SplatModel:
        """The model where `centre` is the origin and `radius` is 1."""
        return replace(
            model,
            means=((model.means - self.centre) / self.radius).astype(np.float32),
            log_scales=(model.log_scales - np.log(self.radius)).astype(np.float32),
        )

    def to_world(self, points: FloatArray) -> FloatArray:
        """Points [N, 3] of the unit frame in the world."""
        world: FloatArray = (self.centre + self.radius * points).astype(np.float32)
        return world
