"""Photos as targets: windows are parts of them, trust is how often, detail reaches the model."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
import pytest
import torch

from pipeline.control import Control
from pipeline.engines.splats.cpu_splats import CpuSplats
from pipeline.errors import InvalidInput
from pipeline.geometry.cameras import photo_camera, rig_cameras
from pipeline.imaging.psnr import psnr
from pipeline.native import default_threads, set_threads
from pipeline.requests import FitRequest, RefineRequest
from pipeline.splats.render import render_model
from pipeline.splats.training import (
    DefaultStrategy,
    FitPlan,
    PhotometricObjective,
    PhotoTargets,
    PolishSettings,
    Targets,
    fit,
    improve_model,
    splats_from_views,
)
from pipeline.splats.training.fit_plan import Batch, Look
from pipeline.splats.training.optimiser import ONE_VIEW, Optimiser
from pipeline.splats.training.photo_targets import LOOKS, MOST_LOOKS, Window
from pipeline.types import DepthMaps, FloatArray, PhotoRegistration, SplatModel, ViewSet
from tests.oracles.bare_rounds import BareRound
from tests.oracles.objects import photograph, printed_box

SIZE = 48
WHOLE = BareRound(exposures=True, weights=True, geometry=True)
PARAMETERS = ("means", "quats", "log_scales", "logit_opacities", "sh")


@lru_cache(maxsize=1)
def blurred() -> tuple[ViewSet, DepthMaps]:
    """Views of a print that lack its detail."""
    views, depths = photograph(printed_box(), rig_cameras(SIZE))
    images = np.stack([cv2.GaussianBlur(image, (0, 0), 3) for image in views.images])
    return replace(views, images=images), depths


@lru_cache(maxsize=4)
def photo(size: int = 96) -> ViewSet:
    return replace(photograph(printed_box(), photo_camera(20.0, size))[0], surface_depth=None)


def trusted(*trust: float) -> FloatArray:
    return np.array(trust, np.float32)


def photo_targets(*trust: float, size: int = 96) -> PhotoTargets:
    one = photo(size)
    many = replace(
        one,
        images=np.repeat(one.images, len(trust), 0),
        alphas=np.repeat(one.alphas, len(trust), 0),
        cameras=one.cameras.select([0] * len(trust)),
    )
    found = PhotoTargets.of(many, trusted(*trust), (SIZE, SIZE))
    assert found is not None
    return found


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@lru_cache(maxsize=1)
def first() -> SplatModel:
    return splats_from_views(*blurred(), count=1500, seed=0)


def fitted(photos: PhotoTargets | None, iterations: int = 100) -> SplatModel:
    objective = PhotometricObjective(Targets.of_views(blurred()[0]), photos=photos)
    plan = FitPlan(num_gaussians=3000, iterations=iterations)
    return fit(first(), objective, plan, DefaultStrategy(every=20), Control()).model


def front(model: SplatModel, size: int = 96) -> float:
    """dB of the model from the photo's camera."""
    seen = photo(size)
    return psnr(
        render_model(model, seen.cameras).images[0], (seen.images[0] / 255).astype(np.float32)
    )


def assert_same(one: SplatModel, other: SplatModel) -> None:
    for name in PARAMETERS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_window_is_that_part_of_the_picture_and_of_the_render() -> None:
    photos, (x, y) = photo_targets(1.0), (17, 31)
    splats, grey = Optimiser(first(), ONE_VIEW), torch.full((1, 3), 0.4)
    part = photos.look(Window(0, (x, y)))
    whole, alpha, _ = splats.draw(photos.targets, grey)
    window, window_alpha, _ = splats.draw(part, grey)
    cut = (slice(None), slice(y, y + SIZE), slice(x, x + SIZE))
    torch.testing.assert_close(window, whole[cut], atol=2e-4, rtol=0)
    torch.testing.assert_close(window_alpha, alpha[cut], atol=2e-4, rtol=0)
    torch.testing.assert_close(part.on(grey), photos.targets.on(grey)[cut])


@pytest.mark.parametrize("size", [SIZE, 96, 200])
def test_each_round_of_windows_covers_the_object_and_stays_in_the_picture(size: int) -> None:
    photos = photo_targets(1.0, size=size)
    windows = photos.windows(0, seeded())
    inside = photos.targets.alphas[0].numpy() > 0
    rounds = 0
    for _ in range(3):
        seen, count = np.zeros((size, size), int), 0
        while count < 40 and not (seen[inside] > 0).mean() > 0.85:
            x, y = next(windows).corner
            assert 0 <= x <= size - SIZE and 0 <= y <= size - SIZE
            seen[y : y + SIZE, x : x + SIZE] += 1
            count += 1
        rounds = max(rounds, count)
    assert rounds <= (1 if size == SIZE else 25)


@pytest.mark.parametrize("trust", [(1.0,), (0.4,), (1.0, 0.5), (1.0,) * 6])
def test_photos_are_looked_at_as_often_as_they_are_trusted(trust: tuple[float, ...]) -> None:
    objective = PhotometricObjective(Targets.of_views(blurred()[0]), photos=photo_targets(*trust))
    batches = objective.batches(1, seeded())
    looks = [look for _ in range(1000) for look in next(batches).views]
    counted = Counter(look.photo for look in looks if isinstance(look, Window))
    share = min(LOOKS * sum(trust), MOST_LOOKS) / sum(trust)
    for i, each in enumerate(trust):
        assert abs(counted[i] - 1000 * share * each) <= 2
    # Evenly: no photo waits much longer than its turn, and views are seen alike.
    views = Counter(look for look in looks if isinstance(look, int))
    assert max(views.values()) - min(views.values()) <= 1
    places = [i for i, look in enumerate(looks) if look == Window(0, getattr(look, "corner", ()))]
    assert np.diff(places).max() <= 2 / (share * trust[0]) + 1


def test_all_looks_at_once_weigh_what_many_steps_do() -> None:
    photos = photo_targets(1.0, 0.5, size=SIZE)
    objective = PhotometricObjective(Targets.of_views(blurred()[0]), photos=photos)
    splats, batch = Optimiser(first(), ONE_VIEW), next(objective.batches(None, seeded()))
    assert len(batch) == 18 and batch.weights is not None
    loss, _ = objective.loss(splats, batch)
    alone = [
        objective.loss(splats, Batch([look], ground[None]))[0].item()
        for look, ground in zip(batch.views, batch.backgrounds, strict=True)
    ]
    shares = [0.7 / 16] * 16 + [0.2, 0.1]
    assert loss.item() == pytest.approx(float(np.dot(shares, alone)), rel=1e-4)
    # In parts, as a device that is too small takes them, it is the same.
    parts = sum(objective.loss(splats, part)[0].item() * len(part) / 18 for part in batch.parts(5))
    assert parts == pytest.approx(loss.item(), rel=1e-4)


def test_a_photo_without_trust_changes_nothing() -> None:
    assert PhotoTargets.of(photo(), trusted(0.0), (SIZE, SIZE)) is None
    assert PhotoTargets.of(None, trusted(), (SIZE, SIZE)) is None
    views, depths = blurred()
    request = FitRequest(views, depths, (5, 11), 600, 12, 0)
    note = "The photo does not fit."
    refused = replace(views, photos=photo(), registrations=())
    plain = CpuSplats().reconstruct(request, Control())
    unsure = PhotoRegistration(0, True, 0.0, 0.0, 20.0, 0.0, 1.1, 0.5, 0.2, note=note)
    distrusted = replace(refused, registrations=(unsure,))
    assert_same(CpuSplats().reconstruct(replace(request, views=distrusted), Control()), plain)
    sure = CpuSplats().reconstruct(replace(request, views=refused), Control())
    assert not np.array_equal(sure.sh, plain.sh)


def test_the_detail_of_a_photo_reaches_the_model() -> None:
    without, with_photo = fitted(None, 40), fitted(photo_targets(1.0), 160)
    assert front(with_photo) > front(without) + 2  # measured: 20.8 and 17.6


def test_threads_do_not_change_a_fit_to_a_photo() -> None:
    try:
        set_threads(1)
        one = fitted(photo_targets(1.0), 12)
        set_threads(2)
        assert_same(fitted(photo_targets(1.0), 12), one)
    finally:
        set_threads(default_threads())


def looks_of_a_round(request: RefineRequest) -> list[Look]:
    """200 of them."""
    batches = WHOLE.objective(request).batches(1, seeded())
    return [look for _ in range(200) for look in next(batches).views]


def test_a_round_shows_the_photo_at_its_own_resolution() -> None:
    views, depths = blurred()
    with_photo = replace(views, photos=photo())
    start = fitted(photo_targets(1.0), 40)
    request = RefineRequest(start, with_photo, views.images[:0], (), 0.01, 60, 0, depths)
    often = PolishSettings(photo_share=0.9)
    better = improve_model(request, Control(), often).model
    assert front(better) > front(start) + 2
    looks = looks_of_a_round(request)
    assert sum(isinstance(look, Window) for look in looks) in range(15, 45)  # .15 of 200
    # Where it is as large as the views it is one of them; where nobody believes it, it is nothing.
    small = replace(request, originals=replace(views, photos=photo(SIZE)))
    assert 16 in looks_of_a_round(small)
    unsure = PhotoRegistration(0, True, 0.0, 0.0, 20.0, 0.0, 1.1, 0.5, 0.2)
    distrusted = replace(with_photo, registrations=(unsure,))
    rig = looks_of_a_round(replace(request, originals=distrusted))
    assert set(rig) <= set(range(16))


def test_photos_smaller_than_the_views_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"at least as large as the views, 48 x 48 .* got 32"):
        PhotoTargets.of(photo(32), trusted(1.0), (SIZE, SIZE))
