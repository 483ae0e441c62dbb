"""Which splats of a model belong together: its parts, each of which has a surface of its own.

It does not know surfaces: two things nearer to each other than the gaps between splats are one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.geometry.ellipsoids import ellipsoid_axes
from pipeline.geometry.neighbours import neighbour_distance
from pipeline.types import FloatArray, SplatModel

#: A cell is this many usual distances to the eight nearest neighbours wide: on a surface that is
#: sampled at random hardly one neighbouring cell of another is then empty.
_CELL_GAPS = 1.5

#: Cells are not smaller than this, for an object of radius 1: what the surface's volume resolves.
_LEAST_CELL = 1 / 60

#: Where a splat marks cells: this many standard deviations along each of its axes.
_MARKS = (-2.0, -1.0, 1.0, 2.0)

#: A part with a smaller share of all marked cells, which count its surface, is dust: a compact
#: thing of a sixteenth of the object's size.
_DUST = 0.004

#: So many parts are made into surfaces, the largest; each takes a second.
_MOST_PARTS = 24

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Parts:
    """The parts of a model of N splats, the largest first.

    Attributes:
        of_splat: int64 [N], the number of a splat's part from 0 on, -1 where it is in none.
        shares: of the surface of all parts, each above 0, together 1.
        dust, beyond: how many were left out because they are too small, and because they are too
            many.
    """

    of_splat: IntArray
    shares: tuple[float, ...]
    dust: int = 0
    beyond: int = 0

    def __len__(self) -> int:
        return len(self.shares)


def find_parts(model: SplatModel) -> Parts:
    """The parts of a visible model that fills the unit sphere.

    Every splat marks the cells of a grid that it reaches; cells that touch, at a corner even, are
    one part. Dust beside a single part is no matter: all splats are then of that part.
    """
    cell = max(_CELL_GAPS * float(np.median(neighbour_distance(model.means))), _LEAST_CELL)
    marks = _marks(model)
    low = marks.min(axis=(0, 1))
    index = np.floor((marks - low) / cell).astype(np.int64)
    marked = np.zeros(index.max(axis=(0, 1)) + 1, bool)
    marked[tuple(index.reshape(-1, 3).T)] = True
    labels, count = ndimage.label(marked, np.ones((3, 3, 3)))
    cells = np.bincount(labels.ravel(), minlength=count + 1)
    cells[0] = 0
    order = np.argsort(-cells[1:], kind="stable") + 1
    large = order[cells[order] >= _DUST * cells.sum()]
    kept = large[:_MOST_PARTS]
    if len(kept) < 2:
        return Parts(np.zeros(len(model), np.int64), (1.0,))
    number = np.full(count + 1, -1, np.int64)
    number[kept] = np.arange(len(kept))
    shares = cells[kept] / cells[kept].sum()
    return Parts(
        number[labels[tuple(index[:, 0].T)]],
        tuple(shares.tolist()),
        dust=count - len(large),
        beyond=len(large) - len(kept),
    )


def _marks(model: SplatModel) -> FloatArray:
    """Places [N, 13, 3] that each splat reaches, its centre first; no farther than two units."""
    axes = np.clip(ellipsoid_axes(model), -1.0, 1.0)
    arms = [step * axes for step in _MARKS]
    marks = model.means[:, None] + np.concatenate([np.zeros_like(axes[:, :1]), *arms], axis=1)
    return np.asarray(marks, np.float32)
