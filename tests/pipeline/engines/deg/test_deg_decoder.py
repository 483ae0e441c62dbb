"""From a latent to a model in our frame."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.control import Control
from pipeline.engines.deg import gaussian_network, octree_network
from pipeline.engines.deg.camera_token import scale_into_box
from pipeline.engines.deg.deg_decoder import (
    DecoderNetworks,
    GeneratedModel,
    PhotoOutlines,
    decode,
    decode_splats,
    rounded_gaussians,
)
from pipeline.engines.deg.octree_sampling import SeededDraws
from pipeline.errors import Cancelled, ModelFailed
from pipeline.splats.render import render_model
from pipeline.types import Cameras, FloatArray, SplatModel
from tests.pipeline.engines.deg.golden_files import relative_error
from tests.pipeline.engines.deg.tiny_decoders import (
    GoldenDraws,
    build_gaussians,
    tiny_gaussians,
    tiny_octree,
)

#: 20 degrees to the side, in the trained range.
TOKEN = torch.tensor([[[0.9 * np.cos(0.35), 0.9 * np.sin(0.35), 0.436, 0.45, 0.94]]])


@pytest.fixture(scope="module")
def networks() -> DecoderNetworks:
    return DecoderNetworks(tiny_octree(), tiny_gaussians())


@pytest.fixture(scope="module")
def latent(golden: dict[str, Tensor]) -> Tensor:
    return golden["out.latent"]


def draw(model: SplatModel, cameras: Cameras) -> FloatArray:
    """The tiny network's splats are a faint cloud: drawn larger and firmer it has an outline."""
    firm = replace(
        model,
        log_scales=np.full_like(model.log_scales, np.log(0.06)),
        logit_opacities=model.logit_opacities + 5,
    )
    return render_model(firm, cameras).alphas


def same(a: SplatModel, b: SplatModel) -> bool:
    names = ("means", "quats", "log_scales", "logit_opacities", "sh")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


def test_the_whole_chain_is_the_reference_s(
    networks: DecoderNetworks, latent: Tensor, golden: dict[str, Tensor]
):
    made = decode(
        networks,
        latent,
        golden["out.camera"],
        num_gaussians=320,
        decode_seed=0,
        draws=GoldenDraws(),
    )
    wanted = SplatModel(
        *(
            golden[f"out.splat.{name}"].numpy()
            for name in ("means", "quats", "log_scales", "logit_opacities", "sh")
        )
    )
    # The reference does not scale into the box.
    wanted, _ = scale_into_box(wanted)
    for name in ("means", "quats", "log_scales", "logit_opacities", "sh"):
        assert relative_error(getattr(made.model, name), torch.as_tensor(getattr(wanted, name))) < (
            1e-5
        ), name
    assert made.cameras == ()
    assert made.believed[0].azimuth_rad == 0
    assert made.notes == ()


def test_the_decode_seed_says_which_model_it_is(networks: DecoderNetworks, latent: Tensor):
    first, again, other = (
        decode(networks, latent, TOKEN, num_gaussians=160, decode_seed=seed) for seed in (5, 5, 6)
    )
    assert same(first.model, again.model)
    assert not np.array_equal(first.model.means, other.model.means)


def test_another_density_is_of_the_same_latent(networks: DecoderNetworks, latent: Tensor):
    for wanted, made in ((64, 64), (67, 64), (8, 8), (1, 8)):
        model = decode(networks, latent, TOKEN, num_gaussians=wanted, decode_seed=1).model
        assert len(model) == made


@pytest.mark.parametrize(
    ("wanted", "nearest", "down"),
    [
        (262_144, 262_144, 262_144),
        (100_000, 100_000, 100_000),
        (100_015, 100_000, 100_000),
        (100_016, 100_032, 100_000),
        (100_031, 100_032, 100_000),
        (1, 32, 32),
        (1_048_576, 1_048_576, 1_048_576),
    ],
)
def test_presets_round_the_number_of_gaussians(wanted: int, nearest: int, down: int):
    assert rounded_gaussians(wanted, 32, down=False) == nearest
    assert rounded_gaussians(wanted, 32, down=True) == down


def test_little_memory_gives_the_same_model(
    networks: DecoderNetworks, latent: Tensor, monkeypatch: pytest.MonkeyPatch
):
    whole = decode_splats(networks, latent, num_gaussians=160, draws=SeededDraws(2))
    for network, name, bound in (
        (octree_network.OctreeNetwork, "cells_at_once", 11),
        (gaussian_network.GaussianNetwork, "points_at_once", 7),
    ):
        monkeypatch.setitem(network.forward.__kwdefaults__, name, bound)
    parts = decode_splats(networks, latent, num_gaussians=160, draws=SeededDraws(2))
    for name in ("means", "quats", "log_scales", "logit_opacities", "sh"):
        assert relative_error(getattr(parts, name), torch.as_tensor(getattr(whole, name))) < 1e-5


class Largest(TorchDispatchMode):
    """Notes the most numbers that an operation wrote into one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return out


def test_no_tensor_is_larger_than_the_tokens_of_all_points(
    networks: DecoderNetworks, latent: Tensor
):
    """Neither a table of all pairs nor the wide side of an MLP, which is four times as large."""
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(0))
    width = networks.gaussians.config.width
    with torch.inference_mode():
        memory = networks.gaussians.read_latent(latent)
        with Largest() as largest:
            networks.gaussians(points, memory, points_at_once=50)
        assert largest.numbers <= 500 * width
        with Largest() as largest:
            networks.gaussians(points, memory)
        assert largest.numbers >= 4 * 500 * width
        cells, below = networks.octree.read_latent(latent), 4 * 50 * width
        with Largest() as largest:
            networks.octree(points, 8, cells, cells_at_once=50)
        assert largest.numbers <= below


def photographed(networks: DecoderNetworks, latent: Tensor, alpha: FloatArray) -> GeneratedModel:
    return decode(
        networks,
        latent,
        TOKEN,
        num_gaussians=800,
        decode_seed=3,
        photos=PhotoOutlines((np.round(255 * alpha).astype(np.uint8),), draw),
    )


def test_the_photo_has_its_own_camera_at_azimuth_0(networks: DecoderNetworks, latent: Tensor):
    plain = decode(networks, latent, TOKEN, num_gaussians=800, decode_seed=3)
    true = plain.believed[0].with_intrinsics(110.0, 47.0, 50.0, 96)
    made = photographed(networks, latent, draw(plain.model, true)[0])
    assert same(made.model, plain.model)
    (found,) = made.cameras
    assert found.cameras is not None
    np.testing.assert_allclose(found.cameras.intrinsics, true.intrinsics, atol=0.5)
    np.testing.assert_array_equal(found.cameras.viewmats, true.viewmats)
    # Azimuth 0: the camera stands in the plane of x and z.
    assert abs(found.cameras.centres[0, 1]) < 1e-6
    assert found.cameras.centres[0, 0] > 0
    assert made.notes == ()


def test_a_photo_of_something_else_stays_without_a_camera(
    networks: DecoderNetworks, latent: Tensor
):
    thin = np.zeros((96, 96), np.float32)
    thin[8:88, 46:50] = 1
    made = photographed(networks, latent, thin)
    assert made.cameras[0].cameras is None
    assert made.notes == (made.cameras[0].reason,)


def test_each_photo_has_a_camera_of_its_own(networks: DecoderNetworks, latent: Tensor):
    side = TOKEN.clone()
    side[0, 0, :2] = torch.tensor([0.9 * np.cos(1.0), 0.9 * np.sin(1.0)])
    tokens = torch.cat([TOKEN, side])
    plain = decode(networks, latent, tokens, num_gaussians=400, decode_seed=3)
    assert plain.believed[0].azimuth_rad == 0
    assert plain.believed[1].azimuth_rad == pytest.approx(0.65)
    alphas = tuple(
        np.round(255 * draw(plain.model, camera.with_intrinsics(100, 48, 48, 96))[0]).astype(
            np.uint8
        )
        for camera in plain.believed
    )
    blank = np.zeros((96, 96), np.uint8)
    made = decode(
        networks,
        latent,
        tokens,
        num_gaussians=400,
        decode_seed=3,
        photos=PhotoOutlines((alphas[0], blank), draw),
    )
    assert made.cameras[0].cameras is not None
    assert made.cameras[1].cameras is None
    assert made.notes == ("Photo 1: " + made.cameras[1].reason,)
    with pytest.raises(ValueError, match="1 photos have 2 camera tokens"):
        decode(
            networks,
            latent,
            tokens,
            num_gaussians=8,
            decode_seed=3,
            photos=PhotoOutlines((blank,), draw),
        )


def test_a_camera_outside_of_the_trained_range_is_said(networks: DecoderNetworks, latent: Tensor):
    strange = TOKEN.clone()
    strange[..., 3] = 1.4
    plain = decode(networks, latent, strange, num_gaussians=800, decode_seed=3)
    assert plain.believed[0].distance <= 1.5
    alpha = draw(plain.model, plain.believed[0].with_intrinsics(110.0, 47.0, 50.0, 96))
    made = decode(
        networks,
        latent,
        strange,
        num_gaussians=800,
        decode_seed=3,
        photos=PhotoOutlines(((255 * alpha[0]).astype(np.uint8),), draw),
    )
    assert made.cameras[0].cameras is not None
    assert "unsure how far away" in made.notes[0]


def test_a_token_without_a_direction_turns_nothing(networks: DecoderNetworks, latent: Tensor):
    nowhere = torch.tensor([[0.001, 0.02, 0.0, 0.4, 0.9]])
    photos = PhotoOutlines((np.full((64, 64), 255, np.uint8),), draw)
    made = decode(networks, latent, nowhere, num_gaussians=80, decode_seed=3, photos=photos)
    raw = decode_splats(networks, latent, num_gaussians=80, draws=SeededDraws(3))
    assert np.array_equal(made.model.quats, raw.quats)
    assert made.cameras[0].cameras is None
    assert "did not say where" in made.notes[0]


def test_half_precision_networks_give_a_model_near_by(networks: DecoderNetworks, latent: Tensor):
    half = DecoderNetworks(networks.octree, build_gaussians().half())
    whole, ours = (
        decode_splats(which, latent.to(torch.float16), num_gaussians=320, draws=GoldenDraws())
        for which in (networks, half)
    )
    assert ours.means.dtype == np.float32
    assert relative_error(ours.means, torch.as_tensor(whole.means)) < 2e-3
    assert relative_error(ours.log_scales, torch.as_tensor(whole.log_scales)) < 2e-3


def test_a_latent_that_is_not_finite_is_an_error(networks: DecoderNetworks, latent: Tensor):
    broken = latent.clone()
    broken[0, 0, 0] = torch.nan
    with pytest.raises(ModelFailed, match="not finite"):
        decode(networks, broken, TOKEN, num_gaussians=80, decode_seed=0)


def test_a_stop_is_heard(networks: DecoderNetworks, latent: Tensor):
    control = Control()
    control.stop.set()
    with pytest.raises(Cancelled):
        decode(networks, latent, TOKEN, num_gaussians=80, decode_seed=0, control=control)


def test_a_stop_is_heard_before_every_block_of_the_gaussians(
    networks: DecoderNetworks, latent: Tensor
):
    """Of a million of them they are many times the work of a step of the flow."""
    control, begun = Control(), []

    class StoppingDraws(SeededDraws):
        def jitter(self, points: int) -> Tensor:
            control.stop.set()
            return super().jitter(points)

    def stop(*_: object) -> None:
        begun.append(1)
        control.stop.set()

    hooks = [block.register_forward_pre_hook(stop) for block in networks.gaussians.blocks]
    try:
        for draws, so_many in ((StoppingDraws(0), 0), (SeededDraws(0), 1)):
            with pytest.raises(Cancelled):
                decode_splats(networks, latent, num_gaussians=8, draws=draws, control=control)
            assert len(begun) == so_many
            control.stop.clear()
    finally:
        for hook in hooks:
            hook.remove()


def test_latent_keys_are_made_once_a_decode(
    networks: DecoderNetworks, latent: Tensor, monkeypatch: pytest.MonkeyPatch
):
    made: list[str] = []
    for name, network in (
        ("octree", octree_network.OctreeNetwork),
        ("gaussians", gaussian_network.GaussianNetwork),
    ):
        read = network.read_latent

        def counted(self, latent, name=name, read=read):  # type: ignore[no-untyped-def]
            made.append(name)
            return read(self, latent)

        monkeypatch.setattr(network, "read_latent", counted)
    decode_splats(networks, latent, num_gaussians=320, draws=SeededDraws(0))
    assert made == ["octree", "gaussians"]
