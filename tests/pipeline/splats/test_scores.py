"""Scores: against scikit-image and torchmetrics, within their range, and strictly monotone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import (
    peak_signal_noise_ratio as torchmetrics_psnr,
)
from torchmetrics.functional.image import structural_similarity_index_measure

from pipeline.splats.scores import (
    AGREEMENT_WEIGHTS,
    psnr,
    silhouette_iou,
    summarise,
    view_agreement,
    view_scores,
)
from pipeline.types import FloatArray


def pair(views: int = 3, noise: float = 0.1) -> tuple[FloatArray, FloatArray]:
    """Smooth images float32 [V, 40, 56, 3] and copies with noise that grows from view to view."""
    rng = np.random.default_rng(0)
    ys, xs = np.mgrid[0:40, 0:56]
    waves = np.stack([np.sin(xs / 5), np.cos(ys / 7), np.sin((xs + ys) / 9)], -1)
    references = np.repeat((0.5 + 0.4 * waves)[None], views, 0).astype(np.float32)
    strength = noise * np.arange(1, views + 1)[:, None, None, None]
    images = np.clip(references + strength * rng.standard_normal(references.shape), 0, 1)
    return images.astype(np.float32), references


def tensor(image: FloatArray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))


class MeanDifference:
    """Stands for LPIPS: the mean absolute difference of each pair."""

    def distance(self, images: FloatArray, references: FloatArray) -> npt.NDArray[np.float64]:
        return np.abs(images - references).mean(axis=(1, 2, 3), dtype=np.float64)


# -- images --------------------------------------------------------------------------------------


def test_psnr_is_that_of_scikit_image_and_torchmetrics() -> None:
    for image, reference in zip(*pair(), strict=True):
        wanted = peak_signal_noise_ratio(reference, image, data_range=1.0)
        assert psnr(image, reference) == pytest.approx(wanted, abs=1e-4)
        other = torchmetrics_psnr(tensor(image), tensor(reference), data_range=1.0)
        assert psnr(image, reference) == pytest.approx(float(other), abs=1e-3)


def test_scores_are_means_over_the_images() -> None:
    images, references = pair()
    scores = summarise(view_scores(images, references))
    singly = [psnr(a, b) for a, b in zip(images, references, strict=True)]
    similar = [
        structural_similarity(
            a,
            b,
            data_range=1.0,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(images, references, strict=True)
    ]
    assert scores.psnr == pytest.approx(np.mean(singly))
    assert scores.ssim == pytest.approx(np.mean(similar), abs=1e-5)
    assert scores.view_agreement == view_agreement(scores.psnr, scores.ssim)
    assert scores.lpips is None
    assert [view.psnr for view in scores.views] == pytest.approx(singly)
    assert [view.ssim for view in scores.views] == pytest.approx(similar, abs=1e-5)


def test_ssim_of_each_view_is_that_of_torchmetrics_inside_of_its_padding() -> None:
    images, references = pair()
    for view, a, b in zip(view_scores(images, references), images, references, strict=True):
        _, full = structural_similarity_index_measure(
            tensor(a), tensor(b), data_range=1.0, sigma=1.5, return_full_image=True
        )
        assert view.ssim == pytest.approx(float(full[..., 5:-5, 5:-5].mean()), abs=1e-5)


def test_views_carry_their_numbers_and_all_that_was_measured() -> None:
    images, references = pair(2)
    inside = np.zeros((2, 40, 56), np.float32)
    inside[:, :20], inside[1, :30] = 1, 1
    alphas = np.zeros((2, 40, 56), np.uint8)
    alphas[:, :20] = 255
    views = view_scores(
        images,
        references,
        views=(5, 11),
        lpips=MeanDifference(),
        rendered_alphas=inside,
        alphas=alphas,
    )
    assert [view.view for view in views] == [5, 11]
    assert [view.silhouette_iou for view in views] == pytest.approx([1, 2 / 3])
    differences = np.abs(images - references).mean((1, 2, 3))
    assert [view.lpips for view in views] == pytest.approx(differences)
    scores = summarise(views, consistency=0.02, floaters=0.1, extra={"guard": 1.0})
    assert scores.lpips == pytest.approx(differences.mean())
    assert scores.silhouette_iou == pytest.approx(5 / 6)
    assert (scores.consistency, scores.floaters, scores.extra) == (0.02, 0.1, {"guard": 1.0})
    assert scores.view_agreement == view_agreement(
        scores.psnr, scores.ssim, scores.lpips, scores.silhouette_iou, 0.02, 0.1
    )


def test_what_was_not_measured_is_none() -> None:
    for view in view_scores(*pair()):
        assert view.lpips is None and view.silhouette_iou is None
    scores = summarise(view_scores(*pair()))
    assert scores.lpips is scores.silhouette_iou is scores.consistency is scores.floaters is None
    assert scores.extra == {} and [view.view for view in scores.views] == [0, 1, 2]


def test_ssim_is_within_its_range_and_falls_with_noise() -> None:
    values = [summarise(view_scores(*pair(noise=noise))).ssim for noise in (0.0, 0.02, 0.1, 0.5)]
    assert all(-1 <= value <= 1 + 1e-6 for value in values)
    assert values == sorted(values, reverse=True)
    _, references = pair()
    scores = summarise(view_scores(1 - references, references))
    assert -1 <= scores.ssim < 0  # anticorrelated


def test_identical_images_reach_the_limits() -> None:
    _, references = pair()
    scores = summarise(view_scores(references, references))
    assert scores.psnr == psnr(references[0], references[0]) == 100
    assert scores.ssim == pytest.approx(1, abs=1e-6)
    assert scores.view_agreement == pytest.approx(1, abs=1e-6)


def test_black_against_white_is_bad_and_its_negative_is_worse() -> None:
    black, white = np.zeros((1, 16, 16, 3), np.float32), np.ones((1, 16, 16, 3), np.float32)
    scores = summarise(view_scores(black, white))
    assert scores.psnr == 0
    assert 0 <= scores.view_agreement < 0.12
    assert 0 <= view_agreement(0, -1, 10, 0, 9, 1) < 0.005


def test_images_that_cannot_be_compared_are_refused() -> None:
    images, references = pair()
    with pytest.raises(ValueError, match="shapes must match"):
        view_scores(images[:2], references)
    with pytest.raises(ValueError, match="hold images"):
        view_scores(images[:0], references[:0])
    with pytest.raises(ValueError, match="3 images and 2 view numbers"):
        view_scores(images, references, views=(5, 11))


# -- outlines ------------------------------------------------------------------------------------


def disc(x: float, radius: float) -> npt.NDArray[np.bool_]:
    ys, xs = np.mgrid[0:400, 0:400] + 0.5
    return np.asarray(np.hypot(xs - x, ys - 200) <= radius)


def test_iou_of_discs_is_that_of_circles() -> None:
    r, d = 80.0, 60.0
    lens = 2 * r**2 * math.acos(d / (2 * r)) - d / 2 * math.sqrt(4 * r**2 - d**2)
    ours = np.stack([disc(170, r), disc(200, r), disc(200, 40), disc(90, r), disc(0, -1)])
    theirs = np.stack([disc(230, r), disc(200, r), disc(200, 80), disc(310, r), disc(0, -1)])
    wanted = [lens / (2 * math.pi * r**2 - lens), 1, 0.25, 0, 1]
    found = silhouette_iou(ours, theirs)
    assert found == pytest.approx(wanted, abs=2e-3)
    np.testing.assert_array_equal(found, silhouette_iou(theirs, ours))


# -- the one number ------------------------------------------------------------------------------

#: Worst and best value of each argument.
RANGES = {
    "psnr_db": (0.0, 60.0),
    "ssim_value": (-1.0, 1.0),
    "lpips": (2.0, 0.0),
    "silhouette_iou": (0.0, 1.0),
    "consistency": (0.5, 0.0),
    "floaters": (1.0, 0.0),
}
OPTIONAL = ("lpips", "silhouette_iou", "consistency", "floaters")


def at(name: str, share: float) -> float:
    """The value of an argument at 0 (worst) .. 1 (best)."""
    worst, best = RANGES[name]
    return worst + share * (best - worst)


@st.composite
def measurements(draw: st.DrawFn) -> dict[str, Any]:
    names = ["psnr_db", "ssim_value", *draw(st.sets(st.sampled_from(OPTIONAL)))]
    return {name: draw(st.floats(0, 1)) for name in names}


@given(measurements(), st.data())
def test_view_agreement_is_within_0_and_1_and_strictly_monotone(
    shares: dict[str, float], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(shares)))
    low = data.draw(st.floats(0, 0.999))
    high = data.draw(st.floats(low + 1e-3, 1))
    worse, better = (
        view_agreement(**{n: at(n, s) for n, s in (shares | {name: share}).items()})
        for share in (low, high)
    )
    assert 0 <= worse < better <= 1


@given(measurements())
def test_the_best_is_1_whatever_was_measured(shares: dict[str, float]) -> None:
    best = {name: at(name, 1) for name in shares} | {"psnr_db": 100.0}
    assert view_agreement(**best) == pytest.approx(1, abs=1e-6)


@given(measurements())
def test_terms_that_were_not_measured_share_their_weight_out(shares: dict[str, float]) -> None:
    """A missing term counts as much as one that equals the mean of the others."""
    missing = [name for name in OPTIONAL if name not in shares]
    values = {name: at(name, share) for name, share in shares.items()}
    without = view_agreement(**values)
    if "silhouette_iou" in missing:
        values["silhouette_iou"] = without
    elif "floaters" in missing:
        values["floaters"] = 0.02 * (1 / without - 1)
    assert view_agreement(**values) == pytest.approx(without, abs=1e-9)


def test_the_formula_is_the_documented_one() -> None:
    terms = {
        "fidelity": 1 / (1 + math.exp((25 - 28) / 5)),
        "ssim": (1.9 / 2) ** 2,
        "lpips": math.exp(-0.12 / 0.3),
        "silhouette_iou": 0.95,
        "consistency": math.exp(-0.02),
        "floaters": 1 / (1 + 0.01 / 0.02),
    }
    assert sum(AGREEMENT_WEIGHTS.values()) == pytest.approx(1)
    assert AGREEMENT_WEIGHTS["fidelity"] + AGREEMENT_WEIGHTS["ssim"] > 0.6
    wanted = sum(AGREEMENT_WEIGHTS[name] * term for name, term in terms.items())
    found = view_agreement(28, 0.9, 0.12, 0.95, 0.02, 0.01)
    assert found == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(
    "others",
    [(), (0.1,), (0.1, 0.97, 0.02, 0.0), (None, 0.97, 0.02, 0.0)],
    ids=["psnr and ssim", "lpips", "all", "all but lpips"],
)
def test_a_percent_of_quality_is_about_a_third_of_a_decibel(
    others: tuple[float | None, ...],
) -> None:
    at_25 = view_agreement(25, 0.9, *others)
    decibels = math.log(1.01) / math.log(view_agreement(26, 0.9, *others) / at_25)
    assert 0.2 < decibels < 0.4
