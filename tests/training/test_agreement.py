"""The network is asked by the product as it learned to be, and its answers are read as taught."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from pipeline.engines.views.prior.guess import Guess
from pipeline.engines.views.prior.prior_network import MAP_SIZE, Answer
from pipeline.engines.views.prior.prior_views import two_sided_model
from pipeline.engines.views.prior.trained_prior import _guess, network_inputs
from pipeline.types import Cutout, UInt8Array
from tests.training.test_scene import SIMPLE, simple
from training.prior.scene import Sample, make_scene
from training.prior.scene import take as sample_of


def framed(rgba: UInt8Array, size: int, interpolation: int) -> UInt8Array:
    """The middle 112 of 128 px as a whole cut-out, uint8 [size, size, 4]."""
    whole = np.pad(rgba, ((8, 8), (8, 8), (0, 0)))
    return np.asarray(cv2.resize(whole, (size, size), interpolation=interpolation), np.uint8)


@pytest.mark.parametrize("seed", range(3))
def test_the_network_sees_a_cut_out_as_it_saw_its_samples(seed: int) -> None:
    sample = simple(seed)
    picture, inflated = network_inputs(framed(sample.rgba, 512, cv2.INTER_NEAREST))
    seen, learned = picture.numpy().transpose(1, 2, 0), sample.rgba / 255
    np.testing.assert_allclose(seen[..., 3], learned[..., 3], atol=1e-5)
    # Colours count as far as they are opaque (`PriorNetwork._inputs`).
    opaque = learned[..., 3:]
    np.testing.assert_allclose(seen[..., :3] * opaque, learned[..., :3] * opaque, atol=1e-5)
    np.testing.assert_allclose(inflated[0], sample.inflated, atol=2e-3)


def perfect_guess(sample: Sample) -> Guess:
    """What `TrainedPrior` makes of an answer without any error."""

    def both(plane: np.ndarray) -> torch.Tensor:
        map_ = torch.from_numpy(plane.astype(np.float32))[None, None]
        return torch.cat([map_, map_.flip(3)])

    nothing = torch.zeros(2, 1, MAP_SIZE, MAP_SIZE)
    answer = Answer(
        front=both(sample.front),
        back=both(sample.back),
        log_errors=nothing.repeat(1, 2, 1, 1),
        colors=nothing[:, None].repeat(1, 1, 3, 1, 1),
        copies=nothing[:, None],
        scores=torch.zeros(2, 1),
        camera=torch.tensor([[sample.elevation_deg / 30, 0, np.log(sample.focal), 0]] * 2),
    )
    return _guess(answer, sample.elevation_deg, 0.0)


@pytest.mark.parametrize("seed", range(4))
def test_a_perfect_answer_becomes_the_object_again(seed: int) -> None:
    scene = make_scene(seed, SIMPLE)
    sample = sample_of(scene)
    hit = cv2.resize(sample.hit, (112, 112), interpolation=cv2.INTER_LINEAR)
    clean = np.dstack([sample.rgba[..., :3], hit])
    cutout = Cutout(framed(clean, 512, cv2.INTER_LINEAR), "given")
    model = two_sided_model(cutout, perfect_guess(sample))

    def in_frame_widths(seen: np.ndarray) -> np.ndarray:
        """Points in the camera's axes by the width of the frame at their middle."""
        return seen * sample.focal / (0.5 * (seen[:, 2].min() + seen[:, 2].max()))

    viewmat = model.camera.viewmats[0]
    made = in_frame_widths(model.mesh.vertices @ viewmat[:3, :3].T + viewmat[:3, 3])
    view, faces = scene.viewpoint, scene.mesh.faces
    corners = in_frame_widths((scene.mesh.vertices - view.eye) @ view.rotation.T)[faces]
    shares = np.random.default_rng(0).dirichlet((1, 1, 1), (100, len(faces)))
    true = np.einsum("nfk,fkd->nfd", shares, corners).reshape(-1, 3)
    assert np.median(cKDTree(true).query(made[::20])[0]) < 0.015
    assert np.median(cKDTree(made).query(true[::200])[0]) < 0.015
    # It stands upright before its camera, but for the roll that nobody estimates.
    assert viewmat[:3, 2] @ view.rotation[:, 2] > np.cos(np.deg2rad(abs(view.roll_deg) + 0.1))
