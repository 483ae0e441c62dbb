"""One real service per session: Ray, every replica, the embedded database, real engines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from pipeline.ports import PortName
from serve_app.server import RunningService, running_service
from serve_app.settings import AppArgs
from tests.serve_app.stores.fixtures import server_directory


@contextmanager
def _somebody_elses_cluster(environment: pytest.MonkeyPatch) -> Iterator[None]:
    """Names a cluster that does not answer: joining it would fail."""
    environment.setenv("RAY_ADDRESS", "127.0.0.1:1")
    yield


def _arguments(directory: Path) -> AppArgs:
    # These tests are about the service; the network has tests of its own and takes 15 s a round.
    return AppArgs(asset_dir=directory, lease_s=5, engines={PortName.ENHANCER: "unsharp"})


@pytest.fixture(scope="session")
def directory() -> Iterator[Path]:
    """Where the service keeps everything."""
    with server_directory() as found:
        yield found


@pytest.fixture(scope="session")
def service(directory: Path) -> Iterator[RunningService]:
    with (
        pytest.MonkeyPatch.context() as environment,
        _somebody_elses_cluster(environment),
        running_service(_arguments(directory)) as up,
    ):
        yield up


@pytest.fixture(scope="session")
def http(service: RunningService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=120) as client:
        yield client
