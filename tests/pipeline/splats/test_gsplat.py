"""The CUDA backend: its calls of gsplat against the real signature, its pictures against the CPU's.

Without a GPU a stand-in with gsplat's signature draws with the C++ rasteriser: that proves how
arguments and results are mapped, not what the CUDA code computes. The tests marked `gpu` do that.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.control import Control
from pipeline.device import Device, Precision
from pipeline.engines.splats.gsplat_splats import GsplatSplats
from pipeline.errors import Unavailable
from pipeline.geometry.cameras import rig_cameras
from pipeline.requests import FitRequest
from pipeline.splats.rasterize import cpu_backend, gsplat_backend
from pipeline.splats.rasterize import rasterizer as front
from pipeline.splats.rasterize.arguments import AS_VIEWERS, RasterRequest
from pipeline.splats.rasterize.median import median_depth as torch_median
from pipeline.splats.training.losses import _l1_and_ssim, photometric_loss
from tests.oracles.objects import photograph, torus
from tests.oracles.scenes import Scene, median_depth, rasterize, scene

WIDTH, HEIGHT = 100, 70

MODES = ("RGB", "RGB+ED")

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class StandIn:
    """`gsplat.rasterization` by the CPU backend; remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def rasterization(  # the names, order and defaults of gsplat 1.5.3
        self,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        colors: Tensor,
        viewmats: Tensor,
        Ks: Tensor,
        width: int,
        height: int,
        near_plane: float = 0.01,
        far_plane: float = 1e10,
        radius_clip: float = 0.0,
        eps2d: float = 0.3,
        sh_degree: int | None = None,
        packed: bool = True,
        tile_size: int = 16,
        backgrounds: Tensor | None = None,
        render_mode: str = "RGB",
        sparse_grad: bool = False,
        absgrad: bool = False,
        rasterize_mode: str = "classic",
        channel_chunk: int = 32,
        distributed: bool = False,
        camera_model: str = "pinhole",
        segmented: bool = False,
        covars: Tensor | None = None,
        with_ut: bool = False,
        with_eval3d: bool = False,
        radial_coeffs: Tensor | None = None,
        tangential_coeffs: Tensor | None = None,
        thin_prism_coeffs: Tensor | None = None,
        ftheta_coeffs: object = None,
        rolling_shutter: object = None,
        viewmats_rs: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        given = dict(locals())
        self.calls.append(given)
        # What gsplat asserts before it draws.
        N, C = len(means), len(viewmats)
        assert colors.dim() == 2 or sh_degree is not None or colors.shape[:2] == (C, N)
        assert N > 0 and C > 0, "its kernels are not launched for nothing"
        assert not packed and tile_size <= 32 and not viewmats.requires_grad
        names = inspect.signature(RasterRequest).parameters
        asked = {name: given[name] for name in names if name in given}
        asked["antialiased"] = rasterize_mode == "antialiased"
        if render_mode == "D":
            asked["render_mode"] = "RGB"
        image, alpha, projection = cpu_backend.rasterize(RasterRequest(**asked))
        meta: dict[str, Any] = dict(vars(projection))
        hidden = (projection.radii == 0).all(-1)
        for name in ("depths", "conics"):  # at::empty there
            junk = torch.full_like(meta[name], torch.nan)
            mask = hidden if meta[name].ndim == 2 else hidden[..., None]
            meta[name] = torch.where(mask, junk, meta[name].detach())
        meta |= {"batch_ids": None, "tile_width": -(-width // tile_size), "n_batches": 1}
        return image, alpha, meta


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """gsplat replaced; CPU tensors are sent to the CUDA backend."""
    fake, package, backend = StandIn(), ModuleType("gsplat"), ModuleType("gsplat.cuda._backend")
    package.rasterization = fake.rasterization  # type: ignore[attr-defined]
    backend._C = object()  # type: ignore[attr-defined]
    cuda = ModuleType("gsplat.cuda")
    for name, module in (("gsplat", package), ("gsplat.cuda", cuda), (backend.__name__, backend)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(front, "_backend", lambda _request: gsplat_backend)
    yield fake


def leaves(s: Scene) -> list[Tensor]:
    return [value.clone().requires_grad_() for value in s.splats]


def drawn(s: Scene, **options: Any) -> list[Tensor]:
    """Image, alpha, absolute screen gradients and the gradients of all parameters."""
    splats = leaves(s)
    image, alpha, meta = rasterize(*splats, s.viewmats, s.Ks, WIDTH, HEIGHT, **options)
    g = torch.Generator().manual_seed(7)
    v_image, v_alpha = (torch.randn(t.shape, generator=g).to(t.device) for t in (image, alpha))
    ((image * v_image).sum() + (alpha * v_alpha).sum()).backward()
    values = [image.detach(), alpha.detach()]
    if options.get("absgrad"):
        values.append(meta.means2d.absgrad)
    return values + [torch.zeros_like(p) if p.grad is None else p.grad for p in splats]


# -- the call ------------------------------------------------------------------------------------


def test_stand_in_has_the_signature_of_gsplat() -> None:
    gsplat = pytest.importorskip("gsplat")
    assert gsplat.__version__ == "1.5.3"
    wanted = inspect.signature(gsplat.rasterization).parameters
    ours = inspect.signature(StandIn().rasterization).parameters
    assert list(ours) == list(wanted)
    for name in set(ours) - {"rolling_shutter"}:
        assert ours[name].default == wanted[name].default, name


@pytest.mark.parametrize("mode", MODES)
def test_calls_reach_gsplat_unchanged(stand_in: StandIn, mode: str) -> None:
    s = scene(80, cameras=2)
    options: dict[str, Any] = {
        "render_mode": mode,
        "near_plane": 0.5,
        "far_plane": 2.0,
        "radius_clip": 2.0,
        "eps2d": 0.2,
        "absgrad": True,
        "backgrounds": torch.rand(2, 3),
    }
    through = drawn(s, **options)
    call = stand_in.calls[0]
    for name in set(options) - {"backgrounds"}:
        assert call[name] == options[name], name
    assert (call["width"], call["height"]) == (WIDTH, HEIGHT)
    with pytest.MonkeyPatch.context() as monkey:
        monkey.setattr(front, "_backend", lambda _request: cpu_backend)
        straight = drawn(s, **options)
    for a, b in zip(through, straight, strict=True):
        assert torch.equal(a, b)


def test_median_depth_asks_for_depth_alone(stand_in: StandIn) -> None:
    s = scene(20)
    depth = median_depth(*s.splats, s.viewmats, s.Ks, 32, 32, backgrounds=torch.rand(1, 3))
    assert depth.shape == (1, 32, 32)
    call = stand_in.calls[0]
    assert call["sh_degree"] is None and call["backgrounds"] is None
    assert call["colors"].shape == (20, 1) and call["render_mode"] == "D"


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_harmonics_are_left_to_gsplat(stand_in: StandIn, degree: int) -> None:
    s = scene(40, cameras=2)
    sh = torch.randn(40, 16, 3, generator=torch.Generator().manual_seed(1))
    image, _, _ = rasterize(*s.splats[:4], sh, s.viewmats, s.Ks, 32, 32, sh_degree=degree)
    assert stand_in.calls[0]["sh_degree"] == degree and image.shape == (2, 32, 32, 3)


@pytest.mark.parametrize("channels", [1, 6, 32])
def test_colours_may_differ_between_cameras_and_have_up_to_32_channels(
    stand_in: StandIn, channels: int
) -> None:
    s = scene(30, cameras=2)
    colors = torch.rand(2, 30, channels)
    image, _, _ = rasterize(*s.splats[:4], colors, s.viewmats, s.Ks, 32, 32)
    assert image.shape == (2, 32, 32, channels)
    assert stand_in.calls[0]["colors"] is colors


def test_projection_is_that_of_the_cpu_backend(stand_in: StandIn) -> None:
    s = scene(30, cameras=2)
    arguments = (*s.splats, s.viewmats, s.Ks, 48, 32)
    _, _, ours = rasterize(*arguments)
    _, _, cpu = cpu_backend.rasterize(RasterRequest(*arguments, **AS_VIEWERS))
    for name, value in vars(cpu).items():
        got = getattr(ours, name)
        assert got.shape == value.shape and got.dtype == value.dtype, name
    assert stand_in.calls[0]["tile_size"] == 16


def test_antialiasing_is_asked_of_gsplat(stand_in: StandIn) -> None:
    s = scene(30)
    request = RasterRequest(*s.splats, s.viewmats, s.Ks, 48, 32)
    image, _, _ = gsplat_backend.rasterize(request)
    assert stand_in.calls[0]["rasterize_mode"] == "antialiased"
    assert stand_in.calls[0]["eps2d"] == request.eps2d == 0.1
    wanted, _, _ = cpu_backend.rasterize(request)
    assert torch.equal(image, wanted)


def test_screen_gradients_can_be_retained(stand_in: StandIn) -> None:
    s = scene(30)
    image, _, meta = rasterize(*leaves(s), s.viewmats, s.Ks, 48, 32, absgrad=True)
    meta.means2d.retain_grad()
    image.square().sum().backward()
    assert meta.means2d.grad.shape == meta.means2d.absgrad.shape == (1, 30, 2)


def test_cameras_get_no_gradient(stand_in: StandIn) -> None:
    s = scene(30)
    viewmats = s.viewmats.clone().requires_grad_()
    image, _, _ = rasterize(*leaves(s), viewmats, s.Ks, 48, 32)
    image.sum().backward()
    assert viewmats.grad is None


@pytest.mark.parametrize("mode", MODES)
def test_no_splats_show_the_background_and_never_reach_gsplat(stand_in: StandIn, mode: str) -> None:
    s = scene(0, cameras=2)
    splats = leaves(s)
    ground = torch.rand(2, 3)
    options: dict[str, Any] = {"backgrounds": ground, "render_mode": mode, "absgrad": True}
    image, alpha, meta = rasterize(*splats, s.viewmats, s.Ks, 33, 21, **options)
    wanted, _, cpu = cpu_backend.rasterize(
        RasterRequest(*s.splats, s.viewmats, s.Ks, 33, 21, **AS_VIEWERS | options)
    )
    assert torch.equal(image, wanted) and not alpha.any() and alpha.shape == (2, 21, 33, 1)
    for name in ("radii", "means2d", "depths", "conics", "opacities"):
        got, wanted = getattr(meta, name), getattr(cpu, name)
        assert got.shape == wanted.shape and got.dtype == wanted.dtype
    (image.sum() + alpha.sum()).backward()
    assert all(p.grad is not None for p in splats[:4])
    assert not median_depth(*s.splats, s.viewmats, s.Ks, 33, 21).any()
    assert not stand_in.calls


# -- where it is missing -------------------------------------------------------------------------


def test_missing_gsplat_is_unavailable_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "gsplat", None)  # the import fails
    s = scene(4)
    with pytest.raises(Unavailable, match=r"-e '\.\[gpu\]'.*nvcc.*deploy/Dockerfile"):
        gsplat_backend.rasterize(RasterRequest(*s.splats, s.viewmats, s.Ks, 32, 32))


def test_gsplat_that_was_not_compiled_is_unavailable(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["gsplat.cuda._backend"], "_C", None)
    s = scene(4)
    with pytest.raises(Unavailable, match="installed but not compiled"):
        rasterize(*s.splats, s.viewmats, s.Ks, 32, 32)


def test_gsplat_is_never_imported_for_the_cpu() -> None:
    """Importing it where nvcc is and CUDA is not raises, and it costs seconds."""
    code = """
import importlib, pkgutil, sys
import numpy as np
import pipeline
for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
    importlib.import_module(module.name)
assert "gsplat" not in sys.modules
from pipeline.geometry.cameras import rig_cameras
from pipeline.device import Device
from pipeline.engines.splats.gsplat_splats import GsplatSplats
GsplatSplats(Device.choose("cpu")).warm_up()
assert not [name for name in sys.modules if name.startswith("gsplat")]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# -- median depth in torch -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "size"), [(200, (WIDTH, HEIGHT)), (3000, (96, 64)), (1, (17, 33))]
)
def test_median_depth_in_torch_is_that_of_the_cpu_backend(
    count: int, size: tuple[int, int]
) -> None:
    s = scene(count, cameras=2)
    arguments = (*s.splats, s.viewmats, s.Ks, *size)
    compiled = median_depth(*arguments)
    _, _, meta = rasterize(*arguments)
    slow = torch_median(meta, *size)
    assert slow.shape == compiled.shape and (count == 1 or bool((slow > 0).any()))
    # Only a pixel whose light is within rounding of 1/2 may pick the neighbour in depth.
    assert float(((slow - compiled).abs() > 1e-6).float().mean()) < 1e-3


def test_median_depth_goes_through_gsplat_and_ignores_what_it_leaves_undefined(
    stand_in: StandIn,
) -> None:
    s = scene(150, seed=5)
    s = replace(s, splats=(4 * s.splats[0], *s.splats[1:]))  # a part is behind the camera
    depth = median_depth(*s.splats, s.viewmats, s.Ks, WIDTH, HEIGHT)
    request = RasterRequest(*s.splats, s.viewmats, s.Ks, WIDTH, HEIGHT, **AS_VIEWERS)
    assert len(stand_in.calls) == 1
    assert float(((depth - cpu_backend.median_depth(request)).abs() > 1e-6).float().mean()) < 1e-3


# -- losses in torch -----------------------------------------------------------------------------


def test_photometric_loss_in_torch_is_the_compiled_one() -> None:
    g = torch.Generator().manual_seed(0)
    a, b = (torch.rand(3, 37, 41, 3, generator=g) for _ in range(2))
    a[0, :20] = b[0, :20]
    weights = torch.tensor([1.0, 2.0, 0.5])
    compiled, plain = a.clone().requires_grad_(), a.clone().requires_grad_()
    losses = photometric_loss(compiled, b)
    l1, similarity = _l1_and_ssim(plain, b)
    wanted = 0.8 * l1 + 0.2 * (1 - similarity)
    torch.testing.assert_close(losses, wanted, rtol=1e-5, atol=1e-6)
    (losses * weights).sum().backward()
    (wanted * weights).sum().backward()
    assert compiled.grad is not None and plain.grad is not None
    assert float((compiled.grad - plain.grad).norm() / compiled.grad.norm()) < 1e-5


# -- on a GPU ------------------------------------------------------------------------------------


def on(device: str, s: Scene) -> Scene:
    return Scene(tuple(v.to(device) for v in s.splats), s.viewmats.to(device), s.Ks.to(device))


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "s",
    [
        scene(),
        scene(80, cameras=3),
        scene(60, channels=7),
        scene(60, channels=31),
        scene(4000, cameras=2),
        replace(
            scene(150, seed=5),
            splats=(4 * scene(150, seed=5).splats[0], *scene(150, seed=5).splats[1:]),
        ),
    ],
    ids=["plain", "cameras", "7 channels", "31 channels", "many", "behind and beside"],
)
def test_both_backends_draw_the_same(s: Scene, mode: str) -> None:
    channels = s.splats[4].shape[-1]
    ground = torch.linspace(0.1, 0.9, channels).expand(len(s.viewmats), -1)
    options: dict[str, Any] = {"render_mode": mode, "absgrad": True}
    cpu = drawn(s, backgrounds=ground, **options)
    gpu = drawn(on("cuda", s), backgrounds=ground.cuda(), **options)
    names = ("image", "alpha", "absgrad", "means", "quats", "scales", "opacities", "colors")
    for name, a, b in zip(names, cpu, [value.cpu() for value in gpu], strict=True):
        if name in ("image", "alpha"):
            # A splat within rounding of 1/255 may be drawn by one of them only.
            assert float((a - b).abs().max()) < 5e-3, name
            assert float((a - b).abs().mean()) < 1e-5, name
        else:
            assert float((a - b).norm() / a.norm().clamp_min(1e-12)) < 1e-2, name
            cosine = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)
            assert float(cosine) > 0.9999, name


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_both_backends_colour_the_same(degree: int) -> None:
    s = scene(80, cameras=2)
    sh = 0.3 * torch.randn(80, 16, 3, generator=torch.Generator().manual_seed(2))
    results = []
    for device in ("cpu", "cuda"):
        there = on(device, s)
        coefficients = sh.to(device).clone().requires_grad_()
        means = there.splats[0].clone().requires_grad_()
        image, _, _ = rasterize(
            means,
            *there.splats[1:4],
            coefficients,
            there.viewmats,
            there.Ks,
            WIDTH,
            HEIGHT,
            sh_degree=degree,
        )
        image.square().sum().backward()
        assert means.grad is not None and coefficients.grad is not None
        results.append([v.cpu() for v in (image.detach(), means.grad, coefficients.grad)])
    for a, b in zip(*results, strict=True):
        assert float((a - b).norm() / a.norm()) < 1e-3


@pytest.mark.gpu
@needs_gpu
def test_both_backends_know_the_same_depth_and_the_same_boxes() -> None:
    s = scene(2000, cameras=2)
    there = on("cuda", s)
    depths = [median_depth(*x.splats, x.viewmats, x.Ks, WIDTH, HEIGHT).cpu() for x in (s, there)]
    assert float(((depths[0] - depths[1]).abs() > 1e-4).float().mean()) < 5e-3
    radii = [
        rasterize(*x.splats, x.viewmats, x.Ks, WIDTH, HEIGHT)[2].radii.cpu() for x in (s, there)
    ]
    assert float((radii[0] != radii[1]).float().mean()) < 1e-2
    assert int((radii[0] - radii[1]).abs().max()) <= 1


@pytest.mark.gpu
@needs_gpu
def test_losses_on_a_gpu_are_those_of_the_cpu() -> None:
    g = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 64, 64, 3, generator=g) for _ in range(2))
    here, there = a.clone().requires_grad_(), a.cuda().requires_grad_()
    losses, remote = photometric_loss(here, b), photometric_loss(there, b.cuda())
    torch.testing.assert_close(remote.cpu(), losses, rtol=1e-5, atol=1e-6)
    losses.sum().backward()
    remote.sum().backward()
    assert here.grad is not None and there.grad is not None
    torch.testing.assert_close(there.grad.cpu(), here.grad, rtol=1e-3, atol=1e-8)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("strategy", ["mcmc", "default"])
def test_engine_on_a_gpu_fits_as_well_as_on_the_cpu(strategy: str) -> None:
    views, depths = photograph(torus(), rig_cameras(64))
    request = FitRequest(views, depths, (5, 11), num_gaussians=1500, iterations=60, seed=0)
    held_out = views.select([5, 11])
    scores = []
    for device in (Device(torch.device("cpu"), Precision.FP32), Device.choose("cuda")):
        engine = GsplatSplats(device, strategy=strategy)
        model = engine.reconstruct(request, Control())
        images = engine.render(model, held_out.cameras).images.astype(float)
        error = ((images - held_out.images) / 255) ** 2
        scores.append(float(-10 * torch.log10(torch.tensor(error.mean()))))
    assert abs(scores[0] - scores[1]) < 0.5
