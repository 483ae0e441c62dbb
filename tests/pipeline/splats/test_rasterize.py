"""The C++ rasteriser against the slow torch one, and what it promises beyond the image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y
from torch import Tensor

from pipeline import native
from pipeline.errors import InvalidInput
from pipeline.geometry.cameras import rig_cameras
from pipeline.geometry.spherical_harmonics import sh_basis
from pipeline.splats import rasterize as rasterizer
from pipeline.splats.rasterize import RasterRequest
from pipeline.splats.rasterize.arguments import MAX_EXTENT
from pipeline.splats.render import render_model
from pipeline.types import SH_C0, SplatModel
from tests.oracles import torch_rasterizer
from tests.oracles.scenes import NAMES, Scene, median_depth, rasterize, scene

# The C++ works in float32 with exp good to 1e-6 relative; measured against float64: image 6e-6,
# gradients 1e-5 relative L2. A pixel within rounding of the 1/255 threshold may differ by more,
# hence norms for gradients and a factor of 10.
IMAGE_TOLERANCE = 6e-5
GRADIENT_TOLERANCE = 1e-4

WIDTH, HEIGHT = 100, 70


def leaves(splats: tuple[Tensor, ...]) -> list[Tensor]:
    return [value.clone().requires_grad_() for value in splats]


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm().clamp_min(1e-12))


def largest(difference: Tensor) -> float:
    return float(difference.detach().abs().max())


def assert_agrees(s: Scene, *, mode: str = "RGB", **style: Any) -> None:
    """Image, alpha and gradients of all splat parameters, under random cotangents."""
    C = len(s.viewmats)
    fast, slow = leaves(s.splats), leaves(tuple(v.double() for v in s.splats))
    ground = torch.linspace(0.1, 0.9, s.splats[4].shape[-1])
    image, alpha, _ = rasterize(
        *fast,
        s.viewmats,
        s.Ks,
        WIDTH,
        HEIGHT,
        backgrounds=ground.expand(C, -1),
        render_mode=mode,
        **style,
    )
    g = torch.Generator().manual_seed(7)
    v_image, v_alpha = (torch.randn(t.shape, generator=g) for t in (image, alpha))
    ((image * v_image).sum() + (alpha * v_alpha).sum()).backward()

    total = torch.zeros((), dtype=torch.float64)
    for c in range(C):
        wanted, wanted_alpha, _ = torch_rasterizer.draw(
            *slow,
            s.viewmats[c].double(),
            s.Ks[c].double(),
            WIDTH,
            HEIGHT,
            with_depth=mode == "RGB+ED",
            background=ground.double(),
            **style,
        )
        if mode == "RGB+ED":
            expected = wanted[..., -1:] / wanted_alpha[..., None].clamp_min(1e-10)
            wanted = torch.cat([wanted[..., :-1], expected], -1)
        assert largest(image[c] - wanted) < IMAGE_TOLERANCE
        assert largest(alpha[c, ..., 0] - wanted_alpha) < IMAGE_TOLERANCE
        total = total + (wanted * v_image[c]).sum() + (wanted_alpha * v_alpha[c, ..., 0]).sum()
    total.backward()
    for name, a, b in zip(
        ("means", "quats", "scales", "opacities", "colors"), fast, slow, strict=True
    ):
        assert a.grad is not None and b.grad is not None
        assert relative(a.grad, b.grad) < GRADIENT_TOLERANCE, name


@pytest.mark.parametrize("mode", ["RGB", "RGB+ED"])
def test_agrees_with_the_oracle(mode: str) -> None:
    assert_agrees(scene(), mode=mode)


@pytest.mark.parametrize("eps2d", [0.1, 0.3])
def test_agrees_with_the_oracle_where_splats_are_antialiased(eps2d: float) -> None:
    assert_agrees(scene(), eps2d=eps2d, antialiased=True)
    small = scene(seed=2)
    means, quats, scales, *rest = small.splats
    assert_agrees(
        replace(small, splats=(means, quats, 0.1 * scales, *rest)), eps2d=eps2d, antialiased=True
    )


def test_plain_pictures_are_those_that_viewers_draw() -> None:
    s, camera = scene(60, seed=4), rig_cameras(48).select([0])
    means, quats, scales, opacities, colors = s.splats
    model = SplatModel(
        means=means.numpy(),
        quats=quats.numpy(),
        log_scales=scales.log().numpy(),
        logit_opacities=opacities.clamp(0.01, 0.99).logit().numpy(),
        sh=((colors - 0.5) / SH_C0)[:, None].numpy(),
    )
    tensors = (means, quats, scales, opacities.clamp(0.01, 0.99), colors)
    views = torch.from_numpy(camera.viewmats), torch.from_numpy(camera.intrinsics)
    wanted, _, _ = rasterize(*tensors, *views, 48, 48, backgrounds=torch.ones(1, 3))
    plain = render_model(model, camera, plain=True).images
    np.testing.assert_allclose(plain, wanted.clamp(0, 1).numpy(), atol=1e-4)
    assert np.abs(render_model(model, camera).images - plain).max() > 1e-3


def test_a_splat_gives_as_much_light_however_few_pixels_show_it() -> None:
    """What the blur of a pixel adds to its size is taken out of its opacity."""
    light = []
    for size in (32, 64, 256):
        camera = rig_cameras(size)
        request = RasterRequest(
            torch.zeros(1, 3),
            torch.tensor([[1.0, 0, 0, 0]]),
            torch.full((1, 3), 0.01),
            torch.full((1,), 0.5),
            torch.ones(1, 3),
            torch.from_numpy(camera.viewmats[:1]),
            torch.from_numpy(camera.intrinsics[:1]),
            size,
            size,
            eps2d=0.3,
            antialiased=True,
        )
        light.append(float(rasterizer.rasterize(request)[1].mean()))
    assert max(light) < 1.15 * min(light)


def test_agrees_with_the_oracle_on_several_cameras() -> None:
    assert_agrees(scene(80, cameras=3))


@pytest.mark.parametrize("channels", [1, 2, 7, 12])
def test_agrees_with_the_oracle_on_other_channel_counts(channels: int) -> None:
    assert_agrees(scene(60, channels=channels))


def test_agrees_with_the_oracle_on_opaque_walls() -> None:
    """Pixels that reach the stop rule: many large opaque splats behind each other."""
    s = scene(150, seed=3)
    means, quats, scales, opacities, colors = s.splats
    assert_agrees(replace(s, splats=(means, quats, 2 * scales, opacities.clamp_min(0.95), colors)))


def test_agrees_with_the_oracle_on_splats_behind_and_beside_the_camera() -> None:
    s = scene(150, seed=5)
    means, *rest = s.splats
    # The camera is 1.5 from the origin: at this size a sixth of the splats is behind it, and
    # those beside it reach the clamp of the Jacobian.
    s = replace(s, splats=(4 * means, *rest))
    behind = (s.splats[0] @ s.viewmats[0, :3, :3].T + s.viewmats[0, :3, 3])[:, 2] < 0
    assert behind.float().mean() > 0.1
    assert_agrees(s)


def test_median_depth_agrees_with_the_oracle() -> None:
    s = scene(200)
    fast = median_depth(*s.splats, s.viewmats, s.Ks, WIDTH, HEIGHT)[0]
    double = [value.double() for value in s.splats]
    _, _, slow = torch_rasterizer.draw(
        *double, s.viewmats[0].double(), s.Ks[0].double(), WIDTH, HEIGHT
    )
    # A pixel whose transmittance is within rounding of 1/2 may pick the neighbour in depth.
    assert float(((fast - slow).abs() > 1e-4).float().mean()) < 1e-3
    assert float((fast > 0).float().mean()) > 0.05


def test_spherical_harmonics_are_those_of_scipy() -> None:
    g = torch.Generator().manual_seed(1)
    d = torch.nn.functional.normalize(torch.randn(50, 3, generator=g, dtype=torch.float64), dim=-1)
    polar, azimuth = torch.acos(d[:, 2]).numpy(), torch.atan2(d[:, 1], d[:, 0]).numpy()
    columns = []
    for band in range(4):
        for m in range(-band, band + 1):
            value = sph_harm_y(band, abs(m), polar, azimuth)
            columns.append(
                value.real if m == 0 else math.sqrt(2) * (value.imag if m < 0 else value.real)
            )
    np.testing.assert_allclose(sh_basis(3, d).numpy(), np.stack(columns, -1), atol=1e-12)


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_spherical_harmonics_give_the_colours_of_the_basis(degree: int) -> None:
    s = scene(80, cameras=2)
    g = torch.Generator().manual_seed(2)
    sh = (0.3 * torch.randn(80, (degree + 1) ** 2, 3, generator=g)).requires_grad_()
    means = s.splats[0].clone().requires_grad_()
    image, _, _ = rasterize(
        means, *s.splats[1:4], sh, s.viewmats, s.Ks, WIDTH, HEIGHT, sh_degree=degree
    )
    image.square().sum().backward()
    assert means.grad is not None and sh.grad is not None

    means2, sh2 = means.detach().clone().requires_grad_(), sh.detach().clone().requires_grad_()
    centres = -torch.einsum("cji,cj->ci", s.viewmats[:, :3, :3], s.viewmats[:, :3, 3])
    d = torch.nn.functional.normalize(means2[None] - centres[:, None], dim=-1)
    colors = (torch.einsum("cnk,nkd->cnd", sh_basis(degree, d), sh2) + 0.5).clamp_min(0)
    wanted, _, _ = rasterize(means2, *s.splats[1:4], colors, s.viewmats, s.Ks, WIDTH, HEIGHT)
    wanted.square().sum().backward()
    assert means2.grad is not None and sh2.grad is not None
    assert largest(image - wanted) < IMAGE_TOLERANCE
    assert relative(means.grad, means2.grad) < GRADIENT_TOLERANCE
    assert relative(sh.grad, sh2.grad) < GRADIENT_TOLERANCE


@pytest.fixture
def restore_threads() -> Iterator[None]:
    yield
    native.set_threads(native.default_threads())


@pytest.mark.parametrize("size", [(64, 64), (WIDTH, HEIGHT), (17, 33)])
def test_image_and_gradients_do_not_depend_on_the_number_of_threads(
    size: tuple[int, int], restore_threads: None
) -> None:
    s = scene(4000, cameras=3)
    results = []
    for threads in (1, 2, 5, 2):
        native.set_threads(threads)
        splats = leaves(s.splats)
        image, alpha, meta = rasterize(
            *splats, s.viewmats, s.Ks, *size, render_mode="RGB+ED", absgrad=True
        )
        (image.square().sum() + alpha.sin().sum()).backward()
        depth = median_depth(*s.splats, s.viewmats, s.Ks, *size)
        results.append([image, alpha, depth, meta.means2d.absgrad, *(p.grad for p in splats)])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def test_no_splats_show_the_background() -> None:
    s = scene(0, cameras=2)
    splats = leaves(s.splats)
    ground = torch.rand(2, 3, generator=torch.Generator().manual_seed(0))
    image, alpha, meta = rasterize(
        *splats, s.viewmats, s.Ks, 33, 21, backgrounds=ground, absgrad=True
    )
    assert torch.equal(image, ground[:, None, None].expand(2, 21, 33, 3))
    assert not alpha.any()
    assert meta.radii.shape == (2, 0, 2)
    (image.sum() + alpha.sum()).backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in splats)
    assert not median_depth(*s.splats, s.viewmats, s.Ks, 33, 21).any()


def test_all_splats_behind_the_camera_show_the_background() -> None:
    s = scene(20)
    centre = -s.viewmats[0, :3, :3].T @ s.viewmats[0, :3, 3]
    splats = leaves((0.1 * s.splats[0] + 2 * centre, *s.splats[1:]))
    image, alpha, meta = rasterize(*splats, s.viewmats, s.Ks, 32, 32)
    image.sum().backward()
    assert not image.any() and not alpha.any() and not meta.radii.any()
    assert splats[0].grad is not None and not splats[0].grad.any()


def test_a_white_object_in_front_of_white_is_seen_in_alpha_only() -> None:
    s = scene(50)
    image, alpha, _ = rasterize(
        *s.splats[:4], torch.ones(50, 3), s.viewmats, s.Ks, 64, 64, backgrounds=torch.ones(1, 3)
    )
    assert torch.allclose(image, torch.ones_like(image), atol=1e-5)
    assert alpha.max() > 0.9


def test_gradient_of_the_background_is_what_shines_through() -> None:
    s = scene(cameras=2)
    ground = torch.rand(2, 3).requires_grad_()
    image, alpha, _ = rasterize(*s.splats, s.viewmats, s.Ks, 40, 30, backgrounds=ground)
    image.sum().backward()
    assert ground.grad is not None
    shining = (1 - alpha).sum((1, 2)).expand(2, 3)
    torch.testing.assert_close(ground.grad, shining, rtol=1e-5, atol=1e-3)


def test_meta_holds_what_densification_needs() -> None:
    s = scene(70, cameras=2)
    splats = leaves(s.splats)
    image, _, meta = rasterize(*splats, s.viewmats, s.Ks, 64, 48, absgrad=True)
    meta.means2d.retain_grad()
    image.square().sum().backward()
    gradient, absolute = meta.means2d.grad, meta.means2d.absgrad
    assert gradient.shape == absolute.shape == (2, 70, 2)
    # Sums of absolute values: never below the absolute sum, and above it where signs differ.
    assert bool((absolute >= gradient.abs() - 1e-4 * absolute.max()).all())
    assert float(absolute.sum()) > 1.1 * float(gradient.abs().sum())
    assert meta.radii.shape == (2, 70, 2) and meta.radii.dtype == torch.int32
    shapes = {"depths": (2, 70), "conics": (2, 70, 3), "opacities": (2, 70)}
    for name, shape in shapes.items():
        assert getattr(meta, name).shape == shape, name


def test_absolute_screen_gradients_are_sums_over_pixels() -> None:
    s = scene(5, seed=4)
    # 16 x 16 pixels around the middle of the picture, where the splats are.
    Ks = s.Ks / 4
    Ks[:, 2, 2] = 1
    ground = torch.tensor([0.1, 0.5, 0.9])
    image, alpha, meta = rasterize(
        *leaves(s.splats),
        s.viewmats,
        Ks,
        16,
        16,
        backgrounds=ground[None],
        absgrad=True,
    )
    meta.means2d.retain_grad()
    g = torch.Generator().manual_seed(7)
    v_image, v_alpha = (torch.randn(t.shape, generator=g) for t in (image, alpha))
    ((image * v_image).sum() + (alpha * v_alpha).sum()).backward()

    double = [value.double() for value in s.splats]
    splats = torch_rasterizer.project(
        *double[:4],
        s.viewmats[0].double(),
        Ks[0].double(),
        16,
        16,
    )
    assert len(splats.ids) == 5
    per_pixel = torch_rasterizer.screen_gradients(
        splats, double[4], ground.double(), v_image[0].double(), v_alpha[0, ..., 0].double()
    )
    signed, absolute = meta.means2d.grad[0], meta.means2d.absgrad[0]
    assert relative(signed[splats.ids], per_pixel.sum((0, 1))) < GRADIENT_TOLERANCE
    assert relative(absolute[splats.ids], per_pixel.abs().sum((0, 1))) < GRADIENT_TOLERANCE
    assert bool((absolute > 1.5 * signed.abs()).any())


@pytest.mark.parametrize(("name", "axis"), [("means", 0), ("means", 1), ("scales", 2)])
def test_the_largest_means_and_scales_have_finite_gradients_and_larger_ones_are_refused(
    name: str, axis: int
) -> None:
    s = scene(10)
    for sign in (1.0, -1.0) if name == "means" else (1.0,):
        for limit in (MAX_EXTENT, 1e3):
            splats = dict(zip(NAMES[:5], leaves(s.splats), strict=True))
            with torch.no_grad():
                splats[name][0, axis] = sign * limit
                if name == "scales":  # right in front of the camera, where it is largest
                    centre = -s.viewmats[0, :3, :3].T @ s.viewmats[0, :3, 3]
                    splats["means"][0] = centre + 0.011 * s.viewmats[0, 2, :3]
                    splats["scales"][:2] = limit
                    splats["opacities"][:2] = 0.5
            image, alpha, _ = rasterize(
                **splats,
                viewmats=s.viewmats,
                Ks=s.Ks,
                width=WIDTH,
                height=HEIGHT,
                render_mode="RGB+ED",
            )
            (image.square().sum() + alpha.square().sum()).backward()
            assert bool(torch.isfinite(image).all())
            for key, leaf in splats.items():
                assert leaf.grad is not None and bool(torch.isfinite(leaf.grad).all()), key
        splats[name].data[0, axis] = sign * 1.01 * MAX_EXTENT
        with pytest.raises(InvalidInput, match=f"^{name} must not be larger than 1e\\+06"):
            rasterize(**splats, viewmats=s.viewmats, Ks=s.Ks, width=WIDTH, height=HEIGHT)


def test_without_absgrad_the_attribute_stays_away() -> None:
    s = scene(10)
    image, _, meta = rasterize(*leaves(s.splats), s.viewmats, s.Ks, 32, 32)
    image.sum().backward()
    assert not hasattr(meta.means2d, "absgrad")


def test_near_plane_and_radius_clip_hide_splats() -> None:
    s = scene(100)
    _, _, everything = rasterize(*s.splats, s.viewmats, s.Ks, 64, 64)
    _, _, far = rasterize(*s.splats, s.viewmats, s.Ks, 64, 64, near_plane=1.5)
    _, _, large = rasterize(*s.splats, s.viewmats, s.Ks, 64, 64, radius_clip=9.0)
    hidden = everything.depths < 1.5
    assert not far.radii[hidden].any() and far.radii[~hidden].any()
    assert int(large.radii[large.radii.amax(-1) > 0].amax(-1).min()) > 9


def test_rendering_of_a_model_is_composited_and_has_median_depth() -> None:
    cameras = rig_cameras(48)
    model = SplatModel(
        means=np.zeros((1, 3), np.float32),
        quats=np.array([[1, 0, 0, 0]], np.float32),
        log_scales=np.full((1, 3), np.log(0.1), np.float32),
        logit_opacities=np.array([8.0], np.float32),
        sh=np.zeros((1, 1, 3), np.float32),
    )
    for array in (model.means, model.sh):
        array.flags.writeable = False  # as they come out of a shared object store
    drawn = render_model(model, cameras, with_depth=True)
    assert drawn.images.shape == (16, 48, 48, 3) and drawn.alphas.shape == (16, 48, 48)
    assert drawn.median_depth is not None
    np.testing.assert_allclose(drawn.images[:, 0, 0], 1.0)
    np.testing.assert_allclose(drawn.images[:, 24, 24], 0.5, atol=0.02)
    np.testing.assert_allclose(drawn.median_depth[:, 24, 24], 1.5, rtol=1e-5)
    assert not drawn.median_depth[:, 0, 0].any()
    black = render_model(model, cameras, background=0.0)
    np.testing.assert_allclose(
        drawn.images - black.images, 1 - np.repeat(black.alphas[..., None], 3, -1), atol=1e-6
    )
