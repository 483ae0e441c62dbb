"""A thing of any size and place made as high as it really is, standing on the ground.

It does not know splats' or meshes' files. World frame: z is up, the ground is z = 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.errors import InvalidInput
from pipeline.geometry.core import core
from pipeline.geometry.ellipsoids import ellipsoid_axes
from pipeline.types import FloatArray, SplatModel

#: A splat of less opacity is nowhere half opaque: it has no outline.
_OUTLINED = 0.5

#: Share of the outlined splats that may lie above or below the thing.
_OUTSIDE = 0.001


@dataclass(frozen=True)
class Box:
    """The smallest box along the axes of the world; `low` and `high` float64 [3]."""

    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]

    @classmethod
    def of_points(cls, points: FloatArray) -> Box:
        """Around points [N, 3], N > 0."""
        exact = points.astype(np.float64)
        return cls(exact.min(axis=0), exact.max(axis=0))

    @classmethod
    def of_splats(cls, model: SplatModel) -> Box:
        """Around what the bulk of a model (`core`) hides: each splat out to where it is half
        opaque, without the outermost thousandth, which may be strays.

        Raises:
            InvalidInput: the model has no splats.
        """
        if not len(model):
            raise InvalidInput("The model has no splats, so it has no height.")
        bulk = core(model)
        seen = bulk & (model.opacities >= _OUTLINED)
        solid = model.select(seen if seen.any() else bulk)
        reach = _half_opaque_reach(solid)
        means = solid.means.astype(np.float64)
        return cls(
            np.quantile(means - reach, _OUTSIDE, axis=0),
            np.quantile(means + reach, 1 - _OUTSIDE, axis=0),
        )


@dataclass(frozen=True)
class Placement:
    """placed = scale * (world - origin); origin float64 [3], scale > 0."""

    scale: float
    origin: npt.NDArray[np.float64]

    @classmethod
    def of_height(cls, box: Box, height: float) -> Placement:
        """`box` becomes `height` high and stands on the ground, its middle above the origin.

        Raises:
            InvalidInput: the box is flat.
        """
        return cls._of(box, height, float(box.high[2] - box.low[2]))

    @classmethod
    def of_longest_side(cls, box: Box, length: float) -> Placement:
        """The same with the longest side of `box` instead of its height."""
        return cls._of(box, length, float((box.high - box.low).max()))

    @classmethod
    def _of(cls, box: Box, wanted: float, now: float) -> Placement:
        if not now > 0:
            raise InvalidInput("The model has no height, so it cannot be given one.")
        middle = (box.low + box.high) / 2
        return cls(wanted / now, np.array([middle[0], middle[1], box.low[2]]))

    def points(self, points: FloatArray) -> FloatArray:
        """Points [N, 3], placed."""
        placed: FloatArray = (self.scale * (points - self.origin)).astype(np.float32)
        return placed

    def model(self, model: SplatModel) -> SplatModel:
        """The splats, placed; harmonics and orientations are as they were."""
        return replace(
            model,
            means=self.points(model.means),
            log_scales=(model.log_scales + np.log(self.scale)).astype(np.float32),
        )


def _half_opaque_reach(model: SplatModel) -> npt.NDArray[np.float64]:
    """How far along each axis of the world a splat has an opacity of at least 1/2, [N, 3].

    o exp(-d^2 / 2) = 1/2 at d = sqrt(2 ln 2o) standard deviations; the standard deviation along
    an axis is the length of that row of R diag(s).
    """
    along = np.linalg.norm(ellipsoid_axes(model), axis=1)
    edge = np.sqrt(2 * np.log(np.maximum(2 * model.opacities.astype(np.float64), 1.0)))
    reach: npt.NDArray[np.float64] = edge[:, None] * along
    return reach
