"""One real service per session: Ray, every replica, the embedded database, real engines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from serve_app.server import RunningService, running_service
from serve_app.settings import AppArgs
from tests.store.fixtures import server_directory


@contextmanager
def _somebody_elses_cluster(environment: pytest.MonkeyPatch) -> Iterator[None]:
    """Names a cluster that does not answer: joining it would fail."""
    environment.setenv("RAY_ADDRESS", "127.0.0.1:1")
    yield


@pytest.fixture(scope="session")
def service() -> Iterator[RunningService]:
    with (
        pytest.MonkeyPatch.context() as environment,
        server_directory() as directory,
        _somebody_elses_cluster(environment),
        running_service(AppArgs(asset_dir=directory, lease_s=5)) as up,
    ):
        yield up


@pytest.fixture(scope="session")
def http(service: RunningService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=120) as client:
        yield client
