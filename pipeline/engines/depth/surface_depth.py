"""Depth maps from views whose engine knows its own geometry.

It estimates nothing: views without a surface of their own are refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.control import Control
from pipeline.errors import ModelFailed
from pipeline.geometry.facing import facing_ratio
from pipeline.types import DepthMaps, FloatArray, ViewSet

#: Neighbours further apart than this (world units) belong to different surfaces. A pixel of the
#: rig covers 0.0054 at the object, so a single surface would have to turn away by 85 degrees.
JUMP = 0.06
#: The colour of a pixel at an edge is a mixture, so a splat should hardly start there.
EDGE_CONFIDENCE = 0.2


class SurfaceDepth:
    """Depth estimator "surface"."""

    name = "surface"

    def estimate_many(self, sets: Sequence[ViewSet], control: Control) -> list[DepthMaps]:
        """`estimate` of several sets, one after the other: there is no network to share."""
        share = 1 / max(len(sets), 1)
        return [
            self.estimate(views, control.part(i * share, (i + 1) * share))
            for i, views in enumerate(sets)
        ]

    def estimate(self, views: ViewSet, control: Control) -> DepthMaps:
        """The views' own depth; confidence is the facing ratio, lowered along edges.

        Where the engine says how far its surface may be believed, that lowers it too.

        Raises:
            ModelFailed: the view engine delivered no usable depth.
        """
        depth = views.surface_depth
        if depth is None:
            raise ModelFailed.openly(
                f"The view engine {views.engine!r} knows no surface; choose another depth engine."
            )
        if depth.shape != views.alphas.shape or not np.isfinite(depth).all():
            raise ModelFailed.openly(
                f"The surface depth of {views.engine!r} is damaged: {depth.shape}."
            )
        belief = views.surface_confidence
        if belief is not None and not _is_share(belief, depth.shape):
            raise ModelFailed.openly(
                f"The surface confidence of {views.engine!r} is damaged: {belief.shape}."
            )
        confidence = np.zeros(depth.shape, np.float32)
        for i, plane in enumerate(depth):
            known = plane > 0
            facing = facing_ratio(plane, views.cameras.select([i]))
            inner = ndimage.binary_erosion(known & ~_jumps(plane), np.ones((3, 3), bool))
            weight = np.where(inner, 1.0, EDGE_CONFIDENCE) * known
            confidence[i] = facing * weight * (1.0 if belief is None else belief[i])
            control.step((i + 1) / len(depth), f"depth of view {i + 1}")
        return DepthMaps(np.where(depth > 0, depth, 0).astype(np.float32), confidence, self.name)


def _is_share(plane: FloatArray, shape: tuple[int, ...]) -> bool:
    # Of a NaN neither comparison holds.
    return plane.shape == shape and bool(((plane >= 0) & (plane <= 1)).all())


def _jumps(depth: FloatArray) -> npt.NDArray[np.bool_]:
    """Pixels beside a step from one surface to another."""
    farthest = ndimage.maximum_filter(depth, 3)
    nearest = ndimage.minimum_filter(np.where(depth > 0, depth, np.inf), 3)
    jumps: npt.NDArray[np.bool_] = (depth > 0) & (farthest - nearest > JUMP)
    return jumps
