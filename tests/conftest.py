"""Fixtures for every folder."""

import functools
import os

import pytest

pytest_plugins = ["tests.serve_app.stores.fixtures"]

# Some tests import ray before `serve_app.server` could say this: see there.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@pytest.fixture
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drivers in this process make films of two frames of 64 pixels."""
    from deployments.jobs import model_pictures as previews

    small = functools.partial(previews.make_previews, frames=2, size=64)
    monkeypatch.setattr(previews, "make_previews", small)
