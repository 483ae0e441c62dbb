"""Small networks, written and loaded once. A test that changes an engine loads its own."""

from __future__ import annotations

import pytest

from pipeline.engines.enhance.sdxl import SdxlEnhancer, SdxlFolders
from tests.pipeline.engines.sdxl.builders import CPU, GRID, SINGLE
from tests.tiny.sdxl import write_tiny_sdxl


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> SdxlFolders:
    return write_tiny_sdxl(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="session")
def engine(folders: SdxlFolders) -> SdxlEnhancer:
    """Four views are one picture."""
    return SdxlEnhancer.load(folders, CPU, GRID)


@pytest.fixture(scope="session")
def single(folders: SdxlFolders) -> SdxlEnhancer:
    """Every view is a picture, one at a time."""
    return SdxlEnhancer.load(folders, CPU, SINGLE)
