"""The contract suite runs on every kind of store."""

from __future__ import annotations

import pytest

from .fixtures import STORE_KINDS


@pytest.fixture(params=STORE_KINDS)
def store_kind(request: pytest.FixtureRequest) -> str:
    """See `tests.serve_app.stores.fixtures`."""
    return str(request.param)
