"""One real service per session: Ray, every replica, the embedded database, real engines."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from serve_app.server import RunningService, running_service
from serve_app.settings import AppArgs


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    args = AppArgs(asset_dir=tmp_path_factory.mktemp("service"), lease_s=5)
    with running_service(args) as up:
        yield up


@pytest.fixture(scope="session")
def http(service: RunningService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=120) as client:
        yield client
