"""Edited views: what is replaced, struck out and restored; nobody uses what was struck out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.control import ignore_progress
from pipeline.errors import InvalidImage, InvalidOption
from pipeline.flow.artifacts import decode_views, encode_views
from pipeline.flow.generate import generate
from pipeline.flow.references import held_out_references
from pipeline.flow.refine import refine
from pipeline.flow.view_edits import (
    EditKind,
    ViewEdit,
    apply_edits,
    changed_files,
    check_picture,
    check_struck,
)
from pipeline.options import GenerateOptions, RefineOptions
from pipeline.requests import FitRequest
from pipeline.types import DepthMaps, UInt8Array, ViewSet
from tests.fakes import SIZE, FakeModels, MemoryJournal, some_cutout, some_views


def picture(size: int = SIZE) -> UInt8Array:
    """A green square on a transparent ground."""
    rgba = np.zeros((size, size, 4), np.uint8)
    rgba[size // 4 : -size // 4, size // 4 : -size // 4] = (0, 200, 0, 255)
    return rgba


def strike(*views: int) -> list[ViewEdit]:
    return [ViewEdit(EditKind.STRIKE, view) for view in views]


def test_a_picture_stands_in_the_place_of_a_view_and_its_depth_is_not_known() -> None:
    views = some_views()
    edited = apply_edits(views, [ViewEdit(EditKind.REPLACE, 3, picture())])
    np.testing.assert_array_equal(edited.images[3][16, 16], (0, 200, 0))
    np.testing.assert_array_equal(edited.images[3][0, 0], (255, 255, 255))
    np.testing.assert_array_equal(edited.alphas[3] > 0, picture()[..., 3] > 0)
    assert edited.surface_depth is not None
    assert edited.surface_confidence is not None
    assert not edited.surface_depth[3].any()
    assert not edited.surface_confidence[3].any()
    others = [i for i in range(16) if i != 3]
    np.testing.assert_array_equal(edited.images[others], views.images[others])
    np.testing.assert_array_equal(edited.surface_depth[others], views.surface_depth[others])
    np.testing.assert_array_equal(views.images[3], some_views().images[3])


def test_a_picture_of_another_size_is_resampled_and_said_so() -> None:
    assert check_picture(picture(), SIZE) == ()
    assert "from 128 to 32" in check_picture(picture(128), SIZE)[0]
    assert "from 3000 to 32" in check_picture(picture(128), SIZE, (3000, 3000))[0], "its file"
    with pytest.raises(InvalidImage, match="4100 x 4100 pixels"):
        check_picture(picture(128), SIZE, (4100, 4100))
    edited = apply_edits(some_views(), [ViewEdit(EditKind.REPLACE, 3, picture(128))])
    plain = apply_edits(some_views(), [ViewEdit(EditKind.REPLACE, 3, picture())])
    np.testing.assert_array_equal(edited.images[3], plain.images[3])


@pytest.mark.parametrize(
    ("rgba", "sentence"),
    [
        (picture()[:20], "32 x 20 pixels: a view is square, 32 x 32"),
        (np.zeros((4100, 4100, 4), np.uint8), "another size up to 4096"),
        (np.zeros((SIZE, SIZE, 4), np.uint8), "shows nothing"),
    ],
)
def test_a_picture_that_cannot_be_a_view_is_refused(rgba: UInt8Array, sentence: str) -> None:
    with pytest.raises(InvalidImage, match=sentence):
        check_picture(rgba, SIZE)


def test_a_restored_view_is_what_the_engine_made() -> None:
    views = some_views()
    edited = apply_edits(views, [ViewEdit(EditKind.REPLACE, 3, picture()), *strike(4)])
    assert edited.struck == (4,)
    back = apply_edits(edited, [ViewEdit(EditKind.RESTORE, view, source=views) for view in (3, 4)])
    assert back.struck == ()
    for name in ("images", "alphas", "surface_depth", "surface_confidence"):
        np.testing.assert_array_equal(getattr(back, name), getattr(views, name))
    assert encode_views(back) == encode_views(views), "bit by bit"


def test_only_what_an_edit_changes_is_another_file() -> None:
    views = some_views()
    edits = [ViewEdit(EditKind.REPLACE, 3, picture()), *strike(4, 12)]
    before, after = encode_views(views), encode_views(apply_edits(views, edits))
    assert changed_files(edits) == {name for name in after if after[name] != before.get(name)}
    assert changed_files(edits) == {"03.png", "geometry.npz"}
    assert changed_files([]) == set()
    assert decode_views(after).struck == (4, 12)


def test_a_model_can_always_be_fitted_and_scored() -> None:
    check_struck([i for i in range(16) if i not in (0, 4, 8, 12, 5)])
    with pytest.raises(InvalidOption, match=r"3 of at least 4.*restore or replace one"):
        check_struck([i for i in range(16) if i not in (0, 4, 8, 5)])
    with pytest.raises(InvalidOption, match=r"\[5, 11\] are what scores come from"):
        check_struck([5, 11])
    with pytest.raises(InvalidOption):
        apply_edits(some_views(), strike(5, 11))


class Watching(FakeModels):
    """Keeps the views whose depth it was asked for."""

    asked: ViewSet

    async def estimate_depth(self, views: ViewSet, report=ignore_progress) -> DepthMaps:  # type: ignore[no-untyped-def]
        self.asked = views
        return await super().estimate_depth(views, report)


async def test_nobody_uses_a_view_that_was_struck_out() -> None:
    models = Watching(qualities=[0.5, 0.5, 0.6])
    views = replace(apply_edits(some_views(), strike(2, 11)), photos=None)
    journal = MemoryJournal(views=views)
    options = GenerateOptions(seed=1, from_stage="depth", version=0)
    result = await generate(some_cutout(), options, models.ports(), journal)
    assert len(models.asked) == 14
    assert not result.depths.confidence[[2, 11]].any()
    assert result.depths.confidence[3].any()
    assert any("struck out, and without depth: 2, 11" in note for note in result.notes)
    (fit,) = models.fits
    assert isinstance(fit, FitRequest)
    assert fit.held_out == (2, 5, 11)
    assert held_out_references(views, result.depths).views == (5,)
    assert [score.view for score in result.scores.views] == [5]

    await refine(RefineOptions(seed=1, num_iterations=1), models.ports(), journal)
    (request,) = models.refinements
    assert len(request.originals) == 13
    outcome = journal.iterations[1]
    assert 2 not in outcome.view_weights
    assert 2 not in outcome.enhanced_views
    only = RefineOptions(seed=1, num_iterations=1, views_to_refine=(2,))
    journal.iterations.clear()
    with pytest.raises(InvalidOption, match="only views that were struck out"):
        await refine(only, models.ports(), journal)
