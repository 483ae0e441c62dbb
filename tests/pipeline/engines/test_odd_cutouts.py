"""Every engine that makes views without a GPU, on photos as nobody means them."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from pipeline.control import Control
from pipeline.engines.views.relief.relief_views import relief_views
from pipeline.errors import InvalidImage, InvalidOption
from pipeline.flow.intake import prepare_upload
from pipeline.imaging.decoding import encode_png
from pipeline.imaging.framing import GIVEN_ALPHA, frame_object
from pipeline.types import Cutout, ViewSet
from tests.fakes import FakeModels
from tests.oracles.odd_cutouts import KINDS, OddPhoto, odd_photo

#: Enough for all kinds twice; the long run takes all.
FEW, ALL = 2 * len(KINDS), 500
#: Sides of the cut-out and of the views. They are small because what matters is the outline, and
#: an object that is there in a small view is there in a large one.
CUTOUT, SIDE = 96, 64


def cutout_of(photo: OddPhoto) -> Cutout | None:
    """What an engine is given, or None where the framing says that there is no object."""
    try:
        return frame_object(photo.rgb, photo.alpha, engine=GIVEN_ALPHA, size=CUTOUT)
    except InvalidImage as refused:
        assert str(refused)
        return None


def let_in(photo: OddPhoto) -> bool:
    """Whether the intake takes the photo for views to be made of."""
    png = encode_png(np.dstack([photo.rgb, photo.alpha]))
    try:
        asyncio.run(prepare_upload(png, FakeModels(), remove_background=True))
    except InvalidImage:
        return False
    return True


def check(views: ViewSet, photo: OddPhoto) -> None:
    """All there is to ask of the views of anything: they are pictures, and show something."""
    for part in (views, views.auxiliary, views.photo):
        if part is None:
            continue
        assert np.isfinite(part.cameras.viewmats).all(), photo.name
        if part.surface_depth is not None:
            assert np.isfinite(part.surface_depth).all(), photo.name
            assert (part.surface_depth >= 0).all(), photo.name
    empty = np.flatnonzero(~(views.alphas > 0).any((1, 2)))
    if len(empty):
        # What the intake refuses may vanish when it turns, as hair does.
        assert not let_in(photo), f"{photo.name}: views {empty} are empty"


def relief_of_all(seeds: range) -> None:
    for seed in seeds:
        photo = odd_photo(seed)
        given = cutout_of(photo)
        if given is None:
            continue
        try:
            views = relief_views(given, 20.0, Control(), size=SIDE)
        except (InvalidImage, InvalidOption) as refused:
            assert str(refused)
            assert not let_in(photo), f"{photo.name} was let in and then refused: {refused}"
            continue
        check(views, photo)


def test_relief_makes_a_surface_or_a_sentence_of_anything() -> None:
    relief_of_all(range(FEW))


@pytest.mark.faults
def test_relief_makes_a_surface_or_a_sentence_of_five_hundred() -> None:
    relief_of_all(range(FEW, ALL))
