"""The losses against scikit-image, torchmetrics and autograd."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from pipeline import native
from pipeline.splats.training.losses import SSIM_WEIGHT, photometric_loss, silhouette_loss, ssim


def pair(height: int = 47, width: int = 61, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Smooth images [B, H, W, 3] that differ by noise."""
    g = torch.Generator().manual_seed(0)
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = torch.stack([torch.sin(xs / 5), torch.cos(ys / 7), torch.sin((xs + ys) / 9)], -1)
    a = (0.5 + 0.4 * waves).expand(batch, -1, -1, -1)
    return a.contiguous(), (a + 0.1 * torch.randn(a.shape, generator=g)).clamp(0, 1)


def test_ssim_is_that_of_scikit_image() -> None:
    a, b = pair()
    wanted = [
        structural_similarity(
            x.numpy(),
            y.numpy(),
            data_range=1.0,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for x, y in zip(a, b, strict=True)
    ]
    assert float(ssim(a, b)) == pytest.approx(np.mean(wanted), abs=1e-5)
    assert float(ssim(a.permute(0, 3, 1, 2), b.permute(0, 3, 1, 2))) == float(ssim(a, b))


def test_ssim_is_that_of_torchmetrics_inside_of_its_padding() -> None:
    a, b = (images.permute(0, 3, 1, 2) for images in pair())
    _, full = structural_similarity_index_measure(
        a, b, data_range=1.0, sigma=1.5, return_full_image=True
    )
    assert float(ssim(a, b)) == pytest.approx(float(full[..., 5:-5, 5:-5].mean()), abs=1e-5)


def test_photometric_loss_and_gradient_are_those_of_autograd() -> None:
    a, b = pair()
    fast, slow = a.clone().requires_grad_(), a.clone().double().requires_grad_()
    weights = torch.tensor([1.0, 3.0])
    losses = photometric_loss(fast, b)
    (losses * weights).sum().backward()
    wanted = []
    for i in range(2):
        x, y = slow[i : i + 1], b[i : i + 1].double()
        wanted.append((1 - SSIM_WEIGHT) * (x - y).abs().mean() + SSIM_WEIGHT * (1 - ssim(x, y)))
    (torch.stack(wanted) * weights).sum().backward()
    torch.testing.assert_close(losses, torch.stack(wanted).float(), rtol=1e-5, atol=1e-6)
    assert fast.grad is not None and slow.grad is not None
    assert float((fast.grad - slow.grad).norm() / slow.grad.norm()) < 1e-5


def test_photometric_loss_of_equal_images_is_zero() -> None:
    a, _ = pair()
    assert float(photometric_loss(a, a).abs().max()) < 1e-6


@pytest.fixture
def restore_threads() -> Iterator[None]:
    yield
    native.set_threads(native.default_threads())


def test_photometric_loss_does_not_depend_on_the_number_of_threads(restore_threads: None) -> None:
    results = []
    for threads in (1, 2, 3):
        native.set_threads(threads)
        a, b = pair()
        a.requires_grad_()
        loss = photometric_loss(a, b)
        loss.sum().backward()
        results.append((loss, a.grad))
    for loss, gradient in results[1:]:
        assert torch.equal(loss, results[0][0]) and torch.equal(gradient, results[0][1])


def test_images_smaller_than_the_window_are_refused() -> None:
    for loss in (ssim, photometric_loss):
        with pytest.raises(ValueError, match="at least 11"):
            loss(torch.zeros(1, 10, 20, 3), torch.zeros(1, 10, 20, 3))
        with pytest.raises(ValueError, match="one shape"):
            loss(torch.zeros(1, 20, 20, 3), torch.zeros(1, 20, 21, 3))


def test_silhouette_loss_is_per_image() -> None:
    alpha, mask = torch.zeros(2, 4, 4), torch.stack([torch.zeros(4, 4), torch.ones(4, 4)])
    assert silhouette_loss(alpha, mask).tolist() == [0.0, 1.0]
