"""A model thinned out, to be looked at while the whole one is still being made.

It does not know who looks at it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.types import SplatModel

#: Splats of a live model, at most: 128 KB as `.splat`.
MOST_LIVE_SPLATS = 4096

#: Splats that stand for others grow, at most by this factor.
_MOST_GROWTH = 4.0


def thinned(model: SplatModel, count: int) -> SplatModel:
    """Every so many-th splat, `count` of them, larger so that surfaces stay closed.

    An area is covered by N splats as by n whose sides are sqrt(N / n) longer. The choice is the
    same for the same model, and draws nothing at random.
    """
    if len(model) <= count:
        return model
    chosen = np.linspace(0, len(model) - 1, count).round().astype(np.int64)
    growth = min((len(model) / count) ** 0.5, _MOST_GROWTH)
    part = model.select(chosen)
    return replace(part, log_scales=part.log_scales + np.float32(np.log(growth)))
