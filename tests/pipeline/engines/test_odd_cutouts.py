"""Every engine that makes views without a GPU, on photos as nobody means them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest
import torch

from pipeline.control import Control
from pipeline.device import Device, Precision
from pipeline.engines.views.prior.prior_network import PriorNetwork
from pipeline.engines.views.prior.prior_views import two_sided_model
from pipeline.engines.views.prior.trained_prior import TrainedPrior
from pipeline.engines.views.relief.relief_views import relief_views
from pipeline.engines.views.surface_views import render_views
from pipeline.errors import InvalidImage, InvalidOption
from pipeline.flow.intake import prepare_upload, stored_cutout
from pipeline.geometry.cameras import rig_cameras
from pipeline.imaging.decoding import encode_png
from pipeline.imaging.framing import GIVEN_ALPHA, frame_object
from pipeline.types import Cutout, ViewSet
from tests.fakes import FakeModels
from tests.oracles.odd_cutouts import KINDS, OddPhoto, odd_photo

#: One of every kind; the long run takes all.
FEW, ALL = len(KINDS), 500
#: Sides of the cut-out and of the views, small because what matters is the outline.
SMALL, SIDE = 96, 64

MakeViews = Callable[[Cutout], ViewSet]


def relief(cutout: Cutout) -> ViewSet:
    return relief_views(cutout, 20.0, Control(), size=SIDE)


def prior(cutout: Cutout) -> ViewSet:
    """Of a network that learned nothing and says something wild about everything."""
    guess = wild_network().guess(cutout.rgba, None)
    model = two_sided_model(cutout, guess)
    assert np.isfinite(model.mesh.vertices).all()
    assert np.isfinite(model.mesh.colors).all()
    assert np.isfinite(model.camera.viewmats).all()
    return render_views(
        model.mesh, rig_cameras(SIDE), "prior", Control(), confidence=model.confidence
    )


@lru_cache(maxsize=1)
def wild_network() -> TrainedPrior:
    torch.manual_seed(0)
    network = PriorNetwork()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    cpu = Device(torch.device("cpu"), Precision.FP32)
    return TrainedPrior(network.requires_grad_(False).eval(), cpu)


def let_in(photo: OddPhoto) -> Cutout | None:
    """What the product makes views of, or None where the intake refuses the photo."""
    png = encode_png(np.dstack([photo.rgb, photo.alpha]))
    try:
        upload = asyncio.run(prepare_upload(png, FakeModels(), remove_background=True))
    except InvalidImage:
        return None
    return stored_cutout(upload.processed_png, upload.engine)


def small(photo: OddPhoto) -> Cutout | None:
    try:
        return frame_object(photo.rgb, photo.alpha, engine=GIVEN_ALPHA, size=SMALL)
    except InvalidImage as refused:
        assert str(refused)
        return None


def fault(make_views: MakeViews, cutout: Cutout, name: str) -> str | None:
    """What must not happen to a photo that the intake lets in, and may to others.

    Anything worse fails at once: another exception, or a number that is none.
    """
    try:
        views = make_views(cutout)
    except (InvalidImage, InvalidOption) as refused:
        assert str(refused)
        return f"{name} was refused: {refused}"
    assert views.surface_depth is not None
    assert np.isfinite(views.surface_depth).all(), name
    assert (views.surface_depth >= 0).all(), name
    empty = np.flatnonzero(~(views.alphas > 0).any((1, 2)))
    return f"{name}: views {empty} are empty" if len(empty) else None


def try_all(make_views: MakeViews, seeds: range) -> None:
    for seed in seeds:
        photo = odd_photo(seed)
        cutout = small(photo)
        if cutout is not None and fault(make_views, cutout, photo.name) is None:
            continue
        # What is thin may be lost in a small cut-out; the product makes large ones.
        taken = let_in(photo)
        if taken is not None:
            found = fault(make_views, taken, photo.name)
            assert found is None, found


ENGINES = pytest.mark.parametrize("make_views", [relief, prior])


@ENGINES
def test_anything_becomes_a_surface_or_a_sentence(make_views: MakeViews) -> None:
    try_all(make_views, range(FEW))


@ENGINES
@pytest.mark.faults
def test_five_hundred_things_become_surfaces_or_sentences(make_views: MakeViews) -> None:
    try_all(make_views, range(FEW, ALL))
