"""Points drawn from an octree of probabilities, level by level, with systematic resampling.

It does not know which network gives the probabilities, nor what becomes of the points.

Every cell hands its count of points on to its eight children. Of a cell with count c and the
cumulative probabilities cdf_j of its children, child j gets as many as there are i in 0..c-1 with
cdf_(j-1) < (u + i) / c <= cdf_j, where u is one number of 0..1 for the cell; what lies above the
last cdf is the last child's. That is a difference of K_j = clamp(floor(c cdf_j - u) + 1, 0, c):
no loop over points, and the device is waited for once a level, to learn how many cells there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor

from pipeline.control import UNATTENDED, Control
from pipeline.engines.deg.deg_config import OCTREE_LEVELS
from pipeline.engines.deg.deg_draws import Draw, uniform_numbers
from pipeline.errors import ModelFailed

#: Centres of cells, float32 [r, 3] in 0..1, and their level 1..8 -> logits of their children,
#: [r, 8]; child j lies at +x where bit 0 of j is set, +y for bit 1, +z for bit 2.
ChildLogits = Callable[[Tensor, int], Tensor]


class OctreeDraws(Protocol):
    """The random numbers of one octree; they are made on the CPU, so every device gets the same."""

    def offsets(self, level: int, cells: int) -> Tensor:
        """u of each cell in their order, float32 [cells], 0 <= u < 1."""

    def jitter(self, points: int) -> Tensor:
        """Where each point lies in its cell, float32 [points, 3], 0..1."""


@dataclass(frozen=True)
class SeededDraws:
    """Draws that follow from a seed; a level's do not depend on how much others drew."""

    seed: int

    def offsets(self, level: int, cells: int) -> Tensor:
        return uniform_numbers(self.seed, Draw.OCTREE_CHOICE, (cells,), level)

    def jitter(self, points: int) -> Tensor:
        return uniform_numbers(self.seed, Draw.POINT_JITTER, (points, 3))


@dataclass(frozen=True)
class OctreeLevel:
    """What happened in one level, for those who look on.

    Attributes:
        level: 1..8.
        centres: float32 [r, 3], of the parents, 0..1.
        counts: int64 [r], points of each parent.
        probabilities: float32 [r, 8], of its children.
        chosen: int64 [r, 8], points of each child.
    """

    level: int
    centres: Tensor
    counts: Tensor
    probabilities: Tensor
    chosen: Tensor


@dataclass(frozen=True)
class OctreePoints:
    """n points.

    Attributes:
        points: float32 [n, 3], 0..1, ordered by cell.
        log_probabilities: float32 [n], natural logarithm of the probability of a point's cell.
    """

    points: Tensor
    log_probabilities: Tensor


def share_out(probabilities: Tensor, counts: Tensor, offsets: Tensor) -> Tensor:
    """How many of its points each cell gives to each of its children.

    Args:
        probabilities: float32 [r, 8].
        counts: int64 [r], at least 0.
        offsets: float32 [r], the u of each cell.

    Returns:
        int64 [r, 8]; rows add up to `counts`.
    """
    # The sums in this order on every device; a library's scan has an order of its own.
    shares = probabilities / probabilities.sum(dim=-1, keepdim=True).clamp_min(1)
    cdf = torch.stack(list(accumulate(shares.unbind(dim=-1))), dim=-1)
    # In float64 the product of a count and a float32 is exact, and so is the comparison.
    all_points = counts.double()[:, None]
    up_to = torch.floor(all_points * cdf.double() - offsets.double()[:, None]) + 1
    up_to = torch.cat([up_to[:, :-1].clamp_min(0).minimum(all_points), all_points], dim=-1)
    return torch.diff(up_to, prepend=torch.zeros_like(all_points)).long()


def sample_octree(
    child_logits: ChildLogits,
    points: int,
    draws: OctreeDraws,
    device: torch.device,
    *,
    levels: int = OCTREE_LEVELS,
    control: Control = UNATTENDED,
    watch: Callable[[OctreeLevel], None] | None = None,
) -> OctreePoints:
    """Draws points in the unit cube.

    Args:
        points: how many, at least 1.
        levels: how often cells are halved; points are spread evenly in those of the last level.
        control: asked for a stop before every level.
        watch: called after each level.

    Raises:
        Cancelled: a stop was asked for.
        ModelFailed: the logits are not finite.
    """
    cells = torch.zeros(1, 3, dtype=torch.int64, device=device)
    counts = torch.full((1,), points, dtype=torch.int64, device=device)
    logs = torch.zeros(1, device=device)
    for level in range(1, levels + 1):
        control.check()
        centres = (cells + 0.5) / 2 ** (level - 1)
        logits = child_logits(centres, level).float()
        probabilities = logits.softmax(dim=-1)
        offsets = draws.offsets(level, len(cells)).to(device, non_blocking=True)
        chosen = share_out(probabilities, counts, offsets)
        if watch is not None:
            watch(OctreeLevel(level, centres, counts, probabilities, chosen))
        each = chosen.flatten()
        kept, finite = read(torch.stack([(each > 0).sum(), logits.isfinite().all().long()]))
        if not finite:
            raise ModelFailed(
                f"The octree network gave numbers that are not finite at level {level}. Use the "
                "precision bf16 or fp32, and verify its weights."
            )
        # Children that got points, in the order of their parents: boolean indexing would wait
        # for the device once more.
        order = torch.argsort((each == 0).byte(), stable=True)[:kept]
        parents, child = order // 8, order % 8
        bits = torch.stack([child & 1, child >> 1 & 1, child >> 2], dim=-1)
        cells = 2 * cells[parents] + bits
        logs = logs[parents] + probabilities.flatten()[order].log()
        counts = each[order]
    numbers = torch.arange(len(cells), device=device)
    of_point = torch.repeat_interleave(numbers, counts, output_size=points)
    jitter = draws.jitter(points).to(device, non_blocking=True)
    return OctreePoints((cells[of_point] + jitter) / 2**levels, logs[of_point])


def read(numbers: Tensor) -> list[int]:
    """Values of a small tensor; the one place where the device is waited for."""
    values: list[int] = numbers.tolist()
    return values
