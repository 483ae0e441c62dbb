"""Fixtures for every folder."""

import os

pytest_plugins = ["tests.store.fixtures"]

# Ray reads these when it starts; it must not call home from a test.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
