"""DINOv3 and the FLUX.2 encoder against the golden run, and their names."""

import math

import pytest
import torch
from torch import Tensor

from pipeline.engines.assign_weights import assign_weights
from pipeline.engines.deg.deg_canvas import PreparedPhoto, prepare_photo
from pipeline.engines.deg.deg_config import DegConfig
from pipeline.engines.deg.deg_encoders import (
    PhotoEncoders,
    empty_encoders,
    encode_photo,
    imagenet_pixels,
    vae_noise,
)
from pipeline.engines.deg.flow_network import FlowNetwork
from pipeline.engines.deg.flow_sampler import FlowNoise, sample
from pipeline.engines.deg.flow_settings import SamplerSettings
from tests.pipeline.engines.deg.golden_files import relative_error, released_keys, tiny_weights


@pytest.fixture(scope="module")
def encoders(config: DegConfig) -> PhotoEncoders:
    empty = empty_encoders(config)
    cpu = torch.device("cpu")
    return PhotoEncoders(
        assign_weights(empty.dino, tiny_weights("dinov3"), cpu),
        assign_weights(empty.vae, tiny_weights("vae_encoder"), cpu),
    )


@pytest.fixture(scope="module")
def prepared(golden: dict[str, Tensor]) -> PreparedPhoto:
    rgb = golden["out.prepared"].numpy()
    return PreparedPhoto(rgb, rgb[..., 0], (0, 0, 64, 64), 1.0)


def test_names_and_shapes_are_those_of_the_released_files():
    encoders = empty_encoders(DegConfig.released())
    left_out = {"embeddings.mask_token", "bn.num_batches_tracked", "rope_embeddings.inv_freq"}
    for part, network in (("dinov3", encoders.dino), ("vae_encoder", encoders.vae)):
        found = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        released = {key.name: key.shape for key in released_keys() if key.part == part}
        assert found == {name: s for name, s in released.items() if name not in left_out}, part
    numbers = sum(math.prod(p.shape) for p in encoders.dino.parameters())
    assert numbers == 840_591_360


def test_pixels_and_positions_of_the_transformer_agree(
    encoders: PhotoEncoders, prepared: PreparedPhoto, golden: dict[str, Tensor]
):
    rgb = torch.from_numpy(prepared.rgb.copy()).permute(2, 0, 1)[None].float() / 255
    pixels = imagenet_pixels(rgb)
    assert relative_error(pixels, golden["out.dinov3.pixel_values"]) <= 2e-6
    cos, sin = encoders.dino.rope_embeddings(pixels)
    assert relative_error(cos, golden["out.dinov3.rope_cos"]) <= 1e-5
    assert relative_error(sin, golden["out.dinov3.rope_sin"]) <= 1e-5


@torch.no_grad()
def test_hidden_states_and_moments_agree(encoders: PhotoEncoders, golden: dict[str, Tensor]):
    hidden = encoders.dino(golden["out.dinov3.pixel_values"])
    assert relative_error(hidden, golden["out.dinov3.last_hidden_state"]) <= 2e-6
    rgb = golden["out.prepared"].permute(2, 0, 1)[None].float() / 255
    assert relative_error(encoders.vae(2 * rgb - 1), golden["out.vae.moments"]) <= 1e-5


def test_features_agree(
    encoders: PhotoEncoders, prepared: PreparedPhoto, golden: dict[str, Tensor]
):
    found = encode_photo(encoders, prepared, golden["in.noise.vae"])
    assert relative_error(found.feature1, golden["out.cond.feature1"]) <= 2e-6
    assert relative_error(found.feature2, golden["out.cond.feature2"]) <= 2e-6
    assert not found.feature2[:, :5].any()


def test_features_are_float32_whatever_the_encoders_compute_in(
    config: DegConfig, prepared: PreparedPhoto, golden: dict[str, Tensor]
):
    empty = empty_encoders(config)
    cpu = torch.device("cpu")
    weights = [tiny_weights(part) for part in ("dinov3", "vae_encoder")]
    halves = [
        {n: v if n.startswith("bn.") else v.bfloat16() for n, v in one.items()} for one in weights
    ]
    encoders = PhotoEncoders(
        assign_weights(empty.dino, halves[0], cpu), assign_weights(empty.vae, halves[1], cpu)
    )
    found = encode_photo(encoders, prepared, golden["in.noise.vae"])
    for name in ("feature1", "feature2"):
        value = getattr(found, name)
        assert value.dtype == torch.float32
        assert relative_error(value, golden[f"out.cond.{name}"]) < 0.1


def test_noise_is_of_the_seed_and_the_photo(config: DegConfig):
    noise = vae_noise(config, 3)
    assert noise.shape == (1, 4, 8, 8)
    assert torch.equal(noise, vae_noise(config, 3, 0))
    assert not torch.equal(noise, vae_noise(config, 3, 1))


def test_from_the_photo_to_the_latent(
    encoders: PhotoEncoders, config: DegConfig, flow_network: FlowNetwork, golden: dict[str, Tensor]
):
    rgba = golden["in.rgba"].numpy()
    prepared = prepare_photo(rgba[..., :3], rgba[..., 3], config.canvas, faint=0)
    features = encode_photo(encoders, prepared, golden["in.noise.vae"])
    steps, guidance_scale, shift = golden["in.sampler.settings"].tolist()
    found = sample(
        flow_network,
        (features,),
        SamplerSettings(int(steps), guidance_scale, shift),
        FlowNoise(golden["in.noise.latent"], golden["in.noise.camera"]),
    )
    assert relative_error(found.latent, golden["out.latent"]) <= 1e-5
    assert relative_error(found.cameras, golden["out.camera"]) <= 1e-5
