"""Fixtures for every folder."""

import os

pytest_plugins = ["tests.store.fixtures"]

# Some tests import ray before `serve_app.server` could say this: see there.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
