"""Configurations for `serve deploy`, as they are, on a cluster that has neither GPU nor weights.

Only what the machine has not is replaced: the device, the weights, shares of GPUs, and the name and
place of the application, for the cluster runs another one already.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from serve_app.stores import StoreSettings
from tests.serve_app.stores.fixtures import server_directory
from tests.tiny.model_dir import TINY_OPTIONS

__all__ = ["deployed"]

ROOT = Path(__file__).parents[2]
#: Nine replicas that import torch, diffusers and transformers share two cores at the start.
START_LIMIT_S = 240


def _for_this_machine(file: str, name: str, data: Path, models: Path) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / file).read_text())
    (application,) = config["applications"]
    application |= {"name": name, "route_prefix": f"/{name}"}
    application["args"] |= {
        "asset_dir": str(data),
        "model_dir": str(models),
        "device": "cpu",
        "precision": None,
        "engine_options": TINY_OPTIONS,
    }
    for deployment in application["deployments"]:
        deployment.get("ray_actor_options", {}).pop("num_gpus", None)
    del config["http_options"], config["proxy_location"]
    return config


@contextmanager
def deployed(file: str, name: str, url: str, models: Path) -> Iterator[httpx.Client]:
    """A client of the application of a file, beside what runs at `url`."""
    with server_directory() as data:
        config = _for_this_machine(file, name, data, models)
        _get_global_client().deploy_apps(ServeDeploySchema.model_validate(config))
        try:
            with httpx.Client(base_url=f"{url}/{name}", timeout=300) as client:
                _wait_until_running(name)
                yield client
        finally:
            serve.delete(name)
            StoreSettings(data_dir=data, database_url=None).stop()


def _wait_until_running(name: str) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        status = serve.status().applications.get(name)
        if status is not None and status.status.value == "RUNNING":
            return
        assert status is None or status.status.value == "DEPLOYING", status
        time.sleep(0.5)
    raise AssertionError(serve.status().applications.get(name))
