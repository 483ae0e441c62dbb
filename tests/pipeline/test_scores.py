"""Scores: against scikit-image, within their range, and strictly monotone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pipeline.scores import compare, overall_quality, psnr
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


def test_psnr_is_that_of_scikit_image() -> None:
    for image, reference in zip(*pair(), strict=True):
        wanted = peak_signal_noise_ratio(reference, image, data_range=1.0)
        assert psnr(image, reference) == pytest.approx(wanted, abs=1e-4)


def test_scores_are_means_over_the_images() -> None:
    images, references = pair()
    scores = compare(images, references)
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
    assert scores.overall_quality == overall_quality(scores.psnr, scores.ssim)
    assert scores.lpips is None
    assert scores.extra == {f"psnr_{i}": value for i, value in enumerate(singly)}


def test_ssim_is_within_its_range_and_falls_with_noise() -> None:
    values = [compare(*pair(noise=noise)).ssim for noise in (0.0, 0.02, 0.1, 0.5)]
    assert all(-1 <= value <= 1 + 1e-6 for value in values)
    assert values == sorted(values, reverse=True)
    _, references = pair()
    assert -1 <= compare(1 - references, references).ssim < 0  # anticorrelated


def test_identical_images_reach_the_limits() -> None:
    _, references = pair()
    scores = compare(references, references)
    assert scores.psnr == psnr(references[0], references[0]) == 100
    assert scores.ssim == pytest.approx(1, abs=1e-6)
    assert scores.overall_quality == pytest.approx(1, abs=1e-6)


def test_black_against_white_is_the_worst() -> None:
    black, white = np.zeros((1, 16, 16, 3), np.float32), np.ones((1, 16, 16, 3), np.float32)
    scores = compare(black, white)
    assert scores.psnr == 0
    assert 0 <= scores.overall_quality < 0.01


def test_overall_quality_is_strictly_monotone_and_within_0_and_1() -> None:
    decibels, similarities = np.linspace(0, 100, 101), np.linspace(0, 1, 101)
    values = np.array([[overall_quality(d, s) for s in similarities] for d in decibels])
    assert values.min() >= 0 and values.max() <= 1
    assert (np.diff(values, axis=0) > 0).all() and (np.diff(values, axis=1) > 0).all()
    assert overall_quality(25, -0.5) == overall_quality(25, 0)


def test_a_percent_of_quality_is_about_a_third_of_a_decibel() -> None:
    at_25 = overall_quality(25, 0.9)
    assert 0.2 < math.log(1.01) / math.log(overall_quality(26, 0.9) / at_25) < 0.5


def test_images_that_cannot_be_compared_are_refused() -> None:
    images, references = pair()
    with pytest.raises(ValueError, match="shapes must match"):
        compare(images[:2], references)
    with pytest.raises(ValueError, match="hold images"):
        compare(images[:0], references[:0])
