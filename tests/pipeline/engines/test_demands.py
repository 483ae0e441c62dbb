"""The weights that the plan reckons with are those of the networks."""

import pytest
import torch

from pipeline.device import CONTEXT_BYTES
from pipeline.engines.engine_spec import CONTEXT_GIB
from pipeline.engines.registry import engine_specs
from pipeline.engines.views.syncdreamer.config import SyncDreamerConfig
from tests.random_networks import CONTROLNET, UNET, VAE, depth_config

DEMANDS = {spec.name: spec.demand for spec in engine_specs() if spec.demand}


def gib(*networks: torch.nn.Module) -> float:
    """Of parameters in a format of two bytes."""
    count = sum(p.numel() for network in networks for p in network.parameters())
    return 2 * count / 2**30


def test_syncdreamer():
    from pipeline.engines.views.syncdreamer.network import SyncDreamerNetwork

    with torch.device("meta"):
        network = SyncDreamerNetwork(SyncDreamerConfig.released())
    assert gib(network) == pytest.approx(DEMANDS["syncdreamer"].weights, abs=0.01)


def test_prior():
    from pipeline.engines.views.prior.prior_network import PriorNetwork

    with torch.device("meta"):
        network = PriorNetwork()
    assert gib(network) == pytest.approx(DEMANDS["prior"].weights, abs=0.005)


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("dpt-large", "midas-large"),
        ("dpt-hybrid", "midas-hybrid"),
        ("depth-anything-v2-small", "depth-anything-v2-small"),
    ],
)
def test_depth(name, engine):
    from transformers import AutoModelForDepthEstimation

    config, _ = depth_config(name)
    with torch.device("meta"):
        network = AutoModelForDepthEstimation.from_config(config)
    assert gib(network) == pytest.approx(DEMANDS[engine].weights, abs=0.02)


def test_sdxl():
    import diffusers

    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel.from_config(UNET)
        controlnet = diffusers.ControlNetModel.from_config(CONTROLNET)
        vae = diffusers.AutoencoderKL.from_config(VAE)
    assert gib(unet, controlnet, vae) == pytest.approx(DEMANDS["sdxl"].weights, abs=0.02)


def test_deg():
    from pipeline.engines.deg.deg_config import DegConfig
    from pipeline.engines.deg.deg_networks import build_network
    from pipeline.engines.deg.deg_precision import DegPart, weight_dtype
    from pipeline.engines.deg.turbo_phases import adapted_modules

    networks = {part: build_network(part, DegConfig.released()) for part in DegPart}
    held = sum(
        tensor.numel() * weight_dtype(part, name, torch.bfloat16).itemsize
        for part, network in networks.items()
        for name, tensor in network.state_dict().items()
    )
    for engine in ("triposplat", "idol"):
        assert held / 2**30 == pytest.approx(DEMANDS[engine].weights, abs=0.01)
    flow = networks[DegPart.FLOW]
    twice = sum(
        2 * flow.get_parameter(f"{name}.weight").numel() for name in adapted_modules(flow.config)
    )
    assert (held + twice) / 2**30 == pytest.approx(DEMANDS["idol-turbo"].weights, abs=0.01)


def test_cuda_itself_counts_the_same_everywhere():
    assert pytest.approx(CONTEXT_BYTES / 2**30) == CONTEXT_GIB
    assert all(demand.total > demand.working for demand in DEMANDS.values())
