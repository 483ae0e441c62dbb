"""Which splats go, which come, and that nobody exceeds the cap."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.splats.training import DefaultStrategy
from pipeline.splats.training.densify import GradientTracker, densify, prune
from pipeline.splats.training.fit_plan import StepResult
from pipeline.splats.training.optimiser import ONE_VIEW, Optimiser
from pipeline.types import SplatModel

COUNT = 20


def optimiser(count: int = COUNT) -> Optimiser:
    """Splats 1.0 apart on a line, sigma (.02, .01, .005), opacity .5, each turned by 90 degrees
    about z."""
    means = np.zeros((count, 3), np.float32)
    means[:, 0] = np.arange(count)
    half = np.sqrt(0.5)
    model = SplatModel(
        means=means,
        quats=np.tile(np.array([half, 0, 0, half], np.float32), (count, 1)),
        log_scales=np.tile(np.log(np.array([0.02, 0.01, 0.005], np.float32)), (count, 1)),
        logit_opacities=np.zeros(count, np.float32),
        sh=np.zeros((count, 1, 3), np.float32),
    )
    return Optimiser(model, ONE_VIEW)


def tracker(gradients: list[float], radius: int = 10) -> GradientTracker:
    """One view that saw every splat with a positive gradient."""
    g = torch.tensor(gradients)
    tracked = GradientTracker(len(gradients))
    radii = torch.where(g[:, None] > 0, radius, 0).to(torch.int32).expand(-1, 2)
    tracked.add(StepResult(0.0, torch.stack([g, torch.zeros_like(g)], -1)[None], radii[None]))
    return tracked


def grow(o: Optimiser, t: GradientTracker, cap: int, share: float = 0.3) -> int:
    random = torch.Generator().manual_seed(0)
    return densify(o, t, DefaultStrategy(share=share), cap=cap, random=random)


def test_mean_gradient_counts_only_views_that_saw_the_splat() -> None:
    tracked = GradientTracker(2)
    absgrad = torch.tensor([[[3.0, 4.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]])
    radii = torch.tensor([[[4, 2], [6, 6]], [[2, 8], [0, 0]]], dtype=torch.int32)
    tracked.add(StepResult(0.0, absgrad, radii))
    assert tracked.gradient.tolist() == [3.0, 1.0]
    assert tracked.radius.tolist() == [6.0, 6.0]


def test_splats_with_the_largest_gradients_are_split_first() -> None:
    o = optimiser()
    added = grow(o, tracker([float(i) for i in range(COUNT)]), cap=COUNT + 3)
    assert added == 3 and len(o) == COUNT + 3
    means = o.params["means"].detach()
    # 17, 18 and 19 are gone; two halves of each lie beside their places.
    assert means[:17, 0].tolist() == [float(i) for i in range(17)]
    halves = means[17:]
    assert sorted(halves[:, 0].round().int().tolist()) == [17, 17, 18, 18, 19, 19]
    # The long axis points along y after the turn by 90 degrees, the halves lie mostly along it.
    offsets = halves - torch.stack([halves[:, 0].round(), *[torch.zeros(6)] * 2], -1)
    assert 0 < float(offsets.norm(dim=1).max()) < 0.08
    assert float(offsets[:, 1].abs().mean()) > float(offsets[:, 2].abs().mean())
    scales = o.params["log_scales"].detach()[17:].exp()
    torch.testing.assert_close(scales[:, 0], torch.full((6,), 0.02 / 1.6))


def test_halves_lie_opposite_each_other() -> None:
    o = optimiser(1)
    grow(o, tracker([1.0]), cap=2, share=1.0)
    torch.testing.assert_close(o.params["means"].detach().sum(0), torch.zeros(3))


def test_small_splats_are_cloned_and_share_their_opacity() -> None:
    o = optimiser(4)
    added = grow(o, tracker([1.0, 0, 0, 0], radius=2), cap=5, share=1.0)
    assert added == 1 and len(o) == 5
    torch.testing.assert_close(o.params["means"].detach()[4], o.params["means"].detach()[0])
    opacity = o.params["logit_opacities"].detach().sigmoid()
    # Both together hide what one did: 1 - (1 - o)^2 = .5.
    torch.testing.assert_close(1 - (1 - opacity[0]) * (1 - opacity[4]), torch.tensor(0.5))


def test_cap_share_and_unseen_splats_limit_growth() -> None:
    gradients = [1.0] * COUNT
    o = optimiser()
    assert grow(o, tracker(gradients), cap=COUNT) == 0 and len(o) == COUNT
    o = optimiser()
    assert grow(o, tracker(gradients), cap=1000) == int(0.3 * COUNT)
    o = optimiser()
    assert grow(o, tracker([0.0] * COUNT), cap=1000) == 0
    o = optimiser()
    assert grow(o, tracker(gradients), cap=COUNT - 5) == 0  # never grows when over the cap


def test_faint_and_oversized_splats_are_removed_and_the_rest_is_kept() -> None:
    o = optimiser(5)
    with torch.no_grad():
        o.params["logit_opacities"][1] = -6.0
        o.params["log_scales"][3, 2] = 0.0
    assert prune(o) == 2
    assert o.params["means"][:, 0].tolist() == [0.0, 2.0, 4.0]
    assert prune(o) == 0


def test_pruning_never_removes_everything() -> None:
    o = optimiser(3)
    with torch.no_grad():
        o.params["logit_opacities"].fill_(-9.0)
    assert prune(o) == 0 and len(o) == 3


def test_kept_splats_keep_their_moments_and_new_ones_start_without() -> None:
    o = optimiser(4)
    for first, second in o._moments.values():
        assert not first.any() and not second.any()
        first.copy_(torch.arange(4.0).view(-1, *[1] * (first.ndim - 1)).expand_as(first))
    o.steps = 7
    grow(o, tracker([0, 1.0, 0, 0]), cap=5, share=1.0)
    assert o.steps == 7
    assert o._moments["means"][0][:, 0].tolist() == [0.0, 2.0, 3.0, 0.0, 0.0]
    assert all(len(a) == len(b) == 5 for a, b in o._moments.values())
