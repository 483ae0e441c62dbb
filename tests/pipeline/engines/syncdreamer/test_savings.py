"""What is left out of the computation changes nothing: each saving against the plain form.

Tolerances are fp32 rounding: measured differences are below 1e-6 of the plain result.
"""

import pytest
import torch

from pipeline.control import Control
from pipeline.engines.views.syncdreamer.depth_attention import DepthTransformer
from pipeline.engines.views.syncdreamer.diffusion import decode_views, sample_views
from pipeline.engines.views.syncdreamer.network import SyncDreamerNetwork
from pipeline.engines.views.syncdreamer.sampler import seeded_noise
from pipeline.engines.views.syncdreamer.sampler_settings import SamplerSettings
from tests.oracles.plain_syncdreamer import (
    PlainSyncDreamer,
    plain_depth_transformer,
    plain_grids,
)
from tests.random_networks import random_syncdreamer
from tests.tiny.syncdreamer import TINY_SYNCDREAMER

CPU = torch.device("cpu")


def relative(ours: torch.Tensor, expected: torch.Tensor) -> float:
    return float((ours - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def network() -> SyncDreamerNetwork:
    network = random_syncdreamer(TINY_SYNCDREAMER, CPU, torch.float32, seed=4)
    # Norms that do something, or a zero volume would be hidden by the ReLU.
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.bias.data.normal_(0, 0.5, generator=generator)
    return network


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    return seeded_noise(2, CPU)((16, 4, 32, 32))


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    return seeded_noise(3, CPU)((1, 3, 256, 256)).clamp(-1, 1)


def predict(
    network: SyncDreamerNetwork | PlainSyncDreamer,
    noise: torch.Tensor,
    photo: torch.Tensor,
    *,
    scale: float = 2.0,
    views_at_once: int = 16,
) -> torch.Tensor:
    with torch.inference_mode():
        mean, _ = network.encode(photo)
        conditions = network.condition(mean, network.embed_image(photo), 0.3)
        return network.predict_noise(
            noise,
            481,
            conditions,
            guidance_scale=scale,
            views_at_once=views_at_once,
        )


@pytest.fixture(scope="module")
def fast(network, noise, photo) -> dict[float, torch.Tensor]:
    """Noise that the product predicts for all views at once, by guidance scale."""
    return {scale: predict(network, noise, photo, scale=scale) for scale in (2.0, 1.0, 0.0)}


def depth_transformer() -> DepthTransformer:
    torch.manual_seed(0)
    layer = DepthTransformer(24, 16)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return layer.eval()


def test_absorbed_projections_equal_keys_and_values():
    layer = depth_transformer()
    x, volume = torch.randn(3, 24, 8, 8), torch.randn(3, 16, 12, 8, 8)
    with torch.inference_mode():
        assert relative(layer(x, volume), plain_depth_transformer(layer, x, volume)) < 1e-6


def test_the_unconditional_branch_is_a_constant():
    layer = depth_transformer()
    nothing = torch.zeros(2, 16, 12, 8, 8)
    with torch.inference_mode():
        term = layer.unconditional_term(8, 8)
        assert term.abs().max() > 0.1
        for x in (torch.randn(2, 24, 8, 8), 100 * torch.randn(2, 24, 8, 8)):
            added = plain_depth_transformer(layer, x, nothing) - x
            assert torch.allclose(added, term.expand_as(added), atol=1e-4)


def test_cross_attention_to_one_token_does_not_depend_on_the_image(network):
    attention = network.denoiser.unet.mid_block.attentions[0].transformer_blocks[0].attn2
    context = torch.randn(16, 1, 32)
    with torch.inference_mode():
        terms = network.denoiser.constant_terms(context)
        middle = terms.cross[6]  # after the six of the way down
        tokens = torch.randn(16, 5, 64)
        attended = attention(tokens, encoder_hidden_states=context)
        assert relative(middle[:-1].expand_as(attended), attended) < 1e-6
        without = attention(tokens, encoder_hidden_states=torch.zeros_like(context))
        assert relative(middle[-1:].expand_as(without), without) < 1e-6
    some = terms.select(slice(4, 6))
    assert torch.equal(some.cross[6], middle[[4, 5, 16]])


def test_grids_are_worked_out_once(network):
    assert network.grids() is network.grids()
    again = plain_grids(network)
    assert torch.equal(again.vertices, network.grids().vertices)
    assert torch.equal(again.frustums, network.grids().frustums)
    assert again.vertices.dtype == again.frustums.dtype == torch.float32


@pytest.mark.parametrize("scale", [2.0, 1.0, 0.0])
def test_all_savings_together_change_only_rounding(network, noise, photo, fast, scale):
    plain = predict(PlainSyncDreamer(network), noise, photo, scale=scale, views_at_once=8)
    assert relative(fast[scale], plain) < 3e-6


def test_guidance_one_is_the_conditional_noise_alone(fast):
    assert relative(fast[1.0], (fast[2.0] + fast[0.0]) / 2) < 3e-6


@pytest.mark.parametrize("views_at_once", [1, 5])
def test_views_in_one_batch_equal_views_one_by_one(network, noise, photo, fast, views_at_once):
    apart = predict(network, noise, photo, views_at_once=views_at_once)
    assert relative(fast[2.0], apart) < 3e-6


def test_pictures_decoded_in_one_batch_equal_pictures_one_by_one(network, noise):
    together = decode_views(network, noise, views_at_once=16)
    assert relative(together, decode_views(network, noise, views_at_once=1)) < 1e-5


def test_a_whole_plain_run_ends_in_the_same_latents(network, photo):
    def run(network: SyncDreamerNetwork | PlainSyncDreamer, views_at_once: int) -> torch.Tensor:
        return sample_views(
            network,
            photo,
            0.3,
            seeded_noise(5, CPU),
            SamplerSettings(steps=2),
            Control(),
            views_at_once=views_at_once,
        )

    assert relative(run(network, 16), run(PlainSyncDreamer(network), 1)) < 1e-5


def test_channels_last_changes_only_rounding(network, noise, photo, fast):
    layered = random_syncdreamer(TINY_SYNCDREAMER, CPU, torch.float32, seed=4)
    layered.load_state_dict(network.state_dict())
    layered.use_channels_last()
    with torch.inference_mode():
        assert relative(layered.decode(noise), network.decode(noise)) < 1e-5
    ours = predict(layered, noise, photo)
    # On the CPU alone, group norms of volumes with channels last lose three more digits where most
    # of a frustum is empty.
    assert relative(ours, fast[2.0]) < 1e-2
