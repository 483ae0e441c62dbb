"""Where the bulk of a model is, whatever a few splats far away from it do.

It does not know why somebody asks: framing, pruning and meshing do.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.types import FloatArray, SplatModel

#: Splats fainter than this are not looked at: alone they change a pixel by less than 13 of 255.
FAINT = 0.05

#: Three quarters of the opacity are never strays. The core reaches so many times farther than
#: these ...
_BEYOND_MOST = 3.0
#: ... and on, as long as the shell up to so many times farther holds so large a share of the
#: opacity. The first adds what hangs on to the object, the second a second object beside it;
#: strays of optimisers and scanners, evenly over three decades, have 1 % in a shell when they
#: are 3 % in all.
_SHELLS = ((3.0, 0.01), (10.0, 0.05))


def visible_weights(model: SplatModel) -> FloatArray:
    """How much each splat counts, float32 [N]: its opacity; all the same where all are faint."""
    opacities = model.opacities
    visible = opacities >= FAINT
    if not visible.any():
        return np.ones_like(opacities)
    return np.where(visible, opacities, np.float32(0))


def weighted_quantile(values: npt.NDArray[np.float64], weights: FloatArray, share: float) -> float:
    """The smallest of `values` [N] that has at least `share` of the weight up to itself."""
    order = np.argsort(values)
    below = np.cumsum(weights[order], dtype=np.float64)
    return float(values[order[int(np.searchsorted(below, share * below[-1]))]])


def reaches(model: SplatModel) -> npt.NDArray[np.float64]:
    """Two of each splat's largest standard deviations, world units, float64 [N], never infinite."""
    log_scales = model.log_scales.max(axis=1).astype(np.float64)
    doubled: npt.NDArray[np.float64] = 2 * np.exp(np.minimum(log_scales, 700.0))
    return doubled


def core(model: SplatModel) -> npt.NDArray[np.bool_]:
    """Which splats belong to the bulk of a model, bool [N]; N > 0, at least one is True.

    Left out are those that lie, or reach, far beyond all but a few: strays, and splats larger
    than the whole object. A faint splat neither decides what the bulk is nor is left out for it.
    """
    weights = visible_weights(model)
    means = model.means.astype(np.float64)
    centre = np.array([weighted_quantile(axis, weights, 0.5) for axis in means.T])
    away = np.linalg.norm(means - centre, axis=1) + reaches(model)
    total = float(weights.sum(dtype=np.float64))
    radius = _BEYOND_MOST * weighted_quantile(away, weights, 0.75)

    def next_radius() -> float | None:
        for factor, share in _SHELLS:
            shell = (away > radius) & (away <= factor * radius)
            if float(weights[shell].sum(dtype=np.float64)) >= share * total:
                return float(away[shell].max())
        return None

    while (larger := next_radius()) is not None:
        radius = larger
    inside: npt.NDArray[np.bool_] = away <= radius
    return inside
