"""The ranking of candidates: by photos that no trial saw, then by consistency, then by order."""

from __future__ import annotations

from itertools import permutations

import pytest

from pipeline.flow.contest import photo_psnr, ranked
from pipeline.types import PhotoScore, Scores


def scores(*photos: float, consistency: float | None = 0.5, agreement: float = 0.5) -> Scores:
    known = tuple(PhotoScore(i, psnr, 0.9) for i, psnr in enumerate(photos))
    return Scores(25.0, 0.9, None, agreement, consistency=consistency, photos=known)


def test_the_photo_goes_before_consistency_and_agreement() -> None:
    bland = scores(22.0, consistency=0.1, agreement=0.95)
    true = scores(26.0, consistency=0.6, agreement=0.7)
    assert ranked({0: bland, 1: true}) == [1, 0]


def test_equally_good_photos_leave_it_to_consistency() -> None:
    assert ranked({0: scores(26.1, consistency=0.6), 1: scores(26.0, consistency=0.4)}) == [1, 0]


def test_a_model_whose_sides_agree_exactly_is_the_most_consistent() -> None:
    assert ranked({0: scores(26.0, consistency=0.01), 1: scores(26.0, consistency=0.0)}) == [1, 0]


def test_what_differs_by_chance_leaves_the_likeliest_first() -> None:
    alike = {0: scores(26.0, consistency=0.501), 1: scores(26.1, consistency=0.5)}
    assert ranked(alike) == [0, 1]


def test_of_several_photos_the_mean_counts() -> None:
    assert photo_psnr(scores(20.0, 30.0)) == 25.0
    assert ranked({0: scores(30.0, 18.0), 1: scores(25.0, 25.0)}) == [1, 0]


def test_views_that_a_photo_does_not_fit_do_not_win_by_leaving_it_out() -> None:
    front_alone, both_sides = scores(26.0), scores(26.0, 21.0)
    assert ranked({0: front_alone, 1: both_sides}) == [1, 0]


def test_without_photos_agreement_decides_and_a_model_without_surface_is_last() -> None:
    assert photo_psnr(scores()) is None
    assert ranked({0: scores(agreement=0.4), 1: scores(agreement=0.6)}) == [1, 0]
    assert ranked({0: scores(26.0, consistency=None), 1: scores(26.0, consistency=2.0)}) == [1, 0]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_best_so_far_is_the_best_of_all_in_whatever_order_they_come(order) -> None:
    """A contest lets the others go as soon as there is a better one."""
    made = {
        0: scores(26.0, consistency=0.5),
        1: scores(26.2, consistency=0.6),
        2: scores(26.4, consistency=0.55),
        3: scores(26.6, consistency=0.7),
    }
    seen, best = {}, None
    for key in order:
        seen[key] = made[key]
        if ranked(seen)[0] == key:
            best = key
    assert best == ranked(made)[0]
