"""The golden run: its tensors and its configuration."""

import pytest
from torch import Tensor

from pipeline.engines.deg.deg_config import DegConfig
from pipeline.engines.deg.flow_network import FlowNetwork, PhotoFeatures
from tests.pipeline.engines.deg import golden_files


@pytest.fixture(scope="session")
def golden() -> dict[str, Tensor]:
    return golden_files.golden_tensors()


@pytest.fixture(scope="session")
def config() -> DegConfig:
    return golden_files.golden_config()


@pytest.fixture(scope="session")
def flow_network(config: DegConfig) -> FlowNetwork:
    """The flow network of the golden run. Shared: a test that changes it builds its own."""
    network = FlowNetwork(config.flow)
    network.load_state_dict(golden_files.tiny_weights("flow"), strict=True)
    return network.requires_grad_(False).eval()


@pytest.fixture(scope="session")
def features(golden: dict[str, Tensor]) -> PhotoFeatures:
    return PhotoFeatures(golden["out.cond.feature1"], golden["out.cond.feature2"])
