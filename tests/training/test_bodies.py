"""Made animals, furniture, vehicles, plants and arrangements: mirror images, joints, seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from training.prior.families import FAMILIES, arrangements, bodies, furniture, plants, vehicles
from training.prior.solids import Solid

OURS = [
    name
    for module in (arrangements, bodies, furniture, plants, vehicles)
    for name in module.FAMILIES
]

#: Nothing in them is left to one side but loose things and poses.
MIRRORED = {
    **dict.fromkeys(("car", "beetle", "bus", "tractor", "train", "rocket", "motorbike"), 0.03),
    **dict.fromkeys(("sofa", "bed", "table", "bench", "chair", "television"), 0.03),
    **dict.fromkeys(("snowman", "bust", "bird", "turtle", "dinosaur", "quadruped"), 0.12),
    **dict.fromkeys(("teddy", "standing figure", "sitting figure", "sitting beast"), 0.3),
}

#: Things that stand side by side: how many of them at most.
SIDE_BY_SIDE = {"shoes": 2, "bottle and glass": 3}


def _joined(low: np.ndarray, high: np.ndarray, gap: float) -> int:
    """How many groups of boxes [n, 3] are further than `gap` from each other."""
    near: np.ndarray = np.all(low[:, None] <= high[None] + gap, axis=-1)
    return int(connected_components(coo_matrix(near & near.T), directed=False)[0])


def _parts(solid: Solid) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corners of the connected surfaces, float64 [n, 3] each."""
    a, b, c = solid.faces.T
    edges = coo_matrix(
        (np.ones(2 * len(a)), (np.r_[a, b], np.r_[b, c])), shape=(len(solid.vertices),) * 2
    )
    count, owner = connected_components(edges, directed=False)
    low, high = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
    np.minimum.at(low, owner, solid.vertices)
    np.maximum.at(high, owner, solid.vertices)
    used = np.unique(owner[solid.faces[:, 0]])
    return low[used], high[used]


@pytest.mark.parametrize("name", OURS)
def test_no_part_floats(name: str) -> None:
    for seed in range(6):
        solid = FAMILIES[name].make(np.random.default_rng(seed)).solid
        low, high = solid.box
        groups = _joined(*_parts(solid), gap=0.004 * float((high - low).max()))
        assert groups <= SIDE_BY_SIDE.get(name, 1), seed


def test_a_floating_part_is_noticed() -> None:
    boxes = np.array([[0.0, 0, 0], [0, 0, 1.2]]), np.array([[1.0, 1, 1], [1, 1, 2]])
    assert _joined(*boxes, gap=0.1) == 2
    assert _joined(*boxes, gap=0.3) == 1


@pytest.mark.parametrize(("name", "tolerance"), MIRRORED.items())
def test_left_and_right_reach_equally_far(name: str, tolerance: float) -> None:
    for seed in range(6):
        low, high = FAMILIES[name].make(np.random.default_rng(seed)).solid.box
        assert abs(high[1] + low[1]) <= tolerance * (high - low).max(), seed


@pytest.mark.parametrize("name", OURS)
def test_a_seed_makes_the_same_object_again(name: str) -> None:
    first, second, other = (FAMILIES[name].make(np.random.default_rng(k)) for k in (5, 5, 6))
    assert first.finishes == second.finishes
    np.testing.assert_array_equal(first.solid.vertices, second.solid.vertices)
    np.testing.assert_array_equal(first.solid.slots, second.solid.slots)
    assert first.solid.vertices.shape != other.solid.vertices.shape or not np.allclose(
        first.solid.vertices, other.solid.vertices
    )


def test_a_cup_stands_up_from_a_wider_saucer() -> None:
    for seed in range(12):
        v = FAMILIES["cup on saucer"].make(np.random.default_rng(seed)).solid.vertices
        height, reach = (v[:, 2] - v[:, 2].min()) / np.ptp(v[:, 2]), np.hypot(v[:, 0], v[:, 1])
        assert reach[height < 0.3].max() > 1.3 * np.median(reach[height > 0.97])
