"""One tiny model, written and loaded once."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.device import Device
from pipeline.engines.views.syncdreamer.syncdreamer_views import SyncDreamerViews
from pipeline.requests import ViewRequest
from pipeline.types import Cutout
from tests.fakes import RememberedRemover
from tests.tiny.syncdreamer import write_tiny_syncdreamer


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "syncdreamer"
    write_tiny_syncdreamer(folder)
    return folder


@pytest.fixture(scope="session")
def engine(tiny_folder: Path) -> SyncDreamerViews:
    """Shared: a test that changes it builds its own."""
    # What the tiny network draws is no object: its views are cut out by colours.
    return SyncDreamerViews.load(tiny_folder, Device.choose("cpu"), remover=RememberedRemover())


@pytest.fixture(scope="session")
def request_of_two_steps() -> ViewRequest:
    """A coloured disc, two steps."""
    y, x = np.mgrid[:256, :256]
    rgba = np.zeros((256, 256, 4), np.uint8)
    rgba[..., 0], rgba[..., 1], rgba[..., 2] = x, y, 60
    rgba[..., 3] = np.where((x - 128) ** 2 + (y - 128) ** 2 < 100**2, 255, 0)
    return ViewRequest(Cutout(rgba, "given"), elevation_deg=20.0, seed=7, steps=2)
