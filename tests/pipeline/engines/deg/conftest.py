"""The golden run: its tensors and its configuration."""

import pytest
from torch import Tensor

from pipeline.engines.deg.deg_config import DegConfig
from tests.pipeline.engines.deg import golden_files


@pytest.fixture(scope="session")
def golden() -> dict[str, Tensor]:
    return golden_files.golden_tensors()


@pytest.fixture(scope="session")
def config() -> DegConfig:
    return golden_files.golden_config()
