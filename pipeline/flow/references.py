"""The data that scores come from: views of the rig that no optimiser sees, and what is known there.

It does not know how models are compared with it.
"""

from __future__ import annotations

import numpy as np

from pipeline.requests import References
from pipeline.rig import HELD_OUT_VIEWS
from pipeline.types import DepthMaps, ViewSet

#: Depth with less confidence than this is no reference.
_SURE = 0.2


def held_out_references(views: ViewSet, depths: DepthMaps) -> References:
    """Images, silhouettes and depth of the held-out views, and the photos for their guard.

    A view that was struck out is no reference.
    """
    indices = [i for i in HELD_OUT_VIEWS if i not in views.struck]
    depth = np.where(depths.confidence[indices] > _SURE, depths.depth[indices], 0)
    return References(
        images=views.images[indices],
        cameras=views.cameras.select(indices),
        views=tuple(indices),
        alphas=views.alphas[indices],
        depth=depth.astype(np.float32),
        photos=views.photos,
        confidence=_confidence(views),
        photo_numbers=tuple(found.photo for found in views.registrations if found.accepted),
    )


def _confidence(views: ViewSet) -> float | None:
    """Mean over all that the views show; None of an engine that does not say how sure it is."""
    if views.surface_confidence is None:
        return None
    shown = views.alphas > 127
    return float(views.surface_confidence[shown].mean()) if shown.any() else None
